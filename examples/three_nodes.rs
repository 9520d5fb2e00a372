//! The three nodes of the README, word for word: `cargo run --example three_nodes -- 0`, and the same with 1 and 2.
#![allow(missing_docs, reason = "a program")]
#![cfg_attr(rustfmt, rustfmt_skip)]

use grains::prelude::*;

/// A counter, one for each name.
#[rpc_trait]
pub trait Counter {
    /// Adds `n` and answers the sum. `&mut self` runs alone, `&self` would run beside other `&self` calls.
    async fn add(&mut self, n: u64) -> Result<u64>;
}

#[grain(Counter)]
pub struct CounterGrain { sum: State<u64> }

impl Lifecycle for CounterGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        Ok(Self { sum: ctx.state("sum").await? })
    }
}

impl Counter for CounterGrain {
    async fn add(&mut self, n: u64) -> Result<u64> {
        let mut sum = self.sum.edit(); // a draft: memory never runs ahead of the store
        *sum += n;
        sum.commit().await?;
        Ok(*self.sum)
    }
}

use std::time::Duration;

use grains::ClusterConfig;

/// A singleton: it lives on exactly one node without being called.
#[rpc_trait(key = ())]
pub trait Janitor {
    async fn rounds(&self) -> Result<u64>;
}

#[grain(Janitor)]
pub struct JanitorGrain { rounds: u64 }

impl Lifecycle for JanitorGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        ctx.every(Duration::from_secs(1), Self::sweep)?;
        Ok(Self { rounds: 0 })
    }
}

impl JanitorGrain {
    async fn sweep(&mut self) -> Result<()> { self.rounds += 1; Ok(()) }
}

impl Janitor for JanitorGrain {
    async fn rounds(&self) -> Result<u64> { Ok(self.rounds) }
}

#[grains::main]
async fn main() -> Result<()> {
    let me: usize = std::env::args().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    let first = ["127.0.0.1:7201", "127.0.0.1:7202", "127.0.0.1:7203"];
    let name = *["a", "b", "c"].get(me).expect("0, 1 or 2");
    let node = Node::builder()
        .name(name)
        // `join` is the same list in the same order on all of them.
        .cluster(ClusterConfig::new("shop").listen(first[me]).join(first))
        .data_dir(format!("data/{me}")) // who the node is, what it has voted, and its copy of all states
        .host::<CounterGrain>()
        .singleton::<JanitorGrain>()
        .start()
        .await?; // once it is a member that may act
    let apples: CounterRef = node.get("apples");
    println!("{} apples", apples.add(1).await?);
    let mut leading = node.leader();
    loop {
        let term = leading.on_elected().await;
        println!("{} leads in term {term}", node.name());
        leading.on_lost(term).await;
    }
}

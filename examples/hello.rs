//! The first grain of the README and its unit test, word for word: `cargo run --example hello`.
#![allow(missing_docs, clippy::unwrap_used, reason = "a program")]
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

#[grains::main]
async fn main() -> Result<()> {
    let node = Node::builder().host::<CounterGrain>().start().await?;
    let apples: CounterRef = node.get("apples");
    apples.add(2).await?;
    println!("{} apples", apples.add(3).await?);
    node.stop().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_adds() {
        let mut counter = CounterGrain::activate(Ctx::detached("apples")).await.unwrap();
        assert_eq!(counter.add(2).await.unwrap(), 2);
    }
}

//! Several nodes in one process, over real sockets.
#![cfg(feature = "cluster")]

use std::time::Duration;

use grains::{ClusterConfig, prelude::*};

#[rpc_trait]
pub trait Counter {
    async fn add(&mut self, n: u64) -> Result<(String, u64)>;
    async fn ping(&self) -> Result<String>;
    /// Calls another counter, which may be elsewhere.
    async fn add_to(&mut self, other: CounterRef, n: u64) -> Result<(String, u64)>;
}

#[grain(Counter)]
pub struct CounterGrain {
    ctx: Ctx<Self>,
    sum: u64,
}

impl Lifecycle for CounterGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        Ok(Self { ctx, sum: 0 })
    }
}

impl Counter for CounterGrain {
    async fn add(&mut self, n: u64) -> Result<(String, u64)> {
        self.sum += n;
        Ok((self.ctx.activation().to_string(), self.sum))
    }
    async fn ping(&self) -> Result<String> {
        Ok(self.ctx.activation().to_string())
    }
    async fn add_to(&mut self, other: CounterRef, n: u64) -> Result<(String, u64)> {
        Ok(other.add(n).await?)
    }
}

async fn start(name: &str, listen: &str, join: &[String]) -> Node {
    let config = ClusterConfig::new("test").listen(listen).join(join.to_vec());
    Node::builder().name(name).cluster(config).host::<CounterGrain>().start().await.unwrap()
}

fn free_ports(n: usize) -> Vec<String> {
    let held: Vec<_> = (0..n).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    held.iter().map(|l| l.local_addr().unwrap().to_string()).collect()
}

async fn three() -> Vec<Node> {
    let list = free_ports(3);
    let starts = ["a", "b", "c"].into_iter().zip(&list).map(|(name, at)| start(name, at, &list));
    futures_util::future::join_all(starts).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_nobody_to_join_is_a_cluster_at_once() {
    let node = start("a", "127.0.0.1:0", &[]).await;
    let counter: CounterRef = node.get("x");
    assert_eq!(counter.add(2).await.unwrap().1, 2);
    assert_eq!(counter.add(2).await.unwrap().1, 4);
    println!("{:?}", node.status());
    assert_eq!(node.stop().await.dropped, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_share_grains() {
    tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_test_writer().try_init().ok();
    let nodes = three().await;
    for node in &nodes {
        println!("{:?}", node.status());
    }
    for key in 0..50_u32 {
        let mut activations = std::collections::BTreeSet::new();
        for (n, node) in nodes.iter().enumerate() {
            let counter: CounterRef = node.get(key.to_string());
            let (activation, sum) = counter.add(1).timeout(Duration::from_secs(5)).await.unwrap();
            activations.insert(activation);
            assert_eq!(sum, n as u64 + 1);
        }
        assert_eq!(activations.len(), 1);
    }
    let a: CounterRef = nodes[0].get("from");
    for key in 0..20_u32 {
        let other: CounterRef = nodes[1].get(format!("to{key}"));
        a.add_to(other, 5).await.unwrap();
    }
    let cycle = a.add_to(a.clone(), 5).await.unwrap_err();
    println!("{cycle}");
    for node in nodes {
        println!("stopping {}", node.name());
        println!("{:?}", node.stop().await);
    }
}

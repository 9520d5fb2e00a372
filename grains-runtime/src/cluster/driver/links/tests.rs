//! Three wires over loopback: who is asked, and where.

use tokio::{net::TcpListener, task::JoinSet};

use super::*;
use crate::{
    cluster::{MemberId, NodeName},
    wire::{Limits, Marks, PeerInfo, Reach, Security, Unreadable, WireConfig, WireHandler},
    world::tokio_world,
};

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(100);

/// Answers with its own number, but for `b"never"`; counts what it was asked.
struct Numbered {
    node: u64,
    asked: Mutex<usize>,
}

impl WireHandler for Numbered {
    fn control(&self, _: PeerInfo, body: Vec<u8>) -> BoxFuture<'static, Vec<u8>> {
        *lock(&self.asked) += 1;
        let answer = vec![self.node as u8];
        Box::pin(async move {
            if body == b"never" {
                std::future::pending::<()>().await;
            }
            answer
        })
    }

    fn data(&self, _: MemberId, _: u64, _: u8, _: &[u8], _: &mut u64) -> Result<(), Unreadable> {
        Ok(())
    }

    fn data_ended(&self, _: MemberId, _: u64, _: Option<(u64, Marks)>) {}

    fn link_down(&self, _: MemberId, _: u64, _: Marks) {}
}

async fn node(node: u64) -> (Arc<Wire>, Arc<Numbered>) {
    let handler = Arc::new(Numbered { node, asked: Mutex::default() });
    let config = WireConfig {
        cluster: NodeName::new("c").unwrap(),
        name: NodeName::new(&format!("node-{node}")).unwrap(),
        node: NodeId(node),
        listen: "127.0.0.1:0".to_owned(),
        advertise: None,
        reach: Reach::Loopback,
        security: Security::Plain,
        limits: Limits::default(),
    };
    (Wire::listen(&tokio_world().unwrap(), config, handler.clone()).await.unwrap(), handler)
}

fn ways(wire: &Arc<Wire>, join: &[&str]) -> Arc<Ways> {
    let join: Vec<_> = join.iter().map(|address| (*address).to_owned()).collect();
    Ways::new(wire.clone(), tokio_world().unwrap().clock, &join)
}

fn ask_3(
    ways: &Arc<Ways>,
    known: &str,
    body: &[u8],
    limit: Duration,
) -> impl Future<Output = Option<Vec<u8>>> + Send + use<> {
    let (ways, known, body) = (ways.clone(), known.to_owned(), Arc::new(body.to_vec()));
    async move { timeout(&ways.clock, limit, ways.ask(NodeId(3), &known, Lane::States, body, limit)).await?.ok() }
}

async fn all_are_answered(ways: &Arc<Ways>, known: &str) {
    let mut asks: JoinSet<_> = (0..100).map(|_| ask_3(ways, known, b"", LONG)).collect();
    while let Some(answer) = asks.join_next().await {
        assert_eq!(answer.unwrap(), Some(vec![3]));
    }
}

#[tokio::test]
async fn whoever_asks_many_things_at_once_asks_nobody_else() {
    let ((a, _), (b, b_saw), (c, c_saw)) = (node(1).await, node(2).await, node(3).await);
    all_are_answered(&ways(&a, &[a.address(), b.address(), c.address()]), c.address()).await;
    assert_eq!((*lock(&b_saw.asked), *lock(&c_saw.asked)), (0, 100));
}

#[tokio::test]
async fn whoever_has_moved_is_found_and_nobody_else_is_asked() {
    let ((a, _), (b, b_saw), (c, c_saw)) = (node(1).await, node(2).await, node(3).await);
    // Where it was are nobody, another node, and one that has the cluster's list first.
    for (known, join) in [
        ("127.0.0.1:1", [b.address(), c.address()]),
        (b.address(), [b.address(), c.address()]),
        ("127.0.0.1:1", [c.address(), b.address()]),
    ] {
        all_are_answered(&ways(&a, &join), known).await;
    }
    assert_eq!((*lock(&b_saw.asked), *lock(&c_saw.asked)), (0, 300));
}

#[tokio::test]
async fn whoever_is_nowhere_is_asked_nothing_and_found_later() {
    let ((a, _), (b, b_saw)) = (node(1).await, node(2).await);
    let ways = ways(&a, &[b.address()]);
    for _ in 0..20 {
        let missed = ways.ask(NodeId(3), "127.0.0.1:1", Lane::States, Arc::default(), LONG).await.unwrap_err();
        assert!(!missed.sent, "{missed:?}");
    }
    let (c, _) = node(3).await;
    all_are_answered(&ways, c.address()).await;
    assert_eq!(*lock(&b_saw.asked), 0);
}

#[tokio::test]
async fn whoever_is_slow_is_not_looked_for_elsewhere() {
    let ((a, _), (b, b_saw), (c, _)) = (node(1).await, node(2).await, node(3).await);
    let ways = ways(&a, &[b.address()]);
    all_are_answered(&ways, c.address()).await;
    for _ in 0..3 {
        assert_eq!(ask_3(&ways, c.address(), b"never", SHORT).await, None);
        assert_eq!(ways.first_place(NodeId(3)), 0);
    }
    assert_eq!(*lock(&b_saw.asked), 0);
}

#[tokio::test]
async fn an_address_that_says_nothing_is_left_for_the_next_one() {
    let ((a, _), (c, _)) = (node(1).await, node(3).await);
    // It takes connections, and nobody ever speaks.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let known = silent.local_addr().unwrap().to_string();
    let ways = ways(&a, &[c.address()]);
    assert_eq!(ask_3(&ways, &known, b"", SHORT).await, None);
    all_are_answered(&ways, &known).await;
}

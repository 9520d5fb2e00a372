//! What a node may not ask in the place of another one.

use std::{sync::Arc, time::Duration};

use grains_core::codec;

use super::*;
use crate::{
    ClusterConfig, Node,
    cluster::{
        Incarnation,
        directory::testing::{member, member_id},
        member::Joiner,
    },
    wire::{Deaf, Lane, Limits, Reach, Security, Wire, WireConfig},
    world::tokio_world,
};

fn joiner(node: u64, name: &str) -> Joiner {
    let name = NodeName::new(name).unwrap();
    Joiner { name, address: "127.0.0.1:1".to_owned(), process: 1, ..member(member_id(node)).joiner }
}

/// Node 77, called "c", as whoever has a certificate for "c" can be. In the clear: a name is worth less there, but is judged
/// by the same rules from here on.
async fn c() -> Arc<Wire> {
    let config = WireConfig {
        cluster: NodeName::new("test").unwrap(),
        name: NodeName::new("c").unwrap(),
        node: NodeId(77),
        listen: "127.0.0.1:0".to_owned(),
        advertise: None,
        reach: Reach::Loopback,
        security: Security::Plain,
        limits: Limits::default(),
    };
    Wire::listen(&tokio_world().unwrap(), config, Arc::new(Deaf)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_and_leaves_for_itself_only() {
    let node = Node::builder().name("a").cluster(ClusterConfig::new("test")).start().await.unwrap();
    let (address, wire) = (node.address().unwrap(), c().await);
    let ask = async |ask: Ask| -> Answer {
        let body = codec::encode(&ask).unwrap();
        let answer = wire.request(&address, Lane::Control, body, Duration::from_secs(20)).await.unwrap();
        codec::decode(&answer.body).unwrap()
    };
    let propose = |command| Ask::Propose { command: Numbered { client: 5, serial: 1, command } };
    let other = MemberId { node: NodeId(78), incarnation: Incarnation(1) };
    for (asked, why) in [
        (Ask::Join { joiner: joiner(77, "b"), request: 1 }, "by its own name"),
        (Ask::Join { joiner: joiner(78, "c"), request: 2 }, "for itself only"),
        (propose(Command::Join { joiner: joiner(77, "b"), over: None }), "for the leader to say"),
        (propose(Command::Leave(other)), "leaves for itself only"),
        (propose(Command::Left(other)), "leaves for itself only"),
        (Ask::ProcessEnded { node: NodeId(78), process: 1 }, "only the watchdog of a node"),
        (propose(Command::Release { grain_type: String::new(), holder: other }), "leaves for itself only"),
    ] {
        let answer = ask(asked.clone()).await;
        assert!(matches!(&answer, Answer::Refused(said) if said.contains(why)), "{asked:?}: {answer:?}");
    }
    let answer = ask(Ask::Join { joiner: joiner(77, "c"), request: 3 }).await;
    assert!(matches!(answer, Answer::Joined(_)), "itself it may: {answer:?}");
    // Its process has the number 1. Views come a moment after they were agreed on.
    let members = || node.status().members.len();
    let until = async |count| {
        let counted = async {
            while members() != count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), counted).await.expect("so many are members");
    };
    until(2).await;
    let answer = ask(Ask::ProcessEnded { node: NodeId(77), process: 2 }).await;
    assert!(matches!(answer, Answer::Gone), "no member is of that process: {answer:?}");
    assert_eq!(members(), 2);
    let answer = ask(Ask::ProcessEnded { node: NodeId(77), process: 1 }).await;
    assert!(matches!(answer, Answer::Gone), "nor of this one any more: {answer:?}");
    until(1).await;
    wire.close().await;
    node.stop().await;
}

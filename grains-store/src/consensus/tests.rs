//! Groups of nodes over the real clock and threads, with disks in memory and links without a wire.

use std::time::Duration;

use grains_runtime::world::crash_disk::{CrashDisk, Left};
use litemap::LiteMap;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::time::timeout;

use super::{
    body::{Body, Kind, Reply},
    testing::{Tally, Wires, command, world_with},
    *,
};

mod ended;
mod faults;
mod groups;
mod voting;

type Node = Group<Tally>;

/// One node with what outlives it.
struct Place {
    address: String,
    disk: CrashDisk,
    wires: Wires,
}

impl Place {
    fn new(wires: &Wires, address: &str) -> Self {
        Self { address: address.into(), disk: CrashDisk::default(), wires: wires.clone() }
    }

    async fn start(&self) -> Node {
        let links = self.wires.links(&self.address);
        let node = Node::open(&world_with(&self.disk), testing::in_folder("data"), links).await.unwrap();
        self.wires.plug(&self.address, &node);
        node
    }

    /// Ends the node as a kill would, without a word, and gives what its disk has after a power cut.
    fn kill(self, node: Node) -> Self {
        self.wires.unplug(&self.address);
        drop(node);
        Self { disk: self.disk.after_crash(Left::Nothing), ..self }
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

async fn soon<T>(what: &str, waiting: impl Future<Output = T>) -> T {
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("still waiting: {what}"))
}

async fn leads(node: &Node) {
    soon("for a leader", node.leadership().wait_for(|now| now.is_me)).await.unwrap();
}

/// Whichever of them leads, as soon as one does.
async fn leader<'n>(nodes: &[&'n Node]) -> &'n Node {
    soon("for any leader", async {
        loop {
            for node in nodes {
                if node.leadership().borrow().is_me && node.read_index().await.is_ok() {
                    return *node;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

async fn has_count(node: &Node, count: u64) {
    soon("for the commands", node.applied().wait_for(|now| now.state.count == count)).await.unwrap();
}

fn voters(members: &[(&Node, &str)]) -> LiteMap<NodeId, String> {
    members.iter().map(|(node, address)| (node.node(), (*address).to_owned())).collect()
}

/// Proposes until it is known to be applied, at whichever node leads.
async fn applied_by_any(nodes: &[&Node], serial: u64) -> Committed<bool> {
    soon("for a proposal", async {
        loop {
            for node in nodes {
                if let Ok(committed) = node.propose(command(1, serial)).await {
                    return committed;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

/// Three voters, of which the first has founded the group.
async fn three() -> (Wires, [Place; 3], [Node; 3]) {
    let wires = Wires::default();
    let places = ["a", "b", "c"].map(|address| Place::new(&wires, address));
    let nodes = [places[0].start().await, places[1].start().await, places[2].start().await];
    nodes[0].found("a").await.unwrap();
    let all = voters(&[(&nodes[0], "a"), (&nodes[1], "b"), (&nodes[2], "c")]);
    nodes[0].set_voters(all.clone()).await.unwrap();
    assert_eq!(nodes[0].voters(), all);
    (wires, places, nodes)
}

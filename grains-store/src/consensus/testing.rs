//! For the tests of this room: links without a wire, and a machine that is a map.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use grains_core::{
    codec,
    world::{BoxFuture, Disk, World},
};
use grains_runtime::world::tokio_world;
use serde::{Deserialize, Serialize};

use super::{
    Agreed, Group, Lane, LinkError, OpenError, Part, RaftLinks, Storage, Timing,
    body::{Body, Kind},
    log::Log,
    types::Proposal,
};
use crate::{NodeId, NodeName};

/// Counts commands and remembers the last serial of each client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tally {
    pub(super) last: BTreeMap<u64, u64>,
    pub(super) count: u64,
    /// To make snapshots heavy.
    pub(super) names: BTreeSet<String>,
}

/// A command of the tally.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Said {
    client: u64,
    serial: u64,
    name: String,
}

impl Agreed for Tally {
    type Command = Said;
    /// Whether it was new.
    type Outcome = bool;

    fn apply(&mut self, index: u64, term: u64, said: Said) -> bool {
        assert!(index > 0 && term > 0);
        let last = self.last.entry(said.client).or_default();
        if said.serial <= *last {
            return false;
        }
        *last = said.serial;
        self.count += 1;
        self.names.insert(said.name);
        true
    }
}

pub(super) fn name() -> NodeName {
    NodeName::new("n").unwrap()
}

/// The part of the node "n".
pub(super) fn part(storage: Storage, timing: Timing) -> Part {
    Part { name: name(), node: None, storage, timing }
}

/// Kept in a folder.
pub(super) fn in_folder(folder: impl Into<PathBuf>) -> Part {
    part(Storage::File { folder: folder.into(), file: FILE.into() }, Timing::default())
}

pub(super) const FILE: &str = "consensus.redb";

/// Only the log.
pub(super) async fn log_in(world: &World, folder: &Path) -> Result<(Log, NodeId), OpenError> {
    Log::in_file(world, folder, FILE, &in_folder(folder)).await
}

pub(super) fn command(client: u64, serial: u64) -> Said {
    named(client, serial, format!("{client}-{serial}"))
}

pub(super) fn named(client: u64, serial: u64, name: String) -> Said {
    Said { client, serial, name }
}

pub(super) fn proposal(command: &Said) -> Proposal {
    Proposal(codec::encode(command).unwrap().into())
}

/// The real world with a disk in memory.
pub(crate) fn world_with<D: Disk + Clone>(disk: &D) -> World {
    World { disk: Arc::new(disk.clone()), ..tokio_world().unwrap() }
}

/// Calls the handle of whoever is at an address.
#[derive(Clone, Default)]
pub(super) struct Wires(Arc<Mutex<Nodes>>);

#[derive(Default)]
struct Nodes {
    at: BTreeMap<String, Group<Tally>>,
    cut: BTreeSet<(String, String)>,
    lost: Option<Kind>,
    lanes: BTreeMap<(NodeId, &'static str), u64>,
}

impl Wires {
    pub(super) fn plug(&self, address: &str, node: &Group<Tally>) {
        self.0.lock().unwrap().at.insert(address.into(), node.clone());
    }

    pub(super) fn unplug(&self, address: &str) {
        self.0.lock().unwrap().at.remove(address);
    }

    /// Lets nothing through from `from` to `to`.
    pub(super) fn cut(&self, from: &str, to: &str) {
        self.0.lock().unwrap().cut.insert((from.into(), to.into()));
    }

    /// Loses all messages of a kind.
    pub(super) fn lose(&self, kind: Kind) {
        self.0.lock().unwrap().lost = Some(kind);
    }

    pub(super) fn mend(&self) {
        self.0.lock().unwrap().cut.clear();
    }

    /// How many bodies went to `node` on the lane for large ones.
    pub(super) fn bulk(&self, node: NodeId) -> u64 {
        self.0.lock().unwrap().lanes.get(&(node, "bulk")).copied().unwrap_or_default()
    }

    /// The links of the node at `address`.
    pub(super) fn links(&self, address: &str) -> Arc<dyn RaftLinks> {
        Arc::new(End { address: address.into(), wires: self.clone() })
    }
}

struct End {
    address: String,
    wires: Wires,
}

impl RaftLinks for End {
    fn call(
        &self,
        to: NodeId,
        address: &str,
        lane: Lane,
        body: Vec<u8>,
        _timeout: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, LinkError>> {
        let mut nodes = self.wires.0.lock().unwrap();
        let lane = if lane == Lane::Bulk { "bulk" } else { "control" };
        *nodes.lanes.entry((to, lane)).or_default() += 1;
        let is_lost = Body::decode(&body).is_ok_and(|body| Some(body.kind) == nodes.lost);
        let is_cut = is_lost || nodes.cut.contains(&(self.address.clone(), address.to_owned()));
        let node = nodes.at.get(address).filter(|_| !is_cut).cloned();
        Box::pin(async move {
            match node {
                Some(node) => Ok(node.handle(body).await),
                // As a packet that is lost: the caller's time-out must end it.
                None if is_cut => std::future::pending().await,
                None => Err(LinkError { why: "nobody is there".into() }),
            }
        })
    }
}

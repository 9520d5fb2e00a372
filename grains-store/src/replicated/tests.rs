//! Three nodes over the real clock and threads, with disks in memory that lose what was not synced, and links without a wire.

mod cuts;
mod groups;
mod kit;
mod recent;
mod states;
mod voter_cuts;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use grains_core::{
    FencingToken, GrainId, Version, codec,
    store::{CommitError, Store, Write, WriteSet},
    world::BoxFuture,
};
use grains_runtime::world::crash_disk::{CrashDisk, Left};
use tokio::time::timeout;

use super::{Opening, Peers, ReplicatedConfig, ReplicatedStore, Unanswered};
use crate::{
    NodeId, NodeName,
    consensus::{Lane, Timing, testing::world_with},
};

const GROUP: u64 = 7;

/// What connects the nodes.
#[derive(Clone, Default)]
struct Wires(Arc<Mutex<Nodes>>);

#[derive(Default)]
struct Nodes {
    at: BTreeMap<String, ReplicatedStore>,
    cut: BTreeSet<(String, String)>,
    /// From which nodes no answer comes back to questions of clients.
    deaf: BTreeSet<String>,
    bulk: u64,
    /// How long each part of a snapshot is under way.
    bulk_takes: Duration,
}

struct End {
    address: String,
    wires: Wires,
}

impl Peers for End {
    fn ask(
        &self,
        _to: Option<NodeId>,
        address: &str,
        lane: Lane,
        body: Vec<u8>,
        _timeout: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, Unanswered>> {
        let mut nodes = self.wires.0.lock().unwrap();
        let is_bulk = lane == Lane::Bulk;
        nodes.bulk += u64::from(is_bulk);
        let takes = nodes.bulk_takes;
        let is_raft =
            matches!(codec::decode(&body), Ok(super::words::Envelope { ask: super::words::Ask::Raft(_), .. }));
        let is_cut = nodes.cut.contains(&(self.address.clone(), address.to_owned()));
        let is_deaf = nodes.deaf.contains(address) && !is_raft;
        let node = nodes.at.get(address).filter(|_| !is_cut).cloned();
        Box::pin(async move {
            let lost = |sent| Err(Unanswered { why: "lost".into(), sent });
            match node {
                Some(node) => {
                    if is_bulk {
                        tokio::time::sleep(takes).await;
                    }
                    let answer = node.handle(body).await;
                    if is_deaf { lost(true) } else { Ok(answer) }
                }
                None => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    lost(false)
                }
            }
        })
    }

    fn voters(&self) -> Vec<String> {
        self.wires.0.lock().unwrap().at.keys().cloned().collect()
    }
}

/// One node with what outlives it.
struct Place {
    address: String,
    node: NodeId,
    disk: CrashDisk,
    wires: Wires,
    patience: Duration,
    timing: Timing,
}

/// Longer than an election takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(5);

impl Place {
    fn new(wires: &Wires, address: &str) -> Self {
        let node = NodeId(u64::from(address.as_bytes()[0]));
        Self {
            address: address.into(),
            node,
            disk: CrashDisk::default(),
            wires: wires.clone(),
            patience: PATIENCE,
            timing: Timing::default(),
        }
    }

    async fn start(&self) -> ReplicatedStore {
        let config = ReplicatedConfig { patience: self.patience, ..ReplicatedConfig::default() };
        let store = ReplicatedStore::new(&world_with(&self.disk), config);
        let opening = Opening {
            folder: Some("data".into()),
            name: NodeName::new(&self.address).unwrap(),
            node: self.node,
            group: GROUP,
            timing: self.timing,
            peers: Arc::new(End { address: self.address.clone(), wires: self.wires.clone() }),
        };
        store.open(opening).await.unwrap();
        store.serve();
        self.wires.0.lock().unwrap().at.insert(self.address.clone(), store.clone());
        store
    }

    /// Ends the node as a power cut would: what was not synced is lost.
    async fn kill(self, store: ReplicatedStore) -> Self {
        let killed = Self { disk: self.disk.after_crash(Left::Nothing), ..self };
        killed.wires.0.lock().unwrap().at.remove(&killed.address);
        store.close().await;
        killed
    }
}

async fn soon<T>(what: &str, waiting: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), waiting).await.unwrap_or_else(|_| panic!("still waiting: {what}"))
}

/// Makes exactly these the voters, whoever leads.
async fn vote(stores: &[(&Place, &ReplicatedStore)]) {
    let voters: litemap::LiteMap<_, _> = stores.iter().map(|(place, _)| (place.node, place.address.clone())).collect();
    soon("for the voters", async {
        loop {
            for (_, store) in stores {
                let consensus = store.consensus().unwrap();
                if consensus.leadership().borrow().is_me && consensus.set_voters(voters.clone()).await.is_ok() {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

async fn leads(store: &ReplicatedStore) {
    let consensus = store.consensus().unwrap();
    soon("for a leader", consensus.leadership().wait_for(|now| now.is_me)).await.unwrap();
}

/// Three voters, of which the first has founded the group.
async fn three() -> (Wires, Vec<Place>, Vec<ReplicatedStore>) {
    three_of(|place| place).await
}

async fn three_of(change: impl Fn(Place) -> Place) -> (Wires, Vec<Place>, Vec<ReplicatedStore>) {
    let wires = Wires::default();
    let places: Vec<_> = ["a", "b", "c"].map(|address| change(Place::new(&wires, address))).into();
    let mut stores = Vec::new();
    for place in &places {
        stores.push(place.start().await);
    }
    stores[0].consensus().unwrap().found("a").await.unwrap();
    vote(&[(&places[0], &stores[0]), (&places[1], &stores[1]), (&places[2], &stores[2])]).await;
    (wires, places, stores)
}

const TOKEN: FencingToken = FencingToken { epoch: 1, counter: 1 };

fn grain(key: &str) -> GrainId {
    GrainId::new("t", key)
}

fn set(key: &str, expected: u64, value: &[u8]) -> WriteSet {
    let write = Write { name: "s".into(), expected: Version(expected), value: Some(value.to_vec()) };
    WriteSet { grain: grain(key), token: TOKEN, writes: vec![write] }
}

async fn value(store: &ReplicatedStore, key: &str) -> Option<(u64, Vec<u8>)> {
    let stored = soon("for a load", store.load(&grain(key), "s")).await.unwrap()?;
    Some((stored.version.0, stored.value.unwrap()))
}

/// Writes until it is known to be stored, as a grain does that is activated again.
async fn write(store: &ReplicatedStore, key: &str, new: &[u8]) {
    soon("for a write", async {
        loop {
            let Ok(found) = store.load(&grain(key), "s").await else { continue };
            let expected = found.as_ref().map_or(0, |stored| stored.version.0);
            if found.is_some_and(|stored| stored.value.as_deref() == Some(new)) {
                return;
            }
            match store.commit(set(key, expected, new)).await {
                Ok(()) => return,
                Err(CommitError::NotStored { .. } | CommitError::Unknown { .. } | CommitError::Conflict { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await;
}

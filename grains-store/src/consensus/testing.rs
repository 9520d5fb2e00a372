//! For the tests of this room: a disk in memory that can fail and lose what was not synced, links without a wire, and a
//! machine that is a map.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use grains_core::{
    codec,
    world::{BoxFuture, Disk, DiskFile, World},
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

/// Files in memory.
#[derive(Clone, Default)]
pub(crate) struct TestDisk(Arc<Mutex<Files>>);

#[derive(Default)]
struct Files {
    written: BTreeMap<PathBuf, Vec<u8>>,
    synced: BTreeMap<PathBuf, Vec<u8>>,
    open: BTreeSet<PathBuf>,
    syncs: u64,
    fails: bool,
}

impl TestDisk {
    /// From now on every sync fails.
    pub(super) fn fail_syncs(&self) {
        self.0.lock().unwrap().fails = true;
    }

    /// A copy as it is after a power cut: without what was not synced.
    pub(crate) fn after_power_cut(&self) -> Self {
        let files = self.0.lock().unwrap();
        let (written, synced) = (files.synced.clone(), files.synced.clone());
        Self(Arc::new(Mutex::new(Files { written, synced, ..Files::default() })))
    }

    /// A copy as another process finds it after this one was killed.
    pub(super) fn after_crash_of_process(&self) -> Self {
        let files = self.0.lock().unwrap();
        let (written, synced) = (files.written.clone(), files.synced.clone());
        Self(Arc::new(Mutex::new(Files { written, synced, ..Files::default() })))
    }

    pub(super) fn remove(&self, path: &Path) {
        self.0.lock().unwrap().written.remove(path);
    }

    pub(super) fn syncs(&self) -> u64 {
        self.0.lock().unwrap().syncs
    }

    pub(super) fn put(&self, path: &Path, bytes: &[u8]) {
        self.0.lock().unwrap().written.insert(path.to_owned(), bytes.to_vec());
    }

    pub(super) fn read(&self, path: &Path) -> Vec<u8> {
        self.0.lock().unwrap().written[path].clone()
    }
}

impl Disk for TestDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut files = self.0.lock().unwrap();
        if !files.open.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        files.written.entry(path.to_owned()).or_default();
        drop(files);
        Ok(Box::new(TestFile { path: path.to_owned(), disk: self.clone() }))
    }

    fn has(&self, path: &Path) -> io::Result<bool> {
        Ok(self.0.lock().unwrap().written.contains_key(path))
    }
}

struct TestFile {
    path: PathBuf,
    disk: TestDisk,
}

impl std::fmt::Debug for TestFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TestFile")
    }
}

impl TestFile {
    fn with<T>(&self, work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        work(self.disk.0.lock().unwrap().written.get_mut(&self.path).unwrap())
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        self.disk.0.lock().unwrap().open.remove(&self.path);
    }
}

impl DiskFile for TestFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.with(|bytes| bytes.len() as u64))
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let at = offset as usize;
        self.with(|bytes| match bytes.get(at..at + out.len()) {
            Some(found) => {
                out.copy_from_slice(found);
                Ok(())
            }
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        })
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let (at, end) = (offset as usize, offset as usize + data.len());
        self.with(|bytes| {
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[at..end].copy_from_slice(data);
        });
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|bytes| bytes.resize(len as usize, 0));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let files = &mut *self.disk.0.lock().unwrap();
        if files.fails {
            return Err(io::Error::other("the disk is on fire"));
        }
        files.syncs += 1;
        files.synced.insert(self.path.clone(), files.written[&self.path].clone());
        Ok(())
    }
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

//! Raft's log, vote and snapshot. All of it is in memory, because snapshots keep it short; a log in a folder is also
//! written to files, by a writer of its own (`disk`, `files`): first to a journal (`journal`), from there to redb (`rows`).
//! Both are read back when it is opened (`open`).

mod disk;
mod files;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod golden;
mod journal;
mod open;
mod rows;

use std::{
    collections::BTreeMap,
    fmt::Debug,
    io,
    ops::RangeBounds,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use grains_core::{
    codec,
    switches::{Mechanism, on},
    world::{BoxFuture, World},
};
use openraft::{
    OptionalSend, RaftLogReader,
    entry::RaftEntry,
    storage::{IOFlushed, LogState, RaftLogStorage},
};

pub use self::open::OpenError;
use self::{
    disk::{Disk, Done},
    rows::{Change, Fact, Row, Value},
};
use super::{
    Part,
    types::{Entry, LogId, SnapshotMeta, Types, Vote},
};
use crate::NodeId;

#[cfg(test)]
mod cuts;
#[cfg(test)]
mod tests;

/// How many bytes of entries are sent to another voter at once; a larger entry goes alone.
const SENT_BYTES_MAX: usize = 512 * 1024;

/// The log of one node. Clones share it.
#[derive(Clone)]
pub(crate) struct Log {
    kept: Arc<Mutex<Kept>>,
    /// None for a log that dies with the process.
    disk: Option<Arc<Disk>>,
}

/// What is to be remembered.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    pub(super) entries: BTreeMap<u64, Held>,
    pub(super) snapshot: Option<Arc<Stored>>,
}

/// An entry and how many bytes it takes.
pub(super) struct Held {
    pub(super) entry: Entry,
    pub(super) bytes: usize,
}

/// A snapshot: what it holds and its bytes.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) meta: SnapshotMeta,
    pub(crate) bytes: Vec<u8>,
}

impl Log {
    /// A log that is forgotten with the process, for a node of this number or one never used before.
    pub(super) fn in_memory(world: &World, node: Option<NodeId>) -> (Self, NodeId) {
        let log = Self { kept: Arc::default(), disk: None };
        (log, node.unwrap_or_else(|| NodeId(world.random.next_u64())))
    }

    /// The log of a node in `file` of its folder, made if there is none, and the number of the node.
    pub(super) async fn in_file(
        world: &World,
        folder: &Path,
        file: &str,
        part: &Part,
    ) -> Result<(Self, NodeId), OpenError> {
        let opened = open::open(world, folder, file, part).await?;
        let disk = Disk::new(world, opened.files);
        let log = Self { kept: Arc::new(Mutex::new(opened.kept)), disk: Some(Arc::new(disk)) };
        Ok((log, opened.node))
    }

    /// Whether nothing was ever remembered.
    pub(super) fn is_pristine(&self) -> bool {
        let kept = self.kept();
        kept.vote.is_none() && kept.entries.is_empty() && kept.purged.is_none() && kept.snapshot.is_none()
    }

    /// Stores a snapshot in place of the last one, durably; not if that is newer, because it came from another node while
    /// this one was made.
    pub(super) async fn save_snapshot(&self, snapshot: Stored) -> io::Result<()> {
        if self.snapshot().is_some_and(|last| last.meta.last_log_id > snapshot.meta.last_log_id) {
            return Ok(());
        }
        if self.disk.is_some() {
            let meta = encoded(&snapshot.meta)?;
            let facts = vec![(Fact::SnapshotMeta, Value(meta)), (Fact::Snapshot, Value(snapshot.bytes.clone()))];
            self.written(Change::Facts(facts)).await?;
        }
        self.kept().snapshot = Some(Arc::new(snapshot));
        Ok(())
    }

    /// The index up to which entries may go so that at most `bytes_max` stay; none if all may stay.
    pub(super) fn beyond(&self, bytes_max: usize) -> Option<u64> {
        let kept = self.kept();
        let mut bytes = 0;
        let beyond = kept.entries.iter().rev().find(|(_, held)| {
            bytes += held.bytes;
            bytes > bytes_max
        });
        beyond.map(|(index, _)| *index)
    }

    /// The last snapshot.
    pub(super) fn snapshot(&self) -> Option<Arc<Stored>> {
        self.kept().snapshot.clone()
    }

    /// Writes what waits and closes the file; everything later is refused.
    pub(super) async fn close(&self) {
        if let Some(disk) = &self.disk {
            disk.close().await;
        }
    }

    /// Returns once `change` would survive a power cut.
    fn written(&self, change: Change) -> BoxFuture<'static, io::Result<()>> {
        match &self.disk {
            Some(disk) => disk.written(change),
            None => Box::pin(async { Ok(()) }),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing under this lock stops half-way: a panic could come only from running out of memory.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RaftLogReader<Types> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        Ok(self.kept().entries.range(range).map(|(_, held)| held.entry.clone()).collect())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let kept = self.kept();
        let mut bytes = 0;
        let mut entries = Vec::new();
        for held in kept.entries.range(start..end).map(|(_, held)| held) {
            bytes += held.bytes;
            if bytes > SENT_BYTES_MAX && !entries.is_empty() {
                break;
            }
            entries.push(held.entry.clone());
        }
        Ok(entries)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.kept().vote)
    }
}

impl RaftLogStorage<Types> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let kept = self.kept();
        let last = kept.entries.values().next_back().map(|held| held.entry.log_id());
        Ok(LogState { last_purged_log_id: kept.purged, last_log_id: last.or(kept.purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        if on(Mechanism::VoteIsDurable) {
            self.written(Change::Facts(vec![(Fact::Vote, Value(encoded(vote)?))])).await?;
        }
        self.kept().vote = Some(*vote);
        Ok(())
    }

    /// Not waited for: it may be older after a crash, which costs a restarted node some time to catch up and nothing
    /// else, because no leader is restored and reads ask a quorum.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.kept().committed = committed;
        match &self.disk {
            Some(disk) => disk.write_soon(encoded(&committed)?),
            None => Ok(()),
        }
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.kept().committed)
    }

    /// The entries can be read when this returns; `flushed` is told when they are durable.
    async fn append<I>(&mut self, entries: I, flushed: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut rows = Vec::new();
        for entry in entries {
            let row = encoded(&entry)?;
            self.kept().entries.insert(entry.index(), Held { bytes: row.len(), entry: entry.clone() });
            rows.push(Row(entry.index(), row));
        }
        match &self.disk {
            Some(disk) => disk.write(Change::Append(rows), Done::Flushed(flushed)),
            None => flushed.io_completed(Ok(())),
        }
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let from = last.map_or(0, |last| last.index + 1);
        self.kept().entries.split_off(&from);
        self.written(Change::Truncate { from }).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        {
            let mut kept = self.kept();
            kept.entries = kept.entries.split_off(&(upto.index + 1));
            kept.purged = Some(upto);
        }
        self.written(Change::Purge { upto: upto.index, purged: Value(encoded(&upto)?) }).await
    }
}

fn encoded<T: serde::Serialize>(value: &T) -> io::Result<Vec<u8>> {
    codec::encode(value).map_err(io::Error::other)
}

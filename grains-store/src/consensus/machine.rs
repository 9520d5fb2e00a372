//! A small replicated state as openraft drives it: commands are applied in the order of the log, each batch is published,
//! then those who asked are answered. What is applied is in memory; a restart begins with the last snapshot.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_core::Stream;
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder,
    alias::SnapshotOf,
    storage::{EntryResponder, RaftStateMachine, Snapshot},
};

use super::{
    log::{Log, Stored},
    types::{Entry, LogId, Membership, SnapshotMeta, Types, term_of},
};

/// What a group agrees on, in memory: the same commands make the same state on every node. Behind a pointer, so that all of
/// openraft is compiled once, here.
pub trait Machine: Send + 'static {
    /// Does `command`, the entry `index` of the log, proposed by the leader of `term`, and says what it came to. It must
    /// not panic: all voters would, again and again. An error stops this node: it cannot read what the others have agreed on.
    fn apply(&mut self, index: u64, term: u64, command: &[u8]) -> io::Result<Vec<u8>>;

    /// Everything up to the entry `index` of `term` is applied: now it may be seen.
    fn publish(&mut self, index: u64, term: u64);

    /// The state of this moment, encoded when it is asked for, where that holds nobody up.
    fn picture(&self) -> Picture;

    /// Whether [`restore`](Self::restore) would take this picture.
    fn can_read(&self, picture: &[u8]) -> io::Result<()>;

    /// Takes a picture, made after the entry `index`, for the state. All or nothing.
    fn restore(&mut self, index: u64, picture: &[u8]) -> io::Result<()>;
}

/// See [`Machine::picture`].
pub type Picture = Box<dyn FnOnce() -> io::Result<Vec<u8>> + Send + Sync>;

/// A machine and how far it has come. Shared by openraft's task, which drives it, and what takes in snapshots.
#[derive(Clone)]
pub(super) struct Driven {
    log: Log,
    current: Arc<Mutex<Current>>,
}

struct Current {
    machine: Box<dyn Machine>,
    last: Option<LogId>,
    membership: Membership,
}

impl Driven {
    pub(super) fn new(log: Log, machine: Box<dyn Machine>) -> Self {
        Self { log, current: Arc::new(Mutex::new(Current { machine, last: None, membership: Membership::default() })) }
    }

    /// Whether a snapshot can be read. openraft would stop this node for one that cannot; that of another version is no
    /// reason to.
    pub(super) fn can_read(&self, picture: &[u8]) -> io::Result<()> {
        self.current().machine.can_read(picture)
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Current {
    fn apply(&mut self, entry: Entry) -> io::Result<Option<Vec<u8>>> {
        let outcome = match entry.payload {
            EntryPayload::Blank => None,
            EntryPayload::Normal(proposal) => {
                Some(self.machine.apply(entry.log_id.index, term_of(&entry.log_id), &proposal.0)?)
            }
            EntryPayload::Membership(membership) => {
                self.membership = Membership::new(Some(entry.log_id), membership);
                None
            }
        };
        self.last = Some(entry.log_id);
        Ok(outcome)
    }

    fn publish(&mut self) {
        let (index, term) = self.last.as_ref().map_or((0, 0), |last| (last.index, term_of(last)));
        self.machine.publish(index, term);
    }
}

impl RaftStateMachine<Types> for Driven {
    type SnapshotData = Vec<u8>;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), io::Error> {
        let current = self.current();
        Ok((current.last, current.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        // From memory, and no more than the log holds; taken first, so that the lock is not held while waiting.
        let mut batch = Vec::new();
        while let Some(next) = poll_fn(|cx| Pin::new(&mut entries).poll_next(cx)).await {
            batch.push(next?);
        }
        let mut answers = Vec::new();
        {
            let mut current = self.current();
            for (entry, responder) in batch {
                let outcome = current.apply(entry)?;
                answers.extend(responder.map(|responder| (responder, outcome)));
            }
            current.publish();
        }
        // Only now: whoever has an answer finds its effect published.
        answers.into_iter().for_each(|(responder, outcome)| responder.send(outcome));
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        let current = self.current();
        let meta = SnapshotMeta { last_log_id: current.last, last_membership: current.membership.clone() };
        Builder { log: self.log.clone(), meta, picture: Some(current.machine.picture()) }
    }

    /// Durable before it counts, because the log before it is thrown away next.
    async fn install_snapshot(&mut self, meta: &SnapshotMeta, bytes: Vec<u8>) -> Result<(), io::Error> {
        self.can_read(&bytes)?;
        let stored = self.log.snapshot();
        // At the start openraft installs what it has just read from here.
        if stored.is_none_or(|stored| stored.meta != *meta || stored.bytes != bytes) {
            self.log.save_snapshot(Stored { meta: meta.clone(), bytes: bytes.clone() }).await?;
        }
        let mut current = self.current();
        current.machine.restore(meta.last_log_id.map_or(0, |last| last.index), &bytes)?;
        current.last = meta.last_log_id;
        current.membership = meta.last_membership.clone();
        current.publish();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<Types, Vec<u8>>>, io::Error> {
        Ok(self.log.snapshot().map(|stored| Snapshot { meta: stored.meta.clone(), snapshot: stored.bytes.clone() }))
    }
}

/// Makes a snapshot of the state at one moment.
pub(super) struct Builder {
    log: Log,
    meta: SnapshotMeta,
    picture: Option<Picture>,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Vec<u8>;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Types, Vec<u8>>, io::Error> {
        let picture = self.picture.take().ok_or_else(|| io::Error::other("this snapshot was already made"))?;
        let bytes = picture()?;
        self.log.save_snapshot(Stored { meta: self.meta.clone(), bytes: bytes.clone() }).await?;
        Ok(Snapshot { meta: self.meta.clone(), snapshot: bytes })
    }
}

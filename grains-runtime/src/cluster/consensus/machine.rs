//! A small replicated state as openraft drives it: commands are applied in the order of the log, each batch is published,
//! then those who asked are answered. What is applied is in memory; a restart begins with the last snapshot.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io,
    marker::PhantomData,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_core::Stream;
use grains_core::codec;
use openraft::{
    EntryPayload, OptionalSend, RaftSnapshotBuilder,
    alias::SnapshotOf,
    storage::{EntryResponder, RaftStateMachine, Snapshot},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::watch;

use super::{
    log::{Log, Stored},
    snapshot::{Incoming, Outgoing},
    types::{Entry, LogId, Membership, SnapshotMeta, Types, term_of},
};
use crate::cluster::command::{Numbered, Outcome};

#[cfg(test)]
mod tests;

/// A state that openraft drives, and the words that change it.
pub(crate) trait Driven: RaftStateMachine<Types, SnapshotData: Outgoing> {
    /// What changes it.
    type Command: Serialize + Send + Sync;
    /// What that came to.
    type Outcome: DeserializeOwned + Send;
    /// A snapshot that comes in.
    type Incoming: Incoming<Whole = Self::SnapshotData>;
    /// What the handles of this node see of it.
    type Shared: Clone + Send + Sync + 'static;

    /// The largest command, in bytes.
    const COMMAND_BYTES_MAX: usize;

    /// Begins to take in a snapshot.
    fn incoming(shared: &Self::Shared) -> Self::Incoming;
}

/// A deterministic state: the same commands make the same state on every node.
pub(crate) trait Machine: Clone + Send + Sync + Default + Serialize + DeserializeOwned + 'static {
    /// Does `command`, the entry `index` of the log, proposed by the leader of `term`. It must not panic: all voters
    /// would, again and again.
    fn apply(&mut self, index: u64, term: u64, command: Numbered) -> Outcome;
}

/// How many commands are kept for subscribers that are a little behind.
pub(crate) const APPLIED_COMMANDS_MAX: usize = 1024;

/// One command of the log: its index, its term, what it was.
pub(crate) type AppliedCommand = (u64, u64, Numbered);

/// The state after everything up to an entry of the log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Applied<M> {
    /// The index of the entry; zero also before the first.
    pub(crate) index: u64,
    /// The term of its leader.
    #[cfg_attr(not(test), allow(dead_code, reason = "belongs to what an index means"))]
    pub(crate) term: u64,
    /// The state.
    pub(crate) state: Arc<M>,
}

/// What the machine of this node has come to. Shared by openraft's task, which changes it, and the handles.
pub(crate) struct Published<M> {
    current: Mutex<Current<M>>,
    applied: watch::Sender<Applied<M>>,
}

struct Current<M> {
    state: Arc<M>,
    last: Option<LogId>,
    membership: Membership,
    recent: Recent,
}

impl<M: Machine> Published<M> {
    pub(super) fn new() -> Self {
        let current = Current::<M> {
            state: Arc::default(),
            last: None,
            membership: Membership::default(),
            recent: Recent::default(),
        };
        let first = Applied { index: 0, term: 0, state: current.state.clone() };
        Self { current: Mutex::new(current), applied: watch::Sender::new(first) }
    }

    pub(super) fn applied(&self) -> watch::Receiver<Applied<M>> {
        self.applied.subscribe()
    }

    pub(super) fn since(&self, index: u64) -> Option<Vec<AppliedCommand>> {
        self.current().recent.since(index)
    }

    fn publish(&self, current: &Current<M>) {
        let (index, term) = current.last.as_ref().map_or((0, 0), |last| (last.index, term_of(last)));
        self.applied.send_replace(Applied { index, term, state: current.state.clone() });
    }

    fn current(&self) -> MutexGuard<'_, Current<M>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: Machine> Current<M> {
    /// An error stops this node: it cannot read what the others have agreed on.
    fn apply(&mut self, entry: Entry) -> io::Result<Option<Vec<u8>>> {
        let (index, term) = (entry.log_id.index, term_of(&entry.log_id));
        let outcome = match entry.payload {
            EntryPayload::Blank => None,
            EntryPayload::Normal(proposal) => {
                let command: Numbered = codec::decode(&proposal.0).map_err(io::Error::other)?;
                self.recent.push((index, term, command.clone()));
                let outcome = Arc::make_mut(&mut self.state).apply(index, term, command);
                Some(codec::encode(&outcome).map_err(io::Error::other)?)
            }
            EntryPayload::Membership(membership) => {
                self.membership = Membership::new(Some(entry.log_id), membership);
                None
            }
        };
        self.last = Some(entry.log_id);
        Ok(outcome)
    }
}

/// The last commands, for those who know the state before them.
#[derive(Default)]
struct Recent {
    /// All commands after this index are in `commands`.
    from: u64,
    commands: VecDeque<AppliedCommand>,
}

impl Recent {
    fn push(&mut self, command: AppliedCommand) {
        if self.commands.len() >= APPLIED_COMMANDS_MAX
            && let Some((index, ..)) = self.commands.pop_front()
        {
            self.from = index;
        }
        self.commands.push_back(command);
    }

    /// A snapshot stands for everything up to `index`.
    fn restart(&mut self, index: u64) {
        *self = Self { from: index, commands: VecDeque::new() };
    }

    fn since(&self, index: u64) -> Option<Vec<AppliedCommand>> {
        let after = || self.commands.partition_point(|(at, ..)| *at <= index);
        (index >= self.from).then(|| self.commands.range(after()..).cloned().collect())
    }
}

/// The machine of one node, for openraft.
pub(crate) struct InMemory<M> {
    log: Log,
    published: Arc<Published<M>>,
}

impl<M: Machine> InMemory<M> {
    pub(super) fn new(log: Log, published: Arc<Published<M>>) -> Self {
        Self { log, published }
    }
}

impl<M: Machine> Driven for InMemory<M> {
    type Command = Numbered;
    type Outcome = Outcome;
    type Incoming = Gathered<M>;
    type Shared = Arc<Published<M>>;

    const COMMAND_BYTES_MAX: usize = 256 * 1024;

    fn incoming(_shared: &Self::Shared) -> Gathered<M> {
        Gathered { bytes: Vec::new(), state: PhantomData }
    }
}

/// The largest state that is gathered. A thousand members and as many partitions take less than a megabyte.
const STATE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// An encoded state that comes in.
pub(crate) struct Gathered<M> {
    bytes: Vec<u8>,
    state: PhantomData<fn() -> M>,
}

impl<M: Machine> Incoming for Gathered<M> {
    type Whole = Vec<u8>;

    async fn add(&mut self, part: Vec<u8>) -> io::Result<()> {
        if self.bytes.len() + part.len() > STATE_BYTES_MAX {
            return Err(io::Error::other(format!("a state of more than {STATE_BYTES_MAX} bytes")));
        }
        self.bytes.extend(part);
        Ok(())
    }

    /// openraft would stop this node for a state it cannot read; that of another version is no reason to.
    async fn whole(self) -> io::Result<Vec<u8>> {
        codec::decode::<M>(&self.bytes).map_err(io::Error::other)?;
        Ok(self.bytes)
    }
}

impl<M: Machine> RaftStateMachine<Types> for InMemory<M> {
    type SnapshotData = Vec<u8>;
    type SnapshotBuilder = Picture<M>;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), io::Error> {
        let current = self.published.current();
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
            let mut current = self.published.current();
            for (entry, responder) in batch {
                let outcome = current.apply(entry)?;
                answers.extend(responder.map(|responder| (responder, outcome)));
            }
            self.published.publish(&current);
        }
        // Only now: whoever has an answer finds its effect published.
        answers.into_iter().for_each(|(responder, outcome)| responder.send(outcome));
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Picture<M> {
        let current = self.published.current();
        let meta = SnapshotMeta { last_log_id: current.last, last_membership: current.membership.clone() };
        Picture { log: self.log.clone(), meta, state: current.state.clone() }
    }

    /// Durable before it counts, because the log before it is thrown away next.
    async fn install_snapshot(&mut self, meta: &SnapshotMeta, bytes: Vec<u8>) -> Result<(), io::Error> {
        let state: M = codec::decode(&bytes).map_err(io::Error::other)?;
        let stored = self.log.snapshot();
        // At the start openraft installs what it has just read from here.
        if stored.is_none_or(|stored| stored.meta != *meta || stored.bytes != bytes) {
            self.log.save_snapshot(Stored { meta: meta.clone(), bytes }).await?;
        }
        let mut current = self.published.current();
        current.state = Arc::new(state);
        current.last = meta.last_log_id;
        current.membership = meta.last_membership.clone();
        current.recent.restart(meta.last_log_id.map_or(0, |last| last.index));
        self.published.publish(&current);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<Types, Vec<u8>>>, io::Error> {
        Ok(self.log.snapshot().map(|stored| Snapshot { meta: stored.meta.clone(), snapshot: stored.bytes.clone() }))
    }
}

/// The state at one moment, to be written as a snapshot.
pub(crate) struct Picture<M> {
    log: Log,
    meta: SnapshotMeta,
    state: Arc<M>,
}

impl<M: Machine> RaftSnapshotBuilder<Types> for Picture<M> {
    type SnapshotData = Vec<u8>;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Types, Vec<u8>>, io::Error> {
        let bytes = codec::encode(&*self.state).map_err(io::Error::other)?;
        self.log.save_snapshot(Stored { meta: self.meta.clone(), bytes: bytes.clone() }).await?;
        Ok(Snapshot { meta: self.meta.clone(), snapshot: bytes })
    }
}

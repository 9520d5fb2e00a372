//! A small state in memory: published after each batch; a restart begins with the last snapshot, which the log keeps.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use openraft::EntryPayload;

use super::{
    super::{
        log::{Log, Stored},
        types::{Entry, LogId, Membership, SnapshotMeta, term_of},
    },
    Batch, Machine, Picture,
};

/// A machine and how far it has come. Shared by openraft's task, which drives it, and what takes in snapshots.
#[derive(Clone)]
pub(in crate::consensus) struct InMemory {
    log: Log,
    current: Arc<Mutex<Current>>,
}

struct Current {
    machine: Box<dyn Machine>,
    last: Option<LogId>,
    membership: Membership,
}

impl InMemory {
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

impl InMemory {
    pub(super) fn position(&self) -> (Option<LogId>, Membership) {
        let current = self.current();
        (current.last, current.membership.clone())
    }

    pub(super) fn apply(&self, batch: Batch) -> io::Result<()> {
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

    pub(super) fn builder(&self) -> Builder {
        let current = self.current();
        let meta = SnapshotMeta { last_log_id: current.last, last_membership: current.membership.clone() };
        Builder { log: self.log.clone(), meta, picture: Some(current.machine.picture()) }
    }

    /// Durable before it counts, because the log before it is thrown away next.
    pub(super) async fn install(&self, meta: &SnapshotMeta, bytes: Vec<u8>) -> io::Result<()> {
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

    pub(super) fn snapshot(&self) -> Option<(SnapshotMeta, Vec<u8>)> {
        self.log.snapshot().map(|stored| (stored.meta.clone(), stored.bytes.clone()))
    }
}

/// Makes a snapshot of the state at one moment.
pub(in crate::consensus) struct Builder {
    log: Log,
    meta: SnapshotMeta,
    picture: Option<Picture>,
}

impl Builder {
    pub(super) async fn build(&mut self) -> io::Result<(SnapshotMeta, Vec<u8>)> {
        let picture = self.picture.take().ok_or_else(|| io::Error::other("this snapshot was already made"))?;
        let bytes = picture()?;
        self.log.save_snapshot(Stored { meta: self.meta.clone(), bytes: bytes.clone() }).await?;
        Ok((self.meta.clone(), bytes))
    }
}

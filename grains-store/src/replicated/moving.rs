//! Moving what a node alone has kept into the store of a cluster. Nothing may use it meanwhile, there or here.
//!
//! Interrupted anywhere, it can be done again: a state that is there already is compared, not written.

use grains_core::store::{CommitError, LoadError};

use super::{
    ReplicatedStore, Unanswered,
    commits::SET_BYTES_MAX,
    words::{Name, Outcome, Set, Work},
};
use crate::redb::{RedbStore, read::KeptGrain};

/// What was moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// How many grains.
    pub grains: u64,
    /// How many states of theirs.
    pub states: u64,
    /// How many bytes these have.
    pub bytes: u64,
}

/// Why states were not moved. Those that were not are where they were, and so are those that were.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MoveError {
    /// The store they are in cannot be read.
    #[error("the states of the node cannot be read")]
    Source(#[from] LoadError),
    /// The cluster does not take them.
    #[error("the cluster does not take them: {why}")]
    Cluster {
        /// What it said.
        why: String,
    },
    /// One is larger than the cluster takes.
    #[error("state `{name}` of \"{grain}\" has {bytes} bytes; a cluster takes {SET_BYTES_MAX} at most")]
    TooLarge {
        /// Whose state.
        grain: String,
        /// Its name.
        name: String,
        /// How long it is.
        bytes: usize,
    },
    /// The cluster has another state of the same grain: somebody has used it there.
    #[error(
        "the cluster has another state `{name}` of \"{grain}\" already: move the states before the cluster is used"
    )]
    Differs {
        /// Whose state.
        grain: String,
        /// Its name.
        name: String,
    },
    /// All of them are in the cluster, and it could not be written down that they are.
    #[error("all states are in the cluster, but the store they were in could not be closed for ever: {why}")]
    Mark {
        /// What the disk said.
        why: String,
    },
}

/// How many grains go at once.
const BATCH_LEN_MAX: usize = 256;
/// No more are taken once their states have so many bytes: they are in one command of the log.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

impl ReplicatedStore {
    /// Puts all states that `from` has here, looks whether they can be read here, and closes `from` for ever.
    pub async fn move_from(&self, from: &RedbStore) -> Result<Moved, MoveError> {
        let (mut moved, mut after) = (Moved::default(), None);
        loop {
            let (grains, last) = from.grains(after, BATCH_LEN_MAX, BATCH_BYTES_MAX).await?;
            let Some(last) = last else { break };
            after = Some(last);
            moved.grains += grains.len() as u64;
            let mut batch: Vec<(Name, Vec<u8>)> = grains.into_iter().flat_map(states).collect();
            if let Some((name, value)) = batch.iter().find(|(_, value)| value.len() > SET_BYTES_MAX) {
                let name = name.clone();
                return Err(MoveError::TooLarge { grain: grain(&name), name: name.name, bytes: value.len() });
            }
            while !batch.is_empty() {
                let rest = batch.split_off(fitting(&batch));
                self.put(&batch).await?;
                moved.states += batch.len() as u64;
                moved.bytes += batch.iter().map(|(_, value)| value.len() as u64).sum::<u64>();
                batch = rest;
            }
        }
        from.moved().await.map_err(|why| MoveError::Mark { why })?;
        Ok(moved)
    }

    async fn put(&self, batch: &[(Name, Vec<u8>)]) -> Result<(), MoveError> {
        let sets = batch.iter().map(|(name, value)| Set::first(name, value)).collect();
        let written = match self.shared.apply(Work::Write(sets)).await {
            Ok(Outcome::Written(written)) => written,
            Ok(_) => return Err(MoveError::Cluster { why: "the answer is to another question".into() }),
            Err(Unanswered { why, .. }) => return Err(MoveError::Cluster { why }),
        };
        for written in written {
            match written {
                // There already: whether it is the same is seen below.
                Ok(()) | Err(CommitError::Conflict { .. } | CommitError::Fenced { .. }) => {}
                Err(why) => return Err(MoveError::Cluster { why: why.to_string() }),
            }
        }
        let loads = batch.iter().map(|(name, _)| self.shared.load(name.clone())).collect::<Vec<_>>();
        for ((name, value), load) in batch.iter().zip(loads) {
            let found = load.await.map_err(|why| MoveError::Cluster { why: why.to_string() })?;
            if found.and_then(|stored| stored.value).as_ref() != Some(value) {
                return Err(MoveError::Differs { grain: grain(name), name: name.name.clone() });
            }
        }
        Ok(())
    }
}

fn states(grain: KeptGrain) -> impl Iterator<Item = (Name, Vec<u8>)> {
    let KeptGrain { grain_type, key, states } = grain;
    states
        .into_iter()
        .map(move |(name, value)| (Name { grain_type: grain_type.clone(), key: key.clone(), name }, value))
}

fn grain(name: &Name) -> String {
    format!("{}/{}", name.grain_type, name.key)
}

/// How many of them go as one command, at least one: a grain may have several large states.
fn fitting(batch: &[(Name, Vec<u8>)]) -> usize {
    let mut bytes = 0;
    let fits = batch.iter().take_while(|(_, value)| {
        bytes += value.len();
        bytes <= BATCH_BYTES_MAX
    });
    fits.count().max(1)
}

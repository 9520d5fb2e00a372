//! Where state is kept: the trait every store implements, its errors, and the store in memory.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    id::{FencingToken, GrainId, Version},
    world::BoxFuture,
};

pub mod memory;

/// The largest state a node accepts unless told otherwise, in bytes once encoded.
///
/// A state is written whole at every commit; beyond a megabyte, one small change costs more than the work it does. Keep
/// long histories in pages, one grain each.
pub const STATE_BYTES_MAX: usize = 1024 * 1024;

/// Keeps the states of grains.
///
/// A store is shared by all activations of a node and by all nodes of a cluster, unless it says that it serves one node.
/// It takes at least 64 commits at once and keeps three promises, which the conformance kit tests:
///
/// * **Atomic.** A [`WriteSet`] is stored whole or not at all, also when the process dies half-way.
/// * **One writer.** It is refused with [`CommitError::Fenced`] when a larger token has written to that grain before,
///   whichever state of it, and then with [`CommitError::Conflict`] when a version is not the expected one. Refused
///   writes do not count; an empty set of writes does, and records its token.
/// * **Honest.** `Ok` means that the writes survive a crash of the process (for a durable store, of the machine). When
///   it cannot tell, it says [`CommitError::Unknown`].
pub trait Store: Send + Sync + 'static {
    /// Reads one state. `None` when it was never written.
    fn load<'a>(&'a self, grain: &'a GrainId, name: &'a str) -> BoxFuture<'a, Result<Option<Stored>, LoadError>>;

    /// Writes all states of `writes`, or none. Each state's version grows by one.
    ///
    /// Dropping the future before it ends leaves open whether the writes happen, as [`CommitError::Unknown`] does.
    fn commit(&self, writes: WriteSet) -> BoxFuture<'_, Result<(), CommitError>>;

    /// The keys of the grains of a type that have any state with a value, in the order of their bytes, at most `limit`,
    /// all greater than `after`.
    fn list<'a>(
        &'a self,
        grain_type: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<String>, LoadError>>;

    /// A number larger than any this store has given before, also in an earlier process. A node alone asks for it when it
    /// starts, a cluster when it is founded: so each has tokens above those of all that have used the store before.
    fn next_epoch(&self) -> BoxFuture<'_, Result<u64, LoadError>>;
}

/// For a store that is shared, or chosen at run time.
impl<S: Store + ?Sized> Store for Arc<S> {
    fn load<'a>(&'a self, grain: &'a GrainId, name: &'a str) -> BoxFuture<'a, Result<Option<Stored>, LoadError>> {
        (**self).load(grain, name)
    }

    fn commit(&self, writes: WriteSet) -> BoxFuture<'_, Result<(), CommitError>> {
        (**self).commit(writes)
    }

    fn list<'a>(
        &'a self,
        grain_type: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<String>, LoadError>> {
        (**self).list(grain_type, after, limit)
    }

    fn next_epoch(&self) -> BoxFuture<'_, Result<u64, LoadError>> {
        (**self).next_epoch()
    }
}

/// One state as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// How many times it was written.
    pub version: Version,
    /// The encoded value; `None` when it was removed. A removed state keeps its version, so that a writer that has
    /// missed the removal conflicts.
    pub value: Option<Vec<u8>>,
}

/// States of one grain that are written together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteSet {
    /// Whose states.
    pub grain: GrainId,
    /// The token of the activation that writes.
    pub token: FencingToken,
    /// The states, each name once.
    pub writes: Vec<Write>,
}

/// One state to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The name of the state.
    pub name: String,
    /// The version it was read at; 0 if it was never written.
    pub expected: Version,
    /// The new value; `None` removes it.
    pub value: Option<Vec<u8>>,
}

/// A read that failed. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum LoadError {
    /// The store cannot be reached or did not answer in time. Trying again may help.
    #[error("the store is unavailable: {why}")]
    Unavailable {
        /// What the store said.
        why: String,
    },
    /// The store answered, but what it holds cannot be read. Trying again does not help.
    #[error("stored data cannot be read: {why}")]
    Damaged {
        /// What is wrong, and where.
        why: String,
    },
}

/// A commit that did not end in *stored*.
///
/// In an activation only [`NotStored`](Self::NotStored) and [`TooLarge`](Self::TooLarge) reach the grain: after the
/// others its memory may differ from the store, so the turn ends there and the activation is dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CommitError {
    /// Nothing was stored, and memory is as it was. Trying again may help.
    #[error("state was not stored: {why}")]
    NotStored {
        /// What the store said.
        why: String,
    },
    /// The value is over the limit. Nothing was stored, and memory is as it was.
    #[error(
        "state `{name}` has {bytes} bytes, over the limit of {bytes_max} (`state_bytes_max`, or what its store takes): keep \
         long data in several grains"
    )]
    TooLarge {
        /// Which state.
        name: String,
        /// How long it would have been.
        bytes: usize,
        /// How long it may be.
        bytes_max: usize,
    },
    /// Somebody else has written this state since it was read. Nothing was stored.
    #[error("state `{name}` is at {found}, not at {expected}: somebody else has written it")]
    Conflict {
        /// Which state.
        name: String,
        /// The version it was read at.
        expected: Version,
        /// The version in the store.
        found: Version,
    },
    /// A newer activation has written to this grain. Nothing was stored.
    #[error("fenced: a newer activation (token {newest}) has written, ours is {ours}")]
    Fenced {
        /// The token of the write.
        ours: FencingToken,
        /// The largest token seen.
        newest: FencingToken,
    },
    /// The store did not answer. The writes may be stored or not, all or none of them.
    #[error("the store did not answer: {why}")]
    Unknown {
        /// What happened.
        why: String,
    },
}

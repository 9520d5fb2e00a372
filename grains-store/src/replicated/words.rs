//! What nodes say to each other about states, and what is written to the log. Variants and fields are only ever added.

use grains_core::store::{CommitError, LoadError, Stored, Write, WriteSet};
use grains_core::{FencingToken, Version};
use serde::{Deserialize, Serialize};

use crate::{NodeId, redb::rules};

/// A command of the log. It borrows: from the sets of whoever writes it, from the log where it is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Command<'c> {
    /// Who sends: a random number, new for each process.
    pub(super) client: u64,
    /// Which command of that sender, of which one is under way at a time; grows by one.
    pub(super) serial: u64,
    /// What to do.
    #[serde(borrow)]
    pub(super) work: Work<'c>,
}

/// What a command does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Work<'c> {
    /// Writes these sets in their order, each seeing those before it.
    Write(#[serde(borrow)] Vec<Set<'c>>),
    /// Draws the next epoch.
    Epoch,
}

/// What a command came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Outcome {
    /// One answer for each set.
    Written(Vec<Result<(), CommitError>>),
    /// The epoch.
    Epoch(u64),
    /// Nothing was done: its sender has sent a later one, which came first.
    Overtaken,
}

/// The states of one grain that are written together, as they travel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Set<'c> {
    pub(super) grain_type: &'c str,
    pub(super) key: &'c str,
    pub(super) token: FencingToken,
    #[serde(borrow)]
    writes: Vec<OneWrite<'c>>,
}

/// One state to write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct OneWrite<'c> {
    name: &'c str,
    expected: Version,
    #[serde(borrow)]
    value: Option<Borrowed<'c>>,
}

/// Bytes as MessagePack's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct Bytes(#[serde(with = "grains_core::codec::bytes")] Vec<u8>);

/// The same, where they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct Borrowed<'c>(#[serde(serialize_with = "grains_core::codec::bytes::serialize")] &'c [u8]);

impl<'c> From<&'c WriteSet> for Set<'c> {
    fn from(WriteSet { grain, token, writes }: &'c WriteSet) -> Self {
        let one = |Write { name, expected, value }: &'c Write| OneWrite {
            name,
            expected: *expected,
            value: value.as_deref().map(Borrowed),
        };
        let writes = writes.iter().map(one).collect();
        Self { grain_type: grain.grain_type(), key: grain.key(), token: *token, writes }
    }
}

impl<'c> Set<'c> {
    /// The first value of one state, by a token that is older than any that a cluster gives.
    pub(super) fn first(Name { grain_type, key, name }: &'c Name, value: &'c [u8]) -> Self {
        let write = OneWrite { name, expected: Version(0), value: Some(Borrowed(value)) };
        Self { grain_type, key, token: FencingToken { epoch: 0, counter: 0 }, writes: vec![write] }
    }

    /// What is to be written.
    pub(super) fn writes(&self) -> impl Iterator<Item = rules::OneWrite<'c>> + Clone + '_ {
        self.writes.iter().map(|one| rules::OneWrite {
            name: one.name,
            expected: one.expected,
            value: one.value.map(|Borrowed(value)| value),
        })
    }
}

/// Which state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Name {
    pub(super) grain_type: String,
    pub(super) key: String,
    pub(super) name: String,
}

/// A question to another node. Answered by an [`Answer`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    /// A message of Raft.
    Raft(#[serde(with = "grains_core::codec::bytes")] Vec<u8>),
    /// Put this [`Command`], encoded, into the log. Answered by the leader only.
    Apply(#[serde(with = "grains_core::codec::bytes")] Vec<u8>),
    /// What do these states hold? Answered by the leader only, for as many as fit into a message, at least one.
    Load(Vec<Name>),
    /// Which grains of a type have a state? Answered by the leader only.
    List {
        /// The type.
        grain_type: String,
        /// Those whose key is greater.
        after: Option<String>,
        /// At most so many.
        limit: u64,
    },
    /// Who votes, and nobody else? Answered by the leader only.
    Voters,
}

/// A question with the number of the group it is for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Envelope {
    pub(super) group: u64,
    pub(super) ask: Ask,
}

/// An answer to an [`Ask`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// What Raft answers.
    Raft(#[serde(with = "grains_core::codec::bytes")] Vec<u8>),
    /// The command was applied; its [`Outcome`], encoded.
    Applied(#[serde(with = "grains_core::codec::bytes")] Vec<u8>),
    /// The command may be applied later.
    Unknown(String),
    /// What the first of the states hold.
    Loaded(Vec<Result<Option<Held>, LoadError>>),
    /// The keys.
    Listed(Result<Vec<String>, LoadError>),
    /// Those who vote.
    Voters(Vec<NodeId>),
    /// Only the leader answers that, and this is where it may be.
    NotLeader(Option<String>),
    /// It cannot be done here, now: nothing was done.
    Refused(String),
}

/// One state as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    version: Version,
    value: Option<Bytes>,
}

impl From<Stored> for Held {
    fn from(Stored { version, value }: Stored) -> Self {
        Self { version, value: value.map(Bytes) }
    }
}

impl From<Held> for Stored {
    fn from(Held { version, value }: Held) -> Self {
        Self { version, value: value.map(|Bytes(value)| value) }
    }
}

//! The types that openraft is told about. Everything of openraft's that other files of this room name comes from here.

use std::{fmt, sync::Arc};

use openraft::{
    BasicNode,
    alias::{EntryOf, LogIdOf, SnapshotMetaOf, StoredMembershipOf, VoteOf},
    impls::leader_id_std,
};
use serde::{Deserialize, Serialize};

use super::runtime::WorldRuntime;

openraft::declare_raft_types!(
    /// One leader for each term, unlike openraft's default: a command that counts "in the log of that very term" would
    /// mean nothing if two leaders could share one. Commands and outcomes are bytes: what they say is the machine's. Only
    /// commands have an outcome, not what Raft itself logs.
    pub(crate) Types:
        D = Proposal,
        R = Option<Vec<u8>>,
        NodeId = u64,
        Node = BasicNode,
        Term = u64,
        LeaderId = leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = WorldRuntime,
);

pub(super) type LogId = LogIdOf<Types>;
pub(super) type Entry = EntryOf<Types>;
pub(super) type Vote = VoteOf<Types>;
pub(super) type Membership = StoredMembershipOf<Types>;
pub(super) type SnapshotMeta = SnapshotMetaOf<Types>;

/// An encoded command.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Proposal(#[serde(with = "grains_core::codec::bytes")] pub(crate) Arc<[u8]>);

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a command of {} bytes", self.0.len())
    }
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The term of a log entry.
pub(super) fn term_of(id: &LogId) -> u64 {
    id.committed_leader_id().term
}

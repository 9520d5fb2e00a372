//! What all nodes agree on: members, who owns which partition, who holds which singleton, who leads.

use std::sync::Arc;

use litemap::LiteMap;
use serde::{Deserialize, Serialize};

use super::{
    member::Member,
    names::{Epoch, MemberId, NodeId, PartitionId, ViewVersion},
};

/// An immutable state of the cluster. A newer one has a larger version; versions have no gaps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Its number.
    pub version: ViewVersion,
    /// The members, by node.
    pub members: LiteMap<NodeId, Arc<Member>>,
    /// Who owns each partition; the place is the [`PartitionId`]. As long as the cluster lives their number is the same.
    pub partitions: Arc<Vec<Partition>>,
    /// Who holds each singleton, by grain type.
    pub singletons: LiteMap<String, Assignment>,
    /// Who leads the cluster.
    pub leader: Option<Grant>,
}

/// One ownership of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// The owner; none while no member is active.
    pub owner: Option<MemberId>,
    /// The number of this ownership.
    pub epoch: Epoch,
    /// Who owned it before, and under which number: the only one whose hand-over counts.
    pub previous: Option<(MemberId, Epoch)>,
}

/// The right to be the only one of its kind, for one life of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Who has it.
    pub holder: MemberId,
    /// Its number: the index of the log entry that made it. It grows with every grant of the same kind.
    pub token: u64,
}

/// The state of one singleton.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Assignment {
    /// No member can host it now.
    Nobody,
    /// It is active on this member, and nowhere else.
    Held(Grant),
    /// Its holder is leaving: it has to release it before another one gets it.
    Releasing(Grant),
}

impl Assignment {
    /// Who holds the singleton, or has yet to release it.
    pub fn holder(&self) -> Option<MemberId> {
        match self {
            Self::Nobody => None,
            Self::Held(grant) | Self::Releasing(grant) => Some(grant.holder),
        }
    }
}

impl View {
    /// The member that is this life of its node, if the view still has it.
    pub fn member(&self, id: MemberId) -> Option<&Arc<Member>> {
        self.members.get(&id.node).filter(|member| member.id == id)
    }

    /// Whether it has the member, or a later one may: this one is of the log up to `index`, and an incarnation is the index of the
    /// entry that made it.
    pub(crate) fn has_or_awaits(&self, index: u64, id: MemberId) -> bool {
        self.member(id).is_some() || id.incarnation.0 > index
    }

    /// The partition of this number.
    pub fn partition(&self, id: PartitionId) -> Option<&Partition> {
        self.partitions.get(usize::from(id.0))
    }
}

//! What can be asked of the replicated state, and what it answers. Written to Raft's log: variants and fields are only
//! ever added.

use serde::{Deserialize, Serialize};

use super::{
    member::Joiner,
    names::{Incarnation, MemberId, NodeName},
};

/// One command with its sender's number for it, so that a command that was sent twice is applied once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Numbered {
    /// Who sends: a random number, new for each process.
    pub(crate) client: u64,
    /// Which command of that sender; grows by one.
    pub(crate) serial: u64,
    /// What to do.
    pub(crate) command: Command,
}

/// A change of what the cluster agrees on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Command {
    /// The first of all: names the cluster and fixes its number of partitions.
    Found {
        /// The name of the cluster.
        cluster: NodeName,
        /// A random number that tells clusters of one name apart.
        generation: u64,
        /// How many partitions, for the cluster's life.
        partitions: u16,
        /// To which epochs and tokens of this cluster are added: a store may have outlived an earlier one.
        #[serde(default)]
        first_epoch: u64,
    },
    /// A node becomes a member, under a new incarnation.
    Join {
        /// The node.
        joiner: Joiner,
        /// An earlier life of the same node or name whose lease is known to have ended, and the term of the leader that
        /// knows it. Without it, a live member of the same node or name keeps the joiner out.
        over: Option<Ended>,
    },
    /// A member whose lease has ended is removed.
    Evict(Ended),
    /// A member begins to leave.
    Leave(MemberId),
    /// A member that is leaving has nothing left: it is removed.
    Left(MemberId),
    /// A member that is leaving has ended its singleton of this grain type, or its leadership.
    Release {
        /// The grain type, or [`LEADERSHIP`].
        grain_type: String,
        /// Who held it.
        holder: MemberId,
    },
    /// A member is to begin the group that keeps the states of grains, if nobody has and nobody is at it.
    ClaimStates(MemberId),
    /// That group stands, for the cluster's life: from now on it may acknowledge.
    StatesFounded {
        /// Its number.
        group: u64,
    },
}

/// The grain type by which [`Command::Release`] speaks of leadership: a member that is leaving stays leader until it has
/// ended what it does as one, and says so, or until it is removed.
pub(crate) const LEADERSHIP: &str = "";

/// The lease of a member has ended, as the leader of a term found. It counts only in the log of that very term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// Whose lease.
    pub(crate) member: MemberId,
    /// The term of the leader that decided it.
    pub(crate) term: u64,
}

/// What a command came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    /// The node is a member now.
    Joined(Incarnation),
    /// A live member has the node's name or number.
    Taken {
        /// Who has it.
        by: MemberId,
        /// Where that is.
        address: String,
    },
    /// It was done.
    Done,
    /// There was nothing to do: what the command speaks of is no more, or was never so.
    Stale,
    /// It cannot be done, for a reason that is the sender's fault.
    Refused(String),
}

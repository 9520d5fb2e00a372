//! What nodes ask of each other on control connections, beside Raft's own messages.

use serde::{Deserialize, Serialize};

use super::{
    command::{Numbered, Outcome},
    founding,
    member::Joiner,
    names::{Incarnation, MemberId, NodeId, ViewVersion},
    state::ClusterState,
};
use crate::deadlock::detector::{Break, Report};

/// A request. Answered by an [`Answer`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// A message of Raft.
    Raft(#[serde(with = "grains_core::codec::bytes")] Vec<u8>),
    /// What the stores of two nodes say to each other.
    States(#[serde(with = "grains_core::codec::bytes")] Vec<u8>),
    /// Are you fresh, or a member, and do you promise?
    Founding(founding::Question),
    /// Take me in. Answered by the leader only.
    Join {
        /// Who asks.
        joiner: Joiner,
        /// A random number for this request, so that a repeated one makes one member.
        request: u64,
    },
    /// Extend my lease. Answered by the leader only.
    Renew {
        /// Who asks.
        member: MemberId,
        /// The view it has applied.
        view: ViewVersion,
    },
    /// Put this into the log. Answered by the leader only.
    Propose {
        /// The command, under a number that stays when it is sent again.
        command: Numbered,
    },
    /// What has been agreed after this log index? Waits a while for something to be.
    Follow {
        /// The last index the sender has applied; 0 for none.
        after: u64,
    },
    /// The process of this number has ended, and with it every incarnation of the node that it had: its watchdog says so.
    /// [`Answer::Gone`] if no member is of it any more; only the leader says that.
    ProcessEnded {
        /// Which node.
        node: NodeId,
        /// The number of the process, as in [`Joiner::process`].
        process: u64,
    },
    /// These calls of turns have waited for long on my node: which of them will wait for ever?
    Waits {
        /// Who asks.
        member: MemberId,
        /// The calls.
        report: Report,
    },
}

/// An answer to an [`Ask`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// What Raft answers.
    Raft(#[serde(with = "grains_core::codec::bytes")] Vec<u8>),
    /// What a store answers.
    States(#[serde(with = "grains_core::codec::bytes")] Vec<u8>),
    /// What founding answers.
    Founding(founding::Answer),
    /// It is a member now.
    Joined(Incarnation),
    /// A live member has its name or its number.
    Taken {
        /// Who has it.
        by: MemberId,
        /// Where that is.
        address: String,
        /// How long its lease still runs, in milliseconds; it may be renewed meanwhile.
        left_ms: u64,
    },
    /// The lease is extended.
    Renewed,
    /// It is not, for good: the member is no more.
    Gone,
    /// It is not, this time.
    Refused(String),
    /// It is in the log.
    Committed(Outcome),
    /// It may come into the log later.
    Unknown,
    /// Only the leader of Raft answers this, and this is where it may be.
    NotLeader(Option<String>),
    /// Everything that has been agreed, as of a log index.
    State {
        /// The index.
        index: u64,
        /// The state.
        state: Box<ClusterState>,
        /// Who votes.
        voters: Vec<(NodeId, String)>,
        /// Where the leader of Raft may be.
        leader: Option<String>,
    },
    /// What was agreed since: log index, term, command.
    Changes {
        /// The changes in order, without gaps that matter.
        changes: Vec<(u64, u64, Numbered)>,
        /// The log index up to which these are all: what is not a command has an index, too. Less than what was asked after if
        /// the sender knows less than that.
        upto: u64,
        /// Who votes.
        voters: Vec<(NodeId, String)>,
        /// Where the leader of Raft may be.
        leader: Option<String>,
    },
    /// This node has no part in the cluster's agreement: ask another one.
    NotVoter {
        /// Those who have, as far as it knows.
        voters: Vec<(NodeId, String)>,
        /// The log index up to which it knows what was agreed. Older nodes say nothing of it.
        #[serde(default)]
        upto: u64,
    },
    /// These calls wait for each other, and are to be failed.
    Break(Vec<Break>),
    /// The request cannot be read: the sender's version is another one.
    Unreadable,
}

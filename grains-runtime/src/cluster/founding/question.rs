//! What fresh nodes say to each other, and what they keep.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cluster::names::{NodeId, NodeName};

/// Whether a node still knows its promises after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Memory {
    /// It has a data directory.
    Disk,
    /// It has none.
    None,
}

/// That nobody but `founder` founds the cluster of this name from this list. Kept on disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Promise {
    /// The name of the cluster.
    pub(crate) cluster: NodeName,
    /// The list, each address once.
    pub(crate) list: Arc<[String]>,
    /// Who may found.
    pub(crate) founder: NodeId,
    /// Its place in the list.
    pub(crate) place: usize,
}

/// What a fresh node asks every address of its list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Question {
    /// The name of the cluster that it wants to be in.
    pub(crate) cluster: NodeName,
    /// Its list.
    pub(crate) list: Arc<[String]>,
    /// Who asks.
    pub(crate) node: NodeId,
    /// What for.
    pub(crate) wish: Wish,
}

/// What a question is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Wish {
    /// To know who is there.
    Look,
    /// To be promised that it may found; it stands at this place of the list.
    Promise {
        /// The place.
        place: usize,
    },
}

/// What it hears. The node that answers is named, because addresses are not: a node finds itself that way, too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// It belongs to no cluster and has promised nothing.
    Fresh {
        /// Who answers.
        node: NodeId,
        /// Whether it will remember what it promises.
        memory: Memory,
    },
    /// It belongs to no cluster and has promised that only this node founds one: perhaps itself.
    Promised {
        /// Who answers.
        node: NodeId,
        /// Whether it will remember.
        memory: Memory,
        /// Who may found.
        to: NodeId,
    },
    /// It belongs to a cluster.
    Member {
        /// Who answers.
        node: NodeId,
        /// The name of the cluster.
        cluster: NodeName,
        /// Which of the clusters of that name.
        generation: u64,
    },
    /// It belongs to no cluster, and wants to found another one or from another list.
    Otherwise {
        /// Who answers.
        node: NodeId,
        /// The name of the cluster that it wants to be in.
        cluster: NodeName,
        /// Its list.
        list: Arc<[String]>,
    },
}

impl Answer {
    /// Who answers.
    pub(crate) fn node(&self) -> NodeId {
        match self {
            Self::Fresh { node, .. }
            | Self::Promised { node, .. }
            | Self::Member { node, .. }
            | Self::Otherwise { node, .. } => *node,
        }
    }
}

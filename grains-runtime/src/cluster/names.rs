//! The names and numbers of a cluster, each a type of its own so that none is taken for another.

use std::fmt;

pub use grains_core::names::{BadName, NODE_NAME_BYTES_MAX, NodeId, NodeName};
use serde::{Deserialize, Serialize};

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident($prefix:literal, $inner:ty);)+) => {
        $(
            $(#[$doc])*
            #[derive(
                Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
            )]
            #[serde(transparent)]
            pub struct $name(pub $inner);

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    write!(f, concat!($prefix, "{}"), self.0)
                }
            }
        )+
    };
}

numbers! {
    /// Which life of a node: the index of the log entry by which it joined. It grows with every join.
    Incarnation("i", u64);
    /// The number of one ownership of a partition: the index of the log entry that made it. It grows, with gaps.
    Epoch("e", u64);
    /// The number of a view: a counter without gaps.
    ViewVersion("v", u64);
    /// A slice of the hash space of grains.
    PartitionId("p", u16);
}

/// One life of one node. What it did can be told from what the next life of the same node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MemberId {
    /// The node.
    pub node: NodeId,
    /// Which life of it.
    pub incarnation: Incarnation,
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.node, self.incarnation)
    }
}

//! A node as the cluster sees it.

use std::collections::BTreeSet;

use litemap::LiteMap;
use serde::{Deserialize, Serialize};

use super::names::{MemberId, NodeId, NodeName};

/// What a node says of itself when it joins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joiner {
    /// Which node.
    pub node: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Where other nodes reach it, `"127.0.0.1:7101"`.
    pub address: String,
    /// A random number that is this process's alone, for certificates of its death.
    pub process: u64,
    /// What placement may ask for.
    pub roles: BTreeSet<String>,
    /// How much it can host, compared with other nodes; 1 unless configured.
    pub capacity: u32,
    /// The grain types it hosts, with how each is placed.
    pub grain_types: LiteMap<String, Placement>,
    /// The grain types of singletons it can host.
    pub singletons: BTreeSet<String>,
    /// Whether it needs the states that the cluster keeps.
    #[serde(default)]
    pub uses_states: bool,
    /// Which of its grain types have their states in another store than the cluster's, and the name of that.
    #[serde(default)]
    pub kept_elsewhere: LiteMap<String, String>,
    /// The grain types it hosts that are served by workers, on each node by its own.
    #[serde(default)]
    pub workers: BTreeSet<String>,
    /// Where clients from outside of the cluster reach it, if it takes any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<String>,
}

impl Joiner {
    /// Whether it hosts this grain type as one that has one activation in the cluster.
    pub(crate) fn hosts_one(&self, grain_type: &str) -> bool {
        self.grain_types.contains_key(grain_type) || self.singletons.contains(grain_type)
    }

    /// The name of the store that has the states of a grain type, if it hosts that.
    pub fn store_of(&self, grain_type: &str) -> Option<&str> {
        self.hosts_one(grain_type).then(|| self.kept_elsewhere.get(grain_type).map_or("replicated", String::as_str))
    }
}

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Which life of which node.
    pub id: MemberId,
    /// What it said when it joined.
    pub joiner: Joiner,
    /// Where in its life it is.
    pub state: MemberState,
}

/// Where in its life a member is. Removed members are in no view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemberState {
    /// It hosts grains.
    Active,
    /// It hands over what it has and takes nothing new.
    Leaving,
}

impl MemberState {
    /// The word for it, as in status pages and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Leaving => "leaving",
        }
    }
}

/// How the node for a new activation is chosen. Part of what a node says when it joins, so that it is honoured whoever
/// calls first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The rule.
    pub strategy: Strategy,
    /// Only nodes with this role, if any.
    pub role: Option<String>,
}

/// A rule of [`Placement`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Strategy {
    /// The owner of the grain's partition hosts it, if it can; otherwise as by hash among those that can.
    #[default]
    Hash,
    /// Any node, each as likely as its capacity says.
    Random,
    /// The node of the caller, if it can; otherwise any.
    PreferLocal,
}

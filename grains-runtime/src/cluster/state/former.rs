//! Nodes that were members, with their names: a voter that is gone is known by its number only, and its seat is given
//! away at once when its name has come back under another one.

use litemap::LiteMap;
use serde::{Deserialize, Serialize};

use crate::cluster::{
    names::{NodeId, NodeName},
    view::View,
};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Former {
    nodes: LiteMap<NodeId, Gone>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Gone {
    name: NodeName,
    /// The index of the entry that removed it.
    since: u64,
}

/// Far more than there are voters. What is forgotten waits for its seat to be given away by time.
const FORMER_MAX: usize = 1_024;

impl Former {
    pub(super) fn changed(&mut self, index: u64, old: &View, new: &View) {
        for (node, member) in &old.members {
            if !new.members.contains_key(node) {
                self.nodes.insert(*node, Gone { name: member.joiner.name.clone(), since: index });
            }
        }
        self.nodes.retain(|node, _| !new.members.contains_key(node));
        while self.nodes.len() > FORMER_MAX {
            let oldest = self.nodes.iter().min_by_key(|(_, gone)| gone.since).map(|(node, _)| *node);
            oldest.map(|node| self.nodes.remove(&node));
        }
    }

    pub(super) fn names(&self) -> LiteMap<NodeId, NodeName> {
        self.nodes.iter().map(|(node, gone)| (*node, gone.name.clone())).collect()
    }
}

//! The replicated state: what Raft's log, applied entry by entry, makes of the cluster. The same on every node, because
//! `apply` looks at nothing but the state and the entry. Called by `consensus`.
//!
//! `members` changes who is there; `owners` and `grants` then settle who owns and holds what; `seen` keeps a command that
//! was sent twice from being applied twice; `former` remembers who was there.

mod former;
mod grants;
mod members;
mod owners;
mod seen;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use grains_core::switches::{Mechanism, on};
use litemap::LiteMap;
use serde::{Deserialize, Serialize};

use self::{former::Former, seen::Seen};
use super::{
    command::{Command, Numbered, Outcome},
    consensus::Agreed,
    names::{MemberId, NodeId, NodeName},
    view::{Partition, View},
};

/// What the nodes of a cluster agree on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClusterState {
    founded: Option<Founded>,
    view: Arc<View>,
    seen: Seen,
    former: Former,
    /// The group that keeps the states of grains.
    #[serde(default)]
    states: Option<StatesGroup>,
}

/// The group that keeps the states of grains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StatesGroup {
    /// The index of the entry by which it was claimed.
    pub(crate) number: u64,
    /// Who begins it.
    pub(crate) by: MemberId,
    /// It stands, and is never begun again: what it has acknowledged is in it.
    pub(crate) is_founded: bool,
}

/// What is fixed for the cluster's life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Founded {
    cluster: NodeName,
    generation: u64,
    #[serde(default)]
    first_epoch: u64,
}

/// Where in the log a command stands.
#[derive(Clone, Copy, Debug)]
struct Entry {
    index: u64,
    term: u64,
    /// The epoch of partitions, and the token of singletons, that begin with this entry.
    token: u64,
}

impl Agreed for ClusterState {
    type Command = Numbered;
    type Outcome = Outcome;

    fn apply(&mut self, index: u64, term: u64, command: Numbered) -> Outcome {
        Self::apply(self, index, term, command)
    }
}

impl ClusterState {
    /// The name of the cluster, once it is founded.
    pub(crate) fn cluster(&self) -> Option<&NodeName> {
        self.founded.as_ref().map(|founded| &founded.cluster)
    }

    /// The random number that tells this cluster from others of its name, once it is founded.
    pub(crate) fn generation(&self) -> Option<u64> {
        self.founded.as_ref().map(|founded| founded.generation)
    }

    /// The group that keeps the states of grains, once somebody has claimed to begin it.
    pub(crate) fn states(&self) -> Option<StatesGroup> {
        self.states
    }

    /// Members, owners, singletons, leader. Each change makes a new one, so whoever has this may keep it.
    pub(crate) fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// The names of nodes that were members and are none now: the latest of them, for the choice of voters.
    pub(crate) fn former(&self) -> LiteMap<NodeId, NodeName> {
        self.former.names()
    }

    /// Applies the command at `index`, written to the log by the leader of `term`. Whatever it is, this ends well: a
    /// state machine that panics takes every node with it.
    pub(crate) fn apply(&mut self, index: u64, term: u64, command: Numbered) -> Outcome {
        let Numbered { client, serial, command } = command;
        if let Some(outcome) = self.seen.before(index, client, serial).filter(|_| on(Mechanism::CommandsOnce)) {
            return outcome;
        }
        let first = self.founded.as_ref().map_or(0, |founded| founded.first_epoch);
        let outcome = self.change(Entry { index, term, token: first.saturating_add(index) }, command);
        self.seen.keep(index, client, serial, outcome.clone());
        outcome
    }

    fn change(&mut self, entry: Entry, command: Command) -> Outcome {
        let mut view = View::clone(&self.view);
        let outcome = match (command, &self.founded) {
            (Command::Found { .. }, Some(_)) => Outcome::Stale,
            (Command::Found { partitions: 0, .. }, None) => {
                Outcome::Refused("a cluster has at least one partition".into())
            }
            (Command::Found { cluster, generation, partitions, first_epoch }, None) => {
                self.founded = Some(Founded { cluster, generation, first_epoch });
                view.partitions = Arc::new(vec![Partition::default(); usize::from(partitions)]);
                Outcome::Done
            }
            (_, None) => Outcome::Refused("this cluster has not been founded".into()),
            (Command::Join { joiner, over }, _) => members::join(&mut view, entry, joiner, over),
            (Command::Evict(ended), _) => members::evict(&mut view, entry, ended),
            (Command::Leave(member), _) => members::leave(&mut view, entry, member),
            (Command::Left(member), _) => members::left(&mut view, entry, member),
            (Command::Release { grain_type, holder }, _) => {
                grants::release(&mut view, entry.token, &grain_type, holder)
            }
            (Command::ClaimStates(by), _) => {
                let is_free = self.states.is_none_or(|group| !group.is_founded && view.member(group.by).is_none());
                match is_free && view.member(by).is_some() {
                    true => {
                        self.states = Some(StatesGroup { number: entry.index, by, is_founded: false });
                        Outcome::Done
                    }
                    false => Outcome::Stale,
                }
            }
            (Command::StatesFounded { group }, _) => match &mut self.states {
                Some(states) if states.number == group => {
                    states.is_founded = true;
                    Outcome::Done
                }
                _ => Outcome::Stale,
            },
        };
        self.publish(entry.index, view);
        outcome
    }

    /// Readers compare versions to find that they missed one, so a new version is a change, and a change a new version.
    fn publish(&mut self, index: u64, mut view: View) {
        if view == *self.view {
            return;
        }
        view.version.0 += 1;
        self.former.changed(index, &self.view, &view);
        self.view = Arc::new(view);
    }
}

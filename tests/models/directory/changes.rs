//! Changes of the view: who joins, dies and leaves, and who owns the partition then.
//!
//! As in rendezvous hashing, a partition moves only to a node that becomes active or away from one that ceases to be.

use std::fmt;

use super::{
    Event, Happens, NODES, State, View,
    rules::Rules,
    state::{Node, NodeNumber, Serves, ViewNumber},
};
use crate::explore::Kind;

/// Which changes a configuration explores.
#[derive(Clone, Copy)]
pub(crate) enum Changes {
    /// All there are, in every order.
    Any,
    /// These, one after the other, at any moments.
    These(&'static [Change]),
}

/// One change of the view.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// A node that was not there joins.
    Join { node: NodeNumber, owner: NodeNumber },
    /// A node is evicted; by then it has stopped.
    Evict { node: NodeNumber, owner: NodeNumber },
    /// A node is evicted, and its next incarnation joins before anyone sees a view without it.
    Rejoin { node: NodeNumber, owner: NodeNumber },
    /// A node begins to leave.
    Leave { node: NodeNumber, owner: NodeNumber },
    /// A node that has asked for it is removed.
    Left { node: NodeNumber, owner: NodeNumber },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, node, owner) = match *self {
            Self::Join { node, owner } => ("joins", node, owner),
            Self::Evict { node, owner } => ("is evicted", node, owner),
            Self::Rejoin { node, owner } => ("dies and joins again", node, owner),
            Self::Leave { node, owner } => ("begins to leave", node, owner),
            Self::Left { node, owner } => ("is removed", node, owner),
        };
        write!(f, "n{node} {what}, n{owner} owns the partition")
    }
}

impl Happens<'_> {
    pub(super) fn views(&mut self) {
        let state = self.state;
        if state.last_view == self.model.views_max {
            return;
        }
        let view = state.last_view + 1;
        match self.model.changes {
            Changes::These(changes) => {
                let change = changes[usize::from(view) - 2];
                if possible(state).contains(&change) {
                    self.change(view, change);
                }
            }
            Changes::Any => possible(state).into_iter().for_each(|change| self.change(view, change)),
        }
    }

    fn change(&mut self, view: ViewNumber, change: Change) {
        let rules = self.rules;
        self.add(Event::Changes { view, change }, Kind::Fault, |next| next.change(rules, change));
    }

    /// A node may skip views, and may not go back.
    pub(super) fn applies(&mut self, node: NodeNumber) {
        let state = self.state;
        let applied = state.node(node);
        for view in applied.view + 1..=state.last_view {
            if state.view(view).incarnation(node) == applied.incarnation {
                let rules = self.rules;
                self.progress(Event::Applies { node, view }, |next| next.apply(rules, node, view));
            }
        }
    }
}

/// Every change that can come next.
fn possible(state: &State) -> Vec<Change> {
    let now = state.view(state.last_view);
    let mut changes = Vec::new();
    for node in 0..NODES as u8 {
        let others = |but_node: bool| -> Vec<NodeNumber> {
            if now.owner != node {
                return vec![now.owner];
            }
            (0..NODES as u8).filter(|&other| now.is_active(other) && !(but_node && other == node)).collect()
        };
        let with_joiner = |mut owners: Vec<NodeNumber>| {
            if !owners.contains(&node) {
                owners.push(node);
            }
            owners
        };
        if now.is_member(node) {
            changes.extend(others(true).into_iter().map(|owner| Change::Evict { node, owner }));
            changes.extend(with_joiner(others(true)).into_iter().map(|owner| Change::Rejoin { node, owner }));
        } else if state.node(node).incarnation == 0 {
            changes.extend(with_joiner(vec![now.owner]).into_iter().map(|owner| Change::Join { node, owner }));
        }
        if now.is_active(node) {
            changes.extend(others(true).into_iter().map(|owner| Change::Leave { node, owner }));
        }
        if state.node(node).wants_out && now.is_member(node) {
            changes.push(Change::Left { node, owner: now.owner });
        }
    }
    changes
}

impl State {
    fn change(&mut self, rules: &Rules, change: Change) {
        let number = self.last_view + 1;
        let before = *self.view(self.last_view);
        self.last_view = number;
        match change {
            Change::Join { node, owner } | Change::Rejoin { node, owner } => {
                let again = owner == node && rules.rejoin_makes_epoch;
                *self.view_mut(number) = before.with(number, node, number, false).owned(number, owner, again);
                *self.node_mut(node) = Node { incarnation: number, ..Node::default() };
                if owner == node && self.view(number).epoch != number {
                    self.serve_on(node, number);
                } else {
                    self.apply(rules, node, number);
                }
            }
            Change::Evict { node, owner } => {
                *self.view_mut(number) = before.with(number, node, 0, false).owned(number, owner, false);
                *self.node_mut(node) = Node::default();
            }
            Change::Leave { node, owner } => {
                let incarnation = before.incarnation(node);
                *self.view_mut(number) = before.with(number, node, incarnation, true).owned(number, owner, false);
            }
            Change::Left { node, owner } => {
                *self.view_mut(number) = before.with(number, node, 0, false).owned(number, owner, false);
                // One that is not empty, against the rules, runs on until its lease is over.
                if self.node(node).hosted.iter().all(|hosted| hosted.order == 0) {
                    *self.node_mut(node) = Node::default();
                }
            }
        }
    }

    /// The broken rule 3: the next incarnation of the owner goes on with an empty memory as if nothing had happened.
    fn serve_on(&mut self, node: NodeNumber, view: ViewNumber) {
        let epoch = self.view(view).epoch;
        let owner = self.node_mut(node);
        owner.view = view;
        owner.fence = epoch;
        owner.directory.serves = Serves::Serving;
        owner.directory.epoch = epoch;
    }

    fn apply(&mut self, rules: &Rules, node: NodeNumber, number: ViewNumber) {
        let view = *self.view(number);
        let before = self.node(node).view;
        let applied = self.node_mut(node);
        applied.view = number;
        if rules.fence_on_applying {
            applied.fence = applied.fence.max(view.epoch);
        }
        let directory = &mut applied.directory;
        if view.owner == node && view.incarnation(node) == applied.incarnation {
            let has_it = matches!(directory.serves, Serves::Acquiring | Serves::Serving) && directory.epoch == view.epoch;
            let had_it = matches!(directory.serves, Serves::Serving | Serves::Sealed);
            if has_it {
            } else if had_it && !rules.regain_acquires {
                directory.serves = Serves::Serving;
                directory.epoch = view.epoch;
            } else {
                self.acquire(rules, node, before);
            }
        } else {
            directory.serves = match directory.serves {
                Serves::Serving | Serves::Sealed => Serves::Sealed,
                Serves::Acquiring | Serves::No => Serves::No,
            };
        }
    }
}

impl View {
    fn with(mut self, _number: ViewNumber, node: NodeNumber, incarnation: ViewNumber, leaving: bool) -> Self {
        self.members[usize::from(node)] = incarnation;
        self.leaving[usize::from(node)] = leaving;
        self
    }

    /// With this owner, and a new epoch if it is another one or if `anew`.
    fn owned(mut self, number: ViewNumber, owner: NodeNumber, anew: bool) -> Self {
        if owner != self.owner || anew {
            self.owner = owner;
            self.epoch = number;
        }
        self
    }
}

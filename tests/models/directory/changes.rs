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

impl Change {
    /// Whom it is about.
    pub(crate) fn node(self) -> NodeNumber {
        match self {
            Self::Join { node, .. }
            | Self::Evict { node, .. }
            | Self::Rejoin { node, .. }
            | Self::Leave { node, .. }
            | Self::Left { node, .. } => node,
        }
    }
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

    /// An evicted node hears of it, or finds its lease over, or dies.
    pub(super) fn notices(&mut self, node: NodeNumber) {
        if self.state.node(node).evicted {
            self.progress(Event::Notices { node }, |next| *next.node_mut(node) = Node::default());
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
        let owners = now.owners_without(node);
        let mut owners_with = owners.clone();
        if !owners.contains(&node) {
            owners_with.push(node);
        }
        if now.is_member(node) {
            changes.extend(owners.iter().map(|&owner| Change::Evict { node, owner }));
            changes.extend(owners_with.into_iter().map(|owner| Change::Rejoin { node, owner }));
        } else if state.node(node).incarnation == 0 {
            changes.extend(owners_with.into_iter().map(|owner| Change::Join { node, owner }));
        }
        if now.is_active(node) {
            changes.extend(owners.iter().map(|&owner| Change::Leave { node, owner }));
        }
        if now.is_member(node) && state.node(node).wants_out {
            changes.push(Change::Left { node, owner: now.owner });
        }
    }
    changes
}

impl State {
    fn change(&mut self, rules: &Rules, change: Change) {
        let number = self.last_view + 1;
        let mut view = *self.view(self.last_view);
        self.last_view = number;
        let owner = match change {
            Change::Join { node, owner } | Change::Rejoin { node, owner } => {
                view.set(node, number, Standing::Active);
                if owner == node && rules.rejoin_makes_epoch {
                    view.epoch = number;
                }
                owner
            }
            Change::Evict { node, owner } | Change::Left { node, owner } => {
                view.set(node, 0, Standing::Active);
                owner
            }
            Change::Leave { node, owner } => {
                view.set(node, view.incarnation(node), Standing::Leaving);
                owner
            }
        };
        if owner != view.owner {
            view.owner = owner;
            view.epoch = number;
        }
        *self.view_mut(number) = view;
        self.begin_and_end_lives(rules, change);
    }

    /// What a change does to the processes it is about.
    fn begin_and_end_lives(&mut self, rules: &Rules, change: Change) {
        let number = self.last_view;
        match change {
            Change::Join { node, owner } | Change::Rejoin { node, owner } => {
                *self.node_mut(node) = Node { incarnation: number, ..Node::default() };
                if owner == node && self.view(number).epoch != number {
                    self.serve_on(node, number);
                } else {
                    self.apply(rules, node, number);
                }
            }
            // One that is not empty, against the rules, runs on until its lease is over.
            Change::Left { node, .. } if self.node(node).hosted.iter().any(|hosted| hosted.order != 0) => {}
            Change::Evict { node, .. } if !rules.evicted_is_gone => self.node_mut(node).evicted = true,
            Change::Evict { node, .. } | Change::Left { node, .. } => *self.node_mut(node) = Node::default(),
            Change::Leave { .. } => {}
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
        if view.owner != node || view.incarnation(node) != applied.incarnation {
            directory.serves = match directory.serves {
                Serves::Serving | Serves::Sealed => Serves::Sealed,
                Serves::Acquiring | Serves::No => Serves::No,
            };
            return;
        }
        match directory.serves {
            Serves::Acquiring | Serves::Serving if directory.epoch == view.epoch => {}
            Serves::Serving | Serves::Sealed if !rules.regain_acquires => {
                directory.serves = Serves::Serving;
                directory.epoch = view.epoch;
            }
            _ => self.acquire(rules, node, before),
        }
    }
}

/// Whether a member takes what is new.
#[derive(PartialEq, Eq)]
enum Standing {
    Active,
    Leaving,
}

impl View {
    fn set(&mut self, node: NodeNumber, incarnation: ViewNumber, standing: Standing) {
        self.members[usize::from(node)] = incarnation;
        self.leaving[usize::from(node)] = standing == Standing::Leaving;
    }

    /// Who may own the partition if `node` does not.
    fn owners_without(&self, node: NodeNumber) -> Vec<NodeNumber> {
        if self.owner == node {
            (0..NODES as u8).filter(|&other| other != node && self.is_active(other)).collect()
        } else {
            vec![self.owner]
        }
    }
}

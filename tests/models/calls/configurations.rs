//! The configurations the tests explore: which views there are, one after the other.

use super::{
    Calls, Rules,
    state::{NODES, NodeNumber, ViewNumber},
};

/// What all agree on.
pub(crate) struct View {
    pub(crate) owner: NodeNumber,
    /// The number of the view that made this ownership.
    pub(crate) epoch: ViewNumber,
    standing: [Standing; NODES],
}

/// What a node is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Active,
    Leaving,
    Gone,
}
use Standing::{Active, Gone, Leaving};

impl View {
    pub(crate) fn standing(&self, node: NodeNumber) -> Standing {
        self.standing[usize::from(node)]
    }

    pub(crate) fn is_gone(&self, node: NodeNumber) -> bool {
        self.standing(node) == Gone
    }
}

const ALL: [Standing; NODES] = [Active; NODES];

const fn view(owner: NodeNumber, epoch: ViewNumber, standing: [Standing; NODES]) -> View {
    View { owner, epoch, standing }
}

/// Nothing changes.
pub(crate) const STILL: &[View] = &[view(1, 1, ALL)];
/// The caller's node owns the partition.
pub(crate) const CALLER_OWNS: &[View] = &[view(0, 1, ALL)];
pub(crate) const OWNER_MOVES: &[View] = &[view(1, 1, ALL), view(2, 2, ALL)];
pub(crate) const CALLER_LOSES: &[View] = &[view(0, 1, ALL), view(1, 2, ALL)];
pub(crate) const CALLER_GAINS: &[View] = &[view(1, 1, ALL), view(0, 2, ALL)];
pub(crate) const HOST_LEAVES: &[View] =
    &[view(1, 1, ALL), view(1, 1, [Active, Active, Leaving]), view(1, 1, [Active, Active, Gone])];
pub(crate) const HOST_DIES: &[View] = &[view(1, 1, ALL), view(1, 1, [Active, Active, Gone])];
pub(crate) const OWNER_DIES: &[View] = &[view(1, 1, ALL), view(2, 2, [Active, Gone, Active])];
pub(crate) const OWNER_LEAVES: &[View] =
    &[view(1, 1, ALL), view(2, 2, [Active, Leaving, Active]), view(2, 2, [Active, Gone, Active])];
pub(crate) const CALLER_LEAVES: &[View] = &[view(1, 1, ALL), view(1, 1, [Leaving, Active, Active])];
pub(crate) const CALLER_DIES: &[View] = &[view(1, 1, ALL), view(1, 1, [Gone, Active, Active])];
/// The partition goes from the owner to another node, and back.
pub(crate) const THERE_AND_BACK: &[View] = &[view(1, 1, ALL), view(2, 2, ALL), view(1, 3, ALL)];
/// The owner dies, and its successor too.
pub(crate) const BOTH_DIE: &[View] =
    &[view(1, 1, ALL), view(2, 2, [Active, Gone, Active]), view(0, 3, [Active, Gone, Gone])];

/// The owner dies, its successor leaves.
pub(crate) const ONE_DIES_ONE_LEAVES: &[View] = &[
    view(1, 1, ALL),
    view(2, 2, [Active, Gone, Active]),
    view(0, 3, [Active, Gone, Leaving]),
    view(0, 3, [Active, Gone, Gone]),
];
/// The partition goes to each node in turn.
pub(crate) const AROUND: &[View] = &[view(1, 1, ALL), view(2, 2, ALL), view(0, 3, ALL), view(1, 4, ALL)];

/// Those that lead to few states.
pub(crate) const SHORT: [(&str, &[View]); 8] = [
    ("no changes", STILL),
    ("the caller owns", CALLER_OWNS),
    ("the owner moves", OWNER_MOVES),
    ("the host leaves", HOST_LEAVES),
    ("the host dies", HOST_DIES),
    ("the owner dies", OWNER_DIES),
    ("the caller leaves", CALLER_LEAVES),
    ("the caller dies", CALLER_DIES),
];

/// And those that lead to many.
pub(crate) const LONG: [(&str, &[View]); 7] = [
    ("the caller loses the partition", CALLER_LOSES),
    ("the caller gains the partition", CALLER_GAINS),
    ("the owner leaves", OWNER_LEAVES),
    ("there and back", THERE_AND_BACK),
    ("both die", BOTH_DIE),
    ("one dies, one leaves", ONE_DIES_ONE_LEAVES),
    ("around", AROUND),
];

/// These views, a call that waits for its answer, every node a host.
pub(crate) fn through(views: &'static [View], rules: Rules) -> Calls {
    Calls { rules, views, hosts: [true; NODES], one_way: false }
}

pub(crate) fn one_way(calls: Calls) -> Calls {
    Calls { one_way: true, ..calls }
}

/// Only node 2 hosts the grain's type.
pub(crate) fn with_one_host(calls: Calls) -> Calls {
    Calls { hosts: [false, false, true], ..calls }
}

//! The configurations the tests explore. Those with given changes are small enough for every run of the tests, and each
//! has the changes that some rule is about.

use super::{
    Changes, Cluster, Rules,
    changes::Change::{self, Evict, Leave, Left, Rejoin},
};

/// One grain, two orders, and no change of views.
pub(crate) fn still(rules: Rules) -> Cluster {
    Cluster { changes: Changes::These(&[]), ..any(1, 2, rules) }
}

/// One grain, every change of views there is.
pub(crate) fn any(views_max: u8, orders_max: u8, rules: Rules) -> Cluster {
    Cluster { rules, grains: 1, orders_max, views_max, changes: Changes::Any, migration: false, call: false }
}

/// One grain, two orders, these changes.
pub(crate) fn with(changes: &'static [Change], rules: Rules) -> Cluster {
    Cluster { changes: Changes::These(changes), ..any(changes.len() as u8 + 1, 2, rules) }
}

/// The same with migration and a call.
pub(crate) fn migrating(cluster: Cluster) -> Cluster {
    Cluster { migration: true, call: true, ..cluster }
}

/// The same with two grains.
pub(crate) fn two_grains(cluster: Cluster) -> Cluster {
    Cluster { grains: 2, ..cluster }
}

pub(crate) const LEAVER_OWNS: &[Change] = &[Leave { node: 0, owner: 1 }];
pub(crate) const HOST_REJOINS: &[Change] = &[Rejoin { node: 1, owner: 0 }];
pub(crate) const HOST_DIES: &[Change] = &[Evict { node: 1, owner: 0 }];
pub(crate) const OWNER_REJOINS: &[Change] = &[Rejoin { node: 0, owner: 0 }];
pub(crate) const HOST_LEAVES: &[Change] = &[Leave { node: 1, owner: 0 }, Left { node: 1, owner: 0 }];
/// The owner leaves, and its successor dies before it has served.
pub(crate) const SUCCESSOR_DIES: &[Change] = &[Leave { node: 0, owner: 1 }, Evict { node: 1, owner: 2 }];
/// A bystander dies, and then the owner comes back under a new epoch, with nobody to ask but all.
pub(crate) const OWNER_RECOVERS: &[Change] = &[Evict { node: 1, owner: 0 }, Rejoin { node: 0, owner: 0 }];
pub(crate) const LEAVER_REJOINS: &[Change] = &[Leave { node: 0, owner: 1 }, Rejoin { node: 0, owner: 0 }];
pub(crate) const SUCCESSOR_LOSES: &[Change] = &[Leave { node: 0, owner: 1 }, Rejoin { node: 2, owner: 2 }];
/// The partition goes from the owner to another node, and back.
pub(crate) const THERE_AND_BACK: &[Change] = &[Rejoin { node: 1, owner: 1 }, Leave { node: 1, owner: 0 }];
/// The new owner asks one that dies.
pub(crate) const PREDECESSOR_DIES: &[Change] = &[Rejoin { node: 1, owner: 1 }, Evict { node: 0, owner: 1 }];
/// The owner dies, and the next one has to ask a node that never served.
pub(crate) const PREDECESSOR_NEVER_SERVED: &[Change] = &[Evict { node: 0, owner: 1 }, Rejoin { node: 2, owner: 2 }];
/// A node owns, sees a view from before it lost the partition, and is asked to seal again.
pub(crate) const SEALS_EARLY: &[Change] =
    &[Rejoin { node: 1, owner: 1 }, Leave { node: 0, owner: 1 }, Rejoin { node: 2, owner: 2 }];

/// Those above that lead to few states, whatever else happens.
pub(crate) const SHORT: [&[Change]; 10] = [
    LEAVER_OWNS,
    HOST_REJOINS,
    HOST_DIES,
    OWNER_REJOINS,
    HOST_LEAVES,
    SUCCESSOR_DIES,
    OWNER_RECOVERS,
    LEAVER_REJOINS,
    PREDECESSOR_DIES,
    PREDECESSOR_NEVER_SERVED,
];

/// And those that lead to many.
pub(crate) const LONG: [&[Change]; 3] = [SUCCESSOR_LOSES, THERE_AND_BACK, SEALS_EARLY];

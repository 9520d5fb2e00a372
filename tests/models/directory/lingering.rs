//! Leases and the directory together: an evicted node is not gone. It may have been frozen, and goes on; it is told late; it sends what
//! it had queued, gives orders, obeys some, seals, reports and says that activations are gone, all by a view of long ago. What the
//! model of leases has shown of it is one thing: none of its turns runs. Here that is shown to be enough, and to be needed.

use super::{
    Cluster,
    Property::{self, DirectoryComplete, OneExecutor, OneServingOwner},
    Rules,
    changes::Change::{self, Evict, Leave, Rejoin},
    configurations::*,
};
use crate::explore::{Search, explore};

/// Evicted nodes linger.
fn lingering(rules: Rules) -> Rules {
    Rules { evicted_is_gone: false, ..rules }
}

const OWNER_DIES: &[Change] = &[Evict { node: 0, owner: 1 }];
/// The owner is evicted, and its successor too.
const BOTH_DIE: &[Change] = &[Evict { node: 0, owner: 1 }, Evict { node: 1, owner: 2 }];
/// The partition has left a node that is evicted before it hands over.
const EVICTED_LEAVER: &[Change] = &[Leave { node: 0, owner: 1 }, Evict { node: 0, owner: 1 }];
/// A host is evicted, and then the owner begins a new life.
const HOST_THEN_OWNER: &[Change] = &[Evict { node: 1, owner: 0 }, Rejoin { node: 0, owner: 2 }];

const EACH: [&[Change]; 7] =
    [HOST_DIES, OWNER_DIES, BOTH_DIE, EVICTED_LEAVER, HOST_THEN_OWNER, SUCCESSOR_DIES, PREDECESSOR_DIES];

fn holds(name: &str, cluster: &Cluster) {
    explore(cluster, &Search::all()).expect_no_trouble(&format!("directory, evicted nodes linger, {name}"));
}

fn texts(changes: &[Change]) -> String {
    changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[test]
fn a_node_that_lingers_and_runs_no_turn_does_no_harm() {
    for changes in EACH {
        holds(&texts(changes), &with(changes, lingering(Rules::all())));
    }
}

#[test]
#[ignore = "takes minutes"]
fn a_node_that_lingers_does_no_harm_to_migrations_and_calls() {
    for changes in EACH {
        holds(&format!("migration, {}", texts(changes)), &migrating(with(changes, lingering(Rules::all()))));
    }
}

#[test]
#[ignore = "takes minutes"]
fn a_node_that_lingers_does_no_harm_through_every_two_changes() {
    holds("1 grain, 3 views, 2 orders", &any(3, 2, lingering(Rules::all())));
    holds("2 grains, 2 views, 3 orders", &two_grains(any(2, 3, lingering(Rules::all()))));
}

/// What leases promise is needed, whatever else is kept.
#[test]
fn turns_of_an_evicted_node_do_harm() {
    let acts = |changes| with(changes, Rules { evicted_runs_nothing: false, ..lingering(Rules::all()) });
    violates("a host acts", &acts(HOST_DIES), &[OneExecutor, DirectoryComplete]);
    violates("an owner acts", &acts(OWNER_DIES), &[OneExecutor, DirectoryComplete, OneServingOwner]);
}

fn violates(name: &str, cluster: &Cluster, properties: &[Property]) {
    let report = explore(cluster, &Search::until(properties.to_vec()));
    report.expect_violated(&format!("evicted_runs_nothing, {name}"), properties);
}

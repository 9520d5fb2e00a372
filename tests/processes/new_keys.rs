//! Many callers on all nodes meet grains that live nowhere yet.

use std::collections::BTreeSet;

use crate::cluster::{Cluster, all_answered};

#[test]
fn a_hundred_callers_of_a_new_grain_find_one_activation() {
    let mut cluster = Cluster::three();
    let calls: Vec<_> = [34, 33, 33]
        .iter()
        .enumerate()
        .map(|(n, callers)| cluster.node(n).begin(&format!("burst new {callers}")))
        .collect();
    let answers: Vec<_> = calls.into_iter().flat_map(|call| all_answered(&call.get())).collect();
    let activations: BTreeSet<_> = answers.iter().map(|(_, place)| &place.activation).collect();
    assert_eq!(activations.len(), 1, "{activations:?}");
    let counters: BTreeSet<_> = answers.iter().map(|(_, place)| place.counter).collect();
    assert!(counters.into_iter().eq(1..=100), "each call ran once, one after the other");
    cluster.keeps_its_promises();
}

#[test]
fn a_thousand_new_grains_called_from_everywhere_have_one_activation_each() {
    let mut cluster = Cluster::three();
    let calls: Vec<_> = cluster.running().map(|node| node.begin("many k 1000")).collect();
    let answers: Vec<_> = calls.into_iter().flat_map(|call| all_answered(&call.get())).collect();
    assert_eq!(answers.len(), 3_000);
    let activations: BTreeSet<_> = answers.iter().map(|(key, place)| (key, &place.activation)).collect();
    assert_eq!(activations.len(), 1_000);
    let nodes: BTreeSet<_> = answers.iter().map(|(_, place)| &place.node).collect();
    assert_eq!(nodes.len(), 3, "grains live on all nodes");
    let thrice = answers.iter().filter(|(_, place)| place.counter == 3).count();
    assert_eq!(thrice, 1_000, "each grain has counted three calls");
    cluster.keeps_its_promises();
}

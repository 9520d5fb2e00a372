//! Nodes start in any order, and later ones join by whomever they know.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    cluster::{Cluster, free_addresses, measured, members, name},
    process::Process,
};

/// Long enough for a node to ask all of its list several times.
const PAUSE: Duration = Duration::from_millis(1_200);
/// From the start of the last node to one cluster of all.
const FEW_SECONDS: Duration = Duration::from_secs(8);

#[test]
fn started_last_to_first_with_pauses_they_are_one_cluster() {
    let mut cluster = Cluster::of(3);
    in_reverse_order(&mut cluster);
}

#[test]
fn without_disks_nothing_is_founded_until_all_are_there() {
    let mut cluster = Cluster::of(3);
    cluster.orders.iter_mut().for_each(|orders| orders.data_dir = None);
    cluster.start(2);
    thread::sleep(PAUSE);
    cluster.start(1);
    thread::sleep(PAUSE);
    assert!(cluster.running().all(|node| !node.is_ready()), "two of three that forget do not found");
    cluster.start(0);
    let last = Instant::now();
    cluster.ready();
    measured("one cluster of three without disks after the start of the last", last.elapsed());
    cluster.sweep("k", 50, Instant::now());
    cluster.keeps_its_promises();
}

fn in_reverse_order(cluster: &mut Cluster) {
    for n in [2, 1] {
        cluster.start(n);
        thread::sleep(PAUSE);
    }
    cluster.start(0);
    let last = Instant::now();
    cluster.ready();
    measured("one cluster of three after the start of the last", last.elapsed());
    assert!(last.elapsed() < FEW_SECONDS);
    cluster.sweep("k", 50, Instant::now());
    cluster.keeps_its_promises();
}

#[test]
fn a_fourth_node_joins_by_a_node_that_does_not_lead() {
    let mut cluster = Cluster::three();
    let (leads, _) = cluster.raft_leader();
    let follower = (0..3).find(|n| cluster.orders[*n].name != leads).unwrap();
    let mut orders = cluster.orders[follower].clone();
    (orders.name, orders.listen) = (name(3), free_addresses(1).remove(0));
    orders.join = vec![cluster.orders[follower].listen.clone()];
    orders.data_dir = Some(cluster.folder.path().join(name(3)));
    cluster.orders.push(orders);
    cluster.nodes.push(None);
    cluster.start(3);
    let started = Instant::now();
    cluster.ready();
    measured("a fourth node is a member after its start", started.elapsed());
    cluster.sweep("k", 100, Instant::now());
    let places = cluster.places("k", 100);
    assert!(places.values().any(|place| place.node == name(3)), "the fourth hosts grains as well");
    let voters = cluster.node(3).ask("status")["voters"].as_array().unwrap().len();
    assert_eq!(voters, 3, "it has no vote");

    // It finds its cluster again after a death, by the same single address.
    let before = members(&cluster.node(0).ask("status"))[&name(3)];
    cluster.kill(3);
    cluster.sweep("k", 100, Instant::now());
    cluster.start(3);
    cluster.ready();
    assert!(members(&cluster.node(0).ask("status"))[&name(3)] > before);
    cluster.keeps_its_promises();
}

/// A node with nobody to join, from its start to its first answer.
fn alone(cluster: &mut Cluster, limit: Duration, what: &str) {
    cluster.start(0);
    let started = Instant::now();
    cluster.nodes.iter().flatten().for_each(Process::ready);
    let answer = cluster.node(0).ask("call x");
    assert!(answer["activation"].is_string(), "{answer}");
    measured(what, started.elapsed());
    assert!(started.elapsed() < limit, "{:?}", started.elapsed());
}

/// At once, as people see it.
const AT_ONCE: Duration = Duration::from_secs(2);

#[test]
fn a_node_alone_is_ready_at_once_and_again_after_its_death() {
    let mut cluster = Cluster::of(1);
    cluster.orders[0].join.clear();
    alone(&mut cluster, AT_ONCE, "a lone node answers after its first start");
    let before = cluster.node(0).ask("status");
    assert_eq!(before["leader"], "a");
    cluster.kill(0);
    // It has to be elected by itself, in whose log it was the leader before.
    alone(&mut cluster, AT_ONCE * 2, "a lone node answers after its death and restart");
    let after = cluster.node(0).ask("status");
    assert!(after["incarnation"].as_u64() > before["incarnation"].as_u64());
    assert!(after["term"].as_u64() > before["term"].as_u64(), "{before} then {after}");
    cluster.keeps_its_promises();
}

#[test]
fn a_node_alone_needs_no_disk() {
    let mut cluster = Cluster::of(1);
    cluster.orders[0].join.clear();
    cluster.orders[0].data_dir = None;
    alone(&mut cluster, AT_ONCE, "a lone node without a disk answers after its start");
}

//! Nodes are killed, as by a power cut.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::{Cluster, RECOVERY, measured, members};

const KEYS: usize = 60;

#[test]
fn each_node_killed_in_turn_costs_only_what_it_hosted() {
    let mut cluster = Cluster::three();
    (0..3).for_each(|n| cluster.begin_traffic(n, "k", KEYS));
    cluster.traffic_flows(20);
    for dead in 0..3 {
        let before = cluster.places("k", KEYS);
        let name = cluster.orders[dead].name.clone();
        assert!(before.values().any(|place| place.node == name), "{name} hosts something");
        cluster.kill(dead);
        let killed = Instant::now();
        measured(&format!("all grains answer again after the death of {name}"), cluster.sweep("k", KEYS, killed));
        cluster.survivors_kept(&before, &name, "k");
        cluster.start(dead);
        cluster.ready();
        measured(&format!("{name} is back after its death"), killed.elapsed());
        cluster.begin_traffic(dead, "k", KEYS);
        cluster.traffic_flows(20);
    }
    cluster.keeps_its_promises();
}

#[test]
fn the_leader_of_raft_killed_four_times_is_replaced_four_times() {
    let mut cluster = Cluster::three();
    let mut longest = Duration::ZERO;
    let mut last_term = 0;
    cluster.sweep("k", KEYS, Instant::now());
    for round in 0..4 {
        let before = cluster.places("k", KEYS);
        let (leader, term) = cluster.raft_leader();
        assert!(term > last_term, "term {term} of round {round} after {last_term}");
        last_term = term;
        let dead = cluster.place_of(&leader);
        cluster.kill(dead);
        let killed = Instant::now();
        longest = longest.max(cluster.sweep("k", KEYS, killed));
        cluster.survivors_kept(&before, &leader, "k");
        cluster.start(dead);
        cluster.ready();
        // Writes to the log of the cluster are service, too: the one that was killed has joined again.
    }
    measured("the longest of four recoveries from the death of Raft's leader", longest);
    assert!(longest < RECOVERY);
    cluster.keeps_its_promises();
}

#[test]
fn the_leader_of_the_cluster_is_followed_by_one_with_a_larger_term() {
    let mut cluster = Cluster::three();
    let before = cluster.node(0).ask("status");
    let leader = cluster.place_of(before["leader"].as_str().unwrap());
    cluster.kill(leader);
    let killed = Instant::now();
    cluster.until_within("the others agree on another leader", RECOVERY, |cluster| {
        let all: Vec<Value> = cluster.running().map(|node| node.ask("status")).collect();
        all.iter().all(|status| {
            status["leader"] == all[0]["leader"]
                && status["leader"] != before["leader"]
                && status["leader"].is_string()
                && status["term"].as_u64() > before["term"].as_u64()
        })
    });
    measured("another leader of the cluster after a death", killed.elapsed());
    let held = |status: &Value| status["singletons"]["only"].as_str().map(str::to_owned);
    cluster.until_within("the singleton lives among the others", RECOVERY, |cluster| {
        let answers: Vec<Value> = cluster.running().map(|node| node.ask("only")).collect();
        answers.iter().all(|answer| answer["node"].is_string() && answer["node"] == answers[0]["node"])
    });
    let status = cluster.running().next().unwrap().ask("status");
    assert_ne!(held(&status), before["leader"].as_str().map(str::to_owned));
    cluster.keeps_its_promises();
}

#[test]
fn all_killed_and_all_restarted_are_the_same_cluster() {
    let mut cluster = Cluster::three();
    cluster.sweep("k", KEYS, Instant::now());
    let before = cluster.node(0).ask("status");
    (0..3).for_each(|n| cluster.kill(n));
    let killed = Instant::now();
    (0..3).for_each(|n| cluster.start(n));
    cluster.ready();
    measured("all three are back after all were killed", killed.elapsed());
    let all: Vec<Value> = cluster.running().map(|node| node.ask("status")).collect();
    for status in &all {
        assert_eq!(members(status), members(&all[0]));
        assert!(status["view"].as_u64() > before["view"].as_u64(), "views go on: {before} then {status}");
    }
    let highest = members(&before).into_values().max().unwrap();
    for (name, incarnation) in members(&all[0]) {
        assert!(incarnation > highest, "{name}: incarnation {incarnation} after {highest}");
    }
    cluster.sweep("k", KEYS, Instant::now());
    cluster.keeps_its_promises();
}

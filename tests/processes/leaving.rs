//! Nodes are asked to stop, with calls under way.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{
    cluster::{Cluster, all_answered, measured},
    record::Did,
};

const KEYS: usize = 60;
/// What a node is given to stop, `stop_timeout`, and a moment to end its process.
const STOP_MAX: Duration = Duration::from_secs(12);
/// Nodes that are all leaving may be left without a majority, which the last one finds out by waiting, but no longer than
/// its `stop_timeout`.
const STOP_ALL_MAX: Duration = Duration::from_secs(12);

#[test]
fn each_node_stopped_in_turn_fails_no_call() {
    let mut cluster = Cluster::three();
    (0..3).for_each(|n| cluster.begin_traffic(n, "k", KEYS));
    cluster.traffic_flows(20);
    for leaving in 0..3 {
        let name = cluster.orders[leaving].name.clone();
        let process = cluster.nodes[leaving].take().unwrap();
        process.signal("TERM");
        let asked = Instant::now();
        let (status, last_word, stderr) = process.end(STOP_MAX);
        measured(&format!("{name} has stopped"), asked.elapsed());
        assert_eq!(status.code(), Some(0), "{name} ended with {last_word:?}: {stderr}");
        // What it called itself while it left may not have been taken any more; nothing is uncertain.
        for failed in failures(&last_word.expect("its last word")["traffic"]) {
            assert_eq!(failed["outcome"], "NotExecuted", "of {name} itself: {failed}");
        }
        cluster.settled();
        cluster.traffic_flows(20);
        let places = cluster.places("k", KEYS);
        assert!(places.values().all(|place| place.node != name));
        cluster.start(leaving);
        cluster.ready();
        cluster.begin_traffic(leaving, "k", KEYS);
        cluster.traffic_flows(20);
        for n in (0..3).filter(|n| *n != leaving) {
            let ended = cluster.node(n).ask("settle");
            assert_eq!(failures(&ended), [] as [Value; 0], "of a node that stayed, while {name} left and came back");
            cluster.begin_traffic(n, "k", KEYS);
        }
    }
    for n in 0..3 {
        assert_eq!(failures(&cluster.node(n).ask("settle")), [] as [Value; 0]);
    }
    cluster.keeps_its_promises();
}

#[test]
fn a_turn_is_finished_and_the_calls_behind_it_go_where_the_grain_goes() {
    let mut cluster = Cluster::three();
    cluster.sweep("k", KEYS, Instant::now());
    let places = cluster.places("k", KEYS);
    let (key, place) = places.iter().next().unwrap();
    let leaving = cluster.place_of(&place.node);
    let others: Vec<usize> = (0..3).filter(|n| *n != leaving).collect();
    let slow = cluster.node(others[0]).begin(&format!("slow {key} 1500 5"));
    cluster.until("the slow turn runs", |cluster| cluster.history().turns.iter().any(|turn| turn.did == Did::Slow));
    let behind: Vec<_> = others.iter().map(|n| cluster.node(*n).begin(&format!("burst {key} 20"))).collect();
    let process = cluster.nodes[leaving].take().unwrap();
    process.signal("TERM");
    let (status, _, stderr) = process.end(STOP_MAX);
    assert_eq!(status.code(), Some(0), "{stderr}");
    let slow = slow.get();
    assert_eq!(slow["activation"], *place.activation, "the turn was finished: {slow}");
    let behind: Vec<_> = behind.into_iter().flat_map(|calls| all_answered(&calls.get())).collect();
    assert_eq!(behind.len(), 40);
    assert!(behind.iter().all(|(_, at)| at.node != place.node || at.activation == place.activation));
    cluster.keeps_its_promises();
}

#[test]
fn a_turn_without_end_is_cut_before_its_grain_lives_elsewhere() {
    let mut cluster = Cluster::of(3);
    cluster.orders.iter_mut().for_each(|orders| orders.stop_timeout_ms = 3_000);
    (0..3).for_each(|n| cluster.start(n));
    cluster.ready();
    let busy = cluster.node(0).ask("call k0")["node"].as_str().unwrap().to_owned();
    let busy = cluster.place_of(&busy);
    let others: Vec<usize> = (0..3).filter(|n| *n != busy).collect();
    let slow = cluster.node(others[0]).begin("slow k0 30000 1");
    cluster.until("the slow turn runs", |cluster| cluster.history().turns.iter().any(|turn| turn.did == Did::Slow));
    let process = cluster.nodes[busy].take().unwrap();
    process.signal("TERM");
    // They wait behind the turn, and find the grain elsewhere as soon as it may live there.
    others.iter().for_each(|n| cluster.begin_traffic(*n, "k", 1));
    let (status, last_word, stderr) = process.end(STOP_MAX);
    assert_eq!(status.code(), Some(2), "one was dropped: {stderr}");
    assert_eq!(last_word.expect("its last word")["stopped"], 1);
    assert_eq!(slow.get()["outcome"], "Unknown", "its caller was told");
    cluster.sweep("k", 1, Instant::now());
    cluster.keeps_its_promises();
}

#[test]
fn a_grain_that_blocks_its_thread_for_ever_keeps_no_node_from_leaving() {
    let mut cluster = Cluster::of(3);
    cluster.orders.iter_mut().for_each(|orders| orders.stop_timeout_ms = 4_000);
    (0..3).for_each(|n| cluster.start(n));
    cluster.ready();
    cluster.sweep("k", KEYS, Instant::now());
    let (key, place) = cluster.places("k", KEYS).pop_first().unwrap();
    let blocked = cluster.place_of(&place.node);
    let others: Vec<usize> = (0..3).filter(|n| *n != blocked).collect();
    let stuck = cluster.node(others[0]).begin(&format!("block {key}"));
    cluster.until("it blocks", |cluster| cluster.history().turns.iter().any(|turn| turn.did == Did::Block));
    cluster.until("it is named", |cluster| {
        let log = cluster.node(blocked).stderr();
        log.contains("a turn blocks its thread") && log.contains(&format!("probe/{key}.block"))
    });
    // Grains of other names, on all nodes.
    (0..3).for_each(|n| cluster.begin_traffic(n, "other", KEYS));
    cluster.traffic_flows(20);
    let process = cluster.nodes[blocked].take().unwrap();
    process.signal("TERM");
    let asked = Instant::now();
    let (status, last_word, stderr) = process.end(STOP_MAX);
    measured("a node with a blocked thread has stopped", asked.elapsed());
    assert_eq!(status.code(), Some(2), "one was dropped: {stderr}");
    assert_eq!(last_word.expect("its last word")["stopped"], 1);
    assert_eq!(stuck.get()["outcome"], "Unknown", "its caller was told");
    cluster.settled();
    cluster.traffic_flows(20);
    for n in others {
        assert_eq!(failures(&cluster.node(n).ask("settle")), [] as [Value; 0], "of calls to other grains");
    }
    cluster.sweep("k", KEYS, Instant::now());
}

#[test]
fn the_last_node_stops_as_well_as_the_first() {
    let mut cluster = Cluster::three();
    cluster.sweep("k", KEYS, Instant::now());
    for n in 0..3 {
        let process = cluster.nodes[n].take().unwrap();
        process.signal("TERM");
        let (status, _, stderr) = process.end(STOP_MAX);
        assert_eq!(status.code(), Some(0), "{}: {stderr}", cluster.orders[n].name);
    }
    come_back(&mut cluster);
}

#[test]
fn all_stopped_at_once_end_in_time_and_come_back() {
    let mut cluster = Cluster::three();
    cluster.sweep("k", KEYS, Instant::now());
    (0..3).for_each(|n| cluster.node(n).signal("TERM"));
    let asked = Instant::now();
    for n in 0..3 {
        let (status, _, stderr) = cluster.nodes[n].take().unwrap().end(STOP_MAX);
        assert_eq!(status.code(), Some(0), "{}: {stderr}", cluster.orders[n].name);
    }
    measured("all three have stopped, asked at once", asked.elapsed());
    assert!(asked.elapsed() < STOP_ALL_MAX, "the last of them waited for a majority that is gone");
    come_back(&mut cluster);
}

/// All start again, from what they have kept.
fn come_back(cluster: &mut Cluster) {
    (0..3).for_each(|n| cluster.start(n));
    let started = Instant::now();
    cluster.ready();
    measured("all three are back after they had stopped", started.elapsed());
    cluster.sweep("k", KEYS, Instant::now());
    cluster.keeps_its_promises();
}

#[test]
fn a_second_signal_ends_a_node_that_still_drains() {
    let mut cluster = Cluster::three();
    let places = {
        cluster.sweep("k", KEYS, Instant::now());
        cluster.places("k", KEYS)
    };
    let (key, place) = places.iter().next().unwrap();
    let busy = cluster.place_of(&place.node);
    let other = (busy + 1) % 3;
    let slow = cluster.node(other).begin(&format!("slow {key} 20000 20"));
    cluster.until("the slow turn runs", |cluster| cluster.history().turns.iter().any(|turn| turn.did == Did::Slow));
    let process = cluster.nodes[busy].take().unwrap();
    process.signal("TERM");
    // It has begun to leave once the others see it.
    let name = place.node.clone();
    cluster.until("it is leaving", |cluster| {
        let status = cluster.node(other).ask("status");
        status["members"].as_array().unwrap().iter().any(|m| m["name"] == *name && m["state"] == "leaving")
    });
    process.signal("TERM");
    let (status, ..) = process.end(Duration::from_secs(5));
    assert_eq!(status.code(), Some(3), "hard");
    assert_eq!(slow.get()["outcome"], "Unknown");
    cluster.sweep("k", KEYS, Instant::now());
    cluster.keeps_its_promises();
}

fn failures(traffic: &Value) -> Vec<Value> {
    traffic["failed"].as_array().unwrap().clone()
}

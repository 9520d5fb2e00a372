//! A node is frozen for longer than its lease, and thawed: it must not be heard before it has noticed.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::{
    cluster::{Cluster, measured, members},
    record::{Did, Told},
};

const KEYS: usize = 40;
/// Twice the lease.
const FROZEN: Duration = Duration::from_secs(4);
/// How many turns are in the middle of something when the node is frozen.
const SLOW: usize = 4;

#[test]
fn a_frozen_follower_is_not_heard_again_before_it_has_noticed() {
    frozen_and_thawed(|leads| !leads);
}

#[test]
fn a_frozen_leader_is_not_heard_again_before_it_has_noticed() {
    frozen_and_thawed(|leads| leads);
}

#[test]
fn a_majority_frozen_stops_the_rest_until_it_is_thawed() {
    let mut cluster = Cluster::three();
    (0..3).for_each(|n| cluster.begin_traffic(n, "k", KEYS));
    cluster.traffic_flows(20);
    cluster.freeze(1);
    cluster.freeze(2);
    cluster.until("the one that is left knows that it may not act", |cluster| {
        cluster.node(0).ask("status")["ready"] == false
    });
    let alone = cluster.node(0).ask("call k0");
    assert_eq!(alone["outcome"], "NotExecuted", "{alone}");
    thread::sleep(FROZEN);
    all_recover(&mut cluster, &[1, 2]);
}

#[test]
fn all_frozen_at_once_go_on_when_they_are_thawed() {
    let mut cluster = Cluster::three();
    (0..3).for_each(|n| cluster.begin_traffic(n, "k", KEYS));
    cluster.traffic_flows(20);
    (0..3).for_each(|n| cluster.freeze(n));
    thread::sleep(FROZEN);
    all_recover(&mut cluster, &[0, 1, 2]);
}

fn all_recover(cluster: &mut Cluster, frozen: &[usize]) {
    frozen.iter().for_each(|n| drop(cluster.thaw(*n)));
    let took = cluster.sweep("k", KEYS, Instant::now());
    measured(&format!("all grains answer again after the thaw of {} of three", frozen.len()), took);
    cluster.settled();
    cluster.traffic_flows(20);
    for n in 0..3 {
        cluster.node(n).ask("settle");
    }
    cluster.keeps_its_promises();
}

fn frozen_and_thawed(which: impl Fn(bool) -> bool) {
    let mut cluster = Cluster::three();
    let status = cluster.node(0).ask("status");
    let (raft_leader, _) = cluster.raft_leader();
    let frozen = (0..3).find(|n| which(cluster.orders[*n].name == raft_leader)).unwrap();
    let name = cluster.orders[frozen].name.clone();
    let others: Vec<usize> = (0..3).filter(|n| *n != frozen).collect();
    (0..3).for_each(|n| cluster.begin_traffic(n, "k", KEYS));
    cluster.traffic_flows(20);

    // Turns that are under way: after the thaw their next polls may be the first thing that runs.
    let before = cluster.places("k", KEYS);
    let of_it: Vec<String> = before.iter().filter(|(_, at)| at.node == name).map(|(key, _)| key.clone()).collect();
    let slow: Vec<String> = of_it.iter().take(SLOW).cloned().collect();
    assert_eq!(slow.len(), SLOW, "{name} hosts enough");
    let waits: Vec<_> = slow.iter().map(|key| cluster.node(others[0]).begin(&format!("slow {key} 20000 20"))).collect();
    cluster.until("slow turns run", |cluster| {
        let history = cluster.history();
        slow.iter().all(|key| history.turns.iter().any(|turn| turn.key == *key && turn.did == Did::Slow))
    });

    cluster.freeze(frozen);
    let stopped = Instant::now();
    // The frozen one would never answer: only the others are asked.
    let ice = cluster.nodes[frozen].take();
    let took = cluster.sweep("k", KEYS, stopped);
    measured(&format!("all grains answer again after {name} froze (Raft led by {raft_leader})"), took);
    cluster.survivors_kept(&before, &name, "k");
    thread::sleep(FROZEN.saturating_sub(stopped.elapsed()));
    cluster.nodes[frozen] = ice;
    cluster.thaw(frozen);
    let thawed = Instant::now();

    let incarnation = members(&status)[&name];
    cluster.until("it has joined again", |cluster| {
        let status = cluster.node(frozen).ask("status");
        status["ready"] == true && status["incarnation"].as_u64().unwrap() > incarnation
    });
    measured(&format!("{name} has joined again after its thaw"), thawed.elapsed());
    cluster.settled();
    for wait in waits {
        assert_eq!(wait.get()["outcome"], "Unknown", "its caller was told, and not by the old activation");
    }
    cluster.traffic_flows(20);
    cluster.sweep("k", KEYS, Instant::now());
    for n in 0..3 {
        cluster.node(n).ask("settle");
    }
    cluster.keeps_its_promises();

    // No answer of an activation that was replaced is heard by another node after its successor has begun.
    let history = cluster.history();
    let lives = history.lives();
    for key in &of_it {
        let old = &before[key].activation;
        let next = lives[key.as_str()].iter().skip_while(|life| life.activation != old).nth(1).expect("a successor");
        let late = history.calls.iter().find(|call| {
            call.from != name
                && matches!(&call.answer, Told::Answered { by, .. } if by == old)
                && call.ended > next.first
                && call.key == *key
        });
        assert!(late.is_none(), "{key}: an answer of {old} was heard after {next:?} had begun");
    }
}

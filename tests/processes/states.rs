//! What grains have committed outlives the nodes, with nothing beside the cluster to keep it.

use std::{
    collections::{BTreeMap, BTreeSet},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    cluster::{Cluster, free_addresses, measured, members},
    process::Answer,
};

const KEYS: u64 = 20;
const TIMES: u64 = 15;

type Ledgers = BTreeMap<String, u64>;

fn ledgers(answer: Value) -> Ledgers {
    serde_json::from_value(answer).expect("a number for each key")
}

/// Has every running node enter into all ledgers, and does `fault` while they do. Gives what was acknowledged by those that
/// still run; nothing of that may be lost, and nothing may be there twice.
fn enters_during(cluster: &mut Cluster, standing: &Ledgers, fault: impl FnOnce(&mut Cluster)) {
    let asked: Vec<(usize, Answer)> = (0..cluster.nodes.len())
        .filter_map(|n| Some((n, cluster.nodes[n].as_mut()?.begin(&format!("enter l {KEYS} {TIMES}")))))
        .collect();
    let entering = asked.len() as u64;
    fault(cluster);
    let survivors = asked.into_iter().filter(|(n, _)| cluster.nodes[*n].is_some());
    let answers: Vec<Ledgers> = survivors.map(|(_, answer)| ledgers(answer.get_within(PATIENCE))).collect();
    let now = read(cluster);
    let mut acknowledged = 0;
    for (key, sum) in &now {
        let before = standing.get(key).copied().unwrap_or_default();
        let certain: u64 = answers.iter().map(|answer| answer[key]).sum();
        acknowledged += certain;
        assert!(*sum >= before + certain, "{key} stood at {before}, {certain} were acknowledged, and it is {sum}");
        assert!(*sum <= before + entering * TIMES, "{key} stood at {before}, and it is {sum}: some were entered twice");
    }
    assert!(acknowledged > 0, "nothing was acknowledged");
}

/// Each call waits up to 30 s, and a few may have to.
const PATIENCE: Duration = Duration::from_secs(200);

fn read(cluster: &mut Cluster) -> Ledgers {
    let node = cluster.running().next().expect("a node that runs");
    ledgers(node.begin(&format!("ledgers l {KEYS}")).get_within(PATIENCE))
}

#[test]
fn what_was_acknowledged_outlives_each_node_and_all_of_them() {
    let mut cluster = Cluster::three_that_keep_states();
    for dead in 0..3 {
        let standing = if dead == 0 { Ledgers::new() } else { read(&mut cluster) };
        enters_during(&mut cluster, &standing, |cluster| {
            thread::sleep(Duration::from_millis(150));
            cluster.kill(dead);
        });
        cluster.start(dead);
        cluster.ready();
    }
    let standing = read(&mut cluster);
    (0..3).for_each(|n| cluster.kill(n));
    (0..3).for_each(|n| cluster.start(n));
    cluster.ready();
    assert_eq!(read(&mut cluster), standing, "all were killed and came back");
    enters_during(&mut cluster, &standing, |_| {});
}

/// Waits until all that run say that exactly these have the states.
fn voted_by(cluster: &mut Cluster, voters: &[usize]) {
    let wanted: BTreeSet<String> = voters.iter().map(|n| cluster.orders[*n].name.clone()).collect();
    cluster.until(&format!("the states are with {wanted:?}"), |cluster| {
        cluster.running().all(|node| {
            let voters = node.ask("status")["states"]["voters"].take();
            serde_json::from_value::<BTreeSet<String>>(voters).is_ok_and(|voters| voters == wanted)
        })
    });
}

#[test]
fn voters_of_the_states_are_replaced_while_commits_go_on() {
    let mut cluster = Cluster::of(4);
    for orders in &mut cluster.orders {
        orders.keeps_states = true;
        orders.voter_replace_after_ms = 2_000;
    }
    (0..3).for_each(|n| cluster.start(n));
    cluster.ready();
    enters_during(&mut cluster, &Ledgers::new(), |_| {});
    voted_by(&mut cluster, &[0, 1, 2]);

    // One that leaves gives its seat to the fourth.
    cluster.start(3);
    cluster.ready();
    let standing = read(&mut cluster);
    enters_during(&mut cluster, &standing, |cluster| {
        thread::sleep(Duration::from_millis(100));
        let leaves = cluster.nodes[0].take().expect("it runs");
        leaves.signal("TERM");
        let (status, _, stderr) = leaves.end(PATIENCE);
        assert_eq!(status.code(), Some(0), "{stderr}");
    });
    voted_by(&mut cluster, &[1, 2, 3]);

    // One that dies loses it to the one that has come back.
    cluster.start(0);
    cluster.ready();
    let standing = read(&mut cluster);
    enters_during(&mut cluster, &standing, |cluster| {
        thread::sleep(Duration::from_millis(100));
        cluster.kill(1);
    });
    voted_by(&mut cluster, &[0, 2, 3]);

    // Those two have all there is: without the last of the first three they are the majority.
    let standing = read(&mut cluster);
    cluster.kill(2);
    assert_eq!(read(&mut cluster), standing);
    enters_during(&mut cluster, &standing, |_| {});
}

#[test]
fn a_cluster_that_was_stopped_finds_itself_at_other_addresses() {
    let mut cluster = Cluster::three_that_keep_states();
    enters_during(&mut cluster, &Ledgers::new(), |_| {});
    let standing = read(&mut cluster);
    (0..3).for_each(|n| cluster.kill(n));

    let elsewhere = free_addresses(3);
    for (orders, address) in cluster.orders.iter_mut().zip(&elsewhere) {
        orders.listen.clone_from(address);
        orders.join.clone_from(&elsewhere);
    }
    (0..3).for_each(|n| cluster.start(n));
    cluster.ready();
    assert_eq!(read(&mut cluster), standing);
}

#[test]
fn commits_go_on_while_a_voter_is_frozen() {
    let mut cluster = Cluster::three_that_keep_states();
    enters_during(&mut cluster, &Ledgers::new(), |_| {});
    let standing = read(&mut cluster);
    let (leader, _) = cluster.raft_leader();
    let frozen = (0..3).find(|n| cluster.orders[*n].name != leader).expect("two do not lead");
    let others: Vec<usize> = (0..3).filter(|n| *n != frozen).collect();
    cluster.freeze(frozen);
    cluster.until("it is removed", |cluster| members(&cluster.node(others[0]).ask("status")).len() == 2);
    let since = Instant::now();
    let asked: Vec<_> = others.iter().map(|n| cluster.node(*n).begin(&format!("enter l {KEYS} {TIMES}"))).collect();
    for answer in asked {
        let entered = ledgers(answer.get_within(PATIENCE));
        assert!(entered.values().all(|times| *times == TIMES), "one of two voters was not enough: {entered:?}");
    }
    measured("600 commits with one of three voters frozen", since.elapsed());
    cluster.thaw(frozen);
    cluster.settled();
    let now = read(&mut cluster);
    assert!(now.iter().all(|(key, sum)| *sum == standing[key] + 2 * TIMES), "{standing:?}, then {now:?}");
}

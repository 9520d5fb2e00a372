//! Watchdogs: a node that is killed is missed at once; one that is frozen, or killed together with its watchdog, when its
//! lease has ended.

use std::{
    fs,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::{
    cluster::{Cluster, RECOVERY, measured, members},
    process::{PATIENCE, Process},
};

const KEYS: usize = 60;

/// A third of a lease and more, in which a certificate would have done its work many times.
const LONG_BEFORE_THE_LEASE: Duration = Duration::from_millis(700);

const BY_CERTIFICATE: &str = "removed: its process has ended";
const BY_LEASE: &str = "removed: its lease has ended";

/// The children of a process that are called as watchdogs are, with the letter of their state. Each is of a group of its own, or
/// what a terminal sends to its node would end it.
fn watchdogs(parent: u32) -> Vec<(u32, char)> {
    let stat = |entry: fs::DirEntry| {
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let (head, rest) = stat.rsplit_once(") ")?;
        let (id, name) = head.split_once(" (")?;
        let mut rest = rest.split(' ');
        let (state, its_parent) = (rest.next()?.chars().next()?, rest.next()?.parse::<u32>().ok()?);
        let is_it = its_parent == parent && name == "grains-watchdog";
        assert!(!is_it || rest.next() == Some(id), "group and process have one number: {stat}");
        is_it.then_some((id.parse().ok()?, state))
    };
    fs::read_dir("/proc").unwrap().flatten().filter_map(stat).collect()
}

/// The watchdog of a node, once it has one.
fn watchdog(node: &Process) -> u32 {
    let until = Instant::now() + PATIENCE;
    loop {
        match watchdogs(node.id())[..] {
            [(id, state)] if state != 'Z' => return id,
            _ => assert!(Instant::now() < until, "{} has no watchdog: {}", node.name(), node.stderr()),
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn signal(process: u32, signal: &str) {
    let sent = Command::new("kill").args([format!("-{signal}"), process.to_string()]).status().unwrap();
    assert!(sent.success(), "process {process} is there");
}

fn is_there(process: u32) -> bool {
    fs::metadata(format!("/proc/{process}")).is_ok()
}

/// All that the nodes that run have written for people.
fn said(cluster: &mut Cluster) -> String {
    cluster.running().map(|node| node.stderr()).collect()
}

/// How often a node was removed for this reason, as its leader says.
fn removals(cluster: &mut Cluster, why: &str) -> usize {
    said(cluster).matches(why).count()
}

#[test]
fn a_node_that_is_killed_is_missed_at_once() {
    let mut cluster = Cluster::three_that_keep_states();
    cluster.sweep("k", KEYS, Instant::now());
    let mut took = Vec::new();
    for leads in [true, false, true] {
        let before = cluster.places("k", KEYS);
        let (leader, _) = cluster.raft_leader();
        let dead = (0..3).find(|n| (cluster.orders[*n].name == leader) == leads).unwrap();
        let name = cluster.orders[dead].name.clone();
        let what = if leads { "the leader of Raft" } else { "another node" };
        cluster.until("it is watched", |cluster| !watchdogs(cluster.node(dead).id()).is_empty());
        cluster.kill(dead);
        let killed = Instant::now();
        let recovered = cluster.sweep("k", KEYS, killed);
        measured(&format!("all grains answer again after the death of {what}, with a certificate"), recovered);
        took.push(recovered);
        cluster.survivors_kept(&before, &name, "k");
        assert!(removals(&mut cluster, BY_CERTIFICATE) > 0, "{}", said(&mut cluster));
        assert_eq!(removals(&mut cluster, BY_LEASE), 0, "{}", said(&mut cluster));
        cluster.start(dead);
        cluster.ready();
    }
    // No lease ends sooner than 1.5 s after a death, however idle a machine is; on a busy one the quickest of these tells.
    took.sort();
    assert!(took[0] < Duration::from_secs(1), "{took:?}");
    assert!(took[2] < RECOVERY, "{took:?}");
    cluster.keeps_its_promises();
}

#[test]
fn one_that_is_frozen_is_not_said_to_be_dead_and_both_killed_cost_the_lease() {
    let mut cluster = Cluster::three();
    cluster.sweep("k", KEYS, Instant::now());
    let (leader, _) = cluster.raft_leader();
    let others: Vec<usize> = (0..3).filter(|n| cluster.orders[*n].name != leader).collect();
    let (frozen, killed) = (others[0], others[1]);
    let frozen_name = cluster.orders[frozen].name.clone();
    watchdog(cluster.node(frozen));
    cluster.freeze(frozen);
    thread::sleep(LONG_BEFORE_THE_LEASE);
    let leads = cluster.place_of(&leader);
    assert!(members(&cluster.node(leads).ask("status")).contains_key(&frozen_name), "its watchdog says nothing");
    cluster.until("its lease has ended", |cluster| {
        !members(&cluster.node(leads).ask("status")).contains_key(&frozen_name)
    });
    cluster.thaw(frozen);
    cluster.settled();
    // Nobody is left to say it.
    let watchdog = watchdog(cluster.node(killed));
    signal(watchdog, "KILL");
    cluster.kill(killed);
    let at = Instant::now();
    thread::sleep(LONG_BEFORE_THE_LEASE);
    let name = cluster.orders[killed].name.clone();
    assert!(members(&cluster.node(leads).ask("status")).contains_key(&name), "only its lease tells");
    measured("all grains answer again after the death of a node and its watchdog", cluster.sweep("k", KEYS, at));
    assert_eq!(removals(&mut cluster, BY_LEASE), 2, "{}", said(&mut cluster));
    assert_eq!(removals(&mut cluster, BY_CERTIFICATE), 0, "{}", said(&mut cluster));
    cluster.keeps_its_promises();
}

#[test]
fn a_watchdog_that_is_killed_is_replaced_and_one_that_is_not_needed_ends() {
    let mut cluster = Cluster::three();
    cluster.sweep("k", KEYS, Instant::now());
    let (leader, _) = cluster.raft_leader();
    let dead = (0..3).find(|n| cluster.orders[*n].name != leader).unwrap();
    let first = watchdog(cluster.node(dead));
    // What stops a service asks all of its processes; this one waits for its node.
    signal(first, "TERM");
    thread::sleep(Duration::from_millis(100));
    assert_eq!(watchdog(cluster.node(dead)), first);
    signal(first, "KILL");
    cluster.until("it is replaced", |cluster| {
        watchdogs(cluster.node(dead).id()).iter().any(|(id, state)| *id != first && *state != 'Z')
    });
    assert!(!is_there(first), "its node has waited for its end");
    assert!(cluster.node(dead).stderr().contains("the watchdog of this process has ended"));
    // The second one was told all that the first one knew.
    let second = watchdog(cluster.node(dead));
    cluster.kill(dead);
    cluster.sweep("k", KEYS, Instant::now());
    assert_eq!((removals(&mut cluster, BY_CERTIFICATE), removals(&mut cluster, BY_LEASE)), (1, 0));
    cluster.until("it has said so, and ends", |_| !is_there(second));
    // A node that leaves needs none.
    let leaving = (0..3).find(|n| cluster.orders[*n].name != leader && *n != dead).unwrap();
    let third = watchdog(cluster.node(leaving));
    let node = cluster.nodes[leaving].take().unwrap();
    node.signal("TERM");
    let (status, _, stderr) = node.end(PATIENCE);
    assert!(status.success(), "{stderr}");
    cluster.until("it ends with its node", |_| !is_there(third));
    assert!(!stderr.contains("grains-watchdog: "), "it had nothing to say: {stderr}");
    cluster.keeps_its_promises();
}

#[test]
fn without_a_watchdog_the_start_says_so() {
    let mut cluster = Cluster::of(2);
    cluster.orders[0].embedded = true;
    cluster.orders[1].death_certificates = false;
    (0..2).for_each(|n| cluster.start(n));
    cluster.ready();
    let fix = "`grains::init()` as the first line of `main`";
    assert!(cluster.node(0).stderr().contains(fix), "{}", cluster.node(0).stderr());
    assert!(cluster.node(1).stderr().contains("no watchdog (`cluster.death_certificates`)"));
    for n in 0..2 {
        assert_eq!(watchdogs(cluster.node(n).id()), []);
    }
}

#[cfg(feature = "ca")]
#[test]
fn a_watchdog_speaks_with_the_certificate_of_its_node() {
    let mut cluster = Cluster::of(3);
    let folder = cluster.folder.path().join("authority");
    cluster.orders.iter_mut().for_each(|orders| orders.tls = Some(folder.clone()));
    (0..3).for_each(|n| cluster.start(n));
    cluster.ready();
    cluster.sweep("k", KEYS, Instant::now());
    let (leader, _) = cluster.raft_leader();
    let dead = cluster.place_of(&leader);
    watchdog(cluster.node(dead));
    cluster.kill(dead);
    let killed = Instant::now();
    measured("the same for the leader of Raft, over TLS", cluster.sweep("k", KEYS, killed));
    assert_eq!((removals(&mut cluster, BY_CERTIFICATE), removals(&mut cluster, BY_LEASE)), (1, 0));
}

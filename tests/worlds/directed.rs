//! Directed worlds: a cluster at work, like the random ones and judged like them, in which one certain thing goes wrong. Each
//! is for a mechanism that chance would need too long to miss.

use std::time::Duration;

use grains::sim::{Cluster, Worlds};

use crate::{
    cluster::{cluster, leader_and_other},
    world::at_work,
};

/// A name, and how it goes.
pub(crate) type Directed = (&'static str, fn(u64));

pub(crate) const CLOCKS_APART: Directed = ("clocks apart", |seed| go(seed, LONG, clocks_apart));
pub(crate) const LEADER_JUMPS: Directed = ("the leader's clock jumps", |seed| go(seed, SHORT, leader_jumps));
pub(crate) const NAMESAKE: Directed = ("a namesake", |seed| go(seed, SHORT, namesake));

pub(crate) const OLD_LEADER: Directed = ("an old leader comes back", |seed| go(seed, SHORT, old_leader));

const ALL: [Directed; 4] = [CLOCKS_APART, LEADER_JUMPS, NAMESAKE, OLD_LEADER];

/// Leases as they are by default.
const SHORT: Duration = Duration::from_secs(2);
/// Leases so long that one percent of them is more than a moment.
const LONG: Duration = Duration::from_secs(20);

#[test]
#[ignore = "a minute: run by tests/switches"]
fn directed_worlds_have_no_violation() {
    for (name, run) in ALL {
        eprintln!("{name}");
        (1..=3).for_each(run);
    }
}

fn go<F: Future<Output = ()> + 'static>(seed: u64, lease: Duration, trouble: fn(Cluster) -> F) {
    crate::logs();
    let worlds = Worlds::of(move |sim| cluster(sim, 3).configure(|config| config.lease = lease));
    let (_, verdict) = crate::judged(seed, &at_work(worlds).scenario(trouble).lasts(Duration::ZERO));
    assert!(verdict.violations.is_empty(), "{}", verdict.violations.join("\n"));
}

const MILLIS: fn(u64) -> Duration = Duration::from_millis;

/// Clocks differ by as much as they may, and the node with the slow one is cut off.
async fn clocks_apart(cluster: Cluster) {
    let sim = cluster.sim();
    let Some((_, slow)) = leader_and_other(&cluster) else { return };
    for (n, machine) in cluster.machines().enumerate() {
        machine.clock_rate_ppm(if n == slow { -4_900 } else { 4_900 });
    }
    for _ in 0..3 {
        sim.sleep(LONG * 2).await;
        cluster.cut_off(slow);
        sim.sleep(LONG * 3 / 2).await;
        sim.net().heal();
    }
}

/// A leader was stopped together with its clock, which is then set: it has heard of no renewal of that time. Somebody else
/// hears nothing just then.
async fn leader_jumps(cluster: Cluster) {
    let sim = cluster.sim();
    for _ in 0..3 {
        let Some((leader, other)) = leader_and_other(&cluster) else { return };
        cluster.deafen(other);
        cluster.machine(leader).clock_offset(MILLIS(3_000));
        sim.sleep(MILLIS(3_000)).await;
        sim.net().heal();
        sim.sleep(MILLIS(4_000)).await;
    }
}

/// A leader is cut off for so long that there is another one, and comes back when somebody else hears nothing.
async fn old_leader(cluster: Cluster) {
    let sim = cluster.sim();
    for _ in 0..4 {
        let Some((old, _)) = leader_and_other(&cluster) else { return };
        cluster.cut_off(old);
        sim.sleep(MILLIS(5_000)).await;
        let leads = |n: usize| {
            let status = cluster.node(n).map(|node| node.status());
            status.is_some_and(|status| status.raft_leader.as_deref() == Some(cluster.machine(n).name()))
        };
        let other = (0..cluster.len()).find(|n| *n != old && !leads(*n));
        sim.net().heal();
        cluster.deafen(other.unwrap_or(old));
        sim.sleep(MILLIS(3_000)).await;
        sim.net().heal();
        sim.sleep(MILLIS(4_000)).await;
    }
}

/// A second process is started under the name of a node that is alive and cut off.
async fn namesake(cluster: Cluster) {
    let sim = cluster.sim();
    let Some((_, other)) = leader_and_other(&cluster) else { return };
    cluster.deafen(other);
    let second = sim.machine("namesake");
    let builder = cluster.builder(&second, "127.0.0.4:7101").name(cluster.machine(other).name());
    drop(second.spawn(async move {
        let _node = builder.start().await;
        std::future::pending::<()>().await;
    }));
    sim.sleep(MILLIS(4_000)).await;
    second.crash();
    sim.net().heal();
    sim.sleep(MILLIS(4_000)).await;
}

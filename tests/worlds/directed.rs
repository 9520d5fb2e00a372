//! Directed worlds: a cluster at work, like the random ones and judged like them, in which one certain thing goes wrong. Each
//! is for a mechanism that chance would need too long to miss.

use std::time::Duration;

use grains::sim::Sim;

use crate::{cluster::Cluster, facts, simulated, world};

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

fn go(seed: u64, lease: Duration, trouble: impl AsyncFnOnce(&Sim, &mut Cluster)) {
    crate::logs();
    simulated(seed).run(async |sim| {
        let mut cluster = Cluster::new(&sim, 3);
        cluster.lease = lease;
        world::run_with(sim, cluster, trouble).await;
    });
    let violations = facts::verdict().violations;
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

const MILLIS: fn(u64) -> Duration = Duration::from_millis;

/// Clocks differ by as much as they may, and the node with the slow one is cut off.
async fn clocks_apart(sim: &Sim, cluster: &mut Cluster) {
    let Some((_, slow)) = cluster.leader_and_other() else { return };
    for (n, host) in cluster.hosts.iter().enumerate() {
        host.machine.clock_rate_ppm(if n == slow { -4_900 } else { 4_900 });
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
async fn leader_jumps(sim: &Sim, cluster: &mut Cluster) {
    for _ in 0..3 {
        let Some((leader, other)) = cluster.leader_and_other() else { return };
        cluster.deafen(other);
        cluster.hosts[leader].machine.clock_offset(MILLIS(3_000));
        sim.sleep(MILLIS(3_000)).await;
        sim.net().heal();
        sim.sleep(MILLIS(4_000)).await;
    }
}

/// A leader is cut off for so long that there is another one, and comes back when somebody else hears nothing.
async fn old_leader(sim: &Sim, cluster: &mut Cluster) {
    for _ in 0..4 {
        let Some((old, _)) = cluster.leader_and_other() else { return };
        cluster.cut_off(old);
        sim.sleep(MILLIS(5_000)).await;
        let leads = |n: usize| {
            let status = cluster.node(n).map(|node| node.status());
            status.is_some_and(|status| status.raft_leader.as_deref() == Some(&*cluster.hosts[n].name))
        };
        let other = (0..cluster.hosts.len()).find(|n| *n != old && !leads(*n));
        sim.net().heal();
        cluster.deafen(other.unwrap_or(old));
        sim.sleep(MILLIS(3_000)).await;
        sim.net().heal();
        sim.sleep(MILLIS(4_000)).await;
    }
}

/// A second process is started under the name of a node that is alive and cut off.
async fn namesake(sim: &Sim, cluster: &mut Cluster) {
    let Some((_, other)) = cluster.leader_and_other() else { return };
    cluster.deafen(other);
    let second = cluster.namesake(other);
    sim.sleep(MILLIS(4_000)).await;
    cluster.crash(second);
    cluster.hosts.pop();
    sim.net().heal();
    sim.sleep(MILLIS(4_000)).await;
}

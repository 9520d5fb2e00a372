//! A world: thirty simulated seconds of a cluster at work, with everything failing that can fail, and a calm end in which
//! it has to come back to itself.

use std::{sync::Arc, time::Duration};

use grains::{
    Node, Outcome,
    sim::{DiskFault, Sim, check::CounterOp},
};

use crate::{
    cluster::Cluster,
    counter::{CounterRef, ballast},
    facts::{self, Habits, Reading, count, facts, stuck},
    herald::HeraldRef,
    mill::MillRef,
    streams::SourceRef,
};

/// How long work and faults go on.
const FAULTS_LAST: Duration = Duration::from_secs(30);
/// How many leases a cluster without faults may take to agree again: leases to end, leaders to be elected, members to join.
const SETTLES_WITHIN_LEASES: u32 = 10;
/// A lease, and this moment.
const AFTER_LEASES: Duration = Duration::from_millis(500);
/// A stream has an item at least every 50 ms, and who holds a dead connection finds out in 8 s.
const READERS_HEAR_WITHIN: Duration = Duration::from_secs(10);
const KEYS: u64 = 8;
const CLIENTS: u64 = 3;

/// Runs one world, in which anything goes wrong that can.
pub(crate) async fn run(sim: Sim, nodes: usize, watched: bool) {
    let mut cluster = Cluster::new(&sim, nodes);
    cluster.watched = watched;
    run_with(sim, cluster, trouble).await;
}

/// Runs a world in which this goes wrong.
pub(crate) async fn run_with(sim: Sim, mut cluster: Cluster, trouble: impl AsyncFnOnce(&Sim, &mut Cluster)) {
    facts::begin(&sim);
    let nodes = cluster.hosts.len();
    let settles_within = cluster.lease * SETTLES_WITHIN_LEASES;
    for n in 0..nodes {
        cluster.start(n);
        sim.sleep(sim.between(Duration::ZERO, Duration::from_millis(800))).await;
    }
    if !cluster.settled(settles_within).await {
        stuck(&sim, &format!("it never came to be: {:#?}", cluster.statuses()));
        return;
    }
    for n in 0..nodes {
        work(&sim, &cluster, n);
    }
    trouble(&sim, &mut cluster).await;
    calm(&sim, &mut cluster).await;
    let calm_since = sim.now();
    // Whose renewals the faults have stopped may still think for a moment that all is well.
    sim.sleep(cluster.lease + AFTER_LEASES).await;
    if !cluster.settled(settles_within).await {
        stuck(&sim, &format!("it did not come back to itself: {:#?}", cluster.statuses()));
        return;
    }
    for status in cluster.statuses().into_iter().flatten() {
        let members = status.members.iter().map(|member| member.name.clone());
        facts().judge.views.seen(&status.node, status.view, members, status.leader.as_deref());
    }
    everything_answers(&sim, &cluster).await;
    let readers_have_heard = calm_since + READERS_HEAR_WITHIN + Duration::from_secs(1);
    sim.sleep(readers_have_heard.saturating_sub(sim.now())).await;
    let waiting = facts::waiting_readers(&sim, READERS_HEAR_WITHIN);
    if !waiting.is_empty() {
        stuck(&sim, &format!("in a calm cluster, readers wait for streams that say nothing: {waiting:?}"));
    }
}

/// Callers on node `n`, for as long as its process lives.
fn work(sim: &Sim, cluster: &Cluster, n: usize) {
    let Some(node) = cluster.node(n) else { return };
    let _detached = cluster.hosts[n].machine.spawn(at_work(sim.clone(), node));
}

/// All that a node has to do.
async fn at_work(sim: Sim, node: Node) {
    let clients = (0..CLIENTS).map(|_| client(sim.clone(), node.clone()));
    futures_util::future::join5(
        futures_util::future::join_all(clients),
        glancer(sim.clone(), node.clone()),
        miller(sim.clone(), node.clone()),
        reader(sim.clone(), node.clone()),
        leader(sim, node),
    )
    .await;
}

/// Looks at one counter after the other and waits for none: so there is always somebody who calls what lives on this node, however
/// far away others are.
async fn glancer(sim: Sim, node: Node) {
    loop {
        sim_sleep(&node, sim.between(Duration::from_millis(1), Duration::from_millis(40))).await;
        let counter: CounterRef = node.get(sim.below(KEYS).to_string());
        let call = sim.random() >> 1;
        let glance = counter.read(call).timeout(Duration::from_millis(30)).await;
        if glance.is_err_and(|error| error.outcome() == Outcome::NotExecuted) {
            facts().never_executed(call);
        }
    }
}

/// Reads one stream after the other: what arrives is in order and whole, up to the end or an error.
async fn reader(sim: Sim, node: Node) {
    loop {
        sim_sleep(&node, sim.between(Duration::from_millis(1), Duration::from_millis(200))).await;
        let source: SourceRef = node.get(sim.below(KEYS).to_string());
        let (items, every_ms) = (sim.below(100), sim.below(50));
        let answer = source.ticks(items, every_ms).timeout(Duration::from_secs(2)).await;
        let Ok(mut stream) = answer else { continue };
        let reading = Reading::new(&sim);
        let mut next = 0;
        loop {
            match stream.next().await {
                Some(Ok(item)) if item == next => next += 1,
                Some(Ok(item)) => break stuck(&sim, &format!("item {item} of a stream came where {next} was due")),
                Some(Err(_)) => break count("stream cut"),
                None if next == items => break count("stream read"),
                None => break stuck(&sim, &format!("a stream of {items} items ended after {next}")),
            }
            reading.heard();
        }
    }
}

async fn client(sim: Sim, node: Node) {
    loop {
        sim_sleep(&node, sim.between(Duration::from_millis(1), Duration::from_millis(120))).await;
        let key = sim.below(KEYS).to_string();
        let counter: CounterRef = node.get(key.as_str());
        let call = sim.random() >> 1;
        let timeout = Duration::from_millis(500 + sim.below(2000));
        let through = sim.below(KEYS);
        let (op, answer) = match sim.below(10) {
            0..2 => (facts().begin(&key, CounterOp::Read), counter.read(call).timeout(timeout).await),
            2..4 => {
                let op = facts().begin(&key, CounterOp::Add(1));
                let between: CounterRef = node.get(format!("via{through}"));
                let answer = between.pass_on(counter, call, 1).timeout(timeout).await;
                // What the one in between says of the other is its own error: of that the outcome is not known here.
                (op, answer)
            }
            4..6 => (
                facts().begin(&key, CounterOp::Add(1)),
                counter.add(call, 1, ballast(call)).timeout(timeout).retry(3).await,
            ),
            _ => (facts().begin(&key, CounterOp::Add(1)), counter.add(call, 1, ballast(call)).timeout(timeout).await),
        };
        match answer {
            Ok(sum) => {
                count("answered");
                facts().answered(op, sum);
            }
            Err(error) => match error.outcome() {
                Outcome::NotExecuted => {
                    count("not executed");
                    facts().never_ran(op, call);
                }
                Outcome::Unknown | Outcome::Executed => {
                    count("unknown");
                    facts().unknown(op);
                }
            },
        }
    }
}

/// Calls workers, several at a time: on its own node, if that has any.
async fn miller(sim: Sim, node: Node) {
    loop {
        sim_sleep(&node, sim.between(Duration::from_millis(1), Duration::from_millis(120))).await;
        let mill: MillRef = node.get(sim.below(2).to_string());
        let calls = (0..=sim.below(3)).map(|_| {
            let (call, mill, time) = (sim.random() >> 1, mill.clone(), Duration::from_millis(sim.below(30)));
            let timeout = Duration::from_millis(500 + sim.below(1500));
            async move { (call, mill.grind(call, time).timeout(timeout).await) }
        });
        for (call, answer) in futures_util::future::join_all(calls).await {
            match answer {
                Ok(place) if place == facts().here() => count("ground here"),
                Ok(_) => count("ground elsewhere"),
                Err(error) if error.outcome() == Outcome::NotExecuted => {
                    count("not ground");
                    facts().never_executed(call);
                }
                Err(_) => count("perhaps ground"),
            }
        }
    }
}

async fn leader(sim: Sim, node: Node) {
    loop {
        sim_sleep(&node, sim.between(Duration::from_millis(20), Duration::from_millis(60))).await;
        if let Some(term) = node.leader().mine() {
            facts().acts("leader", term);
        }
    }
}

async fn sim_sleep(node: &Node, time: Duration) {
    let clock = &node.world().clock;
    clock.sleep_until(clock.now() + time).await;
}

async fn trouble(sim: &Sim, cluster: &mut Cluster) {
    sim.net().control(grains::sim::is_control_connection);
    facts::set_habits(Habits { stuck_chance: 0.02, ends_chance: [0.0, 0.05, 0.3][sim.below(3) as usize] });
    let end = sim.now() + FAULTS_LAST;
    let nodes = cluster.hosts.len() as u64;
    while sim.now() < end {
        sim.sleep(sim.between(Duration::from_millis(200), Duration::from_millis(1800))).await;
        let n = sim.below(nodes) as usize;
        match sim.below(17) {
            0 | 1 => crash(sim, cluster, n).await,
            2 => leave(sim, cluster, &[n]).await,
            // In a cluster of three the last active member owns everything, and may die while they leave.
            11 => leave(sim, cluster, &[n, (n + 1) % cluster.hosts.len()]).await,
            3 | 4 => {
                count("pause");
                let machine = cluster.hosts[n].machine.clone();
                machine.pause();
                sim.sleep(sim.between(Duration::from_millis(50), Duration::from_secs(4))).await;
                machine.resume();
            }
            5 => {
                count("partition");
                let (these, those): (Vec<_>, Vec<_>) =
                    cluster.hosts.iter().map(|host| host.machine.clone()).partition(|_| sim.happens(0.4));
                sim.net().partition(&these, &those);
            }
            6 => {
                count("one-way partition");
                let m = sim.below(nodes) as usize;
                sim.net().partition_one_way(&cluster.hosts[n].machine, &cluster.hosts[m].machine);
            }
            7 | 8 => sim.net().heal(),
            9 => {
                sim.net().reset_chance([0.0, 0.002, 0.02][sim.below(3) as usize]);
                sim.net().delay_chance([0.0, 0.01, 0.2][sim.below(3) as usize], Duration::from_millis(300));
                sim.net().duplicate_chance([0.0, 0.05, 0.3][sim.below(3) as usize]);
            }
            10 => {
                // Two clocks differ by at most 1 %: what leases assume.
                let rate = [-4_900, 0, 4_900][sim.below(3) as usize];
                cluster.hosts[n].machine.clock_rate_ppm(rate);
                // What people and time servers do to the time of day is nobody's business.
                cluster.hosts[n].machine.wall_offset_ms(sim.below(20_000) as i64 - 10_000);
            }
            12 => {
                count("outage");
                (0..cluster.hosts.len()).for_each(|n| cluster.crash(n));
                for n in 0..cluster.hosts.len() {
                    sim.sleep(sim.between(Duration::from_millis(10), Duration::from_secs(1))).await;
                    again(sim, cluster, n);
                }
            }
            13 => {
                count("disk fault");
                let fault = if sim.happens(0.5) { DiskFault::Full } else { DiskFault::Fails };
                cluster.hosts[n].machine.disk_fault(Some(fault));
                sim.sleep(sim.between(Duration::from_millis(100), Duration::from_secs(4))).await;
                cluster.hosts[n].machine.disk_fault(None);
                // Its part in Raft may be over until it starts again.
                crash(sim, cluster, n).await;
            }
            14 => {
                let slow = [None, Some((10, 60)), Some((50, 300))][sim.below(3) as usize];
                let millis = Duration::from_millis;
                cluster.hosts[n].machine.blocking_latency(slow.map(|(least, most)| millis(least)..=millis(most)));
            }
            15 => {
                count("two cut");
                let m = sim.below(nodes) as usize;
                sim.net().partition([&cluster.hosts[n].machine], [&cluster.hosts[m].machine]);
            }
            16 => {
                let m = sim.below(nodes) as usize;
                sim.net().heal_one_way(&cluster.hosts[n].machine, &cluster.hosts[m].machine);
            }
            _ => unreachable!("seventeen kinds of trouble"),
        }
        // What came back meanwhile goes to work again.
        sim.sleep(Duration::from_millis(1)).await;
    }
}

async fn crash(sim: &Sim, cluster: &mut Cluster, n: usize) {
    count("crash");
    cluster.crash(n);
    sim.sleep(sim.between(Duration::from_millis(10), Duration::from_secs(3))).await;
    again(sim, cluster, n);
}

async fn leave(sim: &Sim, cluster: &mut Cluster, leaving: &[usize]) {
    let mut stopping = Vec::new();
    for n in leaving {
        let Some(node) = cluster.node(*n) else { continue };
        count("leave");
        stopping.push((*n, cluster.hosts[*n].machine.spawn(async move { node.stop().await })));
    }
    for (n, ended) in stopping {
        let _ended = ended.await;
        cluster.crash(n);
        sim.sleep(sim.between(Duration::from_millis(10), Duration::from_secs(2))).await;
        again(sim, cluster, n);
    }
}

/// Starts a process again, whose callers go to work as soon as it is a member.
pub(crate) fn again(sim: &Sim, cluster: &mut Cluster, n: usize) {
    cluster.start(n);
    let place = cluster.place(n);
    let (sim, machine) = (sim.clone(), cluster.hosts[n].machine.clone());
    let task = machine.clone().spawn(async move {
        let clock = machine.world().clock;
        loop {
            clock.sleep_until(clock.now() + Duration::from_millis(100)).await;
            let node = place.lock().expect("nothing panics while it is held").clone();
            if let Some(node) = node {
                at_work(sim.clone(), node).await;
            }
        }
    });
    drop(task);
}

/// No more faults.
async fn calm(sim: &Sim, cluster: &mut Cluster) {
    facts::set_habits(Habits::default());
    let net = sim.net();
    net.heal();
    net.reset_chance(0.0);
    net.delay_chance(0.0, Duration::ZERO);
    net.duplicate_chance(0.0);
    for n in 0..cluster.hosts.len() {
        cluster.hosts[n].machine.resume();
        cluster.hosts[n].machine.blocking_latency(None);
        if !cluster.hosts[n].machine.is_up() {
            again(sim, cluster, n);
        }
    }
}

/// Every grain can be called from every node.
async fn everything_answers(sim: &Sim, cluster: &Cluster) {
    for n in 0..cluster.hosts.len() {
        let Some(node) = cluster.node(n) else { continue };
        let calls: Arc<Vec<u64>> = Arc::new((0..KEYS).map(|_| sim.random() >> 1).collect());
        let asked = cluster.hosts[n].machine.spawn(async move {
            let mut failed = Vec::new();
            for key in 0..KEYS {
                let counter: CounterRef = node.get(key.to_string());
                let answer = counter.read(calls[key as usize]).timeout(Duration::from_secs(5)).retry(20).await;
                failed.extend(answer.err().map(|error| format!("{key}: {error}")));
                let (call, op) = (calls[key as usize] ^ 2, facts().begin(&key.to_string(), CounterOp::Add(1)));
                match counter.add(call, 1, ballast(call)).timeout(Duration::from_secs(5)).retry(20).await {
                    Ok(sum) => facts().answered(op, sum),
                    Err(error) => {
                        facts().unknown(op);
                        failed.push(format!("{key} could not be added to: {error}"));
                    }
                }
            }
            let mill: MillRef = node.get("0");
            let answer = mill.grind(calls[0] ^ 1, Duration::ZERO).timeout(Duration::from_secs(5)).retry(20).await;
            failed.extend(answer.err().map(|error| format!("mill: {error}")));
            let herald: HeraldRef = node.get(());
            failed.extend(herald.token().retry(20).await.err().map(|error| format!("herald: {error}")));
            failed
        });
        match asked.await {
            Ok(failed) if failed.is_empty() => {}
            Ok(failed) => stuck(sim, &format!("in a calm cluster, node {n} had no answer: {failed:?}")),
            Err(_) => stuck(sim, &format!("in a calm cluster, node {n} ended")),
        }
    }
}

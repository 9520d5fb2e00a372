//! A world: thirty simulated seconds of a cluster at work, with everything failing that can fail, and a calm end in which
//! it has to come back to itself.

use std::time::Duration;

use grains::{
    Outcome,
    prelude::*,
    sim::{Caller, Cluster, Faults, Workload, Worlds, check::CounterOp},
};

use crate::{
    cluster::cluster,
    counter::{CounterRef, ballast},
    facts::{self, Habits, count, facts, stuck},
    herald::HeraldRef,
    mill::MillRef,
    simulated,
    streams::SourceRef,
};

/// How long work and faults go on.
const FAULTS_LAST: Duration = Duration::from_secs(30);
/// A call ends within 3 s. A stream has an item at least every 50 ms, and who holds a dead connection finds out in 8 s.
const ENDS_WITHIN: Duration = Duration::from_secs(15);
const KEYS: u64 = 8;
const CLIENTS: u64 = 3;
const MILLIS: fn(u64) -> Duration = Duration::from_millis;

/// Worlds of so many nodes in which anything goes wrong that can. In every second one nodes have watchdogs.
pub(crate) fn worlds(nodes: usize) -> Worlds {
    let worlds = Worlds::of(move |sim| cluster(sim, nodes).watchdogs(0.5));
    at_work(worlds).faults(Faults::all()).lasts(FAULTS_LAST).scenario(bad_habits)
}

/// A cluster at work, as all worlds have it.
pub(crate) fn at_work(worlds: Worlds) -> Worlds {
    worlds.workload(1, || Work).ends_within(ENDS_WITHIN).simulated(simulated())
}

/// The database has its bad days, and counters end now and then.
async fn bad_habits(cluster: Cluster) {
    let sim = cluster.sim();
    facts::set_habits(Habits { stuck_chance: 0.02, ends_chance: [0.0, 0.05, 0.3][sim.below(3) as usize] });
    sim.sleep(FAULTS_LAST).await;
    facts::set_habits(Habits::default());
}

/// All that a node has to do.
struct Work;

impl Workload for Work {
    async fn run(&self, caller: Caller) {
        let clients = (0..CLIENTS).map(|_| client(caller.clone()));
        futures_util::future::join5(
            futures_util::future::join_all(clients),
            glancer(caller.clone()),
            miller(caller.clone()),
            reader(caller.clone()),
            leader(caller.clone()),
        )
        .await;
    }

    /// Every grain can be called from every node, and all see the same.
    async fn check(&self, caller: Caller) -> Result<()> {
        let status = caller.node().status();
        let members = status.members.iter().map(|member| member.name.clone());
        facts().judge.views.seen(&status.node, status.view, members, status.leader.as_deref());

        let mut failed = Vec::new();
        for key in 0..KEYS {
            let counter: CounterRef = caller.get(key.to_string());
            let call = caller.sim().random() >> 1;
            let answer = counter.read(call).timeout(Duration::from_secs(5)).retry(20).await;
            failed.extend(answer.err().map(|error| format!("{key}: {error}")));
            let (call, op) = (call ^ 2, facts().begin(&key.to_string(), CounterOp::Add(1)));
            match counter.add(call, 1, ballast(call)).timeout(Duration::from_secs(5)).retry(20).await {
                Ok(sum) => facts().answered(op, sum),
                Err(error) => {
                    facts().unknown(op);
                    failed.push(format!("{key} could not be added to: {error}"));
                }
            }
        }
        let call = caller.sim().random() >> 1;
        let answer =
            caller.get::<MillRef>("0").grind(call, Duration::ZERO).timeout(Duration::from_secs(5)).retry(20).await;
        failed.extend(answer.err().map(|error| format!("mill: {error}")));
        let herald: HeraldRef = caller.get(());
        failed.extend(herald.token().retry(20).await.err().map(|error| format!("herald: {error}")));
        if failed.is_empty() { Ok(()) } else { Err(Error::new(format!("no answer in a calm cluster: {failed:?}"))) }
    }
}

/// Looks at one counter after the other and waits for none: so there is always somebody who calls what lives on this node, however
/// far away others are.
async fn glancer(caller: Caller) {
    let caller = caller.pace(MILLIS(1)..=MILLIS(40));
    let sim = caller.sim();
    while caller.goes_on().await {
        let counter: CounterRef = caller.get(sim.below(KEYS).to_string());
        let call = sim.random() >> 1;
        let glance = counter.read(call).timeout(Duration::from_millis(30)).await;
        if glance.is_err_and(|error| error.outcome() == Outcome::NotExecuted) {
            facts().never_executed(call);
        }
    }
}

/// Reads one stream after the other: what arrives is in order and whole, up to the end or an error.
async fn reader(caller: Caller) {
    let caller = caller.pace(MILLIS(1)..=MILLIS(200));
    let sim = caller.sim();
    while caller.goes_on().await {
        let source: SourceRef = caller.get(sim.below(KEYS).to_string());
        let (items, every_ms) = (sim.below(100), sim.below(50));
        let answer = source.ticks(items, every_ms).timeout(Duration::from_secs(2)).await;
        let Ok(mut stream) = answer else { continue };
        let mut next = 0;
        loop {
            match stream.next().await {
                Some(Ok(item)) if item == next => next += 1,
                Some(Ok(item)) => break stuck(sim, &format!("item {item} of a stream came where {next} was due")),
                Some(Err(_)) => break count("stream cut"),
                None if next == items => break count("stream read"),
                None => break stuck(sim, &format!("a stream of {items} items ended after {next}")),
            }
        }
    }
}

async fn client(caller: Caller) {
    let caller = caller.pace(MILLIS(1)..=MILLIS(120));
    let sim = caller.sim();
    while caller.goes_on().await {
        let key = sim.below(KEYS).to_string();
        let counter: CounterRef = caller.get(key.as_str());
        let call = sim.random() >> 1;
        let timeout = Duration::from_millis(500 + sim.below(2000));
        let through = sim.below(KEYS);
        let (op, answer) = match sim.below(10) {
            0..2 => (facts().begin(&key, CounterOp::Read), counter.read(call).timeout(timeout).await),
            2..4 => {
                let op = facts().begin(&key, CounterOp::Add(1));
                let between: CounterRef = caller.get(format!("via{through}"));
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
async fn miller(caller: Caller) {
    let caller = caller.pace(MILLIS(1)..=MILLIS(120));
    let sim = caller.sim();
    while caller.goes_on().await {
        let mill: MillRef = caller.get(sim.below(2).to_string());
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

async fn leader(caller: Caller) {
    let caller = caller.pace(MILLIS(20)..=MILLIS(60));
    while caller.goes_on().await {
        if let Some(term) = caller.node().leader().mine() {
            facts().acts("leader", term);
        }
    }
}

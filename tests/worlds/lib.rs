//! Clusters in the simulator, with every fault that it has.
#![cfg(test)]

mod cluster;
mod counter;
mod database;
mod directed;
mod disks;
mod facts;
mod herald;
mod mill;
mod scenarios;
mod streams;
#[cfg(feature = "switches")]
mod switches;
mod world;

use grains::sim::{self, Builder, Report, Sim, Worlds};

use crate::facts::Verdict;

/// How many worlds of each kind an optimised run has: together 300. `./tests/seeds N` runs more. Without
/// optimisation a world takes ten seconds instead of a third of one, so there is one, for what only debug builds check.
const THREE_NODES: u64 = if cfg!(debug_assertions) { 1 } else { 200 };
const FIVE_NODES: u64 = 100;
/// Seeds of which every run is compared with another one, event for event.
const REPLAYED: &[u64] = &[3, 7, 11];

#[test]
fn worlds_of_three_nodes_have_no_violation() {
    logs();
    sim::seeds(THREE_NODES, |seed| world(seed, 3));
}

#[test]
#[cfg_attr(debug_assertions, ignore = "slow in debug builds, see tests/run")]
fn worlds_of_five_nodes_have_no_violation() {
    logs();
    sim::seeds(FIVE_NODES, |seed| world(seed, 5));
}

/// The canary: whatever a world does, it does again.
#[test]
#[cfg_attr(debug_assertions, ignore = "slow in debug builds, see tests/run")]
fn worlds_replay_event_for_event() {
    for seed in REPLAYED {
        world::worlds(3).replays(*seed);
    }
}

/// Runs a world, tells what it did, and fails if anything was wrong with it.
fn world(seed: u64, nodes: usize) {
    let (report, Verdict { violations, counts }) = judged(seed, &world::worlds(nodes));
    // Read by `tests/seeds`.
    println!("world {nodes} {seed} {} {}", report.sim_time.as_millis(), violations.len());
    println!("    {} events, {counts:?}", report.events);
    let shown = violations.iter().take(10).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(violations.is_empty(), "{} violations\n{shown}", violations.len());
}

/// Runs a world and gives what was wrong with it, first of all by its facts.
fn judged(seed: u64, worlds: &Worlds) -> (Report, Verdict) {
    let judged = worlds.judge(seed);
    let mut verdict = facts::verdict();
    verdict.violations.extend(judged.violations);
    (judged.report, verdict)
}

/// Runs a scenario.
pub(crate) fn run<F: AsyncFnOnce(Sim)>(seed: u64, scenario: F) -> Report {
    simulated().seed(seed).run(scenario)
}

/// A simulation in which every mechanism of safety works but those that this thread is to do without.
pub(crate) fn simulated() -> Builder {
    #[cfg(feature = "switches")]
    let builder = switches::without_what_is_lacking(Sim::builder());
    #[cfg(not(feature = "switches"))]
    let builder = Sim::builder();
    builder
}

fn logs() {
    if std::env::var("GRAINS_LOG").is_ok() {
        tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_test_writer().try_init().ok();
    }
}

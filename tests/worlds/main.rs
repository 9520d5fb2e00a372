//! Clusters in the simulator, with every fault that it has.
#![cfg(feature = "sim")]

mod cluster;
mod counter;
mod database;
mod facts;
mod herald;
mod world;

use grains::sim::{self, Sim};

fn judge(seed: u64, nodes: usize) {
    let report = Sim::builder().seed(seed).run(async |sim| world::run(sim, nodes).await);
    let facts = facts::take();
    println!("seed {seed}, {nodes} nodes, {:?}, {} events: {:?}", report.sim_time, report.events, facts.counts);
    assert!(
        facts.violations.is_empty(),
        "{} violations\n{}",
        facts.violations.len(),
        facts.violations[..facts.violations.len().min(10)].join("\n")
    );
}

#[test]
fn worlds_of_three_nodes() {
    logs();
    sim::seeds(20, |seed| judge(seed, 3));
}

#[test]
fn worlds_of_five_nodes() {
    logs();
    sim::seeds(10, |seed| judge(seed, 5));
}

fn logs() {
    if std::env::var("GRAINS_LOG").is_ok() {
        tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_test_writer().try_init().ok();
    }
}

//! Clusters in the simulator.
#![cfg(feature = "sim")]

mod cluster;

use std::time::Duration;

use grains::sim::{self, Sim};

use crate::cluster::{Cluster, CounterRef};

#[test]
fn three_nodes_in_the_simulator() {
    if std::env::var("RUST_LOG").is_ok() {
        tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_test_writer().try_init().ok();
    }
    let begun = std::time::Instant::now();
    let report = sim::run(1, three);
    println!("{:?} simulated in {:?}, {} events", report.sim_time, begun.elapsed(), report.events);
}

async fn three(sim: Sim) {
    let mut cluster = Cluster::new(&sim, 3);
    for n in 0..3 {
        cluster.start(n);
    }
    cluster.ready(Duration::from_secs(20)).await;
    println!("ready at {:?}", sim.now());
    for key in 0..20_u32 {
        for n in 0..3 {
            let counter: CounterRef = cluster.node(n).unwrap().get(key.to_string());
            let sum = cluster.on(n, async move { counter.add(1).await }).await.unwrap().unwrap();
            assert_eq!(sum, n as u64 + 1);
        }
    }
    println!("called at {:?}", sim.now());
    sim.sleep(Duration::from_secs(30)).await;
    println!("{:?}", cluster.node(0).unwrap().status());
}

#[test]
fn three_nodes_replay() {
    sim::replays(2, three);
}

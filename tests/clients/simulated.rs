//! The same in the simulator: a client among machines that crash, replayed from one seed.

use std::time::Duration;

use grains::{Client, ClientConfig, ClientsConfig, ClusterConfig, Outcome, prelude::*, sim};

use crate::{cluster::described, desk::DeskRef};

async fn a_gateway_crashes(sim: sim::Sim) {
    let at = ["127.0.0.1:7101", "127.0.0.2:7101", "127.0.0.3:7101"]; // one for each machine
    let machines = ["a", "b", "c"].map(|name| sim.machine(name));
    let starting = [0, 1, 2].map(|n| {
        let config = ClusterConfig::new("shop").listen(at[n]).join(at).clients(ClientsConfig::new());
        let builder = described(machines[n].name(), config).world(machines[n].world()).data_dir("data");
        machines[n].spawn(async move { builder.start().await.expect("it starts") })
    });
    let mut nodes: Vec<Node> = Vec::new();
    for node in starting {
        nodes.push(node.await.expect("its machine is up"));
    }
    let outside = sim.machine("client");
    let mut config = ClientConfig::new("shop", at);
    config.world = Some(outside.world());
    let calls = outside.spawn({
        let sim = sim.clone();
        async move {
            let client = Client::connect(config).await.unwrap();
            let mut failed = Vec::new();
            for n in 0..300 {
                let desk: DeskRef = client.get(format!("desk-{}", n % 7));
                if let Err(error) = desk.add(1).timeout(Duration::from_secs(20)).await {
                    failed.push(error);
                }
                sim.sleep(Duration::from_millis(10)).await;
            }
            failed
        }
    });
    sim.sleep(Duration::from_millis(700)).await;
    machines[1].crash();
    let failed = calls.await.expect("its machine is up");
    sim.trace(&format!("{failed:?}"));
    assert!(failed.len() <= 1, "one call at a time: {failed:?}");
    assert!(failed.iter().all(|error| error.outcome() == Outcome::Unknown), "{failed:?}");
}

#[test]
fn a_client_outlives_a_gateway_in_the_simulator_and_every_run_of_a_seed_is_the_same() {
    sim::seeds(3, |seed| {
        let [one, other] = [0, 1].map(|_| sim::run(seed, a_gateway_crashes));
        assert_eq!((one.hash, one.events), (other.hash, other.events));
    });
}

//! A node inside the simulator: calls, timers, streams and states in virtual time, the same in every run of a seed.

use std::time::Duration;

use grains::{
    GrainOptions,
    prelude::*,
    sim::{self, Machine, Sim},
};
use serde::{Deserialize, Serialize};

/// Counts.
#[rpc_trait]
pub trait Counter {
    /// Adds `by` and answers the sum.
    async fn add(&mut self, by: u64) -> Result<u64>;
    /// The sum, and the ticks so far.
    async fn read(&self) -> Result<(u64, u64)>;
    /// Every sum from now on.
    async fn watch(&self) -> Result<Streaming<u64>>;
    /// Adds `by` to this and `depth` further counters, one calling the next.
    async fn add_down(&mut self, by: u64, depth: u64) -> Result<u64>;
    /// Panics.
    async fn panic(&mut self) -> Result<()>;
}

#[grain(Counter)]
pub struct CounterGrain {
    ctx: Ctx<Self>,
    sum: State<u64>,
    ticks: u64,
    sums: Fanout<u64>,
}

impl Lifecycle for CounterGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        ctx.every(Duration::from_millis(100), Self::tick)?;
        Ok(Self { sum: ctx.state("sum").await?, ctx, ticks: 0, sums: Fanout::default() })
    }
}

impl CounterGrain {
    async fn tick(&mut self) -> Result<()> {
        self.ticks += 1;
        Ok(())
    }
}

impl Counter for CounterGrain {
    async fn add(&mut self, by: u64) -> Result<u64> {
        let mut sum = self.sum.edit();
        *sum += by;
        sum.commit().await?;
        self.sums.send(*self.sum);
        Ok(*self.sum)
    }
    async fn read(&self) -> Result<(u64, u64)> {
        Ok((*self.sum, self.ticks))
    }
    async fn watch(&self) -> Result<Streaming<u64>> {
        Ok(self.sums.subscribe())
    }
    async fn add_down(&mut self, by: u64, depth: u64) -> Result<u64> {
        if depth > 0 {
            let next: CounterRef = self.ctx.get(format!("{}-{depth}", self.ctx.key()));
            next.add_down(by, depth - 1).await?;
        }
        self.ctx.sleep(Duration::from_millis(1)).await;
        self.add(by).await
    }
    async fn panic(&mut self) -> Result<()> {
        panic!("as asked")
    }
}

/// Starts a node on `machine`, with its states on the disk there.
async fn node_on(machine: &Machine) -> Node {
    let builder = machine.node();
    let idle = GrainOptions::new().idle_timeout(Duration::from_secs(2));
    let builder = builder.host_with::<CounterGrain>(idle).data_dir("data");
    machine.spawn(async move { builder.start().await.unwrap() }).await.unwrap()
}

#[test]
fn timers_tick_in_virtual_time() {
    let report = sim::run(1, async |sim| {
        let node = node_on(&sim.machine("a")).await;
        let counter: CounterRef = node.get("k");
        assert_eq!(counter.read().await.unwrap(), (0, 0));
        sim.sleep(Duration::from_millis(1050)).await;
        assert_eq!(counter.read().await.unwrap(), (0, 10));
        assert_eq!(node.stop().await.dropped, 0);
    });
    assert!(report.sim_time < Duration::from_secs(2), "{report:?}");
}

/// Of which something is lost on its way to another node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Parcel {
    label: String,
    #[serde(skip)]
    inside: u64,
}

/// Gives back what it is given.
#[rpc_trait]
pub trait Echo {
    async fn echo(&self, parcel: Parcel) -> Result<Parcel>;
}

#[grain(Echo, default)]
#[derive(Default)]
pub struct EchoGrain;

impl Echo for EchoGrain {
    async fn echo(&self, parcel: Parcel) -> Result<Parcel> {
        Ok(parcel)
    }
}

#[test]
fn what_cannot_travel_is_found_on_one_node() {
    sim::run(1, async |sim| {
        let machine = sim.machine("a");
        let builder = machine.node().host::<EchoGrain>();
        let node = machine.spawn(async move { builder.start().await.unwrap() }).await.unwrap();
        let sent = Parcel { label: "fragile".to_owned(), inside: 7 };
        let echoed = machine.spawn(async move { node.get::<EchoRef>("k").echo(sent).await }).await.unwrap();
        assert_eq!(echoed.unwrap(), Parcel { label: "fragile".to_owned(), inside: 0 });
    });
}

#[test]
fn acknowledged_sums_survive_crashes() {
    sim::seeds(4, |seed| {
        Sim::builder().seed(seed).unsynced_kept_chance(0.3).run(async |sim| {
            let machine = sim.machine("a");
            let (mut least, mut most) = (0, 0);
            for _ in 0..4 {
                let node = node_on(&machine).await;
                let counter: CounterRef = node.get("k");
                let found = counter.read().await.unwrap().0;
                assert!((least..=most).contains(&found), "{found} of {least} to {most}");
                (least, most) = (found, found);
                let ends = sim.now() + sim.between(Duration::from_millis(1), Duration::from_millis(50));
                while sim.now() < ends {
                    most += 1;
                    let left = ends.saturating_sub(sim.now());
                    if let Ok(sum) = tokio::time::timeout(left, counter.add(1)).await {
                        least = sum.unwrap();
                    }
                }
                machine.crash();
            }
        });
    });
}

/// Clients on the machine of the node and elsewhere, while it is paused, stopped and pulled from under them.
async fn a_busy_node(sim: Sim) {
    let machine = sim.machine("a");
    for life in 0..2_u64 {
        let node = node_on(&machine).await;
        let mut watched = node.get::<CounterRef>("0").watch().await.unwrap();
        let inside = sim.clone();
        machine.spawn(async move {
            while let Some(Ok(sum)) = watched.next().await {
                inside.trace(&format!("sum {sum}"));
            }
        });
        for client in 0..4_u64 {
            let counter: CounterRef = node.get((client % 2).to_string());
            let place = sim.machine(if client < 2 { "a" } else { "client" });
            let sim = sim.clone();
            place.spawn(async move {
                loop {
                    let answer = match sim.below(50) {
                        0 => counter.panic().await.map(|()| 0),
                        1..10 => counter.add_down(1, 3).await,
                        _ => counter.add(1).await,
                    };
                    sim.trace(&format!("{client}: {answer:?}"));
                    if matches!(answer, Err(CallError::Stopped { .. })) {
                        return;
                    }
                    sim.sleep(sim.between(Duration::ZERO, Duration::from_millis(60))).await;
                }
            });
        }
        sim.sleep(Duration::from_millis(700)).await;
        machine.pause();
        sim.sleep(Duration::from_millis(300)).await;
        machine.resume();
        sim.sleep(Duration::from_millis(300)).await;
        if life == 0 {
            sim.trace(&format!("{:?}", node.stop().await));
        }
        machine.crash();
    }
}

#[test]
fn a_node_with_timers_streams_states_and_panics_replays() {
    sim::seeds(2, |seed| {
        let report = sim::replays(seed, a_busy_node);
        assert_eq!(report.hash, sim::run(seed, a_busy_node).hash, "also when nobody keeps the events");
        assert!(report.events > 1_000, "{report:?}");
    });
}

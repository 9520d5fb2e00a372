//! The same seed gives the same run, and a program that does not repeat is found out.

use std::{
    panic::catch_unwind,
    sync::atomic::{AtomicU64, Ordering::SeqCst},
};

use super::*;
use crate::sim::{Order, Report, Sim, replays, run};

/// Machines that call each other, while this and that goes wrong.
async fn chatter(sim: Sim) {
    let machines: Vec<_> = ["a", "b", "c"].iter().map(|name| sim.machine(name)).collect();
    sim.net().delay_chance(0.05, ms(20));
    sim.net().reset_chance(0.001);
    for machine in &machines {
        start(&sim, machine);
    }
    for round in 0..30 {
        sim.sleep(sim.between(ms(10), ms(200))).await;
        let machine = &machines[sim.below(3) as usize];
        match sim.below(5) {
            0 => {
                machine.crash();
                start(&sim, machine);
            }
            1 => sim.net().partition([machine], &machines),
            2 => sim.net().heal(),
            3 => machine.clock_rate_ppm(sim.below(20_000) as i64 - 10_000),
            _ => {
                machine.pause();
                sim.sleep(ms(30)).await;
                machine.resume();
            }
        }
        sim.trace(&format!("round {round}"));
    }
}

/// Answers whoever connects, and asks the others.
fn start(sim: &Sim, machine: &crate::sim::Machine) {
    let world = machine.world();
    let name = machine.name().to_owned();
    machine.spawn({
        let world = world.clone();
        async move {
            let mut listener = world.transport.listen(&format!("{name}:1")).await.unwrap();
            loop {
                let mut connection = listener.accept().await.unwrap();
                world.tasks.spawn(Box::pin(async move {
                    while let Ok(asked) = read_exactly(&mut connection.reader, 8).await {
                        if write_all(&mut connection.writer, &asked).await.is_err() {
                            return;
                        }
                    }
                }));
            }
        }
    });
    for other in ["a", "b", "c"] {
        let (world, sim) = (world.clone(), sim.clone());
        machine.spawn(async move {
            loop {
                let dialled = tokio::time::timeout(ms(100), world.transport.dial(&format!("{other}:1"))).await;
                if let Ok(Ok(mut connection)) = dialled {
                    ask(&sim, &world, &mut connection).await;
                }
                let pause = Duration::from_micros(world.random.next_u64() % 50_000);
                world.clock.sleep_until(world.clock.now() + pause).await;
            }
        });
    }
}

async fn ask(sim: &Sim, world: &World, connection: &mut Connection) {
    loop {
        let number = world.random.next_u64().to_le_bytes();
        let answer = async {
            write_all(&mut connection.writer, &number).await?;
            read_exactly(&mut connection.reader, 8).await
        };
        match tokio::time::timeout(ms(50), answer).await {
            Ok(Ok(answer)) => assert_eq!(answer, number),
            _ => return sim.trace("gave up"),
        }
        world.clock.sleep_until(world.clock.now() + ms(1)).await;
    }
}

fn hash(report: &Report) -> (u64, u64, u64) {
    (report.hash, report.events, report.polls)
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_one_another() {
    let first = replays(1, chatter);
    assert_eq!(hash(&first), hash(&run(1, chatter)));
    assert!(first.polls > 3_000, "{first:?}");
    assert_ne!(first.hash, run(2, chatter).hash);
    let in_line = || Sim::builder().seed(1).order(Order::Fifo);
    assert_eq!(hash(&in_line().replays(chatter)), hash(&in_line().run(chatter)));
    assert_ne!(first.hash, in_line().run(chatter).hash);
}

#[test]
fn lines_can_be_read() {
    let report = Sim::builder().keep_lines(3).run(async |sim| {
        sim.sleep(Duration::from_micros(1500)).await;
        let inner = sim.clone();
        sim.machine("a").spawn(async move { inner.trace("hello") }).await.unwrap();
        for _ in 0..10 {
            sim.trace("bye");
        }
    });
    assert_eq!(report.lines[..], ["0.001500000 test Ring 1 0", "0.001500000 a Boot 1 0", "0.001500000 a Spawn 1 0"]);
    assert!(report.events > 13);
}

#[test]
fn what_does_not_repeat_is_named() {
    let runs = AtomicU64::new(0);
    let failed = catch_unwind(std::panic::AssertUnwindSafe(|| {
        replays(4, async |sim| {
            sim.sleep(ms(1)).await;
            sim.machine("a").spawn(async {}).await.unwrap();
            sim.trace(&format!("run {}", runs.fetch_add(1, SeqCst)));
        });
    }));
    let message = failed.unwrap_err().downcast_ref::<String>().unwrap().clone();
    assert!(message.starts_with("seed 4 does not repeat: event "), "{message}");
    assert!(message.ends_with("was `0.001000000 test run 0`, then `0.001000000 test run 1`"), "{message}");
}

#[test]
fn what_happens_in_one_run_only_is_named() {
    let runs = AtomicU64::new(0);
    let failed = catch_unwind(std::panic::AssertUnwindSafe(|| {
        replays(4, async |sim| {
            if runs.fetch_add(1, SeqCst) == 1 {
                sim.trace("extra");
            }
        });
    }));
    let message = failed.unwrap_err().downcast_ref::<String>().unwrap().clone();
    assert_eq!(message, "seed 4 does not repeat: event 1, `0.000000000 test extra`, came in one run only");
}

/// Tokio's `watch` wakes in a random order that no seed of ours reaches.
#[test]
fn the_order_of_wake_ups_has_no_influence() {
    replays(9, async |sim| {
        let (sender, receiver) = tokio::sync::watch::channel(0);
        let mut all = Vec::new();
        for _ in 0..50 {
            let mut receiver = receiver.clone();
            let sim = sim.clone();
            all.push(sim.clone().machine("a").spawn(async move {
                receiver.changed().await.unwrap();
                sim.trace("changed");
            }));
        }
        sim.sleep(ms(1)).await;
        sender.send(1).unwrap();
        for one in all {
            one.await.unwrap();
        }
    });
}

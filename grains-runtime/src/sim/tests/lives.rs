//! Machines: tasks, crashes, panics, chance.

use std::{
    future::{pending, poll_fn},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    task::Poll,
};

use super::*;
use crate::sim::{Lost, Order, Sim, run};

/// Says on which machine it was dropped.
struct Dropped {
    world: World,
    on_its_machine: Arc<Mutex<Vec<bool>>>,
}

impl Drop for Dropped {
    fn drop(&mut self) {
        self.on_its_machine.lock().unwrap().push(self.world.tasks.here());
    }
}

#[test]
fn a_crash_drops_the_tasks_of_its_machine_there_and_no_others() {
    run(1, async |sim| {
        let (a, b) = (sim.machine("a"), sim.machine("b"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        for _ in 0..3 {
            let dropped = Dropped { world: a.world(), on_its_machine: seen.clone() };
            a.spawn(async move {
                pending::<()>().await;
                drop(dropped);
            });
        }
        let lost = a.spawn(pending::<()>());
        let other = b.spawn({
            let sim = sim.clone();
            async move { sim.sleep(ms(10)).await }
        });
        sim.sleep(ms(1)).await;
        assert!(a.is_up());
        a.crash();
        assert!(!a.is_up());
        assert_eq!(*seen.lock().unwrap(), [true; 3]);
        assert_eq!(lost.await, Err(Lost));
        assert_eq!(other.await, Ok(()));
    });
}

#[test]
fn the_world_of_a_life_that_is_over_does_nothing() {
    run(1, async |sim| {
        let machine = sim.machine("a");
        let old = machine.world();
        machine.crash();
        let ran = Arc::new(AtomicBool::new(false));
        let set = ran.clone();
        old.tasks.spawn(Box::pin(async move { set.store(true, SeqCst) })).abort();
        let set = ran.clone();
        old.tasks.blocking(Box::new(move || set.store(true, SeqCst))).await;
        assert!(old.disk.open("f".as_ref()).is_err());
        assert!(old.transport.listen("a:1").await.is_err());
        assert!(old.transport.dial("a:1").await.is_err());
        let new = machine.world();
        assert!(new.disk.open("f".as_ref()).is_ok());
        sim.sleep(ms(10)).await;
        assert!(!ran.load(SeqCst));
    });
}

#[test]
fn a_machine_can_crash_itself() {
    run(1, async |sim| {
        let machine = sim.machine("a");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let dropped = Dropped { world: machine.world(), on_its_machine: seen.clone() };
        let me = machine.clone();
        let ended = machine.spawn(async move {
            me.crash();
            pending::<()>().await;
            drop(dropped);
        });
        assert_eq!(ended.await, Err(Lost));
        assert_eq!(*seen.lock().unwrap(), [true]);
    });
}

#[test]
fn here_is_only_inside_the_tasks_of_this_life() {
    run(1, async |sim| {
        let (a, b) = (sim.machine("a"), sim.machine("b"));
        let (of_a, of_b) = (a.world(), b.world());
        assert!(!of_a.tasks.here());
        let tasks = (of_a.tasks.clone(), of_b.tasks.clone());
        assert_eq!(a.spawn(async move { (tasks.0.here(), tasks.1.here()) }).await, Ok((true, false)));
        a.crash();
        a.world();
        let old = of_a.tasks.clone();
        assert_eq!(a.spawn(async move { old.here() }).await, Ok(false));
    });
}

#[test]
fn an_aborted_task_is_dropped_without_being_polled_again() {
    run(1, async |sim| {
        let world = sim.machine("a").world();
        let polls = Arc::new(AtomicU64::new(0));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let dropped = Dropped { world: world.clone(), on_its_machine: seen.clone() };
        let counts = polls.clone();
        let handle = world.tasks.spawn(Box::pin(async move {
            let _dropped = dropped;
            poll_fn::<(), _>(|_| {
                counts.fetch_add(1, SeqCst);
                Poll::Pending
            })
            .await;
        }));
        sim.sleep(ms(1)).await;
        handle.abort();
        assert!(seen.lock().unwrap().is_empty(), "not on the stack of whoever aborts it");
        sim.sleep(ms(1)).await;
        assert_eq!((polls.load(SeqCst), &**seen.lock().unwrap()), (1, &[true][..]));
    });
}

#[test]
fn blocking_work_takes_a_moment_and_its_panic_reaches_whoever_waits() {
    let report = Sim::builder().allow_panics().run(async |sim| {
        let machine = sim.machine("a");
        let world = machine.world();
        let tasks = world.tasks.clone();
        let (done, wait) = std::sync::mpsc::channel();
        drop(world.tasks.blocking(Box::new(move || done.send(tasks.here()).unwrap())));
        assert!(wait.try_recv().is_err(), "not at once");
        sim.sleep(ms(1)).await;
        assert_eq!(wait.try_recv(), Ok(true), "on its machine, although nobody waits");

        let before = sim.now();
        world.tasks.blocking(Box::new(|| {})).await;
        assert!(sim.now() - before >= Duration::from_micros(50));

        let tasks = world.tasks.clone();
        assert_eq!(
            machine.spawn(async move { tasks.blocking(Box::new(|| panic!("disk on fire"))).await }).await,
            Err(Lost)
        );
    });
    let panics: Vec<_> = report.panics.iter().map(|one| (&*one.machine, &*one.message)).collect();
    assert_eq!(panics, [("a", "disk on fire")]);
}

#[test]
fn blocking_work_of_a_machine_that_crashes_first_is_never_done() {
    run(1, async |sim| {
        let machine = sim.machine("a");
        let ran = Arc::new(AtomicBool::new(false));
        let set = ran.clone();
        drop(machine.world().tasks.blocking(Box::new(move || set.store(true, SeqCst))));
        machine.crash();
        sim.sleep(ms(10)).await;
        assert!(!ran.load(SeqCst));
    });
}

#[test]
fn a_panic_ends_its_task_only_and_fails_the_run() {
    let run = || {
        Sim::builder().seed(3).allow_panics().run(async |sim| {
            sim.sleep(ms(2)).await;
            assert_eq!(sim.machine("a").spawn(async { panic!("one") }).await, Err::<(), _>(Lost));
            assert_eq!(sim.machine("a").spawn(async { 7 }).await, Ok(7));
        })
    };
    assert_eq!(run().panics[0].to_string(), "machine `a` panicked after 2ms: one");
    let failed = std::panic::catch_unwind(|| {
        Sim::builder().seed(3).run(async |sim| {
            assert_eq!(sim.machine("a").spawn(async { panic!("one") }).await, Err::<(), _>(Lost));
        })
    });
    let message = failed.unwrap_err();
    let message = message.downcast_ref::<String>().unwrap();
    assert_eq!(message, "in the simulation with seed 3:\nmachine `a` panicked after 0ns: one");
}

#[test]
fn a_panic_while_a_crash_drops_a_task_is_noted() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    let report = Sim::builder().allow_panics().run(async |sim| {
        let machine = sim.machine("a");
        machine.spawn(async {
            let _bomb = Bomb;
            pending::<()>().await;
        });
        sim.sleep(ms(1)).await;
        machine.crash();
    });
    assert_eq!(report.panics.len(), 1);
}

#[test]
fn what_is_left_at_the_end_is_dropped_on_its_machine() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    run(1, async |sim| {
        let machine = sim.machine("a");
        let dropped = Dropped { world: machine.world(), on_its_machine: seen.clone() };
        machine.spawn(async move {
            pending::<()>().await;
            drop(dropped);
        });
    });
    assert_eq!(*seen.lock().unwrap(), [true]);
}

#[test]
fn a_paused_machine_polls_nothing() {
    run(1, async |sim| {
        let machine = sim.machine("a");
        let ran = Arc::new(AtomicU64::new(0));
        let counts = ran.clone();
        let paused = sim.clone();
        machine.spawn(async move {
            loop {
                paused.sleep(ms(1)).await;
                counts.fetch_add(1, SeqCst);
            }
        });
        sim.sleep(ms(5) + ms(1) / 2).await;
        machine.pause();
        machine.pause();
        let before = ran.load(SeqCst);
        assert_eq!(before, 5);
        let new = machine.spawn(async {});
        sim.sleep(ms(50)).await;
        assert_eq!(ran.load(SeqCst), before);
        machine.resume();
        new.await.unwrap();
        sim.sleep(ms(5)).await;
        assert!(ran.load(SeqCst) > before);
    });
}

#[test]
fn a_paused_machine_that_crashes_comes_back_running() {
    run(1, async |sim| {
        let machine = sim.machine("a");
        machine.world();
        machine.pause();
        let old = machine.spawn(async {});
        machine.crash();
        assert_eq!(old.await, Err(Lost));
        assert_eq!(machine.spawn(async {}).await, Ok(()));
    });
}

#[test]
fn giving_way_lets_others_run() {
    for order in [Order::Seeded, Order::Fifo] {
        Sim::builder().order(order).run(async |sim| {
            let world = sim.machine("a").world();
            let stop = Arc::new(AtomicBool::new(false));
            let (tasks, stopped) = (world.tasks.clone(), stop.clone());
            let calls = sim.machine("a").spawn(async move {
                let mut calls = 0_u64;
                while !stopped.load(SeqCst) {
                    poll_fn(|cx| tasks.give_way(cx)).await;
                    calls += 1;
                }
                calls
            });
            sim.machine("a").spawn(async move { stop.store(true, SeqCst) });
            assert!(calls.await.unwrap() < 10_000);
        });
    }
}

/// Lets others run, and is ready again at once: tokio's own would wake all that yield in the reverse order.
async fn yields_once() {
    let mut yielded = false;
    poll_fn(|cx| match std::mem::replace(&mut yielded, true) {
        true => Poll::Ready(()),
        false => {
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    })
    .await;
}

#[test]
fn first_come_is_first_served() {
    // Tasks wait for a gate of their own each, and the gates open in this order.
    let opened = [3, 1, 4, 0, 2];
    let served = |order| {
        let served = Arc::new(Mutex::new(Vec::new()));
        Sim::builder().order(order).run(async |sim| {
            let machine = sim.machine("a");
            let gates: Vec<_> = opened.iter().map(|_| Arc::new(tokio::sync::Notify::new())).collect();
            let mut all = Vec::new();
            for (task, gate) in gates.iter().cloned().enumerate() {
                let served = served.clone();
                all.push(machine.spawn(async move {
                    gate.notified().await;
                    for _ in 0..3 {
                        served.lock().unwrap().push(task);
                        yields_once().await;
                    }
                }));
            }
            sim.sleep(ms(1)).await;
            opened.iter().for_each(|gate| gates[*gate].notify_one());
            for one in all {
                one.await.unwrap();
            }
        });
        Arc::into_inner(served).unwrap().into_inner().unwrap()
    };
    assert_eq!(served(Order::Fifo), [&opened[..]; 3].concat(), "nobody is starved, and nobody overtakes");
    assert_ne!(served(Order::Seeded), [&opened[..]; 3].concat());
}

#[test]
fn chance_differs_by_machine_by_life_and_by_seed() {
    let draw = |seed| {
        let mut drawn = Vec::new();
        run(seed, async |sim| {
            for name in ["a", "b"] {
                let machine = sim.machine(name);
                drawn.push(machine.world().random.next_u64());
                machine.crash();
                drawn.push(machine.world().random.next_u64());
            }
            drawn.push(sim.random());
        });
        drawn
    };
    let mut all = [draw(1), draw(2)].concat();
    assert_eq!(all, [draw(1), draw(2)].concat());
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 10);
}

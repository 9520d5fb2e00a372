//! Virtual time: clocks, timers, and how they go together with tokio's.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use super::*;
use crate::sim::{Sim, run};

#[test]
fn virtual_time_takes_no_real_time() {
    let begun = Instant::now();
    let day = Duration::from_secs(86_400);
    let report = Sim::builder().time_max(2 * day).run(async |sim| sim.sleep(day).await);
    assert_eq!(report.sim_time, day);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_fast_clock_ends_its_sleep_early_in_true_time() {
    run(1, async |sim| {
        for (name, ppm, expected) in
            [("right", 0, 10_000_000_000), ("fast", 10_000, 9_900_990_100), ("slow", -500_000, 20_000_000_000)]
        {
            let machine = sim.machine(name);
            machine.clock_rate_ppm(ppm);
            let clock = machine.world().clock;
            let (begun, from) = (clock.now(), sim.now());
            clock.sleep_until(begun + Duration::from_secs(10)).await;
            assert_eq!(sim.now() - from, Duration::from_nanos(expected), "{name}");
            // At the first nanosecond at which the clock shows it; a fast one may have passed it by one.
            let slept = clock.now().since(begun).as_nanos();
            assert!((10_000_000_000..=10_000_000_001).contains(&slept), "{name}: {slept}");
        }
    });
}

#[test]
fn a_change_of_the_clock_moves_timers_that_are_set() {
    run(1, async |sim| {
        let machine = sim.machine("a");
        let clock = machine.world().clock;
        let at = clock.now() + Duration::from_secs(10);
        let slept = machine.spawn({
            let (clock, sim) = (clock.clone(), sim.clone());
            async move {
                clock.sleep_until(at).await;
                sim.now()
            }
        });
        sim.sleep(Duration::from_secs(2)).await;
        machine.clock_rate_ppm(1_000_000);
        sim.sleep(Duration::from_secs(1)).await;
        machine.clock_offset(Duration::from_secs(4));
        assert_eq!(slept.await, Ok(Duration::from_secs(4)), "2 s, then 2 in one, then 4 at once, then 2 in one");
    });
}

#[test]
fn clocks_of_machines_begin_elsewhere_and_the_wall_clock_may_jump() {
    run(1, async |sim| {
        let (a, b) = (sim.machine("a"), sim.machine("b"));
        assert_ne!(a.world().clock.now(), b.world().clock.now());
        let wall = a.world().clock.wall_ms();
        assert_eq!(wall, b.world().clock.wall_ms());
        sim.sleep(ms(1500)).await;
        a.wall_offset_ms(-3_600_000);
        assert_eq!(a.world().clock.wall_ms(), wall + 1500 - 3_600_000);
    });
}

#[test]
fn timers_of_tokio_and_ours_ring_in_the_order_of_their_times() {
    run(3, async |sim| {
        let machine = sim.machine("a");
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut all = Vec::new();
        for micros in [2_500, 1_000, 999, 3_001, 7_300, 1_001, 3_000, 2_000, 8_100] {
            let (clock, sim, seen) = (machine.world().clock, sim.clone(), order.clone());
            all.push(machine.spawn(async move {
                clock.sleep_until(clock.now() + Duration::from_micros(micros)).await;
                assert_eq!(sim.now(), Duration::from_micros(micros));
                seen.lock().unwrap().push(micros);
            }));
        }
        for millis in [1, 2, 5, 8] {
            let (sim, seen) = (sim.clone(), order.clone());
            all.push(machine.spawn(async move {
                let begun = tokio::time::Instant::now();
                tokio::time::sleep(ms(millis)).await;
                assert_eq!((sim.now(), begun.elapsed()), (ms(millis), ms(millis)));
                seen.lock().unwrap().push(millis * 1000);
            }));
        }
        for one in all {
            one.await.unwrap();
        }
        let order = order.lock().unwrap();
        assert!(order.is_sorted(), "{order:?}");
        assert_eq!(order.len(), 13);
    });
}

#[test]
fn a_timer_of_a_paused_machine_rings_after_it_goes_on_and_its_clock_has_gone_on() {
    run(5, async |sim| {
        let machine = sim.machine("a");
        let clock = machine.world().clock;
        let begun = clock.now();
        let rang = machine.spawn({
            let (clock, sim) = (clock.clone(), sim.clone());
            async move {
                clock.sleep_until(begun + Duration::from_secs(1)).await;
                (sim.now(), clock.now().since(begun))
            }
        });
        machine.pause();
        sim.sleep(Duration::from_secs(5)).await;
        assert_eq!(clock.now().since(begun), Duration::from_secs(5));
        machine.resume();
        let (rang, shown) = rang.await.unwrap();
        assert!(rang >= Duration::from_secs(5) && rang < Duration::from_millis(5_002), "{rang:?}");
        assert_eq!(rang, shown);
    });
}

#[test]
fn a_task_can_run_after_a_pause_before_its_timer_has_rung() {
    run(5, async |sim| {
        let machine = sim.machine("a");
        let clock = machine.world().clock;
        let rang = Arc::new(AtomicBool::new(false));
        let deadline = clock.now() + Duration::from_secs(1);
        machine.spawn({
            let (clock, rang) = (clock.clone(), rang.clone());
            async move {
                clock.sleep_until(deadline).await;
                rang.store(true, SeqCst);
            }
        });
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let seen = machine.spawn({
            let (clock, rang) = (clock.clone(), rang.clone());
            async move {
                wait.await.unwrap();
                (clock.now() > deadline, rang.load(SeqCst))
            }
        });
        sim.sleep(ms(1)).await;
        machine.pause();
        go.send(()).unwrap();
        sim.sleep(Duration::from_secs(3)).await;
        machine.resume();
        assert_eq!(seen.await, Ok((true, false)), "past the deadline, and nobody has said so");
        sim.sleep(ms(2)).await;
        assert!(rang.load(SeqCst));
    });
}

#[test]
fn a_dropped_sleep_leaves_nothing_behind() {
    let report = run(1, async |sim| {
        let clock = sim.machine("a").world().clock;
        for _ in 0..100 {
            let sleep = clock.sleep_until(clock.now() + Duration::from_secs(3000));
            assert!(tokio::time::timeout(ms(1), sleep).await.is_err());
        }
        drop(clock.sleep_until(grains_core::Instant::NEVER));
    });
    assert_eq!(report.sim_time, ms(100));
}

#[track_caller]
fn message(work: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(work)).expect_err("it panics");
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap()
}

#[test]
fn a_run_that_gets_nowhere_is_given_up() {
    let stuck = message(|| drop(run(1, async |_| std::future::pending().await)));
    assert_eq!(stuck, "the simulation is stuck: nothing is ready and nothing is to happen any more");
    let endless = message(|| {
        run(1, async |sim| {
            loop {
                sim.sleep(Duration::from_secs(60)).await;
            }
        });
    });
    assert_eq!(endless, "the simulation has gone on for 3600s: see `time_max`");
    let spins = message(|| {
        Sim::builder().polls_at_once_max(1000).run(async |_| {
            loop {
                tokio::task::yield_now().await;
            }
        });
    });
    assert!(spins.contains("1000 polls while no time passed"), "{spins}");
}

//! Timers and tasks of a grain: they run as turns, do not pile up, and end with the activation.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::{
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::{Duration, Instant},
};

use grains::{GrainOptions, SPAWNED_MAX, ScheduleError, TIMERS_MAX, prelude::*};

/// A clockwork.
#[rpc_trait]
pub trait Clockwork {
    /// Ticks every `ms` milliseconds, each tick taking `busy` of them.
    async fn tick_every(&mut self, ms: u64, busy: u64) -> Result<()>;
    /// Rings every `ms` milliseconds by a stored call.
    async fn ring_every(&mut self, name: String, ms: u64) -> Result<()>;
    /// Rings once after `ms` milliseconds.
    async fn ring_after(&mut self, name: String, ms: u64) -> Result<()>;
    /// Stops a timer.
    async fn silence(&mut self, name: String) -> Result<bool>;
    /// What the stored calls call.
    async fn ring(&mut self, by: u64) -> Result<()>;
    /// Ticks and rings so far.
    async fn counts(&self) -> Result<(u64, u64)>;
    /// Starts as many tasks and timers as it can.
    async fn exhaust(&mut self) -> Result<(usize, usize, String, String)>;
    /// Ends this activation.
    async fn go(&mut self) -> Result<()>;
    /// Panics at the next tick.
    async fn break_tick(&mut self) -> Result<()>;
}

#[grain(Clockwork)]
pub struct ClockworkGrain {
    ctx: Ctx<Self>,
    ticks: u64,
    rings: u64,
    busy: u64,
    breaks: bool,
}

/// Ticks of all lives, to see whether any goes on after its end.
static TICKS: AtomicU64 = AtomicU64::new(0);

impl Lifecycle for ClockworkGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        if ctx.key() == "from the start" {
            ctx.every(Duration::from_millis(5), Self::tick)?;
        }
        Ok(Self { ctx, ticks: 0, rings: 0, busy: 0, breaks: false })
    }
}

impl ClockworkGrain {
    async fn tick(&mut self) -> Result<()> {
        assert!(!self.breaks, "broken");
        self.ticks += 1;
        TICKS.fetch_add(1, SeqCst);
        self.ctx.sleep(Duration::from_millis(self.busy)).await;
        if self.ticks.is_multiple_of(3) { Err(Error::new("an error is logged and the ticks go on")) } else { Ok(()) }
    }
}

impl Clockwork for ClockworkGrain {
    async fn tick_every(&mut self, ms: u64, busy: u64) -> Result<()> {
        self.busy = busy;
        Ok(self.ctx.every(Duration::from_millis(ms), Self::tick)?)
    }
    async fn ring_every(&mut self, name: String, ms: u64) -> Result<()> {
        let call = self.ctx.me::<ClockworkRef>().ring(1);
        Ok(self.ctx.call_every(&name, Duration::from_millis(ms), call)?)
    }
    async fn ring_after(&mut self, name: String, ms: u64) -> Result<()> {
        let call = self.ctx.me::<ClockworkRef>().ring(10);
        Ok(self.ctx.call_after(&name, Duration::from_millis(ms), call)?)
    }
    async fn silence(&mut self, name: String) -> Result<bool> {
        Ok(self.ctx.cancel_timer(&name))
    }
    async fn ring(&mut self, by: u64) -> Result<()> {
        self.rings += by;
        Ok(())
    }
    async fn counts(&self) -> Result<(u64, u64)> {
        Ok((self.ticks, self.rings))
    }
    async fn exhaust(&mut self) -> Result<(usize, usize, String, String)> {
        let (mut tasks, mut timers) = (0, 0);
        let task_error = loop {
            match self.ctx.spawn(std::future::pending()) {
                Ok(()) => tasks += 1,
                Err(error) => break error.to_string(),
            }
        };
        let timer_error = loop {
            match self.ctx.every(Duration::from_secs(3600), Self::tick) {
                Ok(()) => timers += 1,
                Err(error) => break error.to_string(),
            }
        };
        let zero = self.ctx.every(Duration::ZERO, Self::tick);
        assert_eq!(zero, Err(ScheduleError::ZeroPeriod));
        Ok((tasks, timers, task_error, timer_error))
    }
    async fn go(&mut self) -> Result<()> {
        self.ctx.deactivate_on_idle();
        Ok(())
    }
    async fn break_tick(&mut self) -> Result<()> {
        self.breaks = true;
        Ok(())
    }
}

async fn node() -> Node {
    Node::builder().host::<ClockworkGrain>().start().await.unwrap()
}

async fn until(what: &str, clockwork: &ClockworkRef, done: impl Fn((u64, u64)) -> bool) -> (u64, u64) {
    let begun = Instant::now();
    loop {
        let counts = clockwork.counts().await.unwrap();
        if done(counts) {
            return counts;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{what} did not happen: {counts:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ticks_go_on_through_errors() {
    let node = node().await;
    let clockwork: ClockworkRef = node.get("ticks");
    clockwork.tick_every(2, 0).await.unwrap();
    until("ten ticks", &clockwork, |(ticks, _)| ticks >= 10).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_ticks_do_not_pile_up() {
    let node = node().await;
    let clockwork: ClockworkRef = node.get("slow ticks");
    let begun = Instant::now();
    clockwork.tick_every(1, 20).await.unwrap();
    let (ticks, _) = until("five ticks", &clockwork, |(ticks, _)| ticks >= 5).await;
    let most = begun.elapsed().as_millis() as u64 / 20 + 1;
    assert!(ticks <= most, "{ticks} ticks of 20 ms each, where {most} fit");
    assert_eq!(node.waiting_calls(), 0, "and none waits behind them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stored_calls_ring_once_or_again_and_can_be_replaced_and_cancelled() {
    let node = node().await;
    let clockwork: ClockworkRef = node.get("rings");
    clockwork.ring_after("once".into(), 5).await.unwrap();
    assert_eq!(until("one ring", &clockwork, |(_, rings)| rings > 0).await.1, 10);
    assert!(!clockwork.silence("once".into()).await.unwrap(), "a timer that has rung is gone");

    clockwork.ring_every("again".into(), 3_600_000).await.unwrap();
    clockwork.ring_every("again".into(), 2).await.unwrap();
    until("rings", &clockwork, |(_, rings)| rings >= 15).await;
    assert!(clockwork.silence("again".into()).await.unwrap());
    let (_, before) = clockwork.counts().await.unwrap();
    tokio::time::sleep(Duration::from_millis(30)).await;
    let (_, after) = clockwork.counts().await.unwrap();
    assert!(after <= before + 1, "one call may have been under way, {} came", after - before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timers_and_tasks_end_with_their_activation() {
    let node = node().await;
    let clockwork: ClockworkRef = node.get("ends");
    clockwork.ring_every("again".into(), 2).await.unwrap();
    until("rings", &clockwork, |(_, rings)| rings >= 3).await;
    clockwork.go().await.unwrap();
    let begun = Instant::now();
    while clockwork.counts().await.unwrap().1 != 0 {
        assert!(begun.elapsed() < Duration::from_secs(10), "the old timer rings on");
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(clockwork.counts().await.unwrap(), (0, 0), "a new life begins without timers");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ticks_do_not_keep_an_activation() {
    let idle = GrainOptions::new().idle_timeout(Duration::from_millis(40));
    let node = Node::builder().host_with::<ClockworkGrain>(idle).start().await.unwrap();
    let clockwork: ClockworkRef = node.get("from the start");
    clockwork.counts().await.unwrap();
    let begun = Instant::now();
    while node.activations()["clockwork"] > 0 {
        assert!(begun.elapsed() < Duration::from_secs(20), "ticks kept it");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(TICKS.load(SeqCst) > 0, "it did tick");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_a_tick_ends_the_activation_and_its_timers() {
    let node = node().await;
    let clockwork: ClockworkRef = node.get("from the start");
    until("a tick", &clockwork, |(ticks, _)| ticks > 3).await;
    clockwork.break_tick().await.unwrap();
    until("a new life", &clockwork, |(ticks, _)| ticks < 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_and_timers_have_a_limit() {
    let node = node().await;
    let (tasks, timers, task_error, timer_error) = node.get::<ClockworkRef>("exhausts").exhaust().await.unwrap();
    assert_eq!((tasks, timers), (SPAWNED_MAX, TIMERS_MAX));
    assert_eq!(task_error, "this activation already has 1024 spawned tasks");
    assert_eq!(timer_error, "this activation already has 128 timers");
    assert_eq!(node.stop().await.dropped, 0, "and a stop ends them all");
}

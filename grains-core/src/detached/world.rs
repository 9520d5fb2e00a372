//! The seams of a unit test: a clock that is moved by hand, tasks that run when asked to, fixed chance, no disk, no network.

use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    io,
    path::Path,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::lock;
use crate::{
    time::Instant,
    world::{BoxFuture, Clock, Connection, Disk, DiskFile, Listener, Random, TaskHandle, Tasks, Transport, World},
};

pub(super) fn detached_world() -> (World, Arc<ManualClock>, Arc<ManualTasks>) {
    let clock = Arc::new(ManualClock::default());
    let tasks = Arc::new(ManualTasks::default());
    let world = World {
        clock: clock.clone(),
        tasks: tasks.clone(),
        random: Arc::new(FixedRandom(AtomicU64::new(1))),
        disk: Arc::new(Nowhere),
        transport: Arc::new(Nowhere),
    };
    (world, clock, tasks)
}

/// A clock that stands still until it is moved.
#[derive(Default)]
pub(super) struct ManualClock(Arc<Mutex<Time>>);

#[derive(Default)]
struct Time {
    now: Instant,
    sleepers: BTreeMap<(Instant, u64), Waker>,
    next_sleeper: u64,
}

impl ManualClock {
    pub(super) fn advance(&self, by: Duration) {
        let mut time = lock(&self.0);
        time.now = time.now + by;
        let now = time.now;
        let later = time.sleepers.split_off(&(now, u64::MAX));
        let due = std::mem::replace(&mut time.sleepers, later);
        drop(time);
        due.into_values().for_each(Waker::wake);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        lock(&self.0).now
    }
    fn wall_ms(&self) -> u64 {
        self.now().as_nanos() / 1_000_000
    }
    fn sleep_until(&self, at: Instant) -> BoxFuture<'static, ()> {
        let mut time = lock(&self.0);
        time.next_sleeper += 1;
        Box::pin(ManualSleep { time: self.0.clone(), place: (at, time.next_sleeper) })
    }
}

struct ManualSleep {
    time: Arc<Mutex<Time>>,
    place: (Instant, u64),
}

impl Future for ManualSleep {
    type Output = ();
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut time = lock(&self.time);
        if time.now >= self.place.0 {
            return Poll::Ready(());
        }
        time.sleepers.insert(self.place, cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for ManualSleep {
    fn drop(&mut self) {
        lock(&self.time).sleepers.remove(&self.place);
    }
}

/// Tasks that wait until somebody runs them.
#[derive(Default)]
pub(super) struct ManualTasks(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    tasks: BTreeMap<u64, BoxFuture<'static, ()>>,
    next: u64,
}

impl ManualTasks {
    pub(super) fn add(&self, task: BoxFuture<'static, ()>) -> u64 {
        let mut queue = lock(&self.0);
        queue.next += 1;
        let id = queue.next;
        queue.tasks.insert(id, task);
        id
    }

    /// Runs all tasks, also those that they add, until none is left.
    pub(super) async fn run(&self) {
        let mut running = BTreeMap::new();
        poll_fn(|cx| {
            loop {
                running.append(&mut lock(&self.0).tasks);
                let before = running.len();
                running.retain(|_, task| task.as_mut().poll(cx).is_pending());
                let ended = running.len() < before;
                let added = !lock(&self.0).tasks.is_empty();
                match (running.is_empty(), added, ended) {
                    (true, false, _) => return Poll::Ready(()),
                    (false, false, false) => return Poll::Pending,
                    _ => {} // what ended may have let others go on without waking them: look again
                }
            }
        })
        .await;
    }
}

impl Tasks for ManualTasks {
    fn spawn(&self, task: BoxFuture<'static, ()>) -> TaskHandle {
        let id = self.add(task);
        let queue = self.0.clone();
        TaskHandle::new(move || {
            let dropped = lock(&queue).tasks.remove(&id);
            drop(dropped);
        })
    }
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        Box::pin(async move { work() })
    }
    fn here(&self) -> bool {
        true
    }
    fn give_way(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

/// The same numbers in every test (splitmix64, Steele et al. 2014).
struct FixedRandom(AtomicU64);

impl Random for FixedRandom {
    fn next_u64(&self) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Neither disk nor network.
struct Nowhere;

fn nowhere(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("a detached context has no {what}"))
}

impl Disk for Nowhere {
    fn open(&self, _: &Path) -> io::Result<Box<dyn DiskFile>> {
        Err(nowhere("disk"))
    }

    fn has(&self, _: &Path) -> io::Result<bool> {
        Err(nowhere("disk"))
    }
}

impl Transport for Nowhere {
    fn listen<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(std::future::ready(Err(nowhere("network"))))
    }
    fn dial<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Connection>> {
        Box::pin(std::future::ready(Err(nowhere("network"))))
    }
}

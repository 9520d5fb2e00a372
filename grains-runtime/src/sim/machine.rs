//! A machine: its world, its tasks, and what can happen to it.

use std::{
    fmt,
    future::Future,
    ops::RangeInclusive,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use grains_core::world::World;
use tokio::sync::oneshot;

use super::{
    clock::SimClock,
    disk::{DiskFault, SimDisk},
    engine::{Engine, Life, MachineId, State},
    net::SimTransport,
    random::{SimRandom, seed_of},
    tasks::SimTasks,
    trace::What,
};
use crate::NodeBuilder;

/// One simulated machine. Clones are the same one.
///
/// It has one process, which lives from the first [`world`](Self::world) or [`spawn`](Self::spawn) to a
/// [`crash`](Self::crash). The next of these calls starts it again, with what was synced on its disk.
#[derive(Clone)]
pub struct Machine {
    engine: Arc<Engine>,
    id: MachineId,
    name: Arc<str>,
}

/// The task did not end by itself: its machine crashed, it panicked, or the simulation is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the task did not end by itself: its machine crashed, it panicked, or the simulation is over")]
pub struct Lost;

impl Machine {
    pub(super) fn new(engine: Arc<Engine>, id: MachineId, name: &str) -> Self {
        Self { engine, id, name: name.into() }
    }

    /// Its name, which is also a host in addresses. Nodes listen on loopback only as yet: give each machine an address of its
    /// own there, `"127.0.0.2:7101"` and so on.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The seams of its present life; of a new one after a crash. Worlds of earlier lives do nothing any more.
    pub fn world(&self) -> World {
        let engine = || self.engine.clone();
        let (life, seed) = self.engine.with(|state| (state.boot(self.id), state.world_seed(self.id)));
        World {
            clock: Arc::new(SimClock::new(engine(), self.id)),
            tasks: Arc::new(SimTasks::new(engine(), life)),
            random: Arc::new(SimRandom::new(seed)),
            disk: Arc::new(SimDisk::new(engine(), life)),
            transport: Arc::new(SimTransport::new(engine(), life)),
        }
    }

    /// Describes a node of its name over its [`world`](Self::world), that is, of its present life.
    ///
    /// Arguments and answers are encoded and decoded also where caller and grain are on this node
    /// ([`encode_local_calls`](crate::NodeConfig::encode_local_calls)), so that no test passes only because two grains happened to
    /// live together. [`configure`](NodeBuilder::configure) turns that off.
    ///
    /// ```
    /// # use grains_runtime as grains;
    /// use grains::sim;
    ///
    /// sim::run(1, async |sim| {
    ///     let machine = sim.machine("a");
    ///     let builder = machine.node().data_dir("data"); // on the disk of the machine
    ///     let node = machine.spawn(async move { builder.start().await.expect("it starts") });
    ///     assert_eq!(node.await.expect("it is up").name(), "a");
    /// });
    /// ```
    pub fn node(&self) -> NodeBuilder {
        let builder = NodeBuilder::default().name(self.name()).world(self.world());
        builder.configure(|config| config.encode_local_calls = true)
    }

    /// Runs `task` on this machine.
    pub fn spawn<F>(&self, task: F) -> Spawned<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (sender, ended) = oneshot::channel();
        let life = self.engine.with(|state| state.boot(self.id));
        // Nobody may be waiting for it.
        let refused = self.engine.spawn(life, Box::pin(async move { drop(sender.send(task.await)) }));
        drop(refused);
        Spawned(ended)
    }

    /// Pulls the plug: all tasks are dropped, bytes that were not synced are lost, connections break. Nothing if it is
    /// down already.
    pub fn crash(&self) {
        let ended = self.engine.with(|state| state.crash(self.id));
        for (id, task) in ended {
            self.engine.drop_task(id, task.life, task.future);
        }
    }

    /// Whether it lives: it was started and has not crashed since.
    pub fn is_up(&self) -> bool {
        self.engine.with(|state| state.machine(self.id).up)
    }

    /// Freezes it: none of its tasks is polled and none of its timers rings, while its clock goes on and bytes arrive.
    pub fn pause(&self) {
        self.engine.with(|state| {
            if !std::mem::replace(&mut state.machines[self.id.index()].frozen, true) {
                state.note(self.id, What::Pause, [0; 3]);
            }
        });
    }

    /// Lets it go on. Tasks that were ready run at once, perhaps before timers whose time has passed ring.
    pub fn resume(&self) {
        let held = self.engine.with(|state| state.resume(self.id));
        held.into_iter().for_each(|task| self.engine.ready.add(task));
    }

    /// From now on its disk has this fault, whatever its processes do; with `None` it is in order again. What was written
    /// and never synced is still lost with the next crash.
    pub fn disk_fault(&self, fault: Option<DiskFault>) {
        self.engine.with(|state| {
            state.machines[self.id.index()].disk_fault = fault;
            state.note(self.id, What::Disk, [fault.map_or(0, |fault| 1 + fault as u64), 0, 0]);
        });
    }

    /// From now on blocking work of it, such as an fsync, takes this long: a slow disk. With `None` it takes as long as
    /// everywhere.
    pub fn blocking_latency(&self, range: Option<RangeInclusive<Duration>>) {
        let range = range.as_ref().map(nanos_range);
        self.engine.with(|state| {
            let slowest = range.as_ref().map_or(0, |range| *range.end());
            state.machines[self.id.index()].blocking_latency = range;
            state.note(self.id, What::Disk, [0, 1, slowest]);
        });
    }

    /// Lets its clock run faster (or slower, below zero) than the true time by so many parts per million, from now on.
    ///
    /// # Panics
    /// At -1,000,000 and below, where a clock would stand or go back.
    pub fn clock_rate_ppm(&self, rate_ppm: i64) {
        self.engine.with(|state| state.change_clock(self.id, rate_ppm, 0));
    }

    /// Moves its clock ahead, as when a machine sleeps. Such a clock never goes back.
    pub fn clock_offset(&self, ahead: Duration) {
        let ahead = u64::try_from(ahead.as_nanos()).unwrap_or(u64::MAX);
        self.engine.with(|state| {
            let rate = state.machine(self.id).clock.rate_ppm();
            state.change_clock(self.id, rate, ahead);
        });
    }

    /// Sets its wall clock so many milliseconds ahead of (below zero: behind) where it would be.
    pub fn wall_offset_ms(&self, offset_ms: i64) {
        self.engine.with(|state| state.machines[self.id.index()].clock.wall_offset_ms = offset_ms);
    }

    pub(super) fn id(&self) -> MachineId {
        self.id
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Machine").field(&self.name).finish()
    }
}

impl State {
    /// Every world draws numbers of its own, as two processes on one machine would.
    fn world_seed(&mut self, machine: MachineId) -> u64 {
        let seed = self.settings.seed;
        let state = &mut self.machines[machine.index()];
        state.worlds += 1;
        seed_of(seed, &state.name, state.worlds)
    }

    /// Ends the life of a machine. Gives its tasks, to be dropped.
    fn crash(&mut self, machine: MachineId) -> Vec<(super::tasks::TaskId, super::tasks::Task)> {
        let state = &mut self.machines[machine.index()];
        if !std::mem::replace(&mut state.up, false) {
            return Vec::new();
        }
        state.frozen = false;
        state.held.clear();
        state.overdue.clear();
        let life = Life { machine, number: state.life };
        self.note(machine, What::Crash, [u64::from(life.number), 0, 0]);
        self.lose_unsynced(machine);
        self.cut_off(life);
        self.take_tasks(|other| other == life)
    }

    fn resume(&mut self, machine: MachineId) -> Vec<super::tasks::TaskId> {
        let state = &mut self.machines[machine.index()];
        if !std::mem::replace(&mut state.frozen, false) {
            return Vec::new();
        }
        let held = std::mem::take(&mut state.held);
        self.note(machine, What::Resume, [0; 3]);
        self.ring_overdue(machine);
        held
    }
}

/// A task on a machine; ends with what the task ends with. Dropping it leaves the task running.
#[derive(Debug)]
pub struct Spawned<T>(oneshot::Receiver<T>);

impl<T> Future for Spawned<T> {
    type Output = Result<T, Lost>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<T, Lost>> {
        Pin::new(&mut self.0).poll(cx).map(|ended| ended.map_err(|_| Lost))
    }
}

pub(super) fn nanos_range(range: &RangeInclusive<Duration>) -> RangeInclusive<u64> {
    let nanos = |duration: &Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    nanos(range.start())..=nanos(range.end()).max(nanos(range.start()))
}

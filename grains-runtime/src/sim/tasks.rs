//! The tasks of machines: a table of them, and the seam by which a machine adds to it.

use std::{
    any::Any,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use grains_core::world::{BoxFuture, Clock, TaskHandle, Tasks};
use tokio::sync::oneshot;

use super::{
    clock::SimClock,
    engine::{Engine, Life, MachineId, State},
    here,
    ready::waker_of,
    trace::What,
};

/// A task, numbered in the order of their beginnings. Zero is the test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TaskId(pub(super) u64);

impl TaskId {
    pub(super) const TEST: Self = Self(0);
}

#[derive(Default)]
pub(super) struct TaskTable {
    pub(super) tasks: BTreeMap<TaskId, Task>,
    made: u64,
}

pub(super) struct Task {
    pub(super) life: Life,
    /// Taken out while it is polled.
    pub(super) future: Option<BoxFuture<'static, ()>>,
    pub(super) waker: Waker,
    pub(super) aborted: bool,
}

impl Engine {
    /// Adds a task to a life. Gives it back if that life is over.
    pub(super) fn spawn(&self, life: Life, task: BoxFuture<'static, ()>) -> Result<TaskId, BoxFuture<'static, ()>> {
        let id = self.with(|state| {
            if !state.is_live(life) {
                return Err(task);
            }
            state.tasks.made += 1;
            let id = TaskId(state.tasks.made);
            let waker = waker_of(id, &self.ready);
            state.tasks.tasks.insert(id, Task { life, future: Some(task), waker, aborted: false });
            state.note(life.machine, What::Spawn, [id.0, 0, 0]);
            Ok(id)
        })?;
        self.ready.add(id);
        Ok(id)
    }

    fn abort(&self, id: TaskId) {
        let known = self.with(|state| state.tasks.tasks.get_mut(&id).map(|task| task.aborted = true));
        if known.is_some() {
            self.ready.add(id);
        }
    }

    /// Drops a future of `life` as it would be dropped on its machine. A panic in it is noted like any other.
    pub(super) fn drop_task(&self, id: TaskId, life: Life, future: Option<BoxFuture<'static, ()>>) {
        let _here = here::enter(self.number, life);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(future))) {
            self.panicked(id, life, panic);
        }
    }

    pub(super) fn panicked(&self, id: TaskId, life: Life, panic: Box<dyn Any + Send>) {
        let message = text_of(&*panic);
        self.with(|state| {
            let machine = state.machine(life.machine).name.to_string();
            let at = Duration::from_nanos(state.now);
            state.panics.push(super::Panicked { machine, at, message });
            state.note(life.machine, What::Panic, [id.0, 0, 0]);
        });
        // What a user panics with may panic when it is dropped.
        std::mem::forget(panic);
    }
}

impl State {
    /// Takes out all tasks that `belongs` says so of, for being dropped.
    pub(super) fn take_tasks(&mut self, belongs: impl Fn(Life) -> bool) -> Vec<(TaskId, Task)> {
        let (tasks, kept) = std::mem::take(&mut self.tasks.tasks).into_iter().partition(|(_, task)| belongs(task.life));
        self.tasks.tasks = kept;
        let tasks: BTreeMap<_, _> = tasks;
        tasks.into_iter().collect()
    }
}

pub(super) fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a value that is not text").to_owned()
}

/// The tasks of one life of a machine.
pub(super) struct SimTasks {
    engine: Arc<Engine>,
    life: Life,
}

impl SimTasks {
    pub(super) fn new(engine: Arc<Engine>, life: Life) -> Self {
        Self { engine, life }
    }
}

impl Tasks for SimTasks {
    fn spawn(&self, task: BoxFuture<'static, ()>) -> TaskHandle {
        match self.engine.spawn(self.life, task) {
            Ok(id) => {
                let engine = self.engine.clone();
                TaskHandle::new(move || engine.abort(id))
            }
            Err(_refused) => TaskHandle::new(|| {}),
        }
    }

    /// The work runs in a task of its own, a moment later and all at once, however long it takes.
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let (done, ended) = oneshot::channel();
        let clock = SimClock::new(self.engine.clone(), self.life.machine);
        let from = clock.now();
        let to = self.engine.with(|state| from + state.blocking_latency(self.life.machine));
        self.spawn(Box::pin(async move {
            clock.sleep_until(to).await;
            // Nobody may be waiting any more.
            let _ = done.send(catch_unwind(AssertUnwindSafe(work)));
        }));
        Box::pin(async move {
            if let Ok(Err(panic)) = ended.await {
                resume_unwind(panic);
            }
        })
    }

    fn here(&self) -> bool {
        self.engine.is_here(self.life)
    }

    fn give_way(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.here() && self.engine.with(|state| state.chance.schedule.below(CALLS_PER_WAY) == 0) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

/// One call of so many lets other tasks run first: enough to try orders that inline calls would never show.
const CALLS_PER_WAY: u64 = 32;

impl State {
    fn blocking_latency(&mut self, machine: MachineId) -> Duration {
        let of_machine = self.machines[machine.index()].blocking_latency.as_ref();
        Duration::from_nanos(self.chance.disk.within(of_machine.unwrap_or(&self.settings.blocking_latency)))
    }
}

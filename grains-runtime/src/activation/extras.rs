//! What few lives have: tasks, timers, a reason why the state was lost. No generics here: every grain type would have its own
//! copy of them.

use std::{
    collections::BTreeSet,
    sync::{Mutex, Weak},
};

use grains_core::{
    Gone, SPAWNED_MAX, ScheduleError, TIMERS_MAX,
    tasks::{TaskId, TaskSet},
    world::BoxFuture,
};

use super::{AnyActivation, lock};

/// Nothing, for most lives.
#[derive(Default)]
pub(super) struct Extras(Mutex<Option<Box<Had>>>);

#[derive(Default)]
struct Had {
    /// Tasks spawned by the grain.
    tasks: BTreeSet<TaskId>,
    /// Tasks that drive ticks.
    ticks: BTreeSet<TaskId>,
    /// Timers that make stored calls, by name.
    timers: Vec<(Box<str>, TaskId)>,
    /// Timers that were ended and may not be dropped yet.
    ended: Vec<TaskId>,
    /// Why the state was lost.
    lost: Option<Box<str>>,
}

/// What a task of a life is for.
pub(super) enum TaskKind {
    Spawned,
    Tick,
    Timer(Box<str>),
}

impl Extras {
    /// Enters a task that is about to run, if there is room for it and `lives` says that its life still does: asked under
    /// the lock that the end of a life takes to find what it must end.
    pub(super) fn enter(&self, kind: TaskKind, id: TaskId, lives: &dyn Fn() -> bool) -> Result<(), ScheduleError> {
        let mut extras = lock(&self.0);
        if !lives() {
            return Err(Gone.into());
        }
        let had = extras.get_or_insert_default();
        match kind {
            TaskKind::Spawned if had.tasks.len() >= SPAWNED_MAX => {
                return Err(ScheduleError::TooManyTasks { max: SPAWNED_MAX });
            }
            TaskKind::Tick | TaskKind::Timer(_) if had.ticks.len() + had.timers.len() >= TIMERS_MAX => {
                return Err(ScheduleError::TooManyTimers { max: TIMERS_MAX });
            }
            TaskKind::Spawned => drop(had.tasks.insert(id)),
            TaskKind::Tick => drop(had.ticks.insert(id)),
            TaskKind::Timer(name) => had.timers.push((name, id)),
        }
        Ok(())
    }

    /// A task has ended.
    pub(super) fn forget(&self, id: TaskId) {
        if let Some(had) = lock(&self.0).as_mut() {
            had.tasks.remove(&id);
            had.ticks.remove(&id);
            had.timers.retain(|(_, timer)| *timer != id);
        }
    }

    /// The timer of this name, which is forgotten.
    pub(super) fn take_timer(&self, name: &str) -> Option<TaskId> {
        let mut extras = lock(&self.0);
        let timers = &mut extras.as_mut()?.timers;
        let place = timers.iter().position(|(other, _)| **other == *name)?;
        Some(timers.remove(place).1)
    }

    /// Remembers the first reason why the state was lost.
    pub(super) fn lose(&self, why: &str) {
        lock(&self.0).get_or_insert_default().lost.get_or_insert_with(|| why.into());
    }

    pub(super) fn lost(&self) -> Option<Box<str>> {
        lock(&self.0).as_ref().and_then(|had| had.lost.clone())
    }

    /// No timer beats any more, but for those that do at this moment.
    pub(super) fn end_timers(&self, running: &TaskSet) {
        let mut extras = lock(&self.0);
        let Some(had) = extras.as_mut() else { return };
        let ticks = std::mem::take(&mut had.ticks);
        let timers = had.timers.drain(..).map(|(_, id)| id);
        let ended: Vec<_> = ticks.into_iter().chain(timers).collect();
        ended.iter().for_each(|id| running.abort(*id));
        had.ended.extend(ended);
    }

    /// Ends everything. Gives the tasks that may not have ended yet.
    pub(super) fn end(&self, running: &TaskSet) -> Vec<TaskId> {
        self.end_timers(running);
        let Some(had) = lock(&self.0).take() else { return Vec::new() };
        let Had { tasks, mut ended, .. } = *had;
        tasks.iter().for_each(|id| running.abort(*id));
        ended.extend(tasks);
        ended
    }
}

/// Runs a task that was entered until it ends or is aborted.
pub(super) fn run(running: &TaskSet, id: TaskId, task: BoxFuture<'static, ()>, activation: Weak<dyn AnyActivation>) {
    let forget = Forget { activation, id };
    running.start(
        id,
        Box::pin(async move {
            task.await;
            drop(forget);
        }),
    );
}

/// Makes room for another task when this one ends, or panics.
struct Forget {
    activation: Weak<dyn AnyActivation>,
    id: TaskId,
}

impl Drop for Forget {
    fn drop(&mut self) {
        if let Some(activation) = self.activation.upgrade() {
            activation.forget_task(self.id);
        }
    }
}

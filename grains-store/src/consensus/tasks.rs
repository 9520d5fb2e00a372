//! The tasks of one group member, openraft's and ours: known from the first to the last, so that closing leaves none
//! behind.

use std::{
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use grains_core::world::{BoxFuture, TaskHandle, Tasks};
use tokio::sync::mpsc;

use grains_core::tasks::TaskSet;

/// The tasks of a world, with those spawned through here counted.
pub(super) struct OwnTasks {
    outer: Arc<dyn Tasks>,
    running: Arc<TaskSet>,
    /// Each task holds a copy; none is left when the last has been dropped.
    alive: Mutex<Option<mpsc::Sender<()>>>,
    all_gone: tokio::sync::Mutex<mpsc::Receiver<()>>,
}

impl OwnTasks {
    pub(super) fn new(outer: Arc<dyn Tasks>) -> Self {
        let (alive, all_gone) = mpsc::channel(1);
        let running = Arc::new(TaskSet::new(outer.clone()));
        Self { outer, running, alive: Mutex::new(Some(alive)), all_gone: tokio::sync::Mutex::new(all_gone) }
    }

    /// Drops all tasks at their next chance and lets no more begin.
    pub(super) fn stop(&self) {
        self.running.close();
        self.alive.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Waits until all tasks are dropped, after a [`stop`](Self::stop).
    pub(super) async fn gone(&self) {
        // Nobody ever sends: this ends when all senders are gone.
        self.all_gone.lock().await.recv().await;
    }
}

impl Tasks for OwnTasks {
    fn spawn(&self, task: BoxFuture<'static, ()>) -> TaskHandle {
        let alive = self.alive.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (Some(alive), Some(id)) = (alive, self.running.reserve()) else {
            return TaskHandle::new(|| {});
        };
        let task = Box::pin(async move {
            let _alive = alive;
            task.await;
        });
        self.running.start(id, task);
        let running = self.running.clone();
        TaskHandle::new(move || running.abort(id))
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        self.outer.blocking(work)
    }

    fn here(&self) -> bool {
        self.outer.here()
    }

    fn give_way(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.outer.give_way(cx)
    }

    fn behind_others(&self, cx: &mut Context<'_>) {
        self.outer.behind_others(cx);
    }
}

/// Stops the tasks when it is dropped. Not left to [`OwnTasks`] itself, which every task holds in its world.
pub(super) struct Running(pub(super) Arc<OwnTasks>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grains_runtime::world::tokio_world;

    #[tokio::test]
    async fn after_a_stop_all_tasks_are_dropped_and_none_begins() {
        let tasks = OwnTasks::new(tokio_world().unwrap().tasks);
        let held = Arc::new(());
        for _ in 0..3 {
            let held = held.clone();
            tasks.spawn(Box::pin(async move {
                std::future::pending::<()>().await;
                drop(held);
            }));
        }
        tokio::task::yield_now().await;
        tasks.stop();
        tasks.gone().await;
        assert_eq!(Arc::strong_count(&held), 1);
        let late = held.clone();
        tasks.spawn(Box::pin(async move { drop(late) }));
        assert_eq!(Arc::strong_count(&held), 1);
    }
}

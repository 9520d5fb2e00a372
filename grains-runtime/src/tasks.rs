//! The running tasks of a node: each is known until it ends, so that a stop leaves none behind.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use grains_core::world::{BoxFuture, TaskHandle, Tasks};

pub(crate) struct TaskSet {
    spawner: Arc<dyn Tasks>,
    running: Arc<Mutex<Running>>,
}

struct Running {
    tasks: BTreeMap<u64, TaskHandle>,
    next: u64,
    closed: bool,
}

/// The name of one task in its set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TaskId(u64);

fn lock(running: &Mutex<Running>) -> MutexGuard<'_, Running> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TaskSet {
    pub(crate) fn new(spawner: Arc<dyn Tasks>) -> Self {
        let running = Running { tasks: BTreeMap::new(), next: 0, closed: false };
        Self { spawner, running: Arc::new(Mutex::new(running)) }
    }

    /// Runs `task`, unless the set is closed: then it is dropped, and there is no id.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Option<TaskId> {
        self.spawn_with(|_| task)
    }

    /// The same for a task that knows its own id.
    pub(crate) fn spawn_with<F>(&self, task: impl FnOnce(TaskId) -> F) -> Option<TaskId>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut running = lock(&self.running);
        if running.closed {
            drop(running);
            return None; // `task` is dropped after the lock
        }
        running.next += 1;
        let id = running.next;
        // Still locked: the task cannot end, and be forgotten, before it is known.
        let member = Member { task: Box::pin(task(TaskId(id))), _leave: Leave { id, running: self.running.clone() } };
        let handle = self.spawner.spawn(Box::pin(member));
        running.tasks.insert(id, handle);
        Some(TaskId(id))
    }

    /// Drops the task at its next chance, if it still runs.
    pub(crate) fn abort(&self, id: TaskId) {
        let handle = lock(&self.running).tasks.remove(&id.0);
        if let Some(handle) = handle {
            handle.abort();
        }
    }

    /// Drops all tasks and lets no more begin.
    pub(crate) fn close(&self) {
        let mut running = lock(&self.running);
        running.closed = true;
        let tasks = std::mem::take(&mut running.tasks);
        drop(running);
        tasks.into_values().for_each(|task| task.abort());
    }
}

/// A task that leaves its set when it ends or is dropped. The future goes first, the membership after it.
struct Member {
    task: BoxFuture<'static, ()>,
    _leave: Leave,
}

impl Future for Member {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.task.as_mut().poll(cx)
    }
}

struct Leave {
    id: u64,
    running: Arc<Mutex<Running>>,
}

impl Drop for Leave {
    fn drop(&mut self) {
        let handle = lock(&self.running).tasks.remove(&self.id);
        drop(handle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::tokio_world;

    async fn until_empty(set: &TaskSet) {
        while !lock(&set.running).tasks.is_empty() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_task_is_known_until_it_ends() {
        let set = TaskSet::new(tokio_world().unwrap().tasks);
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        set.spawn(async move { drop(wait.await) }).unwrap();
        set.spawn(async {}).unwrap();
        assert_eq!(lock(&set.running).tasks.len(), 2);
        go.send(()).unwrap();
        until_empty(&set).await;
    }

    #[tokio::test]
    async fn an_aborted_task_is_dropped_and_a_closed_set_takes_none() {
        struct Bell(Option<tokio::sync::oneshot::Sender<()>>);
        impl Drop for Bell {
            fn drop(&mut self) {
                self.0.take().unwrap().send(()).ok();
            }
        }
        let set = TaskSet::new(tokio_world().unwrap().tasks);
        for close in [false, true] {
            let (rings, rung) = tokio::sync::oneshot::channel();
            let bell = Bell(Some(rings));
            let id = set.spawn(async move {
                std::future::pending::<()>().await;
                drop(bell);
            });
            if close {
                set.close()
            } else {
                set.abort(id.unwrap())
            }
            rung.await.unwrap();
            until_empty(&set).await;
        }
        assert_eq!(set.spawn(async {}), None);
    }
}

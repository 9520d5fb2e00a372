//! The running tasks of a node: each is known until it ends, so that a stop leaves none behind.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use grains_core::world::{BoxFuture, TaskHandle, Tasks};

pub(crate) struct TaskSet {
    spawner: Arc<dyn Tasks>,
    running: Arc<Mutex<Running>>,
}

struct Running {
    /// Every task that may still be polled again; no handle while it is being spawned.
    tasks: BTreeMap<u64, Option<TaskHandle>>,
    /// Tasks that were aborted and have not been dropped yet.
    leaving: BTreeSet<u64>,
    /// Those who wait for tasks to be dropped.
    waiting: Vec<Waker>,
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
        let running =
            Running { tasks: BTreeMap::new(), leaving: BTreeSet::new(), waiting: Vec::new(), next: 0, closed: false };
        Self { spawner, running: Arc::new(Mutex::new(running)) }
    }

    /// Runs `task`, unless the set is closed: then it is dropped.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(id) = self.reserve() {
            self.start(id, task);
        }
    }

    /// The id of a task that [`start`](Self::start) will run; none if the set is closed. In two steps, because the task of
    /// a user must not be dropped under the locks of whoever remembers the id.
    pub(crate) fn reserve(&self) -> Option<TaskId> {
        let mut running = lock(&self.running);
        if running.closed {
            return None;
        }
        running.next += 1;
        let id = running.next;
        running.tasks.insert(id, None);
        Some(TaskId(id))
    }

    /// Runs `task` under an id that was reserved, unless that was aborted meanwhile.
    pub(crate) fn start(&self, id: TaskId, task: impl Future<Output = ()> + Send + 'static) {
        if !lock(&self.running).tasks.contains_key(&id.0) {
            return;
        }
        let member = Member { task: Box::pin(task), _leave: Leave { id: id.0, running: self.running.clone() } };
        // Not under the lock: a runtime that has ended drops the task on the spot, and with it the membership.
        let handle = self.spawner.spawn(Box::pin(member));
        let mut running = lock(&self.running);
        match running.tasks.get_mut(&id.0) {
            Some(place) => *place = Some(handle),
            None => {
                drop(running);
                handle.abort(); // it has ended, or was aborted meanwhile
            }
        }
    }

    /// Drops the task at its next chance, if it still runs.
    pub(crate) fn abort(&self, id: TaskId) {
        let mut running = lock(&self.running);
        if let Some(Some(handle)) = running.tasks.remove(&id.0) {
            running.leaving.insert(id.0);
            drop(running);
            handle.abort();
        }
    }

    /// Waits until these tasks, which were aborted, are dropped.
    pub(crate) async fn gone(&self, ids: &[TaskId]) {
        poll_fn(|cx| {
            let mut running = lock(&self.running);
            if ids.iter().any(|id| running.leaving.contains(&id.0)) {
                running.waiting.push(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
    }

    /// Drops all tasks and lets no more begin.
    pub(crate) fn close(&self) {
        let mut running = lock(&self.running);
        running.closed = true;
        let tasks = std::mem::take(&mut running.tasks);
        drop(running);
        tasks.into_values().flatten().for_each(|task| task.abort());
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
        let mut running = lock(&self.running);
        let handle = running.tasks.remove(&self.id);
        let waiting = match running.leaving.remove(&self.id) {
            true => std::mem::take(&mut running.waiting),
            false => Vec::new(),
        };
        drop(running);
        drop(handle);
        waiting.into_iter().for_each(Waker::wake);
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
        set.spawn(async move { drop(wait.await) });
        set.spawn(async {});
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
            let (rings, mut rung) = tokio::sync::oneshot::channel();
            let bell = Bell(Some(rings));
            let id = set.reserve().unwrap();
            set.start(id, async move {
                std::future::pending::<()>().await;
                drop(bell);
            });
            if close {
                set.close();
                rung.await.unwrap();
            } else {
                set.abort(id);
                set.gone(&[id]).await;
                assert!(rung.try_recv().is_ok(), "who waited for its end finds it dropped");
            }
            until_empty(&set).await;
        }
        assert_eq!(set.reserve(), None);
    }

    #[tokio::test]
    async fn a_task_aborted_before_it_starts_never_runs() {
        let set = TaskSet::new(tokio_world().unwrap().tasks);
        let id = set.reserve().unwrap();
        set.abort(id);
        set.start(id, async { panic!("it was aborted") });
        set.gone(&[id]).await;
        until_empty(&set).await;
    }
}

//! The running tasks of a node: each is known until it ends, so that a stop leaves none behind.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::world::{BoxFuture, TaskHandle, Tasks};

/// The tasks that one owner has running.
pub struct TaskSet {
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
pub struct TaskId(u64);

fn lock(running: &Mutex<Running>) -> MutexGuard<'_, Running> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TaskSet {
    /// A set whose tasks `spawner` runs.
    pub fn new(spawner: Arc<dyn Tasks>) -> Self {
        let running =
            Running { tasks: BTreeMap::new(), leaving: BTreeSet::new(), waiting: Vec::new(), next: 0, closed: false };
        Self { spawner, running: Arc::new(Mutex::new(running)) }
    }

    /// Runs `task`, unless the set is closed: then it is dropped.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if let Some(id) = self.reserve() {
            self.start(id, Box::pin(task));
        }
    }

    /// The id of a task that [`start`](Self::start) will run; none if the set is closed. In two steps, because the task of
    /// a user must not be dropped under the locks of whoever remembers the id.
    pub fn reserve(&self) -> Option<TaskId> {
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
    pub fn start(&self, id: TaskId, task: BoxFuture<'static, ()>) {
        if !lock(&self.running).tasks.contains_key(&id.0) {
            return;
        }
        let member = Member { task, _leave: Leave { id: id.0, running: self.running.clone() } };
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
    pub fn abort(&self, id: TaskId) {
        let mut running = lock(&self.running);
        if let Some(Some(handle)) = running.tasks.remove(&id.0) {
            running.leaving.insert(id.0);
            drop(running);
            handle.abort();
        }
    }

    /// Waits until these tasks, which were aborted, are dropped.
    pub async fn gone(&self, ids: &[TaskId]) {
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

    /// How many tasks run.
    pub fn len(&self) -> usize {
        lock(&self.running).tasks.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops all tasks and lets no more begin.
    pub fn close(&self) {
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

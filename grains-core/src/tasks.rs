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
        let member = Member { task, _leave: Leave { id: id.0, running: self.running.clone() } };
        if !lock(&self.running).tasks.contains_key(&id.0) {
            return;
        }
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

    /// An id that was reserved is not used.
    pub fn give_back(&self, id: TaskId) {
        lock(&self.running).tasks.remove(&id.0);
    }

    /// Drops the task at its next chance, if it still runs. An id that was reserved must still be started, or
    /// [given back](Self::give_back).
    pub fn abort(&self, id: TaskId) {
        let mut running = lock(&self.running);
        let Some(handle) = running.tasks.remove(&id.0) else { return };
        // Without a handle it is being spawned, and may be polled already: whoever spawns it aborts it.
        running.leaving.insert(id.0);
        drop(running);
        if let Some(handle) = handle {
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

    use super::*;

    /// Keeps what it is given; `meanwhile` runs before whoever spawns has its handle.
    struct Kept {
        tasks: Mutex<Vec<BoxFuture<'static, ()>>>,
        aborted: Arc<AtomicUsize>,
        meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    }

    impl Kept {
        fn new() -> Arc<Self> {
            Arc::new(Self { tasks: Mutex::default(), aborted: Arc::default(), meanwhile: Mutex::new(None) })
        }

        fn drop_all(&self) {
            let tasks = std::mem::take(&mut *self.tasks.lock().unwrap());
            drop(tasks);
        }
    }

    impl Tasks for Kept {
        fn spawn(&self, task: BoxFuture<'static, ()>) -> TaskHandle {
            self.tasks.lock().unwrap().push(task);
            let meanwhile = self.meanwhile.lock().unwrap().take();
            if let Some(meanwhile) = meanwhile {
                meanwhile();
            }
            let aborted = self.aborted.clone();
            TaskHandle::new(move || {
                aborted.fetch_add(1, SeqCst);
            })
        }
        fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
            Box::pin(async move { work() })
        }
        fn here(&self) -> bool {
            false
        }
        fn give_way(&self, _: &mut Context<'_>) -> Poll<()> {
            Poll::Ready(())
        }
    }

    fn is_gone(set: &TaskSet, id: TaskId) -> bool {
        let ids = [id];
        let gone = set.gone(&ids);
        std::pin::pin!(gone).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    struct Dropped(Arc<AtomicBool>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, SeqCst);
        }
    }

    fn task() -> (BoxFuture<'static, ()>, Arc<AtomicBool>) {
        let dropped: Arc<AtomicBool> = Arc::default();
        let on_drop = Dropped(dropped.clone());
        let task = async move {
            let _on_drop = on_drop;
            std::future::pending().await
        };
        (Box::pin(task), dropped)
    }

    #[test]
    fn a_task_that_is_aborted_while_it_is_spawned_is_waited_for() {
        let kept = Kept::new();
        let set = Arc::new(TaskSet::new(kept.clone()));
        let id = set.reserve().unwrap();
        let aborts = set.clone();
        *kept.meanwhile.lock().unwrap() = Some(Box::new(move || aborts.abort(id)));
        let (task, dropped) = task();
        set.start(id, task);
        assert_eq!(kept.aborted.load(SeqCst), 1);
        assert!(!dropped.load(SeqCst) && !is_gone(&set, id), "it may be polled at this moment");
        kept.drop_all();
        assert!(dropped.load(SeqCst) && is_gone(&set, id));
    }

    #[test]
    fn a_task_that_is_aborted_before_it_is_spawned_never_is_and_nobody_waits_for_it_for_ever() {
        let kept = Kept::new();
        let set = TaskSet::new(kept.clone());
        let id = set.reserve().unwrap();
        set.abort(id);
        let (task, dropped) = task();
        set.start(id, task);
        assert!(kept.tasks.lock().unwrap().is_empty() && dropped.load(SeqCst));
        assert!(is_gone(&set, id) && set.is_empty());
    }

    #[test]
    fn an_id_that_is_given_back_leaves_nothing() {
        let set = TaskSet::new(Kept::new());
        let id = set.reserve().unwrap();
        set.give_back(id);
        assert!(set.is_empty() && is_gone(&set, id));
        assert!(lock(&set.running).leaving.is_empty());
    }
}

//! The tasks that want to be polled: a set, so that the order in which they were woken is forgotten; or a line.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Wake, Waker},
};

use super::{builder::Order, random::Chance, tasks::TaskId};

/// Locked by wakers, so nothing else may be locked or woken while it is.
pub(super) struct Ready(Mutex<Inner>);

struct Inner {
    woken: Woken,
    /// Wakes the executor while it waits for tokio.
    executor: Option<Waker>,
}

enum Woken {
    /// Sorted: the k-th is found at once, and the sets are small enough that moving a few bytes beats a tree.
    Set(Vec<TaskId>),
    /// In the order in which they were woken, each once.
    Line(VecDeque<TaskId>),
}

impl Woken {
    fn is_empty(&self) -> bool {
        match self {
            Self::Set(set) => set.is_empty(),
            Self::Line(line) => line.is_empty(),
        }
    }
}

impl Ready {
    pub(super) fn new(order: Order) -> Self {
        let woken = match order {
            Order::Seeded => Woken::Set(Vec::new()),
            Order::Fifo => Woken::Line(VecDeque::new()),
        };
        Self(Mutex::new(Inner { woken, executor: None }))
    }

    pub(super) fn add(&self, task: TaskId) {
        let executor = {
            let mut inner = self.lock();
            match &mut inner.woken {
                Woken::Set(set) => {
                    if let Err(place) = set.binary_search(&task) {
                        set.insert(place, task);
                    }
                }
                Woken::Line(line) => {
                    if !line.contains(&task) {
                        line.push_back(task);
                    }
                }
            }
            inner.executor.take()
        };
        if let Some(executor) = executor {
            executor.wake();
        }
    }

    /// Takes out the task to poll next.
    pub(super) fn choose(&self, chance: &mut Chance) -> Option<TaskId> {
        match &mut self.lock().woken {
            Woken::Set(set) => match set.len() {
                0 => None,
                1 => set.pop(),
                len => Some(set.remove(chance.below(len as u64) as usize)),
            },
            Woken::Line(line) => line.pop_front(),
        }
    }

    /// Keeps the executor's waker for the next task that is woken; `false` if one is ready already.
    pub(super) fn wait(&self, executor: &Waker) -> bool {
        let mut inner = self.lock();
        let nothing = inner.woken.is_empty();
        if nothing {
            inner.executor = Some(executor.clone());
        }
        nothing
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes one task ready.
struct TaskWaker {
    task: TaskId,
    ready: Arc<Ready>,
}

pub(super) fn waker_of(task: TaskId, ready: &Arc<Ready>) -> Waker {
    Arc::new(TaskWaker { task, ready: ready.clone() }).into()
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.add(self.task);
    }
}

//! The tasks that want to be polled: a set, so that the order in which they were woken is forgotten.

use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Wake, Waker},
};

use super::{builder::Order, random::Chance, tasks::TaskId};

/// Locked by wakers, so nothing else may be locked or woken while it is.
#[derive(Default)]
pub(super) struct Ready(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// Sorted: the k-th is found at once, and the sets are small enough that moving a few bytes beats a tree.
    woken: Vec<TaskId>,
    /// Those of the present round, when rounds are asked for.
    round: VecDeque<TaskId>,
    /// Wakes the executor while it waits for tokio.
    executor: Option<Waker>,
}

impl Ready {
    pub(super) fn add(&self, task: TaskId) {
        let executor = {
            let mut inner = self.lock();
            if let Err(place) = inner.woken.binary_search(&task) {
                inner.woken.insert(place, task);
            }
            inner.executor.take()
        };
        if let Some(executor) = executor {
            executor.wake();
        }
    }

    /// Takes out the task to poll next.
    pub(super) fn choose(&self, order: Order, chance: &mut Chance) -> Option<TaskId> {
        let mut inner = self.lock();
        match order {
            Order::Seeded => match inner.woken.len() {
                0 => None,
                1 => inner.woken.pop(),
                len => Some(inner.woken.remove(chance.below(len as u64) as usize)),
            },
            Order::Rounds => {
                if inner.round.is_empty() {
                    inner.round = mem::take(&mut inner.woken).into();
                }
                inner.round.pop_front()
            }
        }
    }

    /// Keeps the executor's waker for the next task that is woken; `false` if one is ready already.
    pub(super) fn wait(&self, executor: &Waker) -> bool {
        let mut inner = self.lock();
        let nothing = inner.woken.is_empty() && inner.round.is_empty();
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

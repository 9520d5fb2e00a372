//! The tasks of a node, on the tokio runtime it was started in.

use std::{
    cell::Cell,
    panic,
    pin::pin,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use grains_core::world::{BoxFuture, TaskHandle, Tasks};
use tokio::{
    runtime::{self, Handle},
    task::{self, JoinError, coop},
};

mod here;

/// One tokio runtime.
pub(super) struct TokioTasks {
    runtime: Handle,
    id: runtime::Id,
}

impl TokioTasks {
    pub(super) fn new(runtime: Handle) -> Self {
        Self { id: runtime.id(), runtime }
    }
}

impl Tasks for TokioTasks {
    fn spawn(&self, task: BoxFuture<'static, ()>) -> TaskHandle {
        let task = self.runtime.spawn(task).abort_handle();
        TaskHandle::new(move || task.abort())
    }

    /// The work starts now, whether the future is polled or not. The future ends also when the runtime shuts down
    /// before the work could start; then the work is dropped unrun. A panic of the work goes on in whoever waits.
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let work = self.runtime.spawn_blocking(work);
        Box::pin(async move {
            if let Err(Ok(payload)) = work.await.map_err(JoinError::try_into_panic) {
                panic::resume_unwind(payload);
            }
        })
    }

    fn here(&self) -> bool {
        here::current() == Some(self.id)
    }

    fn beside(&self, period: Duration, mut look: Box<dyn FnMut() -> bool + Send>) {
        let looks = move || {
            while look() {
                thread::sleep(period);
            }
        };
        if let Err(error) = thread::Builder::new().name("grains-watch".to_owned()).spawn(looks) {
            tracing::warn!(%error, "no thread to watch the others: turns that block theirs are not named");
        }
    }

    /// Tokio wakes who yields when a worker has nothing else to do, or after 61 tasks. Waking oneself would call another worker,
    /// which costs two switches.
    fn behind_others(&self, cx: &mut Context<'_>) {
        if pin!(task::yield_now()).poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    fn give_way(&self, cx: &mut Context<'_>) -> Poll<()> {
        if is_asked_this_time() { ask_budget(cx) } else { Poll::Ready(()) }
    }
}

/// How many calls go by between two looks at the budget, which costs some 28 ns each. Tokio's budget is 128 looks, so
/// a task that does nothing but calls lets others run after 8,192 of them, about a millisecond.
const CALLS_PER_LOOK: u32 = 64;

fn is_asked_this_time() -> bool {
    thread_local!(static CALLS: Cell<u32> = const { Cell::new(0) });
    let calls = CALLS.get().wrapping_add(1);
    CALLS.set(calls);
    calls.is_multiple_of(CALLS_PER_LOOK)
}

/// Outside of tokio the budget has no end.
#[cold]
fn ask_budget(cx: &mut Context<'_>) -> Poll<()> {
    if !coop::has_budget_remaining() {
        // Not by tokio, which wakes only when its scheduler runs again: another executor's `block_on` inside of a task
        // would wait for that for ever.
        cx.waker().wake_by_ref();
        return Poll::Pending;
    }
    if let Poll::Ready(budget) = coop::poll_proceed(cx) {
        budget.made_progress();
    }
    Poll::Ready(())
}

#[cfg(test)]
mod sets;
#[cfg(test)]
mod tests;

//! Whether the caller of a turn still wants its answer: one call's [`Cancellation`], and the future by which a turn waits for
//! it.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use crate::{
    ctx::Anchored,
    route::Queue,
    time::Instant,
    world::{BoxFuture, Clock},
};

/// Whether the answer of one call is still wanted. It fires once, when nobody waits for it any more.
#[derive(Default)]
pub struct Cancellation(Mutex<State>);

#[derive(Default)]
struct State {
    fired: bool,
    /// Those who wait, by number: as many as the turn has futures that ask, and they go with these.
    waiting: BTreeMap<u64, Waker>,
    next: u64,
    /// Where the call waits for its turn, if it does.
    queue: Option<Weak<dyn Queue>>,
}

/// A call whose answer is awaited. Most turns never ask whether it still is, so what they would wait for is made when one
/// does.
pub trait Watched: Send + Sync {
    /// What fires when the answer is no longer wanted.
    fn watch(&self) -> Arc<Cancellation>;
}

/// What a turn can know of its caller.
pub enum Caller {
    /// Nothing yet: the turn is being polled for the first time. It is known at the next poll.
    NotYet,
    /// Nobody waits for the answer, and nobody ever did.
    Nobody,
    /// The caller waits.
    Waits {
        /// Fires when it no longer does.
        call: Arc<Cancellation>,
        /// When it gives up by itself.
        deadline: Option<Instant>,
    },
}

impl Cancellation {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody wants the answer any more. Firing again changes nothing.
    pub fn fire(&self) {
        let mut state = self.lock();
        state.fired = true;
        let (waiting, queue) = (std::mem::take(&mut state.waiting), state.queue.take());
        drop(state);
        waiting.into_values().for_each(Waker::wake);
        if let Some(queue) = queue.and_then(|queue| queue.upgrade()) {
            queue.withdrawn();
        }
    }

    /// Whether it has fired.
    pub fn has_fired(&self) -> bool {
        self.lock().fired
    }

    /// The call waits in `queue`, which is told when it fires: others may be waiting behind it.
    pub fn tell(&self, queue: Weak<dyn Queue>) {
        let mut state = self.lock();
        if !state.fired {
            let before = state.queue.replace(queue);
            drop(state);
            return drop(before);
        }
        drop(state);
        if let Some(queue) = queue.upgrade() {
            queue.withdrawn();
        }
    }

    /// Ready once it has fired. `place` is that of whoever waits, and empty at first.
    fn poll(&self, place: &mut Option<u64>, cx: &mut Context<'_>) -> Poll<()> {
        {
            let state = self.lock();
            let known = place.and_then(|place| state.waiting.get(&place));
            if state.fired {
                return Poll::Ready(());
            }
            if known.is_some_and(|known| known.will_wake(cx.waker())) {
                return Poll::Pending;
            }
        }
        let waker = cx.waker().clone(); // cloned and dropped outside the lock: it may be a user's
        let mut state = self.lock();
        if state.fired {
            return Poll::Ready(());
        }
        let mine = *place.get_or_insert_with(|| {
            state.next += 1;
            state.next
        });
        let old = state.waiting.insert(mine, waker);
        drop(state);
        drop(old);
        Poll::Pending
    }

    fn forget(&self, place: u64) {
        let waker = self.lock().waiting.remove(&place);
        drop(waker);
    }
}

impl fmt::Debug for Cancellation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Cancellation").field(&self.has_fired()).finish()
    }
}

/// Waits until the caller of a turn no longer wants its answer. Made by [`Ctx::cancelled`](crate::Ctx::cancelled), which says
/// when that is.
#[must_use = "it does nothing until it is awaited"]
pub struct Cancelled(Step);

enum Step {
    Asking { turn: Anchored, clock: Arc<dyn Clock> },
    Waiting { call: Arc<Cancellation>, place: Option<u64>, deadline: Option<BoxFuture<'static, ()>> },
    Never,
    Over,
}

/// How long after its deadline a caller counts as gone that has not said so: one that gives up does, and a turn that answered
/// at the same moment would take the place of its `Timeout`. From another node its word takes 25 ms.
const GRACE: Duration = Duration::from_millis(50);

impl Cancelled {
    pub(crate) fn new(turn: Anchored, clock: Arc<dyn Clock>) -> Self {
        Self(Step::Asking { turn, clock })
    }
}

impl Unpin for Cancelled {}

impl Future for Cancelled {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Step::Asking { turn, clock } = &self.0 {
            match turn.upgrade().map_or(Caller::Nobody, |turn| turn.caller()) {
                Caller::NotYet => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Caller::Nobody => self.0 = Step::Never,
                Caller::Waits { call, deadline } => {
                    let deadline = deadline.map(|deadline| clock.sleep_until(deadline + GRACE));
                    self.0 = Step::Waiting { call, place: None, deadline };
                }
            }
        }
        let over = match &mut self.0 {
            Step::Waiting { call, place, deadline } => {
                call.poll(place, cx).is_ready()
                    || deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready())
            }
            Step::Over => true,
            Step::Asking { .. } | Step::Never => false,
        };
        if !over {
            return Poll::Pending;
        }
        drop(std::mem::replace(&mut *self, Self(Step::Over)));
        Poll::Ready(())
    }
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        if let Step::Waiting { call, place: Some(place), .. } = &self.0 {
            call.forget(*place);
        }
    }
}

impl fmt::Debug for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cancelled")
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        task::Wake,
    };

    use super::*;

    #[derive(Default)]
    struct Counts(AtomicUsize);

    impl Wake for Counts {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Queue for Counts {
        fn withdrawn(&self) {
            self.0.fetch_add(100, Ordering::SeqCst);
        }
    }

    #[test]
    fn all_who_wait_are_woken_once_and_those_who_left_are_not() {
        let call = Cancellation::default();
        let woken: Vec<Arc<Counts>> = (0..3).map(|_| Arc::default()).collect();
        let mut places = [None; 3];
        for _ in 0..2 {
            for (place, woken) in places.iter_mut().zip(&woken) {
                assert!(call.poll(place, &mut Context::from_waker(&woken.clone().into())).is_pending());
            }
        }
        call.forget(places[1].expect("it waits"));
        call.fire();
        call.fire();
        let woken: Vec<_> = woken.iter().map(|woken| woken.0.load(Ordering::SeqCst)).collect();
        assert_eq!(woken, [1, 0, 1]);
        assert!(call.poll(&mut None, &mut Context::from_waker(Waker::noop())).is_ready());
    }

    #[test]
    fn a_queue_is_told_whether_the_call_is_taken_back_before_or_after() {
        for before in [false, true] {
            let (call, queue) = (Cancellation::default(), Arc::new(Counts::default()));
            if before {
                call.fire();
            }
            let told: Weak<dyn Queue> = Arc::downgrade(&queue) as _;
            call.tell(told);
            call.fire();
            assert_eq!(queue.0.load(Ordering::SeqCst), 100);
        }
    }
}

//! Callers that need a new activation while room is made: they wait for that, rather than to use up what there may be above the
//! limit and then be refused. Of one node; the catalog lets them wait, and whoever makes room lets them go.

use std::{
    sync::Mutex,
    task::{Context, Waker},
};

use crate::activation::{lock, turn::quietly};

/// How many callers wait at most: a few kilobytes. Those beyond go on, as if no room was made.
const WAITING_MAX: usize = 1024;

#[derive(Default)]
pub(crate) struct Crowd(Mutex<State>);

#[derive(Default)]
struct State {
    waiting: Vec<Waker>,
    /// Nothing could go when somebody looked last: it is of no use to wait.
    in_vain: bool,
    /// Somebody has waited when [`Crowd::look`] came, and nobody was let go since.
    late: bool,
}

impl Crowd {
    /// Whether the caller waits: until it is woken.
    pub(super) fn wait(&self, cx: &Context<'_>) -> bool {
        let waker = cx.waker().clone();
        let mut state = lock(&self.0);
        if state.in_vain || state.waiting.len() >= WAITING_MAX {
            drop(state);
            drop(waker);
            return false;
        }
        // A task that is polled again and again is still one that waits.
        let known = state.waiting.iter().any(|known| known.will_wake(&waker));
        let waker = if known {
            Some(waker)
        } else {
            state.waiting.push(waker);
            None
        };
        drop(state);
        drop(waker);
        true
    }

    /// Some room was made: those that wait look again.
    pub(crate) fn go_on(&self) {
        self.wake(false);
    }

    /// No room can be made now: until some is, nobody waits.
    pub(crate) fn give_up(&self) {
        self.wake(true);
    }

    /// Called now and then: those that were here the last time, too, wait no longer. A `deactivate` that blocks its thread holds up
    /// whoever makes room, but no call for long.
    pub(crate) fn look(&self) {
        let was_late = {
            let mut state = lock(&self.0);
            let someone_waits = !state.waiting.is_empty();
            std::mem::replace(&mut state.late, someone_waits) && someone_waits
        };
        if was_late {
            self.give_up();
        }
    }

    fn wake(&self, in_vain: bool) {
        let waiting = std::mem::replace(&mut *lock(&self.0), State { in_vain, ..State::default() }).waiting;
        // One that panics must not end the task that makes room, or that which looks for what is idle.
        for waker in waiting {
            quietly("the waker of a caller", || waker.wake());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, task::Wake};

    use super::*;

    struct Sleeper;

    impl Wake for Sleeper {
        fn wake(self: Arc<Self>) {}
    }

    #[test]
    fn whoever_is_polled_again_waits_once() {
        let crowd = Crowd::default();
        let (one, other) = (Arc::new(Sleeper).into(), Arc::new(Sleeper).into());
        for waker in [&one, &other, &one, &one, &other] {
            assert!(crowd.wait(&Context::from_waker(waker)));
        }
        assert_eq!(lock(&crowd.0).waiting.len(), 2);
    }

    fn waits(crowd: &Crowd) -> bool {
        crowd.wait(&Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_waker_that_panics_keeps_nobody_from_being_woken() {
        struct Panics;
        impl Wake for Panics {
            fn wake(self: Arc<Self>) {
                panic!("there is nobody to wake");
            }
        }
        struct Counts(std::sync::atomic::AtomicU32);
        impl Wake for Counts {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        }
        let (crowd, woken) = (Crowd::default(), Arc::new(Counts(0.into())));
        for waker in [Arc::new(Panics).into(), woken.clone().into()] {
            assert!(crowd.wait(&Context::from_waker(&waker)));
        }
        crowd.go_on();
        assert_eq!(woken.0.load(std::sync::atomic::Ordering::SeqCst), 1);
    }

    #[test]
    fn nobody_waits_in_vain() {
        let crowd = Crowd::default();
        assert!(waits(&crowd));
        crowd.give_up();
        assert!(!waits(&crowd) && lock(&crowd.0).waiting.is_empty());
        crowd.go_on();
        assert!(waits(&crowd));
    }

    #[test]
    fn nobody_waits_for_long() {
        let crowd = Crowd::default();
        crowd.look();
        assert!(waits(&crowd));
        crowd.look();
        assert!(waits(&crowd), "they have just come");
        crowd.go_on();
        assert!(waits(&crowd));
        crowd.look();
        assert!(waits(&crowd), "so have these");
        crowd.look();
        assert!(!waits(&crowd) && lock(&crowd.0).waiting.is_empty());
    }

    #[test]
    fn no_more_wait_than_may() {
        let crowd = Crowd::default();
        let somebody = || {
            let waker = Arc::new(Sleeper).into();
            crowd.wait(&Context::from_waker(&waker))
        };
        assert_eq!((0..2 * WAITING_MAX).filter(|_| somebody()).count(), WAITING_MAX);
    }
}

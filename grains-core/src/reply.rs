//! The way back of one call: the callee's end, which may answer once, and the caller's end, which may lose interest.
//!
//! Invariant: a call that was withdrawn while queued never begins, and one that has begun can no longer be withdrawn.
//! Both ends decide it under one lock, so a caller that is told "not executed" is told the truth.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::cancel::{Cancellation, Watched};

/// Makes the two ends of one reply.
pub fn reply_channel<T: Send>() -> (ReplySender<T>, ReplyReceiver<T>) {
    let shared = Arc::new(Mutex::new(Shared { stage: Stage::Queued, waker: None, watch: None, is_old: false }));
    (ReplySender { shared: shared.clone() }, ReplyReceiver { shared })
}

struct Shared<T> {
    stage: Stage<T>,
    waker: Option<Waker>,
    /// Fires when the caller withdraws, if anybody has asked for it.
    watch: Option<Arc<Cancellation>>,
    /// The caller has waited for so long that it is to make a timer.
    is_old: bool,
}

enum Stage<T> {
    /// The call waits for its turn.
    Queued,
    /// The turn has begun.
    Running,
    /// The answer waits for the caller; `None` when the turn ended without one.
    Answered(Option<T>),
    /// The caller has the answer, or wants none any more.
    Closed,
}

/// A caller that began to wait a moment ago. Most have their answers before a timer for their deadlines would be worth its while:
/// see [`Clock::wake_later`](crate::world::Clock::wake_later).
pub trait Young: Send + Sync {
    /// Whether it waits still.
    fn waits(&self) -> bool;
    /// If it waits still, it is woken and makes its timer.
    fn grow_up(&self);
}

impl<T> Stage<T> {
    /// Whether the caller waits and there is no answer yet.
    fn is_open(&self) -> bool {
        matches!(self, Self::Queued | Self::Running)
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The callee's end.
pub struct ReplySender<T> {
    shared: Arc<Mutex<Shared<T>>>,
}

/// What a caller left behind when it withdrew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withdrawn {
    /// The call had not begun and now never will.
    BeforeTheTurn,
    /// The turn had begun; it goes on, and its answer is dropped.
    DuringTheTurn,
}

impl<T> ReplySender<T> {
    /// Marks the turn as begun. `false` if the caller has withdrawn: then the turn must not run.
    #[must_use = "a withdrawn call must not run"]
    pub fn begin(&self) -> bool {
        let mut shared = lock(&self.shared);
        match shared.stage {
            Stage::Queued => {
                shared.stage = Stage::Running;
                true
            }
            Stage::Running => true,
            Stage::Answered(_) | Stage::Closed => false,
        }
    }

    /// Whether the caller no longer waits.
    pub fn is_withdrawn(&self) -> bool {
        matches!(lock(&self.shared).stage, Stage::Closed)
    }

    /// The caller, to be watched.
    pub fn watched(&self) -> Arc<dyn Watched>
    where
        T: Send + 'static,
    {
        self.shared.clone()
    }

    /// Answers the caller.
    pub fn send(self, answer: T) {
        self.close(Some(answer));
    }

    fn close(&self, answer: Option<T>) {
        let mut shared = lock(&self.shared);
        if shared.stage.is_open() {
            shared.stage = Stage::Answered(answer);
            let (waker, watch) = (shared.waker.take(), shared.watch.take());
            drop(shared);
            drop(watch);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl<T: Send> Watched for Mutex<Shared<T>> {
    fn watch(&self) -> Arc<Cancellation> {
        let mut shared = lock(self);
        let watch = shared.watch.get_or_insert_default().clone();
        let gone = matches!(shared.stage, Stage::Closed);
        drop(shared);
        if gone {
            watch.fire();
        }
        watch
    }
}

impl<T: Send> Young for Mutex<Shared<T>> {
    fn waits(&self) -> bool {
        lock(self).stage.is_open()
    }

    fn grow_up(&self) {
        let mut shared = lock(self);
        if !shared.stage.is_open() {
            return;
        }
        shared.is_old = true;
        let waker = shared.waker.take();
        drop(shared);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> Drop for ReplySender<T> {
    fn drop(&mut self) {
        self.close(None);
    }
}

/// The caller's end.
pub struct ReplyReceiver<T> {
    shared: Arc<Mutex<Shared<T>>>,
}

impl<T> ReplyReceiver<T> {
    /// Waits for the answer; `None` if the turn ended without one.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut waker = None; // a waker is cloned and dropped outside the lock: it may be a user's
        loop {
            let mut shared = lock(&self.shared);
            match std::mem::replace(&mut shared.stage, Stage::Closed) {
                Stage::Answered(answer) => return Poll::Ready(answer),
                Stage::Closed => return Poll::Ready(None),
                stage => shared.stage = stage,
            }
            if shared.waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                return Poll::Pending;
            }
            match waker.take() {
                None => {
                    drop(shared);
                    waker = Some(cx.waker().clone());
                }
                mine => {
                    let old = std::mem::replace(&mut shared.waker, mine);
                    drop(shared);
                    drop(old);
                    return Poll::Pending;
                }
            }
        }
    }

    /// This caller, to be [woken later](crate::world::Clock::wake_later).
    pub fn young(&self) -> Arc<dyn Young>
    where
        T: Send + 'static,
    {
        self.shared.clone()
    }

    /// Whether it was told to [grow up](Young::grow_up).
    pub fn is_old(&self) -> bool {
        lock(&self.shared).is_old
    }

    /// Gives up waiting, and says whether the turn had begun.
    pub fn withdraw(&self) -> Withdrawn {
        let mut shared = lock(&self.shared);
        let queued = matches!(shared.stage, Stage::Queued);
        let stage = std::mem::replace(&mut shared.stage, Stage::Closed);
        let (waker, watch) = (shared.waker.take(), shared.watch.take());
        drop(shared);
        drop(waker);
        if let Some(watch) = watch {
            watch.fire();
        }
        drop(stage); // an answer may run the user's code when it is dropped: not under the lock
        if queued { Withdrawn::BeforeTheTurn } else { Withdrawn::DuringTheTurn }
    }
}

impl<T> Drop for ReplyReceiver<T> {
    fn drop(&mut self) {
        self.withdraw();
    }
}

impl<T> std::fmt::Debug for ReplySender<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReplySender")
    }
}

impl<T> std::fmt::Debug for ReplyReceiver<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReplyReceiver")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poll<T>(receiver: &mut ReplyReceiver<T>) -> Poll<Option<T>> {
        receiver.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn an_answer_arrives_once() {
        let (sender, mut receiver) = reply_channel();
        assert!(poll(&mut receiver).is_pending());
        assert!(sender.begin());
        sender.send(7);
        assert_eq!(poll(&mut receiver), Poll::Ready(Some(7)));
        assert_eq!(poll(&mut receiver), Poll::Ready(None));
    }

    #[test]
    fn a_call_withdrawn_while_queued_never_begins() {
        let (sender, receiver) = reply_channel::<u8>();
        assert_eq!(receiver.withdraw(), Withdrawn::BeforeTheTurn);
        assert!(!sender.begin());
    }

    #[test]
    fn a_call_that_has_begun_is_not_said_to_have_never_run() {
        let (sender, receiver) = reply_channel::<u8>();
        assert!(sender.begin());
        assert_eq!(receiver.withdraw(), Withdrawn::DuringTheTurn);
        assert!(sender.is_withdrawn());
    }

    #[test]
    fn a_turn_that_ends_without_an_answer_is_noticed() {
        let (sender, mut receiver) = reply_channel::<u8>();
        assert!(poll(&mut receiver).is_pending());
        drop(sender);
        assert_eq!(poll(&mut receiver), Poll::Ready(None));
    }

    #[test]
    fn whoever_watches_the_caller_sees_it_leave_and_never_an_answer_taken() {
        let (sender, receiver) = reply_channel::<u8>();
        let early = sender.watched().watch();
        assert!(!early.has_fired());
        receiver.withdraw();
        assert!(early.has_fired());
        assert!(sender.watched().watch().has_fired(), "asked late");

        let (sender, mut receiver) = reply_channel::<u8>();
        let watch = sender.watched().watch();
        sender.send(7);
        assert_eq!(poll(&mut receiver), Poll::Ready(Some(7)));
        drop(receiver);
        assert!(!watch.has_fired());
    }

    #[test]
    fn who_grows_up_is_woken_once_and_only_while_it_waits() {
        struct Count(std::sync::atomic::AtomicU32);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
        }
        let count = Arc::new(Count(0.into()));
        let woken = || count.0.load(std::sync::atomic::Ordering::SeqCst);
        let waker = Waker::from(count.clone());
        let (sender, mut receiver) = reply_channel();
        let young = receiver.young();
        assert!(receiver.poll(&mut Context::from_waker(&waker)).is_pending());
        assert!(young.waits() && !receiver.is_old());
        young.grow_up();
        assert!(receiver.is_old());
        assert_eq!(woken(), 1);
        // The answer has to wake it, too.
        assert!(receiver.poll(&mut Context::from_waker(&waker)).is_pending());
        sender.send(7);
        assert_eq!(woken(), 2);
        assert!(!young.waits());
        young.grow_up();
        assert_eq!(poll(&mut receiver), Poll::Ready(Some(7)));

        let (sender, receiver) = reply_channel::<u8>();
        let young = receiver.young();
        young.grow_up();
        assert!(receiver.is_old(), "before it is polled for the first time");
        drop((sender, receiver));
        assert!(!young.waits());
    }

    #[test]
    fn withdrawing_and_beginning_never_both_succeed() {
        for _ in 0..2_000 {
            let (sender, receiver) = reply_channel::<u8>();
            let callee = std::thread::spawn(move || sender.begin());
            let withdrawn = receiver.withdraw();
            let begun = callee.join().unwrap();
            assert_eq!(begun, withdrawn == Withdrawn::DuringTheTurn);
        }
    }
}

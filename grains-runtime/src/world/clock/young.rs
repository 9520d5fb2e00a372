//! Callers that began to wait a moment ago. Nearly all have their answers within milliseconds, and a timer for each would cost more
//! than most of their calls: an allocation, and twice the lock of all timers. So they are kept in lists, and whoever is still there
//! after a tick or two is woken to make one.
//!
//! Invariant: while any list has callers in it, the ticker runs, or whoever put the first one in is about to start it.

use std::{
    mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use grains_core::reply::Young;
use tokio::runtime::Handle;

use crate::activation::turn::quietly;

/// A caller is woken after one to two of these.
const TICK: Duration = Duration::from_millis(10);
/// More than most machines have workers, so that threads seldom share a list.
const LISTS: usize = 32;
/// A list of so many is looked through by whoever makes it longer, so that between two ticks it holds few callers that have their
/// answers; one that still is as long afterwards, when it has doubled.
const LOOKED_THROUGH: usize = 256;

/// The callers of one runtime.
#[derive(Default)]
pub(super) struct Nursery {
    lists: [Line; LISTS],
    ticks: AtomicBool,
}

/// On a line of memory of its own.
#[derive(Default)]
#[repr(align(128))]
struct Line(Mutex<List>);

#[derive(Default)]
struct List {
    callers: Vec<Arc<dyn Young>>,
    /// So many of them, the first ones, were there at the last tick.
    seen: usize,
    /// How long it may become before it is looked through; 0 for the usual.
    looked_through: usize,
}

impl Line {
    fn lock(&self) -> MutexGuard<'_, List> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl List {
    fn push(&mut self, caller: Arc<dyn Young>) {
        if self.callers.len() >= self.looked_through.max(LOOKED_THROUGH) {
            self.forget_answered();
            self.looked_through = 2 * self.callers.len();
        }
        self.callers.push(caller);
    }

    /// What goes here has given its answer to its caller, or has none: nothing of a user is dropped.
    fn forget_answered(&mut self) {
        let (mut at, mut seen) = (0, 0);
        let was_seen = self.seen;
        self.callers.retain(|caller| {
            let waits = caller.waits();
            seen += usize::from(waits && at < was_seen);
            at += 1;
            waits
        });
        self.seen = seen;
    }

    /// Those who were here at the last tick, and still wait. The others have been seen now.
    fn tick(&mut self) -> Vec<Arc<dyn Young>> {
        self.forget_answered();
        let young = self.callers.split_off(self.seen);
        let old = mem::replace(&mut self.callers, young);
        self.seen = self.callers.len();
        old
    }
}

impl Nursery {
    pub(super) fn take(self: &Arc<Self>, caller: Arc<dyn Young>, runtime: &Handle) {
        self.lists[number_of_thread() % LISTS].lock().push(caller);
        // Behind the lock: the ticker looks at every list after it has said that it ends.
        if !self.ticks.load(Ordering::SeqCst) && !self.ticks.swap(true, Ordering::SeqCst) {
            runtime.spawn(self.clone().tick());
        }
    }

    async fn tick(self: Arc<Self>) {
        loop {
            tokio::time::sleep(TICK).await;
            // One list after the other: a thread waits for as long as one of them takes at most.
            for list in &self.lists {
                let old = list.lock().tick();
                // Not under the lock: wakers may be users'. Nor may one that panics end this task, as those of executors that have
                // ended do: nobody would be told any more.
                for caller in old {
                    quietly("the waker of a caller", || caller.grow_up());
                }
            }
            if self.is_empty() {
                self.ticks.store(false, Ordering::SeqCst);
                if self.is_empty() || self.ticks.swap(true, Ordering::SeqCst) {
                    return;
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.lists.iter().all(|list| list.lock().callers.is_empty())
    }
}

/// Threads are numbered as they first come here.
fn number_of_thread() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local!(static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed));
    NUMBER.with(|number| *number)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::AtomicU32,
        task::{Context, Poll, Wake, Waker},
    };

    use grains_core::reply::{ReplyReceiver, ReplySender, reply_channel};

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    struct Caller {
        reply: Option<ReplySender<u8>>,
        receiver: ReplyReceiver<u8>,
        woken: Arc<Woken>,
    }

    impl Caller {
        fn new(nursery: &Arc<Nursery>) -> Self {
            let (reply, mut receiver) = reply_channel();
            nursery.take(receiver.young(), &Handle::current());
            let woken = Arc::new(Woken::default());
            let waker = Waker::from(woken.clone());
            assert!(receiver.poll(&mut Context::from_waker(&waker)).is_pending());
            Self { reply: Some(reply), receiver, woken }
        }

        fn answer(&mut self) {
            self.reply.take().expect("once").send(1);
            assert_eq!(self.receiver.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Some(1)));
        }

        fn woken(&self) -> u32 {
            self.woken.0.load(Ordering::SeqCst)
        }
    }

    fn ticks(nursery: &Nursery) -> bool {
        nursery.ticks.load(Ordering::SeqCst)
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_long_is_told_once_and_who_is_answered_is_not() {
        let nursery = Arc::new(Nursery::default());
        let waits = Caller::new(&nursery);
        let mut answered = Caller::new(&nursery);
        answered.answer();
        let told = answered.woken();
        tokio::time::sleep(TICK + TICK / 2).await;
        assert!(!waits.receiver.is_old(), "it has been seen once");
        let later = Caller::new(&nursery);
        tokio::time::sleep(TICK).await;
        assert!(waits.receiver.is_old() && !later.receiver.is_old());
        assert_eq!((waits.woken(), answered.woken()), (1, told));
        tokio::time::sleep(TICK).await;
        assert!(later.receiver.is_old());
        assert_eq!((waits.woken(), later.woken()), (1, 1));
    }

    /// The waker of an executor that has ended, say: many panic then.
    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("there is nobody to wake");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_waker_that_panics_keeps_nobody_from_being_told() {
        let nursery = Arc::new(Nursery::default());
        let (_reply, mut receiver) = reply_channel::<u8>();
        nursery.take(receiver.young(), &Handle::current());
        assert!(receiver.poll(&mut Context::from_waker(&Arc::new(Panics).into())).is_pending());
        let waits = Caller::new(&nursery);
        tokio::time::sleep(3 * TICK).await;
        assert!(receiver.is_old() && waits.receiver.is_old());
        let later = Caller::new(&nursery);
        tokio::time::sleep(3 * TICK).await;
        assert!(later.receiver.is_old(), "the ticker goes on");
    }

    #[tokio::test(start_paused = true)]
    async fn the_ticker_ends_when_nobody_waits_and_begins_again() {
        let nursery = Arc::new(Nursery::default());
        assert!(!ticks(&nursery));
        for _ in 0..3 {
            let mut caller = Caller::new(&nursery);
            assert!(ticks(&nursery));
            caller.answer();
            tokio::time::sleep(2 * TICK).await;
            assert!(nursery.is_empty() && !ticks(&nursery));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_holds_few_of_those_who_have_their_answers() {
        let nursery = Arc::new(Nursery::default());
        let waits = Caller::new(&nursery);
        for _ in 0..100 * LOOKED_THROUGH {
            Caller::new(&nursery).answer();
            let longest = nursery.lists.iter().map(|list| list.lock().callers.len()).max();
            assert!(longest <= Some(LOOKED_THROUGH + 1));
        }
        tokio::time::sleep(3 * TICK).await;
        assert!(waits.receiver.is_old(), "it was not forgotten with them");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nobody_is_left_behind_when_the_ticker_ends_at_that_moment() {
        let nursery = Arc::new(Nursery::default());
        for round in 0..40 {
            let caller = Caller::new(&nursery);
            // Around the moment at which the ticker finds nothing more.
            tokio::time::sleep(TICK * 2 + Duration::from_micros(50 * round)).await;
            drop(caller);
            let next = Caller::new(&nursery);
            while next.woken() == 0 {
                tokio::time::sleep(TICK / 4).await;
            }
        }
    }
}

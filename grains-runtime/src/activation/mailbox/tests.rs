//! The invariants at the top of `mailbox.rs`, attacked: by loom, which tries every interleaving of two or three threads
//! (`./tests/loom`), and in ordinary runs by threads that do as they like.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicUsize, Ordering::SeqCst},
};

use super::*;
use crate::activation::backlog::NodeFull;

/// A waiter that knows who sent it.
struct Job {
    access: AccessKind,
    withdrawn: Arc<AtomicBool>,
}

impl Entry for Job {
    fn access(&self) -> AccessKind {
        self.access
    }
    fn wanted(&self) -> bool {
        !self.withdrawn.load(SeqCst)
    }
    fn bytes(&self) -> usize {
        size_of::<Self>()
    }
}

fn job(access: AccessKind) -> Job {
    Job { access, withdrawn: Arc::default() }
}

impl Mailbox<Job> {
    fn put(&self, job: Job, len_max: usize) -> Enqueued<Job> {
        self.enqueue(job, len_max, &roomy())
    }
}

fn roomy() -> Arc<Backlog> {
    Arc::new(Backlog::new(usize::MAX, usize::MAX))
}

/// More than all threads of a test make: the mailbox is never full.
const CALLS_MAX: usize = 1_000;

/// A mailbox with an instance behind it that notices whoever breaks a rule.
struct Grain {
    mailbox: Mailbox<Job>,
    instance: Instance,
    readers: AtomicI64,
    writer: AtomicBool,
    closing: AtomicBool,
    alive: AtomicBool,
    ran: AtomicUsize,
    lives: AtomicU32,
}

impl Grain {
    fn open() -> Self {
        let grain = Self {
            mailbox: Mailbox::closed(),
            instance: Instance::new(),
            readers: AtomicI64::new(0),
            writer: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            alive: AtomicBool::new(false),
            ran: AtomicUsize::new(0),
            lives: AtomicU32::new(0),
        };
        grain.begin_life();
        grain
    }

    fn begin_life(&self) {
        assert!(!self.alive.swap(true, SeqCst), "two lives at once");
        self.lives.fetch_add(1, SeqCst);
        self.closing.store(false, SeqCst);
        self.mailbox.open();
        let released = self.mailbox.release(AccessKind::Exclusive);
        self.after(released);
    }

    /// A turn that was granted, from start to end.
    fn turn(&self, access: AccessKind) {
        assert!(self.alive.load(SeqCst), "a turn without an instance");
        match access {
            AccessKind::Shared => {
                self.readers.fetch_add(1, SeqCst);
                assert!(!self.writer.load(SeqCst), "a shared turn beside an exclusive one");
                self.instance.read();
                yield_now();
                self.readers.fetch_sub(1, SeqCst);
            }
            AccessKind::Exclusive => {
                assert!(!self.writer.swap(true, SeqCst), "two exclusive turns");
                assert_eq!(self.readers.load(SeqCst), 0, "an exclusive turn beside shared ones");
                self.instance.write();
                yield_now();
                self.writer.store(false, SeqCst);
            }
        }
        self.ran.fetch_add(1, SeqCst);
    }

    /// The same, given back after it.
    fn whole_turn(&self, access: AccessKind) {
        self.turn(access);
        let released = self.mailbox.release(access);
        self.after(released);
    }

    /// Exclusive turns that were handed over together.
    fn serve(&self, mut jobs: VecDeque<Job>) {
        while !self.mailbox.is_closing()
            && let Some(job) = jobs.pop_front()
        {
            self.turn(job.access);
        }
        self.mailbox.put_back(jobs);
        let released = self.mailbox.release(AccessKind::Exclusive);
        self.after(released);
    }

    /// A turn that came through the queue: others learn that it has begun when it has been polled once, which may be
    /// after its end.
    fn granted(&self, access: AccessKind) {
        self.whole_turn(access);
        if access == AccessKind::Shared {
            let released = self.mailbox.begun();
            self.after(released);
        }
    }

    fn after(&self, released: Released<Job>) {
        match released {
            Released::Done => {}
            Released::HandOver(jobs) if jobs[0].access == AccessKind::Exclusive => self.serve(jobs),
            Released::HandOver(jobs) => jobs.into_iter().for_each(|job| self.granted(job.access)),
            Released::Close => self.close(),
        }
    }

    fn close(&self) {
        assert!(!self.closing.swap(true, SeqCst), "told to close twice");
        assert_eq!(self.readers.load(SeqCst), 0, "closed under a shared turn");
        assert!(!self.writer.load(SeqCst), "closed under an exclusive turn");
        self.instance.write();
        self.alive.store(false, SeqCst);
        if !self.mailbox.finish() {
            self.begin_life();
        }
    }

    /// A call; `false` if the activation was gone.
    fn call(&self, access: AccessKind) -> bool {
        if self.mailbox.try_begin(access) {
            self.whole_turn(access);
            return true;
        }
        match self.mailbox.put(job(access), CALLS_MAX) {
            Enqueued::Waits => true,
            Enqueued::Granted(job) => {
                self.granted(job.access);
                true
            }
            Enqueued::Gone(_) => false,
            Enqueued::Full(..) => panic!("it is never full here"),
        }
    }
}

/// Memory that turns read and write with no synchronization but the mailbox's own. Loom notices every access that is not
/// ordered after the one before, and two that overlap.
#[cfg(grains_loom)]
struct Instance(loom::cell::UnsafeCell<u64>);

// SAFETY: loom checks every access, which is what this is for.
#[cfg(grains_loom)]
unsafe impl Sync for Instance {}

#[cfg(grains_loom)]
impl Instance {
    fn new() -> Self {
        Self(loom::cell::UnsafeCell::new(0))
    }
    fn read(&self) {
        // SAFETY: loom fails the test if anybody writes at the same time.
        self.0.with(|value| assert!(unsafe { *value } < u64::MAX));
    }
    fn write(&self) {
        // SAFETY: loom fails the test if anybody reads or writes at the same time.
        self.0.with_mut(|value| unsafe { *value += 1 });
    }
}

/// Without loom there is nothing that would notice.
#[cfg(not(grains_loom))]
struct Instance;

#[cfg(not(grains_loom))]
impl Instance {
    fn new() -> Self {
        Self
    }
    fn read(&self) {}
    fn write(&self) {}
}

#[cfg(grains_loom)]
fn yield_now() {
    loom::thread::yield_now();
}
#[cfg(not(grains_loom))]
fn yield_now() {
    spin_loop();
}

#[cfg(grains_loom)]
mod every_interleaving {
    use super::*;

    /// Runs these on a thread each, in every order, and checks the end.
    fn race(threads: &'static [fn(&Grain) -> usize], check: fn(&Grain, usize)) {
        loom::model(move || {
            let grain = loom::sync::Arc::new(Grain::open());
            let handles: Vec<_> = threads
                .iter()
                .map(|thread| {
                    let grain = grain.clone();
                    loom::thread::spawn(move || thread(&grain))
                })
                .collect();
            let accepted = handles.into_iter().map(|handle| handle.join().unwrap()).sum();
            assert_eq!(grain.ran.load(SeqCst), accepted, "every call that was taken has run");
            assert_eq!(lock(&grain.mailbox.queue).len(), 0, "nobody is forgotten");
            check(&grain, accepted);
        });
    }

    fn write(grain: &Grain) -> usize {
        usize::from(grain.call(AccessKind::Exclusive))
    }
    fn read(grain: &Grain) -> usize {
        usize::from(grain.call(AccessKind::Shared))
    }
    fn sweep(grain: &Grain) -> usize {
        if grain.mailbox.try_close() {
            grain.close();
        }
        0
    }
    fn leave(grain: &Grain) -> usize {
        if grain.mailbox.leave_when_idle() {
            grain.close();
        }
        0
    }
    fn shut(grain: &Grain) -> usize {
        if grain.mailbox.shut() {
            grain.close();
        }
        0
    }
    fn idle(grain: &Grain, _: usize) {
        assert!(grain.mailbox.try_begin(AccessKind::Exclusive), "all turns were given back");
    }
    fn whatever(_: &Grain, _: usize) {}

    #[test]
    fn writers() {
        race(&[write, write], idle);
    }
    #[test]
    fn three_writers() {
        race(&[write, write, write], idle);
    }
    #[test]
    fn writer_and_readers() {
        race(&[write, read, read], idle);
    }
    #[test]
    fn calls_and_a_sweep() {
        race(&[write, read, sweep], whatever);
    }
    #[test]
    fn calls_and_leaving() {
        race(&[write, read, leave], |grain, _| {
            let left = !grain.alive.load(SeqCst) || grain.lives.load(SeqCst) > 1;
            assert!(left, "it left once nothing ran and nothing waited, or calls that came then began another life");
        });
    }
    #[test]
    fn calls_and_a_broken_life() {
        race(&[write, read, shut], |grain, accepted| {
            assert!(accepted == 2 || !grain.alive.load(SeqCst), "only an activation that is gone refuses");
        });
    }
    #[test]
    fn three_ways_to_end() {
        race(&[sweep, leave, shut], whatever);
    }
}

#[cfg(not(grains_loom))]
mod as_they_like {
    use super::*;

    #[test]
    fn threads_lose_nothing_and_break_no_rule() {
        for round in 0..200_u64 {
            let grain = Arc::new(Grain::open());
            let threads: Vec<_> = (0..4_u64)
                .map(|thread| {
                    let grain = grain.clone();
                    std::thread::spawn(move || {
                        let mut accepted = 0;
                        for n in 0..50_u64 {
                            match (n * 7 + thread * 3 + round) % 11 {
                                0 if grain.mailbox.try_close() => grain.close(),
                                1 if grain.mailbox.shut() => grain.close(),
                                2 if grain.mailbox.leave_when_idle() => grain.close(),
                                choice if choice % 2 == 0 => accepted += usize::from(grain.call(AccessKind::Shared)),
                                _ => accepted += usize::from(grain.call(AccessKind::Exclusive)),
                            }
                        }
                        accepted
                    })
                })
                .collect();
            let accepted: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
            assert_eq!(grain.ran.load(SeqCst), accepted, "every call that was taken has run");
            assert_eq!(lock(&grain.mailbox.queue).len(), 0);
        }
    }

    #[test]
    fn waiters_run_in_order_and_readers_together() {
        let mailbox = Mailbox::closed();
        for access in [AccessKind::Shared, AccessKind::Shared, AccessKind::Exclusive, AccessKind::Shared] {
            assert!(matches!(mailbox.put(job(access), 8), Enqueued::Waits));
        }
        mailbox.open();
        let Released::HandOver(first) = mailbox.release(AccessKind::Exclusive) else { panic!() };
        assert_eq!(first.len(), 2, "two readers together, but not the one behind the writer");
        assert!(!mailbox.try_begin(AccessKind::Shared), "nobody overtakes the writer");
        assert!(mailbox.try_begin_beside(), "but one of the chain that holds a turn");
        assert!(matches!(mailbox.begun(), Released::Done));
        assert!(matches!(mailbox.release(AccessKind::Shared), Released::Done));
        assert!(matches!(mailbox.begun(), Released::Done));
        assert!(matches!(mailbox.release(AccessKind::Shared), Released::Done));
        let Released::HandOver(second) = mailbox.release(AccessKind::Shared) else { panic!() };
        assert!(second.iter().map(Entry::access).eq([AccessKind::Exclusive]));
        let Released::HandOver(third) = mailbox.release(AccessKind::Exclusive) else { panic!() };
        assert_eq!(third.len(), 1);
        assert!(!mailbox.try_begin(AccessKind::Shared), "nobody overtakes a turn that was granted and has not begun");
        assert!(matches!(mailbox.begun(), Released::Done));
        assert!(mailbox.try_begin(AccessKind::Shared), "but afterwards they run beside each other");
        assert!(matches!(mailbox.release(AccessKind::Shared), Released::Done));
        assert!(matches!(mailbox.release(AccessKind::Shared), Released::Done));
        assert!(mailbox.try_begin(AccessKind::Exclusive));
    }

    #[test]
    fn writers_are_handed_over_together_and_those_put_back_come_first() {
        let mailbox = Mailbox::closed();
        let jobs: Vec<_> = (0..5).map(|_| job(AccessKind::Exclusive)).collect();
        let names: Vec<_> = jobs.iter().map(|job| job.withdrawn.clone()).collect();
        let (four, last) = jobs.split_at(4);
        for Job { access, withdrawn } in four {
            let job = Job { access: *access, withdrawn: withdrawn.clone() };
            assert!(matches!(mailbox.put(job, 8), Enqueued::Waits));
        }
        mailbox.open();
        let Released::HandOver(mut first) = mailbox.release(AccessKind::Exclusive) else { panic!() };
        assert_eq!(first.len(), 4);
        assert!(!mailbox.try_begin(AccessKind::Exclusive), "one turn is held for all of them");
        assert!(matches!(
            mailbox.put(Job { access: AccessKind::Exclusive, withdrawn: last[0].withdrawn.clone() }, 8),
            Enqueued::Waits
        ));
        // The first one waits: its turn goes on elsewhere.
        drop(first.pop_front());
        names[2].store(true, SeqCst);
        mailbox.put_back(first);
        let Released::HandOver(second) = mailbox.release(AccessKind::Exclusive) else { panic!() };
        let order: Vec<_> =
            second.iter().map(|job| names.iter().position(|name| Arc::ptr_eq(name, &job.withdrawn))).collect();
        assert_eq!(order, [Some(1), Some(3), Some(4)], "in their order, without the one that was taken back");
        assert!(!mailbox.is_closing());
        assert!(!mailbox.shut(), "the turn is held");
        assert!(mailbox.is_closing(), "the rest may not begin");
        mailbox.put_back(second);
        assert!(matches!(mailbox.release(AccessKind::Exclusive), Released::Close));
        assert_eq!(mailbox.abandon().len(), 3);
    }

    #[test]
    fn a_turn_that_waited_is_given_back_whole() {
        let mailbox: Mailbox<Job> = Mailbox::closed();
        mailbox.open();
        assert!(matches!(mailbox.release(AccessKind::Exclusive), Released::Done));
        assert!(mailbox.try_begin(AccessKind::Exclusive));
        mailbox.parked(AccessKind::Exclusive);
        assert!(!mailbox.try_begin(AccessKind::Shared));
        assert!(matches!(mailbox.release(AccessKind::Exclusive), Released::Done));
        assert!(mailbox.try_begin(AccessKind::Shared));
        mailbox.parked(AccessKind::Shared);
        assert!(mailbox.try_begin(AccessKind::Shared), "shared turns that wait keep no others out");
        assert!(matches!(mailbox.release(AccessKind::Shared), Released::Done));
        assert!(matches!(mailbox.release(AccessKind::Shared), Released::Done));
        assert!(mailbox.try_close());
    }

    #[test]
    fn refusals_look_at_the_queue_now_and_then_only() {
        let mailbox = Mailbox::closed();
        let looked = job(AccessKind::Exclusive);
        let flag = looked.withdrawn.clone();
        assert!(matches!(mailbox.put(looked, 3), Enqueued::Waits));
        for _ in 0..2 {
            assert!(matches!(mailbox.put(job(AccessKind::Exclusive), 3), Enqueued::Waits));
        }
        assert!(matches!(mailbox.put(job(AccessKind::Exclusive), 3), Enqueued::Full(..)));
        // Nobody says so: as when the caller is on another node.
        flag.store(true, SeqCst);
        let refused = (0..9).take_while(|_| matches!(mailbox.put(job(AccessKind::Exclusive), 3), Enqueued::Full(..)));
        assert_eq!(refused.count(), 2, "after as many refusals as wait it is found");
    }

    #[test]
    fn what_was_withdrawn_makes_room_and_never_runs() {
        let mailbox = Mailbox::closed();
        let withdrawn = job(AccessKind::Exclusive);
        let flag = withdrawn.withdrawn.clone();
        assert!(matches!(mailbox.put(withdrawn, 1), Enqueued::Waits));
        assert!(matches!(mailbox.put(job(AccessKind::Exclusive), 1), Enqueued::Full(..)));
        flag.store(true, SeqCst);
        assert!(matches!(mailbox.put(job(AccessKind::Shared), 1), Enqueued::Waits));
        mailbox.open();
        let Released::HandOver(next) = mailbox.release(AccessKind::Exclusive) else { panic!() };
        assert!(next.iter().map(Entry::access).eq([AccessKind::Shared]));
    }

    #[test]
    fn readers_do_not_wait_behind_a_writer_that_gave_up() {
        let mailbox = Mailbox::closed();
        mailbox.open();
        assert!(matches!(mailbox.release(AccessKind::Exclusive), Released::Done));
        assert!(mailbox.try_begin(AccessKind::Shared));
        let writer = job(AccessKind::Exclusive);
        let gave_up = writer.withdrawn.clone();
        assert!(matches!(mailbox.put(writer, 8), Enqueued::Waits));
        assert!(matches!(mailbox.put(job(AccessKind::Shared), 8), Enqueued::Waits));
        gave_up.store(true, SeqCst);
        let Released::HandOver(next) = mailbox.withdrawn() else { panic!() };
        assert_eq!(next.len(), 1, "the reader that waited");
        assert!(matches!(mailbox.begun(), Released::Done));
        assert!(mailbox.try_begin(AccessKind::Shared), "and later ones");
    }

    #[test]
    fn shared_turns_have_a_limit_and_go_on_below_it() {
        let mailbox = Mailbox::closed();
        mailbox.open();
        assert!(matches!(mailbox.release(AccessKind::Exclusive), Released::Done));
        for _ in 0..SHARED_TURNS_MAX {
            assert!(mailbox.try_begin(AccessKind::Shared));
        }
        assert!(!mailbox.try_begin(AccessKind::Shared) && !mailbox.try_begin_beside());
        assert!(matches!(mailbox.put(job(AccessKind::Shared), 8), Enqueued::Waits));
        let Released::HandOver(next) = mailbox.release(AccessKind::Shared) else { panic!() };
        assert_eq!(next.len(), 1, "one ended, one begins");
    }

    #[test]
    fn who_takes_its_turn_needs_room_on_the_node_and_none_in_the_queue() {
        let mailbox = Mailbox::closed();
        mailbox.open();
        assert!(matches!(mailbox.release(AccessKind::Exclusive), Released::Done));
        let backlog = Arc::new(Backlog::new(1, 1_000));
        let taken = mailbox.enqueue(job(AccessKind::Exclusive), 0, &backlog);
        assert!(matches!(taken, Enqueued::Granted(_)));
        assert_eq!(backlog.calls(), 1, "until it begins");
        assert!(matches!(mailbox.release(AccessKind::Exclusive), Released::Done));
        for access in [AccessKind::Shared, AccessKind::Exclusive] {
            let refused = mailbox.enqueue(job(access), 8, &backlog);
            assert!(matches!(refused, Enqueued::Full(_, Full::Node(NodeFull::Calls(1)))));
            assert!(mailbox.is_idle());
        }
        backlog.sub(job(AccessKind::Shared).bytes());
        assert!(matches!(mailbox.enqueue(job(AccessKind::Shared), 8, &backlog), Enqueued::Granted(_)));
    }

    #[test]
    fn a_mailbox_that_is_gone_takes_nothing() {
        let mailbox = Mailbox::closed();
        assert!(mailbox.finish());
        assert!(matches!(mailbox.put(job(AccessKind::Shared), 1), Enqueued::Gone(_)));
        assert!(!mailbox.try_begin(AccessKind::Shared));
        assert!(!mailbox.shut() && !mailbox.leave_when_idle() && !mailbox.try_close());
    }
}

//! Who may run a turn: a fair lock, shared or exclusive, and the bounded queue of calls that wait for it.
//!
//! One word decides most of it. While nobody waits, a turn begins with one compare-and-swap and ends with another; the
//! queue's mutex is only taken when somebody has to wait or the life of the activation ends.
//!
//! Invariants, explored by the loom tests at the end:
//! 1. An exclusive turn is alone: `EXCLUSIVE` is never set together with a count of shared turns.
//! 2. First come, first served: while `WAITING` is set no turn begins but those taken from the queue, in its order.
//! 3. Nobody is forgotten: `WAITING` is only set while somebody holds a turn or has one granted that did not begin yet,
//!    and whoever gives a turn back, begins a granted one or takes a call back looks at who comes next.
//! 4. When `CLOSING` is set no turn begins. Exactly one party is told to close: whoever gives back the last turn, or
//!    whoever sets the mark while none is held. It holds the exclusive turn from then on.
//! 5. Nothing enters the queue of a mailbox that is `GONE`.
//! 6. An exclusive turn that is handed over to several waiters is theirs one after the other, shared ones have a turn each: whoever
//!    serves them asks [`is_closing`](Mailbox::is_closing) before each, and puts those that did not begin back in front.

mod queue;

use std::{collections::VecDeque, hint::spin_loop, ops::ControlFlow, sync::Arc};

use grains_core::AccessKind;

pub(crate) use self::queue::Full;
use self::queue::{Queue, Unwanted};
use super::backlog::Backlog;
use crate::sync::{AtomicU32, Mutex, Ordering, lock};

/// An exclusive turn runs.
const EXCLUSIVE: u32 = 1;
/// The queue is not empty.
const WAITING: u32 = 2;
/// This life ends: no further turn may begin in it.
const CLOSING: u32 = 4;
/// This life ends when nothing runs and nothing waits.
const LEAVING: u32 = 8;
/// The activation is over and out of the catalog, or about to be.
const GONE: u32 = 16;
/// The exclusive turn that runs waits for something: nobody knows how long.
const PARKED: u32 = 32;
/// One shared turn; the bits from here up count them.
const SHARED: u32 = 64;

/// The most shared turns that run beside each other in one activation. What comes beyond waits in the mailbox, which is
/// bounded too. Far above any machine's threads; turns that only wait for something are better answered with a stream.
pub(crate) const SHARED_TURNS_MAX: u32 = 4096;

/// How often a caller looks again while a turn that excludes its own runs, has not had to wait, and nobody queues. Most turns are
/// shorter than the way through the queue, which costs a lock, three allocations and a wake; and whoever queues makes all others
/// queue, so that one impatient caller costs a crowded grain half of its rate. Some ten microseconds, for one caller of each thread.
const PATIENCE: u32 = if cfg!(grains_loom) { 0 } else { 300 };

/// How long it looks away first, in looks. Whoever runs the turn most likely makes the next calls, too, and memory that moves from
/// one thread to the other with each call costs more than short turns do: so each gets a few before the other looks.
const LOOKS_AWAY: u32 = 64;

/// The most waiters handed over at once: enough for any machine's threads, few enough to stay fair.
const HAND_OVER_MAX: usize = 64;

/// Something that waits for a turn.
pub(crate) trait Entry {
    /// How it needs to run.
    fn access(&self) -> AccessKind;
    /// Whether anybody still wants it to run.
    fn wanted(&self) -> bool;
    /// The memory it holds; always the same for one entry.
    fn bytes(&self) -> usize;
}

pub(crate) struct Mailbox<E: Entry> {
    word: AtomicU32,
    queue: Mutex<Queue<E>>,
}

/// What became of a call that had to wait.
pub(crate) enum Enqueued<E> {
    /// It is in the queue and will be handed over.
    Waits,
    /// The lock turned out to be free: it has its turn. It is counted in the backlog still: whoever begins it takes it out there.
    Granted(E),
    /// There is no room for it.
    Full(E, Full),
    /// There is no activation behind this mailbox any more.
    Gone(E),
}

/// The same, before the queue knows of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entered {
    Waits,
    Takes,
    Gone,
}

/// What whoever gave a turn back has to do.
#[must_use = "waiting calls are only served by whoever was told to"]
pub(crate) enum Released<E> {
    /// Nothing.
    Done,
    /// Run these, of one access: shared ones have a turn each, exclusive ones have one together, which is given back after the
    /// last of them.
    HandOver(VecDeque<E>),
    /// End this life: the exclusive turn is held.
    Close,
}

fn held(word: u32) -> bool {
    word & EXCLUSIVE != 0 || word >= SHARED
}

fn one(access: AccessKind) -> u32 {
    match access {
        AccessKind::Shared => SHARED,
        AccessKind::Exclusive => EXCLUSIVE,
    }
}

/// Waits for so many looks, and one more.
fn look_away(looks: u32) {
    for _ in 0..=looks {
        spin_loop();
    }
}

/// How many more shared turns may run.
fn room(word: u32) -> usize {
    SHARED_TURNS_MAX.saturating_sub(word / SHARED) as usize
}

/// Whether a turn of this access may begin beside what `word` says is running.
fn free(word: u32, access: AccessKind) -> bool {
    match access {
        AccessKind::Shared => word & (EXCLUSIVE | WAITING | CLOSING | GONE) == 0 && room(word) > 0,
        AccessKind::Exclusive => word & !LEAVING == 0,
    }
}

impl<E: Entry> Mailbox<E> {
    /// The mailbox of an activation that is being made: its maker holds the exclusive turn, and calls wait.
    pub(crate) fn closed() -> Self {
        Self { word: AtomicU32::new(EXCLUSIVE | CLOSING), queue: Mutex::new(Queue::new()) }
    }

    /// Begins a turn if none that excludes it runs and nobody waits.
    pub(crate) fn try_begin(&self, access: AccessKind) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        let mut patience = PATIENCE;
        let mut away = LOOKS_AWAY;
        loop {
            if free(word, access) {
                match self.word.compare_exchange_weak(word, word + one(access), Ordering::Acquire, Ordering::Relaxed) {
                    Ok(_) => return true,
                    Err(now) => word = now,
                }
            } else if patience > 0 && word & (WAITING | CLOSING | GONE | PARKED) == 0 {
                patience -= 1;
                look_away(std::mem::take(&mut away));
                word = self.word.load(Ordering::Relaxed);
            } else {
                return false;
            }
        }
    }

    /// Begins one more shared turn on behalf of a chain that already holds one: waiting behind a writer that waits for
    /// this chain would never end.
    pub(crate) fn try_begin_beside(&self) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while word >= SHARED && word & CLOSING == 0 && room(word) > 0 {
            match self.word.compare_exchange_weak(word, word + SHARED, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// Waits in the queue, if there is room for it, or takes the turn if that has become free.
    pub(crate) fn enqueue(&self, entry: E, len_max: usize, backlog: &Arc<Backlog>) -> Enqueued<E> {
        let (access, bytes) = (entry.access(), entry.bytes());
        let mut unwanted = Unwanted::none();
        let mut queue = lock(&self.queue);
        let queue = queue.begun(backlog);
        queue.make_room(len_max, &mut unwanted);
        let room = queue.reserve(bytes, len_max);
        match (self.enter(access, room), room) {
            (Entered::Gone, Ok(())) => {
                queue.give_up(bytes);
                Enqueued::Gone(entry)
            }
            (Entered::Gone, Err(_)) => Enqueued::Gone(entry),
            (Entered::Takes, room) => {
                if room.is_err() {
                    queue.reserve_again(bytes);
                }
                // It begins on a task: until then nobody may overtake it. An exclusive turn keeps others out by itself.
                queue.grant(u32::from(access == AccessKind::Shared));
                Enqueued::Granted(entry)
            }
            (Entered::Waits, Ok(())) => {
                let somebody = held(self.word.load(Ordering::Relaxed)) || queue.has_granted();
                debug_assert!(somebody, "somebody must be there to hand over");
                queue.push(entry);
                Enqueued::Waits
            }
            (Entered::Waits, Err(full)) => Enqueued::Full(entry, full),
        }
    }

    /// What becomes of a call that does not begin at once, under the queue's lock. It changes nothing if the call would have to wait
    /// and there is no room. One that takes its turn waits for a task that begins it: it needs room on the node, and none here.
    fn enter(&self, access: AccessKind, room: Result<(), Full>) -> Entered {
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let (next, entered) = match free(word, access) {
                _ if word & GONE != 0 => return Entered::Gone,
                _ if matches!(room, Err(Full::Node(_))) => return Entered::Waits,
                true if access == AccessKind::Shared => ((word + SHARED) | WAITING, Entered::Takes),
                true => (word + EXCLUSIVE, Entered::Takes),
                // The mark is taken away under the lock only, so it stays.
                false if room.is_err() || word & WAITING != 0 => return Entered::Waits,
                false => (word | WAITING, Entered::Waits),
            };
            match self.word.compare_exchange(word, next, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return entered,
                Err(now) => word = now,
            }
        }
    }

    /// Gives a turn back.
    pub(crate) fn release(&self, access: AccessKind) -> Released<E> {
        let mine = one(access);
        if self.word.compare_exchange(mine, 0, Ordering::Release, Ordering::Relaxed).is_ok() {
            return Released::Done;
        }
        let mut unwanted = Unwanted::none();
        let mut queue = lock(&self.queue);
        if access == AccessKind::Exclusive {
            self.word.fetch_and(!PARKED, Ordering::AcqRel);
        }
        self.word.fetch_sub(mine, Ordering::AcqRel);
        self.pass_on(&mut queue, &mut unwanted)
    }

    /// A turn that is held has to wait for something. Called by whoever holds it.
    pub(crate) fn parked(&self, access: AccessKind) {
        if access == AccessKind::Exclusive {
            self.word.fetch_or(PARKED, Ordering::Relaxed);
        }
    }

    /// A shared turn that was handed over or granted by the queue has begun: others may begin beside it.
    pub(crate) fn begun(&self) -> Released<E> {
        let mut unwanted = Unwanted::none();
        let mut queue = lock(&self.queue);
        queue.granted_one_less();
        self.pass_on(&mut queue, &mut unwanted)
    }

    /// A call that waited was taken back: those behind it may not have to wait any more.
    pub(crate) fn withdrawn(&self) -> Released<E> {
        let mut unwanted = Unwanted::none();
        let mut queue = lock(&self.queue);
        queue.taken_back(&mut unwanted);
        self.pass_on(&mut queue, &mut unwanted)
    }

    /// It has not been used for a while: gives back the memory of a queue that is empty.
    pub(crate) fn trim(&self) {
        lock(&self.queue).trim();
    }

    /// How many calls wait.
    pub(crate) fn len(&self) -> usize {
        lock(&self.queue).len()
    }

    /// Looks at what waits, one after the other, and at nothing last: under the lock that everything else of the queue needs.
    pub(crate) fn look(&self, look: &mut dyn FnMut(Option<&E>) -> ControlFlow<()>) {
        let queue = lock(&self.queue);
        queue.each(&mut |entry| look(Some(entry)));
        let _ended = look(None);
    }

    /// Takes the first that is `wanted` out of the queue: those behind it may not have to wait any more.
    pub(crate) fn take_out(&self, wanted: &mut dyn FnMut(&E) -> bool) -> Option<(E, Released<E>)> {
        let mut unwanted = Unwanted::none();
        let mut queue = lock(&self.queue);
        let taken = queue.take_out(wanted)?;
        Some((taken, self.pass_on(&mut queue, &mut unwanted)))
    }

    /// Decides what comes next, under the queue's lock, after whatever may have changed it.
    fn pass_on(&self, queue: &mut Queue<E>, unwanted: &mut Unwanted<E>) -> Released<E> {
        let front = queue.front(unwanted).map(Entry::access);
        if !queue.keeps_others_waiting() {
            self.word.fetch_and(!WAITING, Ordering::AcqRel);
        }
        // While WAITING or CLOSING is set and the queue is locked, nobody else can begin a turn.
        let word = self.word.load(Ordering::Acquire);
        if word & (EXCLUSIVE | GONE) != 0 {
            return Released::Done;
        }
        if word & CLOSING != 0 {
            if held(word) {
                return Released::Done;
            }
            self.word.fetch_or(EXCLUSIVE, Ordering::AcqRel);
            return Released::Close;
        }
        match front {
            Some(AccessKind::Exclusive) if held(word) => Released::Done,
            Some(AccessKind::Exclusive) => self.hand_over_exclusive(queue, unwanted),
            // Some others have yet to begin, on a task of theirs: these would overtake them. Whoever begins the last one looks again.
            Some(AccessKind::Shared) if queue.has_granted() => Released::Done,
            Some(AccessKind::Shared) => self.hand_over_shared(queue, unwanted, room(word)),
            None if word & LEAVING != 0 && self.try_close() => Released::Close,
            None => Released::Done,
        }
    }

    fn hand_over_exclusive(&self, queue: &mut Queue<E>, unwanted: &mut Unwanted<E>) -> Released<E> {
        let next = queue.take(AccessKind::Exclusive, HAND_OVER_MAX, unwanted);
        // WAITING still keeps everybody else out, so the turn begins before it is taken away.
        self.word.fetch_add(EXCLUSIVE, Ordering::AcqRel);
        if !queue.keeps_others_waiting() {
            self.word.fetch_and(!WAITING, Ordering::AcqRel);
        }
        Released::HandOver(next)
    }

    fn hand_over_shared(&self, queue: &mut Queue<E>, unwanted: &mut Unwanted<E>, room: usize) -> Released<E> {
        let next = queue.take(AccessKind::Shared, HAND_OVER_MAX.min(room), unwanted);
        if next.is_empty() {
            return Released::Done;
        }
        let begun = next.len() as u32;
        queue.grant(begun);
        self.word.fetch_add(begun * SHARED, Ordering::AcqRel);
        Released::HandOver(next)
    }

    /// Whether nothing runs and nothing waits, and a turn may begin.
    pub(crate) fn is_idle(&self) -> bool {
        self.word.load(Ordering::Acquire) & !LEAVING == 0
    }

    /// Whether this life ends: what was handed over and has not begun may not begin any more.
    pub(crate) fn is_closing(&self) -> bool {
        self.word.load(Ordering::Acquire) & CLOSING != 0
    }

    /// Whether this life ends, and the activation is not gone yet. So it is, too, before its first one.
    pub(crate) fn is_ending(&self) -> bool {
        self.word.load(Ordering::Acquire) & (CLOSING | GONE) == CLOSING
    }

    /// Puts back what was handed over together and has not begun, while its turns are still held.
    pub(crate) fn put_back(&self, entries: VecDeque<E>) {
        if entries.is_empty() {
            return;
        }
        let mut queue = lock(&self.queue);
        debug_assert!(held(self.word.load(Ordering::Relaxed)), "somebody must be there to hand over");
        queue.put_back(entries);
        self.word.fetch_or(WAITING, Ordering::AcqRel);
    }

    /// Closes if nothing runs and nothing waits. The caller then holds the exclusive turn.
    pub(crate) fn try_close(&self) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while word & !LEAVING == 0 {
            match self.word.compare_exchange(word, EXCLUSIVE | CLOSING, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// Lets no further turn begin in this life. `true` if no turn is held: then the caller holds the exclusive one and
    /// must close.
    pub(crate) fn shut(&self) -> bool {
        let _queue = lock(&self.queue);
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            let idle = !held(word) && word & GONE == 0;
            let next = word | CLOSING | if idle { EXCLUSIVE } else { 0 };
            match self.word.compare_exchange(word, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return idle,
                Err(now) => word = now,
            }
        }
    }

    /// Marks this life to end as soon as nothing runs and nothing waits. `true` if that is now: then the caller holds the
    /// exclusive turn and must close.
    pub(crate) fn leave_when_idle(&self) -> bool {
        let _queue = lock(&self.queue);
        let word = self.word.fetch_or(LEAVING, Ordering::AcqRel);
        !held(word) && self.try_close()
    }

    /// A new life is made: whoever closed, and holds the exclusive turn, lets turns begin again once it gives that back.
    pub(crate) fn open(&self) {
        let _queue = lock(&self.queue);
        self.word.fetch_and(!(CLOSING | LEAVING), Ordering::AcqRel);
    }

    /// Ends the mailbox for good if nothing waits. Only whoever closed may ask. `false` if calls wait for a new life.
    pub(crate) fn finish(&self) -> bool {
        let mut unwanted = Unwanted::none();
        let mut queue = lock(&self.queue);
        queue.purge(&mut unwanted);
        if queue.len() > 0 {
            return false;
        }
        self.word.fetch_or(GONE, Ordering::AcqRel);
        true
    }

    /// Ends the mailbox for good and gives back whatever waits. Only whoever closed may ask.
    pub(crate) fn abandon(&self) -> VecDeque<E> {
        let mut queue = lock(&self.queue);
        self.word.fetch_or(GONE, Ordering::AcqRel);
        queue.take_all()
    }
}

#[cfg(test)]
mod tests;

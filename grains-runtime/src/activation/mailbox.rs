//! Who may run a turn: a fair lock, shared or exclusive, and the bounded queue of calls that wait for it.
//!
//! One word decides most of it. While nobody waits, a turn begins with one compare-and-swap and ends with another; the
//! queue's mutex is only taken when somebody has to wait or the life of the activation ends.
//!
//! Invariants, explored by the loom tests at the end:
//! 1. An exclusive turn is alone: `EXCLUSIVE` is never set together with a count of shared turns.
//! 2. First come, first served: while `WAITING` is set no turn begins but those taken from the queue, in its order.
//! 3. Nobody is forgotten: `WAITING` is only set while somebody holds a turn, and who gives back the last turn hands over.
//! 4. When `CLOSING` is set no turn begins. Exactly one party is told to close: whoever gives back the last turn, or
//!    whoever sets the mark while none is held. It holds the exclusive turn from then on.
//! 5. Nothing enters the queue of a mailbox that is `GONE`.

use std::collections::VecDeque;

use grains_core::AccessKind;

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
/// One shared turn; the bits from here up count them.
const SHARED: u32 = 32;

/// The most shared turns handed over at once: enough for any machine's threads, few enough to stay fair.
const HAND_OVER_MAX: usize = 64;

/// Something that waits for a turn.
pub(crate) trait Entry {
    /// How it needs to run.
    fn access(&self) -> AccessKind;
    /// Whether anybody still wants it to run.
    fn wanted(&self) -> bool;
}

pub(crate) struct Mailbox<E> {
    word: AtomicU32,
    queue: Mutex<VecDeque<E>>,
}

/// What became of a call that had to wait.
pub(crate) enum Enqueued<E> {
    /// It is in the queue and will be handed over.
    Waits,
    /// The lock turned out to be free: it has its turn.
    Granted(E),
    /// The queue is full.
    Full(E),
    /// There is no activation behind this mailbox any more.
    Gone(E),
}

/// What whoever gave a turn back has to do.
#[must_use = "waiting calls are only served by whoever was told to"]
pub(crate) enum Released<E> {
    /// Nothing.
    Done,
    /// Run these: each has its turn already.
    HandOver(Vec<E>),
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

/// Whether a turn of this access may begin beside what `word` says is running.
fn free(word: u32, access: AccessKind) -> bool {
    let blocked = match access {
        AccessKind::Shared => EXCLUSIVE | WAITING | CLOSING | GONE,
        AccessKind::Exclusive => !LEAVING,
    };
    word & blocked == 0
}

/// Moves what nobody wants any more out of the queue.
fn purge<E: Entry>(queue: &mut VecDeque<E>, unwanted: &mut Vec<E>) {
    for _ in 0..queue.len() {
        let Some(entry) = queue.pop_front() else { return };
        if entry.wanted() { queue.push_back(entry) } else { unwanted.push(entry) }
    }
}

impl<E: Entry> Mailbox<E> {
    /// The mailbox of an activation that is being made: its maker holds the exclusive turn, and calls wait.
    pub(crate) fn closed() -> Self {
        Self { word: AtomicU32::new(EXCLUSIVE | CLOSING), queue: Mutex::new(VecDeque::new()) }
    }

    /// Begins a turn if none that excludes it runs and nobody waits.
    pub(crate) fn try_begin(&self, access: AccessKind) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while free(word, access) {
            match self.word.compare_exchange_weak(word, word + one(access), Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// Begins one more shared turn on behalf of a chain that already holds one: waiting behind a writer that waits for
    /// this chain would never end.
    pub(crate) fn try_begin_beside(&self) -> bool {
        let mut word = self.word.load(Ordering::Relaxed);
        while word >= SHARED && word & CLOSING == 0 {
            match self.word.compare_exchange_weak(word, word + SHARED, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    /// Waits in the queue, or takes the turn if it has become free.
    pub(crate) fn enqueue(&self, entry: E, len_max: usize) -> Enqueued<E> {
        let mut unwanted = Vec::new(); // dropped after the lock: arguments may run users' code when they drop
        let mut queue = lock(&self.queue);
        if queue.len() >= len_max {
            purge(&mut queue, &mut unwanted);
        }
        let mut word = self.word.load(Ordering::Relaxed);
        loop {
            if word & GONE != 0 {
                return Enqueued::Gone(entry);
            }
            let takes = free(word, entry.access());
            if !takes && queue.len() >= len_max {
                return Enqueued::Full(entry);
            }
            debug_assert!(takes || held(word), "somebody must hold a turn to hand it over");
            let next = if takes { word + one(entry.access()) } else { word | WAITING };
            match self.word.compare_exchange(word, next, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) if takes => return Enqueued::Granted(entry),
                Ok(_) => break,
                Err(now) => word = now,
            }
        }
        queue.push_back(entry);
        Enqueued::Waits
    }

    /// Gives a turn back.
    pub(crate) fn release(&self, access: AccessKind) -> Released<E> {
        let mine = one(access);
        if self.word.compare_exchange(mine, 0, Ordering::Release, Ordering::Relaxed).is_ok() {
            return Released::Done;
        }
        let mut unwanted = Vec::new();
        let mut queue = lock(&self.queue);
        let word = self.word.fetch_sub(mine, Ordering::AcqRel) - mine;
        self.pass_on(&mut queue, word, &mut unwanted)
    }

    /// Nobody may hold a turn and not know what comes next: decides it, under the queue's lock.
    fn pass_on(&self, queue: &mut VecDeque<E>, word: u32, unwanted: &mut Vec<E>) -> Released<E> {
        // While WAITING or CLOSING is set and the queue is locked, nobody else can begin a turn.
        if held(word) {
            return Released::Done;
        }
        if word & CLOSING != 0 {
            self.word.fetch_or(EXCLUSIVE, Ordering::AcqRel);
            return Released::Close;
        }
        if word & WAITING != 0 {
            let next = self.take_next(queue, unwanted);
            if !next.is_empty() {
                return Released::HandOver(next);
            }
        }
        if word & LEAVING != 0 && self.try_close() { Released::Close } else { Released::Done }
    }

    /// Takes from the queue what may run next, and begins its turns.
    fn take_next(&self, queue: &mut VecDeque<E>, unwanted: &mut Vec<E>) -> Vec<E> {
        let mut next = Vec::new();
        while let Some(entry) = queue.front() {
            let goes_along = match next.first() {
                None => true,
                Some(first) => {
                    let first: &E = first;
                    (first.access(), entry.access()) == (AccessKind::Shared, AccessKind::Shared)
                }
            };
            if !goes_along || next.len() >= HAND_OVER_MAX {
                break;
            }
            let Some(entry) = queue.pop_front() else { break };
            if entry.wanted() { next.push(entry) } else { unwanted.push(entry) }
        }
        let begun = next.first().map_or(0, |first| one(first.access()) * next.len() as u32);
        // WAITING still keeps everybody else out, so the turns begin before it is taken away.
        self.word.fetch_add(begun, Ordering::AcqRel);
        if queue.is_empty() {
            self.word.fetch_and(!WAITING, Ordering::AcqRel);
        }
        next
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

    /// A new life begins: whoever closed, and holds the exclusive turn, lets turns begin again once it gives that back.
    pub(crate) fn open(&self) {
        let _queue = lock(&self.queue);
        self.word.fetch_and(!(CLOSING | LEAVING), Ordering::AcqRel);
    }

    /// Ends the mailbox for good if nothing waits. Only whoever closed may ask. `false` if calls wait for a new life.
    pub(crate) fn finish(&self) -> bool {
        let mut unwanted = Vec::new();
        let mut queue = lock(&self.queue);
        purge(&mut queue, &mut unwanted);
        if !queue.is_empty() {
            return false;
        }
        self.word.fetch_or(GONE, Ordering::AcqRel);
        true
    }

    /// Ends the mailbox for good and gives back whatever waits. Only whoever closed may ask.
    pub(crate) fn abandon(&self) -> VecDeque<E> {
        let mut queue = lock(&self.queue);
        self.word.fetch_or(GONE, Ordering::AcqRel);
        std::mem::take(&mut queue)
    }

    /// How many calls wait.
    pub(crate) fn len(&self) -> usize {
        lock(&self.queue).len()
    }
}

#[cfg(test)]
mod tests;

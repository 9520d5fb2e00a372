//! The calls that wait for their turns, in their order. The mailbox locks it.

use std::{collections::VecDeque, ops::ControlFlow, sync::Arc};

use grains_core::AccessKind;

use super::Entry;
use crate::activation::{
    backlog::{Backlog, NodeFull, weight},
    turn::drop_quietly,
};

/// So many can be looked through whenever one is taken back; among more, once half of them are.
const LOOKED_THROUGH_MAX: usize = 64;

/// Nothing, for the many that nobody has ever waited for.
pub(super) struct Queue<E: Entry>(Option<Box<Waiting<E>>>);

struct Waiting<E: Entry> {
    entries: VecDeque<E>,
    /// Where the entries are counted for as long as they are in.
    backlog: Arc<Backlog>,
    /// Shared turns that were granted to waiters and have not begun yet. As long as there are any, `WAITING` stays set:
    /// otherwise a later call could begin before them.
    granted: u32,
    /// How many were refused, or taken back, since all entries were last looked at: that is done again once it costs each
    /// of them no more than a look or two.
    asked: u32,
}

/// Entries that nobody wants any more. They are dropped after the lock, and one by one: arguments may run users' code when
/// they drop, and that may panic.
pub(super) struct Unwanted<E>(Vec<E>);

impl<E> Unwanted<E> {
    pub(super) fn none() -> Self {
        Self(Vec::new())
    }
}

impl<E> Drop for Unwanted<E> {
    fn drop(&mut self) {
        self.0.drain(..).for_each(|entry| drop_quietly(entry, "the arguments of a call that was taken back"));
    }
}

/// Why a call cannot wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// As many wait here as may.
    Mailbox,
    /// As much waits on the node as may.
    Node(NodeFull),
}

impl<E: Entry> Queue<E> {
    pub(super) fn new() -> Self {
        Self(None)
    }

    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |waiting| waiting.entries.len())
    }

    /// The same queue, to wait in: its entries are counted in `backlog`.
    pub(super) fn begun(&mut self, backlog: &Arc<Backlog>) -> &mut Self {
        if self.0.is_none() {
            let (entries, backlog) = (VecDeque::new(), backlog.clone());
            self.0 = Some(Box::new(Waiting { entries, backlog, granted: 0, asked: 0 }));
        }
        self
    }

    fn waiting(&mut self) -> &mut Waiting<E> {
        self.0.as_mut().expect("it was begun")
    }

    /// Gives back the memory in which nothing lies.
    pub(super) fn trim(&mut self) {
        if let Some(waiting) = &mut self.0
            && waiting.entries.is_empty()
        {
            waiting.entries = VecDeque::new();
        }
    }

    /// Whether there is room for another entry of so many bytes. If so, they are counted: it must be pushed, or
    /// [given up](Self::give_up).
    pub(super) fn reserve(&mut self, bytes: usize, len_max: usize) -> Result<(), Full> {
        let waiting = self.waiting();
        if waiting.entries.len() >= len_max {
            waiting.asked = waiting.asked.saturating_add(1);
            return Err(Full::Mailbox);
        }
        waiting.backlog.add(bytes).map_err(Full::Node)
    }

    /// Counts an entry that needs no room here.
    pub(super) fn reserve_again(&mut self, bytes: usize) {
        self.waiting().backlog.add_again(bytes);
    }

    /// The room that was reserved is not needed.
    pub(super) fn give_up(&mut self, bytes: usize) {
        self.waiting().backlog.sub(bytes);
    }

    /// Puts an entry behind the others, for which there is room.
    pub(super) fn push(&mut self, entry: E) {
        self.waiting().entries.push_back(entry);
    }

    /// Puts back in front what was taken.
    pub(super) fn put_back(&mut self, entries: VecDeque<E>) {
        let waiting = self.waiting();
        for entry in entries.into_iter().rev() {
            waiting.backlog.add_again(entry.bytes());
            waiting.entries.push_front(entry);
        }
    }

    /// So many shared turns were granted that have yet to begin.
    pub(super) fn grant(&mut self, turns: u32) {
        self.waiting().granted += turns;
    }

    /// One of them has begun.
    pub(super) fn granted_one_less(&mut self) {
        self.waiting().granted -= 1;
    }

    pub(super) fn has_granted(&self) -> bool {
        self.0.as_ref().is_some_and(|waiting| waiting.granted > 0)
    }

    /// Looks whether anybody still wants those that wait, if the mailbox is full and that was not done lately.
    pub(super) fn make_room(&mut self, len_max: usize, unwanted: &mut Unwanted<E>) {
        let Waiting { entries, asked, .. } = self.waiting();
        if entries.len() >= len_max && (*asked == 0 || *asked as usize >= entries.len()) {
            self.purge(unwanted);
        }
    }

    /// One of them was taken back: it goes now, or with others before they are more than those that are wanted.
    pub(super) fn taken_back(&mut self, unwanted: &mut Unwanted<E>) {
        let Some(waiting) = &mut self.0 else { return };
        waiting.asked = waiting.asked.saturating_add(1);
        if waiting.entries.len() <= LOOKED_THROUGH_MAX || waiting.asked as usize >= waiting.entries.len() / 2 {
            self.purge(unwanted);
        }
    }

    /// Moves what nobody wants any more out of the queue.
    pub(super) fn purge(&mut self, unwanted: &mut Unwanted<E>) {
        let Some(waiting) = &mut self.0 else { return };
        waiting.asked = 0;
        for _ in 0..waiting.entries.len() {
            let Some(entry) = waiting.entries.pop_front() else { return };
            if entry.wanted() {
                waiting.entries.push_back(entry);
            } else {
                waiting.backlog.sub(entry.bytes());
                unwanted.0.push(entry);
            }
        }
    }

    /// The first entry that somebody wants.
    pub(super) fn front(&mut self, unwanted: &mut Unwanted<E>) -> Option<&E> {
        let waiting = self.0.as_mut()?;
        while let Some(entry) = waiting.entries.pop_front_if(|entry| !entry.wanted()) {
            waiting.backlog.sub(entry.bytes());
            unwanted.0.push(entry);
        }
        waiting.entries.front()
    }

    /// Takes the first entries, as far as they need this access and somebody wants them.
    pub(super) fn take(&mut self, access: AccessKind, max: usize, unwanted: &mut Unwanted<E>) -> VecDeque<E> {
        let mut taken = VecDeque::with_capacity(self.len().min(max));
        let mut bytes = 0;
        while taken.len() < max
            && self.front(unwanted).map(Entry::access) == Some(access)
            && let Some(waiting) = &mut self.0
            && let Some(entry) = waiting.entries.pop_front()
        {
            bytes += weight(entry.bytes());
            taken.push_back(entry);
        }
        if let Some(waiting) = &self.0 {
            waiting.backlog.sub_all(bytes);
        }
        taken
    }

    /// Looks at one after the other.
    pub(super) fn each(&self, look: &mut dyn FnMut(&E) -> ControlFlow<()>) {
        let Some(waiting) = &self.0 else { return };
        for entry in &waiting.entries {
            if look(entry).is_break() {
                return;
            }
        }
    }

    /// Takes the first that is `wanted`.
    pub(super) fn take_out(&mut self, wanted: &mut dyn FnMut(&E) -> bool) -> Option<E> {
        let waiting = self.0.as_mut()?;
        let mut taken = None;
        // Round and round, as `purge` goes: `remove` would be code of its own for each grain type.
        for _ in 0..waiting.entries.len() {
            let entry = waiting.entries.pop_front()?;
            if taken.is_none() && wanted(&entry) {
                waiting.backlog.sub(entry.bytes());
                taken = Some(entry);
            } else {
                waiting.entries.push_back(entry);
            }
        }
        taken
    }

    /// Takes everything.
    pub(super) fn take_all(&mut self) -> VecDeque<E> {
        let Some(waiting) = &mut self.0 else { return VecDeque::new() };
        let mut bytes = 0;
        for entry in &waiting.entries {
            bytes += weight(entry.bytes());
        }
        waiting.backlog.sub_all(bytes);
        std::mem::take(&mut waiting.entries)
    }

    /// Whether later calls must wait behind others.
    pub(super) fn keeps_others_waiting(&self) -> bool {
        self.len() > 0 || self.has_granted()
    }
}

impl<E: Entry> Drop for Queue<E> {
    fn drop(&mut self) {
        drop(self.take_all());
    }
}

//! The calls that wait for their turns, in their order. The mailbox locks it.

use std::{collections::VecDeque, sync::Arc};

use grains_core::AccessKind;

use super::Entry;
use crate::activation::{
    backlog::{Backlog, NodeFull},
    turn::drop_quietly,
};

/// So many can be looked through whenever one is taken back; among more, once half of them are.
const LOOKED_THROUGH_MAX: usize = 64;

pub(super) struct Queue<E: Entry> {
    /// Nothing for the many that nobody has ever waited for.
    entries: Option<Box<Entries<E>>>,
    /// Shared turns that were granted to waiters and have not begun yet. As long as there are any, `WAITING` stays set:
    /// otherwise a later call could begin before them.
    pub(super) granted: u32,
    /// How many were refused, or taken back, since all entries were last looked at: that is done again once it costs each
    /// of them no more than a look or two.
    asked: u32,
}

/// Entries, counted in the backlog of their node for as long as they are in.
struct Entries<E: Entry> {
    entries: VecDeque<E>,
    backlog: Arc<Backlog>,
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
        Self { entries: None, granted: 0, asked: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.as_ref().map_or(0, |waiting| waiting.entries.len())
    }

    /// Whether there is room for another entry of so many bytes. If so, they are counted: it must be pushed, or
    /// [given up](Self::give_up).
    pub(super) fn reserve(&mut self, bytes: usize, len_max: usize, backlog: &Arc<Backlog>) -> Result<(), Full> {
        if self.len() >= len_max {
            self.asked = self.asked.saturating_add(1);
            return Err(Full::Mailbox);
        }
        backlog.add(bytes).map_err(Full::Node)?;
        if self.entries.is_none() {
            self.entries = Some(Box::new(Entries { entries: VecDeque::new(), backlog: backlog.clone() }));
        }
        Ok(())
    }

    /// The room that was reserved is not needed.
    pub(super) fn give_up(&self, bytes: usize) {
        if let Some(waiting) = &self.entries {
            waiting.backlog.sub(bytes);
        }
    }

    /// Puts an entry behind the others, for which there is room.
    pub(super) fn push(&mut self, entry: E) {
        self.entries.as_mut().expect("room was reserved").entries.push_back(entry);
    }

    /// Puts back in front what was taken.
    pub(super) fn put_back(&mut self, entries: VecDeque<E>) {
        let waiting = self.entries.as_mut().expect("they were taken from it");
        for entry in entries.into_iter().rev() {
            waiting.backlog.add_again(entry.bytes());
            waiting.entries.push_front(entry);
        }
    }

    /// Looks whether anybody still wants those that wait, if the mailbox is full and that was not done lately.
    pub(super) fn make_room(&mut self, len_max: usize, unwanted: &mut Unwanted<E>) {
        if self.len() >= len_max && (self.asked == 0 || self.asked as usize >= self.len()) {
            self.purge(unwanted);
        }
    }

    /// One of them was taken back: it goes now, or with others before they are more than those that are wanted.
    pub(super) fn taken_back(&mut self, unwanted: &mut Unwanted<E>) {
        self.asked = self.asked.saturating_add(1);
        if self.len() <= LOOKED_THROUGH_MAX || self.asked as usize >= self.len() / 2 {
            self.purge(unwanted);
        }
    }

    /// Moves what nobody wants any more out of the queue.
    pub(super) fn purge(&mut self, unwanted: &mut Unwanted<E>) {
        self.asked = 0;
        let Some(waiting) = &mut self.entries else { return };
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
        let waiting = self.entries.as_mut()?;
        while let Some(entry) = waiting.entries.pop_front_if(|entry| !entry.wanted()) {
            waiting.backlog.sub(entry.bytes());
            unwanted.0.push(entry);
        }
        waiting.entries.front()
    }

    /// Takes the first entries, as far as they need this access and somebody wants them.
    pub(super) fn take(&mut self, access: AccessKind, max: usize, unwanted: &mut Unwanted<E>) -> VecDeque<E> {
        let mut taken = VecDeque::new();
        while taken.len() < max
            && self.front(unwanted).map(Entry::access) == Some(access)
            && let Some(waiting) = &mut self.entries
            && let Some(entry) = waiting.entries.pop_front()
        {
            waiting.backlog.sub(entry.bytes());
            taken.push_back(entry);
        }
        taken
    }

    /// All of them, in their order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &E> {
        self.entries.iter().flat_map(|waiting| &waiting.entries)
    }

    /// Takes the first that is `wanted`.
    pub(super) fn take_out(&mut self, wanted: impl FnMut(&E) -> bool) -> Option<E> {
        let waiting = self.entries.as_mut()?;
        let place = waiting.entries.iter().position(wanted)?;
        let taken = waiting.entries.remove(place)?;
        waiting.backlog.sub(taken.bytes());
        Some(taken)
    }

    /// Takes everything.
    pub(super) fn take_all(&mut self) -> VecDeque<E> {
        let Some(waiting) = &mut self.entries else { return VecDeque::new() };
        waiting.entries.iter().for_each(|entry| waiting.backlog.sub(entry.bytes()));
        std::mem::take(&mut waiting.entries)
    }

    /// Whether later calls must wait behind others.
    pub(super) fn keeps_others_waiting(&self) -> bool {
        self.len() > 0 || self.granted > 0
    }
}

impl<E: Entry> Drop for Queue<E> {
    fn drop(&mut self) {
        drop(self.take_all());
    }
}

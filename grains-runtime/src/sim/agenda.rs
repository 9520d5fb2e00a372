//! What will happen, by time: events of the same time in the order in which they were added.

use std::collections::BTreeMap;

use super::{clock::TimerId, net::LinkId};

/// Something that happens at a point of virtual time.
pub(super) enum Event {
    /// A timer has to ring.
    Ring(TimerId),
    /// The first segment that is under way in this direction of a connection arrives.
    Arrive { link: LinkId, way: usize },
    /// A chunk is sent once more.
    Again { link: LinkId, way: usize, chunk: Vec<u8> },
}

/// The place of an event, by which it can be taken back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot {
    at: u64,
    sequence: u64,
}

#[derive(Default)]
pub(super) struct Agenda {
    events: BTreeMap<Slot, Event>,
    added: u64,
}

impl Agenda {
    pub(super) fn add(&mut self, at: u64, event: Event) -> Slot {
        self.added += 1;
        let slot = Slot { at, sequence: self.added };
        self.events.insert(slot, event);
        slot
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        self.events.remove(&slot);
    }

    /// When the next event happens.
    pub(super) fn next_at(&self) -> Option<u64> {
        self.events.first_key_value().map(|(slot, _)| slot.at)
    }

    /// The next event, if it is due.
    pub(super) fn pop_due(&mut self, now: u64) -> Option<Event> {
        let first = self.events.first_entry()?;
        (first.key().at <= now).then(|| first.remove())
    }
}

//! Who is in a room. Used by the room; in memory only.

use std::collections::BTreeMap;

use grains::{StreamSink, Streaming};

use crate::words::UserName;

/// The people in a room and their seats. A person has one seat for each window they look through, and is here as long as
/// one of them is taken.
#[derive(Default)]
pub struct Presence {
    seats: BTreeMap<UserName, Vec<StreamSink<()>>>,
}

/// A seat in a room: an answer with nothing in it. The room sees when it is dropped, also when whoever held it is killed,
/// so nobody can leave without a trace.
pub type Seat = Streaming<()>;

/// Whether somebody who sits down was here before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// They were not.
    New,
    /// They were, in another window, or a moment ago.
    Again,
}

impl Presence {
    /// Gives `who` a seat.
    pub fn sit(&mut self, who: UserName) -> (Arrival, Seat) {
        let (sink, seat) = Streaming::channel(1);
        let seats = self.seats.entry(who).or_default();
        let arrival = if seats.is_empty() { Arrival::New } else { Arrival::Again };
        seats.push(sink);
        (arrival, seat)
    }

    /// Takes back seats that nobody holds any more. Gives those who had no other.
    pub fn sweep(&mut self) -> Vec<UserName> {
        for seats in self.seats.values_mut() {
            seats.retain(|seat| !seat.is_closed());
        }
        self.seats.extract_if(.., |_, seats| seats.is_empty()).map(|(who, _)| who).collect()
    }

    /// Everybody who is here, in the order of their names.
    pub fn here(&self) -> Vec<UserName> {
        self.seats.keys().cloned().collect()
    }

    /// Whether nobody is here.
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// How many seats are taken, or were when last swept.
    pub fn seats(&self) -> usize {
        self.seats.values().map(Vec::len).sum()
    }
}

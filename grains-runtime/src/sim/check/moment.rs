//! When a fact was recorded, for [`Lives`](super::Lives) and [`Grants`](super::Grants).

use std::{fmt, time::Duration};

/// An instant, and among the facts of one instant the order of their recording: virtual time stands still while tasks run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    at: Duration,
    order: u64,
}

/// From the first to the last fact about something.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub(super) first: Moment,
    pub(super) last: Moment,
}

/// Numbers the facts.
#[derive(Default)]
pub(super) struct Moments(u64);

impl Moments {
    pub(super) fn next(&mut self, at: Duration) -> Moment {
        self.0 += 1;
        Moment { at, order: self.0 }
    }

    /// How many there were.
    pub(super) fn count(&self) -> u64 {
        self.0
    }
}

impl Span {
    pub(super) fn new(moment: Moment) -> Self {
        Span { first: moment, last: moment }
    }

    pub(super) fn include(&mut self, moment: Moment) {
        self.first = self.first.min(moment);
        self.last = self.last.max(moment);
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.at)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from {} to {}", self.first, self.last)
    }
}

//! What waits in all mailboxes of a node together: calls and the bytes they hold, both limited. The mailboxes count.

use std::sync::atomic::{AtomicU64, Ordering};

/// A word holds both: the calls above, the bytes below, so that both change at once.
const BYTES_BITS: u32 = 40;
const ONE_CALL: u64 = 1 << BYTES_BITS;
const BYTES: u64 = ONE_CALL - 1;

/// The largest limits that the word has room for, with the largest entry on top.
pub(crate) const CALLS_MAX: usize = 10_000_000;
pub(crate) const BYTES_MAX: usize = 1 << 38;

pub(crate) struct Backlog {
    waiting: AtomicU64,
    calls_max: usize,
    bytes_max: usize,
}

/// Which of its limits does not let another call wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NodeFull {
    Calls(usize),
    Bytes(usize),
}

/// What one call with so many bytes adds to the word.
pub(super) fn weight(bytes: usize) -> u64 {
    ONE_CALL + bytes.min(BYTES_MAX) as u64
}

impl Backlog {
    pub(crate) fn new(calls_max: usize, bytes_max: usize) -> Self {
        Self { waiting: AtomicU64::new(0), calls_max: calls_max.min(CALLS_MAX), bytes_max: bytes_max.min(BYTES_MAX) }
    }

    /// Counts a call that is about to wait, unless that is over a limit.
    pub(super) fn add(&self, bytes: usize) -> Result<(), NodeFull> {
        let mut now = self.waiting.load(Ordering::Relaxed);
        loop {
            let next = now + weight(bytes);
            if (next >> BYTES_BITS) as usize > self.calls_max {
                return Err(NodeFull::Calls(self.calls_max));
            }
            if (next & BYTES) as usize > self.bytes_max {
                return Err(NodeFull::Bytes(self.bytes_max));
            }
            match self.waiting.compare_exchange_weak(now, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(other) => now = other,
            }
        }
    }

    /// Counts a call that waits again: it was counted a moment ago, and is not refused now.
    pub(super) fn add_again(&self, bytes: usize) {
        self.waiting.fetch_add(weight(bytes), Ordering::Relaxed);
    }

    /// A call waits no more.
    pub(super) fn sub(&self, bytes: usize) {
        self.sub_all(weight(bytes));
    }

    /// Calls of this [`weight`] together wait no more.
    pub(super) fn sub_all(&self, weight: u64) {
        if weight > 0 {
            self.waiting.fetch_sub(weight, Ordering::Relaxed);
        }
    }

    /// How many calls wait.
    pub(crate) fn calls(&self) -> usize {
        (self.waiting.load(Ordering::Relaxed) >> BYTES_BITS) as usize
    }

    /// The bytes they hold.
    pub(crate) fn bytes(&self) -> usize {
        (self.waiting.load(Ordering::Relaxed) & BYTES) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_bytes_have_limits_of_their_own() {
        let backlog = Backlog::new(3, 1_000);
        assert_eq!(backlog.add(600), Ok(()));
        assert_eq!(backlog.add(600), Err(NodeFull::Bytes(1_000)));
        assert_eq!((backlog.add(400), backlog.add(0)), (Ok(()), Ok(())));
        assert_eq!(backlog.add(0), Err(NodeFull::Calls(3)));
        assert_eq!((backlog.calls(), backlog.bytes()), (3, 1_000));
        backlog.sub(600);
        assert_eq!(backlog.add(601), Err(NodeFull::Bytes(1_000)));
        assert_eq!(backlog.add(600), Ok(()));
    }

    #[test]
    fn the_largest_of_everything_fits_the_word() {
        let backlog = Backlog::new(usize::MAX, usize::MAX);
        backlog.waiting.store((CALLS_MAX as u64) << BYTES_BITS | BYTES_MAX as u64, Ordering::Relaxed);
        assert_eq!(backlog.add(0), Err(NodeFull::Calls(CALLS_MAX)));
        backlog.add_again(usize::MAX);
        assert_eq!((backlog.calls(), backlog.bytes()), (CALLS_MAX + 1, 2 * BYTES_MAX));
        backlog.sub(0);
        backlog.sub(0);
        assert_eq!(backlog.add(usize::MAX), Err(NodeFull::Bytes(BYTES_MAX)));
    }
}

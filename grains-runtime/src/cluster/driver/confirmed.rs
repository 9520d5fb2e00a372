//! When a quorum last confirmed that this node leads: remembered only where a simulated cluster may lack the rule that each renewal
//! needs a round of its own.

use grains_core::{
    Instant,
    switches::{Mechanism, on},
};

use super::Driver;
use crate::activation::lock;

/// In which term, and when.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Confirmed {
    term: u64,
    at: Instant,
}

impl Driver {
    /// Whether a round that has ended counts for a renewal that has just come: never, while all rules are kept.
    pub(super) fn was_confirmed(&self, term: u64) -> bool {
        if on(Mechanism::RoundAfterReceipt) {
            return false;
        }
        let last = *lock(&self.last_confirmed);
        last.term == term && self.world.clock.now().since(last.at) < self.rules.length
    }

    /// A quorum has confirmed that this node leads in `term`.
    pub(super) fn confirmed(&self, term: u64) {
        if !on(Mechanism::RoundAfterReceipt) && !self.was_confirmed(term) {
            *lock(&self.last_confirmed) = Confirmed { term, at: self.world.clock.now() };
        }
    }
}

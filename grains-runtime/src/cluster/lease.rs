//! Leases: permission to act that ends by itself. `holder` is the half of every member, `grants` the half of the leader.
//! Pure: whoever drives them brings the time of its own node, and the messages between the two.
//!
//! The rules, none of which can go:
//! 1. A member counts its lease from the *sending* of the renewal, never from the receipt of the answer.
//! 2. It counts less than the leader does, by the most that two clocks may drift apart.
//! 3. A new leader, and one whose own clock shows that it was stopped, gives every member a whole lease before it ends one.
//! 4. A leader acknowledges a renewal only after a quorum, asked after the renewal came, has confirmed that it leads.
//!
//!
//! A lease is a way to know that a member does not act any more. Of a process that has ended that is known without it, so its
//! member is removed at once, by any leader (`Grants::process_ended`).
//!
//! What holds then: when the removal of a member is committed, that member no longer acts.

mod grants;
mod holder;
#[cfg(test)]
pub(crate) mod tests;

use std::time::Duration;

use grains_core::switches::{Mechanism, on};

pub(crate) use self::{
    grants::{Ending, Found, Grants, RenewRefused},
    holder::{Lease, RenewalNumber},
};

/// How long leases are. The same on all nodes of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeaseRules {
    /// A lease as the leader counts it.
    pub(crate) length: Duration,
    /// By how much a clock may be wrong, in thousandths.
    pub(crate) drift_permille: u32,
    /// Subtracted from what a member counts, for what comes between reading the clock and acting.
    pub(crate) guard: Duration,
}

impl Default for LeaseRules {
    fn default() -> Self {
        Self { length: Duration::from_secs(2), drift_permille: 10, guard: Duration::from_millis(50) }
    }
}

impl LeaseRules {
    /// How often a member renews. Three renewals in a row may be lost.
    pub(crate) fn renewal_interval(&self) -> Duration {
        self.length / 4
    }

    /// The longest the leader may go without looking at its clock: after more, it takes itself for stopped (rule 3). Tick
    /// at least twice as often.
    pub(crate) fn tick_interval_max(&self) -> Duration {
        self.length / 4
    }

    /// A lease as its holder counts it: over on a slow clock before `length` is over on a fast one.
    pub(crate) fn at_holder(&self) -> Duration {
        let drift = if on(Mechanism::DriftMargin) { self.drift_permille } else { 0 };
        let guard = if on(Mechanism::Guard) { self.guard } else { Duration::ZERO };
        let (slow, fast) = (1_000_u32.saturating_sub(drift), 1_000 + drift);
        (self.length * slow / fast).saturating_sub(guard)
    }
}

//! How much each client may do, by the name of its principal. Pure: time comes in.
//!
//! Invariant: what is remembered of a principal goes only when it has no connection and its bucket is full again, so that coming
//! back gives nobody more than staying would.

use std::{collections::BTreeMap, time::Duration};

use grains_core::Instant;

/// Calls that may be made at once, filled up at a rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    /// How many calls are left at `at`, in calls.
    left: f64,
    at: Instant,
}

/// How fast buckets are filled, and how much they hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    pub(super) per_second: f64,
    pub(super) burst: f64,
}

impl Bucket {
    fn full(rate: Rate, now: Instant) -> Self {
        Self { left: rate.burst, at: now }
    }

    fn fill(&mut self, rate: Rate, now: Instant) {
        // A clock that was read on another thread may be a little behind.
        let passed = if now > self.at { now.since(self.at) } else { Duration::ZERO };
        self.left = (self.left + passed.as_secs_f64() * rate.per_second).min(rate.burst);
        self.at = self.at.max(now);
    }

    fn take(&mut self, rate: Rate, now: Instant) -> bool {
        self.fill(rate, now);
        let takes = self.left >= 1.0;
        if takes {
            self.left -= 1.0;
        }
        takes
    }
}

/// All principals that are known.
#[derive(Debug)]
pub(super) struct Principals {
    rate: Rate,
    connections_max: usize,
    per_principal_max: usize,
    connections: usize,
    known: BTreeMap<String, Known>,
}

#[derive(Debug)]
struct Known {
    connections: usize,
    bucket: Bucket,
}

/// Why a connection is one too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooMany {
    #[error(
        "this gateway has {0} connections of clients, as many as it takes (`connections_max`): try another one, or later"
    )]
    Connections(usize),
    #[error(
        "this client has {0} connections to this gateway, as many as one may have (`connections_per_principal_max`)"
    )]
    OfPrincipal(usize),
}

impl Principals {
    pub(super) fn new(rate: Rate, connections_max: usize, per_principal_max: usize) -> Self {
        Self { rate, connections_max, per_principal_max, connections: 0, known: BTreeMap::new() }
    }

    /// One more connection of `principal`.
    pub(super) fn enter(&mut self, principal: &str, now: Instant) -> Result<(), TooMany> {
        if self.connections >= self.connections_max {
            return Err(TooMany::Connections(self.connections_max));
        }
        self.forget_idle(now);
        let rate = self.rate;
        let new = || Known { connections: 0, bucket: Bucket::full(rate, now) };
        let known = self.known.entry(principal.to_owned()).or_insert_with(new);
        if known.connections >= self.per_principal_max {
            return Err(TooMany::OfPrincipal(self.per_principal_max));
        }
        known.connections += 1;
        self.connections += 1;
        Ok(())
    }

    /// One less.
    pub(super) fn left(&mut self, principal: &str) {
        if let Some(known) = self.known.get_mut(principal) {
            known.connections -= 1;
            self.connections -= 1;
        }
    }

    /// Whether `principal` may make a call now. It counts.
    pub(super) fn may_call(&mut self, principal: &str, now: Instant) -> bool {
        let rate = self.rate;
        self.known.get_mut(principal).is_some_and(|known| known.bucket.take(rate, now))
    }

    /// Certificates are needed to have a name of one's own, so there are few of these; and each goes when its bucket is full,
    /// which takes `burst / per_second`.
    fn forget_idle(&mut self, now: Instant) {
        let rate = self.rate;
        self.known.retain(|_, known| {
            known.bucket.fill(rate, now);
            known.connections > 0 || known.bucket.left < rate.burst
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 10.0, burst: 5.0 };

    fn at(ms: u64) -> Instant {
        Instant::default() + Duration::from_millis(ms)
    }

    fn calls(principals: &mut Principals, who: &str, now: Instant, tries: usize) -> usize {
        (0..tries).filter(|_| principals.may_call(who, now)).count()
    }

    #[test]
    fn a_principal_has_its_burst_and_then_its_rate_whatever_others_do() {
        let mut principals = Principals::new(RATE, 10, 2);
        principals.enter("a", at(0)).unwrap();
        principals.enter("b", at(0)).unwrap();
        assert_eq!(calls(&mut principals, "a", at(0), 100), 5);
        assert_eq!(calls(&mut principals, "b", at(0), 3), 3);
        assert_eq!(calls(&mut principals, "a", at(99), 1), 0);
        assert_eq!(calls(&mut principals, "a", at(300), 100), 3);
        assert_eq!(calls(&mut principals, "a", at(60_000), 100), 5, "no more than the burst, however long it waits");
        assert_eq!(calls(&mut principals, "nobody", at(60_000), 1), 0);
        assert_eq!(calls(&mut principals, "a", at(0), 1), 0, "a clock that is behind gives nothing");
    }

    #[test]
    fn coming_back_gives_no_more_than_staying_and_who_is_idle_is_forgotten() {
        let mut principals = Principals::new(RATE, 10, 2);
        principals.enter("a", at(0)).unwrap();
        assert_eq!(calls(&mut principals, "a", at(0), 100), 5);
        principals.left("a");
        principals.enter("a", at(100)).unwrap();
        assert_eq!(calls(&mut principals, "a", at(100), 100), 1);
        principals.left("a");
        principals.enter("b", at(60_000)).unwrap();
        assert_eq!(principals.known.len(), 1);
    }

    #[test]
    fn connections_are_bounded_for_each_and_for_all() {
        let mut principals = Principals::new(RATE, 3, 2);
        principals.enter("a", at(0)).unwrap();
        principals.enter("a", at(0)).unwrap();
        assert_eq!(principals.enter("a", at(0)), Err(TooMany::OfPrincipal(2)));
        principals.enter("b", at(0)).unwrap();
        assert_eq!(principals.enter("c", at(0)), Err(TooMany::Connections(3)));
        principals.left("a");
        principals.enter("c", at(0)).unwrap();
        assert_eq!(principals.connections, 3);
    }
}

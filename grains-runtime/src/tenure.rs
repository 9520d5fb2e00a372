//! The right of this node to act: its tasks, and the lease they act under. A node outside of clusters has one tenure that
//! never ends; in a cluster each incarnation has its own, and what belongs to one ends with it.
//!
//! Invariant: after it was ended, or has once begun and run out, `may_act` never says `true` again.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use std::time::Duration;

use grains_core::{
    CallError, Failure, Instant,
    switches::{Mechanism, on},
    world::{Clock, World},
};

use grains_core::tasks::TaskSet;

/// How much of a lease must be left for a turn to begin: a turn that is cut at once has only cost its caller an unknown
/// outcome. Small beside a lease of seconds, long beside most turns.
const BEGIN_MARGIN: Duration = Duration::from_millis(20);

pub(crate) struct Tenure {
    /// What runs on behalf of grains.
    pub(crate) tasks: TaskSet,
    clock: Arc<dyn Clock>,
    /// Nanoseconds of this node's clock; `u64::MAX` without a lease.
    until: AtomicU64,
    over: AtomicBool,
}

impl Tenure {
    /// The tenure of a node that shares its grains with nobody.
    pub(crate) fn endless(world: &World) -> Arc<Self> {
        Self::until(world, Instant::NEVER)
    }

    /// A tenure that ends at `until` unless it is extended.
    pub(crate) fn until(world: &World, until: Instant) -> Arc<Self> {
        Arc::new(Self {
            tasks: TaskSet::new(world.tasks.clone()),
            clock: world.clock.clone(),
            until: AtomicU64::new(until.as_nanos()),
            over: AtomicBool::new(false),
        })
    }

    /// Whether turns may go on. Asked at the start of every poll of a turn, and before a commit, an answer or a call
    /// leaves: after the process was stopped, a turn may be the first thing to run, before any timer.
    pub(crate) fn may_act(&self) -> bool {
        self.holds_for(Duration::ZERO)
    }

    /// The same for who has just read the clock.
    #[cfg(feature = "cluster")]
    pub(crate) fn may_act_at(&self, now: Instant) -> bool {
        if !on(Mechanism::ClockIsRead) {
            return self.may_act();
        }
        !self.is_over() && now < Instant::from_nanos(self.until.load(Ordering::Acquire))
    }

    /// Whether a turn may begin.
    pub(crate) fn may_begin(&self) -> bool {
        self.holds_for(BEGIN_MARGIN)
    }

    fn holds_for(&self, margin: Duration) -> bool {
        if self.over.load(Ordering::Acquire) {
            return false;
        }
        let until = self.until.load(Ordering::Acquire);
        if !on(Mechanism::ClockIsRead) {
            return until != 0;
        }
        until == u64::MAX || self.clock.now() + margin < Instant::from_nanos(until)
    }

    /// What the lease says now: see `cluster::lease`, which never lets one that has ended go on.
    pub(crate) fn set(&self, until: Instant) {
        self.until.store(until.as_nanos(), Ordering::Release);
    }

    /// Whether it has ever been extended. Nothing can act under it before.
    #[cfg(feature = "cluster")]
    pub(crate) fn has_begun(&self) -> bool {
        self.until.load(Ordering::Acquire) != 0
    }

    /// When it ends unless it is extended.
    pub(crate) fn ends(&self) -> Instant {
        match self.until.load(Ordering::Acquire) {
            0 => Instant::NEVER, // it has not begun
            until => Instant::from_nanos(until),
        }
    }

    /// Ends it for good, with all its tasks.
    pub(crate) fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.tasks.close();
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }
}

/// What callers are told whose call did not begin because the lease has ended.
pub(crate) fn fenced() -> Failure {
    CallError::NotReady { why: "its lease has ended, and it has to join its cluster again".into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::tokio_world;

    #[tokio::test]
    async fn a_tenure_that_was_ended_is_not_revived() {
        let world = tokio_world().unwrap();
        let tenure = Tenure::until(&world, world.clock.now() + Duration::from_secs(60));
        assert!(tenure.may_begin());
        tenure.end();
        tenure.set(Instant::NEVER);
        assert!(!tenure.may_act());
    }

    #[tokio::test]
    async fn a_turn_needs_some_lease_to_begin() {
        let world = tokio_world().unwrap();
        let tenure = Tenure::until(&world, world.clock.now() + BEGIN_MARGIN / 2);
        assert!(!tenure.may_begin());
    }
}

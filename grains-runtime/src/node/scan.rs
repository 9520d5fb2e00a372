//! Finding activations that nobody calls any more: one task per node walks the catalog, idle activations own nothing.

use std::{sync::atomic::Ordering, time::Duration};

use grains_core::{DeactivationReason, GrainId, RawRef};

use super::NodeInner;
use crate::catalog::Made;

/// An activation goes between one and one and an eighth idle times after its last call.
const SCANS_PER_IDLE_TIME: u32 = 8;
/// A million activations take some 30 ms to walk: never more often than this.
const SCAN_PERIOD_MIN: Duration = Duration::from_millis(10);
const SCAN_PERIOD_MAX: Duration = Duration::from_secs(30);
/// Scans are numbered at least so often, for those who want to know what was idle for longer; the catalog is walked at every so
/// many of them.
const NUMBER_PERIOD_MAX: Duration = Duration::from_secs(1);

/// How long callers wait for room, at least, if whoever makes it does nothing.
const LATE_AFTER: Duration = Duration::from_secs(1);

/// How often scans are numbered, and at every how many of them the catalog is walked.
fn periods(shortest: Duration) -> (Duration, u32) {
    let walk = (shortest / SCANS_PER_IDLE_TIME).clamp(SCAN_PERIOD_MIN, SCAN_PERIOD_MAX);
    let numbers = scans(walk, NUMBER_PERIOD_MAX);
    (walk / numbers, numbers)
}

impl NodeInner {
    /// Deactivates what is idle, for as long as the node lives.
    pub(super) fn scan_for_idle(&self, shortest: Duration) {
        let (period, walks_every) = periods(shortest);
        let me = self.me.clone();
        let clock = self.world.clock.clone();
        self.tasks.spawn(async move {
            loop {
                clock.sleep_until(clock.now() + period).await;
                let Some(node) = me.upgrade() else { return };
                let number = node.scan.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
                if number.is_multiple_of(scans(LATE_AFTER, period)) {
                    node.catalog.crowd.look();
                }
                if !number.is_multiple_of(walks_every) {
                    continue;
                }
                // One scan more than the time takes: the last call may have come at the end of its scan.
                let scans_of = |idle: Duration| scans(idle, period).saturating_add(1);
                for shard in node.catalog.shards() {
                    for activation in shard {
                        activation.close_if_idle(&scans_of, DeactivationReason::Idle);
                    }
                }
            }
        });
    }
}

/// How long until a singleton that could not be activated, or has ended, begins again.
const SINGLETON_AGAIN: Duration = Duration::from_millis(250);

impl NodeInner {
    /// Keeps the singletons of a node outside of clusters alive.
    pub(super) fn look_after_singletons(&self) {
        #[cfg(feature = "cluster")]
        if self.clustered.is_some() {
            return;
        }
        let of_kind = |hosted: &&super::HostedType| hosted.kind == super::HostingKind::Singleton;
        let names: Vec<_> = self.types.values().filter(of_kind).map(|hosted| hosted.info.name).collect();
        if names.is_empty() {
            return;
        }
        let (me, clock) = (self.me.clone(), self.world.clock.clone());
        self.tasks.spawn(async move {
            while let Some(node) = me.upgrade() {
                names.iter().for_each(|name| node.live(name));
                drop(node);
                clock.sleep_until(clock.now() + SINGLETON_AGAIN).await;
            }
        });
    }

    fn live(&self, grain_type: &'static str) {
        let id = GrainId::new(grain_type, String::new());
        let reference = RawRef::bound(id, self.route());
        if self.catalog.find_entered(reference.lookup_hash(), reference.id()).is_none()
            && let Ok(Made::New(activation)) = self.made(&reference)
        {
            activation.live();
        }
    }
}

fn scans(idle: Duration, period: Duration) -> u32 {
    u32::try_from(idle.as_nanos().div_ceil(period.as_nanos())).unwrap_or(u32::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scans_are_numbered_each_second_at_least_and_walked_no_more_often_than_needed() {
        let ms = Duration::from_millis;
        assert_eq!(periods(ms(40)), (SCAN_PERIOD_MIN, 1), "short idle times");
        assert_eq!(periods(ms(8_000)), (ms(1_000), 1));
        assert_eq!(periods(ms(12_000)), (ms(750), 2), "walked every 1.5 s");
        assert_eq!(periods(Duration::from_secs(15 * 60)), (ms(1_000), 30));
        assert_eq!(periods(Duration::MAX), (ms(1_000), 30));
    }
}

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

impl NodeInner {
    /// Deactivates what is idle, for as long as the node lives.
    pub(super) fn scan_for_idle(&self, shortest: Duration) {
        let period = (shortest / SCANS_PER_IDLE_TIME).clamp(SCAN_PERIOD_MIN, SCAN_PERIOD_MAX);
        let me = self.me.clone();
        let clock = self.world.clock.clone();
        self.tasks.spawn(async move {
            loop {
                clock.sleep_until(clock.now() + period).await;
                let Some(node) = me.upgrade() else { return };
                node.scan.fetch_add(1, Ordering::Relaxed);
                // One scan more than the time takes: the last call may have come at the end of its scan.
                let scans_of = |idle: Duration| scans(idle, period) + 1;
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
        if let Ok(Made::New(activation)) = self.activation(&reference) {
            activation.live();
        }
    }
}

fn scans(idle: Duration, period: Duration) -> u32 {
    u32::try_from(idle.as_nanos().div_ceil(period.as_nanos())).unwrap_or(u32::MAX - 1)
}

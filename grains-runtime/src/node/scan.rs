//! Finding activations that nobody calls any more: one task per node walks the catalog, idle activations own nothing.

use std::{sync::atomic::Ordering, time::Duration};

use grains_core::DeactivationReason;

use super::NodeInner;

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

fn scans(idle: Duration, period: Duration) -> u32 {
    u32::try_from(idle.as_nanos().div_ceil(period.as_nanos())).unwrap_or(u32::MAX - 1)
}

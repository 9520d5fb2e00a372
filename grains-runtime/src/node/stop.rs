//! Stopping: first gently, then for good.

use std::{sync::atomic::Ordering, time::Duration};

use grains_core::DeactivationReason;

use super::{DRAINING, NodeInner, RUNNING, STOPPED};
use crate::activation::lock;

/// How a node stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// How many activations were still busy when `stop_timeout` had passed, and were dropped. 0: everything ended well.
    pub dropped: usize,
}

/// How often a draining node looks whether the last turn has ended: turns are short, and nobody waits long for a stop.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

impl NodeInner {
    pub(super) async fn stop(&self) -> Stopped {
        self.phase.compare_exchange(RUNNING, DRAINING, Ordering::AcqRel, Ordering::Acquire).ok();
        let clock = &self.world.clock;
        let limit = clock.now() + self.config.stop_timeout;
        #[cfg(feature = "cluster")]
        self.part_from_clients(limit).await;
        #[cfg(feature = "cluster")]
        let dropped = match self.driver.as_ref().filter(|_| !self.is_stopped()) {
            Some(driver) => driver.leave(self, limit).await,
            None => 0,
        };
        #[cfg(not(feature = "cluster"))]
        let dropped = 0;
        while !self.is_stopped() && self.catalog.len() > 0 && clock.now() < limit {
            for shard in self.catalog.shards() {
                for activation in shard {
                    activation.close_if_idle(&|_| 0, DeactivationReason::Stopping);
                }
            }
            // A turn of one grain may still call another: grains that come back meanwhile are closed by the next round.
            if self.catalog.len() > 0 {
                clock.sleep_until(clock.now() + LOOK_AGAIN).await;
            }
        }
        // One that blocks its thread is here still after the cluster was left without it.
        let dropped = dropped.max(self.catalog.len());
        if dropped > 0 {
            tracing::warn!(node = self.config.name, dropped, "stop_timeout has passed: what is still busy is dropped");
        }
        self.stop_hard();
        #[cfg(feature = "cluster")]
        if let Some(driver) = &self.driver {
            driver.close().await;
        }
        let close = lock(&self.close).take();
        if let Some(close) = close {
            close.await;
        }
        Stopped { dropped }
    }

    /// Clients go to other nodes before this one leaves, so that their calls do not come to nothing here. It takes half of the time
    /// at most: the rest is for what lives here.
    #[cfg(feature = "cluster")]
    async fn part_from_clients(&self, limit: grains_core::Instant) {
        let gateway = self.clustered.as_ref().and_then(|clustered| clustered.gateway());
        if let (Some(gateway), Some(driver)) = (gateway, &self.driver) {
            let now = self.world.clock.now();
            let until = if driver.has_company() { now + limit.since(now) / 2 } else { now };
            gateway.part(until).await;
        }
    }

    /// Drops everything: nothing of this node runs after its present poll.
    pub(super) fn stop_hard(&self) {
        if self.phase.swap(STOPPED, Ordering::AcqRel) == STOPPED {
            return;
        }
        self.tasks.close();
        self.tenure.end();
        #[cfg(feature = "cluster")]
        if let (Some(driver), Some(clustered)) = (&self.driver, &self.clustered) {
            driver.end();
            clustered.stop();
            if let Some(gateway) = clustered.gateway() {
                gateway.close();
            }
        }
        // Whoever made room has ended.
        self.catalog.crowd.give_up();
        for shard in self.catalog.shards() {
            for activation in shard {
                activation.drop_now();
            }
        }
        tracing::info!(node = self.config.name, "stopped");
    }
}

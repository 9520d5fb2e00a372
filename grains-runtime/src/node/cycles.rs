//! Looking for calls that wait for each other: one task per node, which sleeps while no call of a turn waits.

use grains_core::Instant;

use super::NodeInner;
use crate::{
    activation::lock,
    deadlock::{
        ROUND,
        detector::{Break, WaitingCall},
    },
};

impl NodeInner {
    /// Finds cycles and breaks them, for as long as the node lives.
    pub(super) fn look_for_cycles(&self) {
        let (me, watch, clock) = (self.me.clone(), self.watch.clone(), self.world.clock.clone());
        self.tasks.spawn(async move {
            loop {
                watch.stirred().await;
                while let Some((looked, waiting)) = {
                    clock.sleep_until(clock.now() + ROUND).await;
                    let looked = clock.now();
                    watch.next_round().map(|waiting| (looked, waiting))
                } {
                    let Some(node) = me.upgrade() else { return };
                    let breaks = node.report_waiting(looked, waiting).await;
                    watch.break_calls(breaks);
                }
            }
        });
    }

    /// What is to be broken of the calls that have waited for long, as they were `looked` at.
    async fn report_waiting(&self, looked: Instant, waiting: Vec<WaitingCall>) -> Vec<Break> {
        #[cfg(feature = "cluster")]
        if let Some(driver) = &self.driver {
            return driver.report_waiting(&self.watch, looked, waiting).await;
        }
        self.breaks_here(looked, waiting)
    }

    /// The same, if no other node has a part in them.
    fn breaks_here(&self, looked: Instant, waiting: Vec<WaitingCall>) -> Vec<Break> {
        lock(&self.watch.detector).report_here(self.world.clock.now(), looked, 0, waiting)
    }
}

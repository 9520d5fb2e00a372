//! Looking for calls that wait for each other: one task per node, which sleeps while no call of a turn waits.

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
                while let Some(waiting) = {
                    clock.sleep_until(clock.now() + ROUND).await;
                    watch.next_round()
                } {
                    let Some(node) = me.upgrade() else { return };
                    let breaks = node.report_waiting(waiting).await;
                    watch.break_calls(breaks);
                }
            }
        });
    }

    /// What is to be broken of the calls that have waited for long.
    async fn report_waiting(&self, waiting: Vec<WaitingCall>) -> Vec<Break> {
        #[cfg(feature = "cluster")]
        if let Some(driver) = &self.driver {
            return driver.report_waiting(&self.watch, waiting).await;
        }
        self.breaks_here(0, waiting)
    }

    /// The same, if this node is the one that looks at all of them.
    pub(crate) fn breaks_here(&self, me: u64, waiting: Vec<WaitingCall>) -> Vec<Break> {
        lock(&self.watch.detector).report_here(self.world.clock.now(), me, waiting)
    }
}

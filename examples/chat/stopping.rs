//! How connections learn that the node stops, and how the node learns that they have ended.

use std::time::Duration;

use tokio::{sync::watch, time::timeout};

/// The side that says stop.
pub struct Stop(watch::Sender<bool>);

/// What every connection holds for as long as it lives.
#[derive(Clone)]
pub struct Stopping(watch::Receiver<bool>);

/// A stop that nobody has said yet.
pub fn stop() -> (Stop, Stopping) {
    let (said, heard) = watch::channel(false);
    (Stop(said), Stopping(heard))
}

impl Stop {
    /// Asks all connections to end.
    pub fn begin(&self) {
        self.0.send_replace(true);
    }

    /// Waits until they have, but no longer than `limit`. Says whether they did.
    pub async fn ended(self, limit: Duration) -> bool {
        timeout(limit, self.0.closed()).await.is_ok()
    }
}

impl Stopping {
    /// Whether it is time to end.
    pub fn has_begun(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Returns when it is time to end.
    pub async fn begun(&mut self) {
        // An error means that the side that says stop is gone, which is a reason to end, too.
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

//! What went to and came from each peer, for people to read.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

#[cfg(feature = "metrics")]
use super::meters::Meters;
#[cfg(feature = "cluster")]
use crate::cluster::LinkStatus;
use crate::cluster::NodeName;

/// Counts of one peer since this node started. Each is right by itself; together they are of about the same time.
#[derive(Debug)]
pub(crate) struct PeerCounters {
    /// What it calls itself.
    name: NodeName,
    /// Frames that left completely.
    pub(crate) frames_sent: AtomicU64,
    /// Bytes of these, and of parts of long messages.
    pub(crate) bytes_sent: AtomicU64,
    /// In how many batches.
    batches_sent: AtomicU64,
    /// How long the first frames of these batches waited, all together.
    queued_us: AtomicU64,
    /// Frames that arrived.
    pub(crate) frames_received: AtomicU64,
    /// Bytes that arrived.
    pub(crate) bytes_received: AtomicU64,
    /// Connections that were made to it; with the first of each purpose, those beyond are reconnects.
    pub(crate) dialled: AtomicU64,
    /// Connections that were taken from it.
    pub(crate) accepted: AtomicU64,
    /// The last answer to a ping took so long; 0 before the first.
    round_trip_us: AtomicU64,
    #[cfg(feature = "metrics")]
    meters: Meters,
}

impl PeerCounters {
    /// Of a peer of node `me`.
    pub(super) fn new(me: &NodeName, name: &NodeName) -> Self {
        #[cfg(not(feature = "metrics"))]
        let _ = me;
        Self {
            name: name.clone(),
            frames_sent: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            batches_sent: AtomicU64::new(0),
            queued_us: AtomicU64::new(0),
            frames_received: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
            dialled: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            round_trip_us: AtomicU64::new(0),
            #[cfg(feature = "metrics")]
            meters: Meters::new(me, name),
        }
    }

    /// A batch has left.
    pub(super) fn sent(&self, frames: u64, bytes: usize) {
        if bytes > 0 {
            self.frames_sent.fetch_add(frames, Relaxed);
            self.bytes_sent.fetch_add(bytes as u64, Relaxed);
            self.batches_sent.fetch_add(1, Relaxed);
            #[cfg(feature = "metrics")]
            self.meters.sent(frames, bytes);
        }
    }

    /// A batch is about to leave whose first frame has waited so long.
    pub(super) fn queued(&self, waited: Duration) {
        self.queued_us.fetch_add(micros(waited), Relaxed);
        #[cfg(feature = "metrics")]
        self.meters.queued(waited);
    }

    pub(super) fn received(&self, frames: u64, bytes: usize) {
        self.frames_received.fetch_add(frames, Relaxed);
        self.bytes_received.fetch_add(bytes as u64, Relaxed);
        #[cfg(feature = "metrics")]
        self.meters.received(frames, bytes);
    }

    pub(super) fn dialled(&self) {
        self.dialled.fetch_add(1, Relaxed);
        #[cfg(feature = "metrics")]
        self.meters.dialled();
    }

    pub(super) fn accepted(&self) {
        self.accepted.fetch_add(1, Relaxed);
        #[cfg(feature = "metrics")]
        self.meters.accepted();
    }

    /// A ping was answered after so long.
    pub(super) fn round_trip(&self, took: Duration) {
        self.round_trip_us.store(micros(took).max(1), Relaxed);
        #[cfg(feature = "metrics")]
        self.meters.round_trip(took);
    }

    #[cfg(feature = "cluster")]
    pub(super) fn status(&self) -> LinkStatus {
        LinkStatus {
            name: self.name.to_string(),
            frames_sent: self.frames_sent.load(Relaxed),
            bytes_sent: self.bytes_sent.load(Relaxed),
            batches_sent: self.batches_sent.load(Relaxed),
            queued_us: self.queued_us.load(Relaxed),
            frames_received: self.frames_received.load(Relaxed),
            bytes_received: self.bytes_received.load(Relaxed),
            dialled: self.dialled.load(Relaxed),
            accepted: self.accepted.load(Relaxed),
            round_trip_us: Some(self.round_trip_us.load(Relaxed)).filter(|took| *took > 0),
        }
    }
}

/// As many as a number holds: centuries.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

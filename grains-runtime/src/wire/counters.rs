//! What went to and came from each peer, for people to read.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts of one peer since this node started. Each is right by itself; together they are of about the same time.
#[derive(Debug, Default)]
pub(crate) struct PeerCounters {
    /// Frames that left completely.
    pub(crate) frames_sent: AtomicU64,
    /// Bytes of these.
    pub(crate) bytes_sent: AtomicU64,
    /// Frames that arrived.
    pub(crate) frames_received: AtomicU64,
    /// Bytes that arrived.
    pub(crate) bytes_received: AtomicU64,
    /// Connections that were made to it; with the first of each purpose, those beyond are reconnects.
    pub(crate) dialled: AtomicU64,
    /// Connections that were taken from it.
    pub(crate) accepted: AtomicU64,
}

impl PeerCounters {
    pub(super) fn sent(&self, frames: u64, bytes: usize) {
        if frames > 0 {
            self.frames_sent.fetch_add(frames, Relaxed);
            self.bytes_sent.fetch_add(bytes as u64, Relaxed);
        }
    }

    pub(super) fn received(&self, frames: u64, bytes: usize) {
        self.frames_received.fetch_add(frames, Relaxed);
        self.bytes_received.fetch_add(bytes as u64, Relaxed);
    }
}

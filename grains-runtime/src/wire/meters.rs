//! The same counts for the `metrics` facade (feature `metrics`). They go to the recorder that is installed when a peer is first
//! seen.

use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};

use crate::cluster::NodeName;

pub(super) struct Meters {
    frames_sent: Counter,
    bytes_sent: Counter,
    frames_received: Counter,
    bytes_received: Counter,
    dialled: Counter,
    accepted: Counter,
    batch_frames: Histogram,
    queued_seconds: Histogram,
    round_trip_seconds: Histogram,
}

impl std::fmt::Debug for Meters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meters")
    }
}

impl Meters {
    pub(super) fn new(me: &NodeName, peer: &NodeName) -> Self {
        let (node, peer) = (me.to_string(), peer.to_string());
        let count = |name: &'static str| counter!(name, "node" => node.clone(), "peer" => peer.clone());
        let spread = |name: &'static str| histogram!(name, "node" => node.clone(), "peer" => peer.clone());
        Self {
            frames_sent: count("grains_link_frames_sent_total"),
            bytes_sent: count("grains_link_bytes_sent_total"),
            frames_received: count("grains_link_frames_received_total"),
            bytes_received: count("grains_link_bytes_received_total"),
            dialled: count("grains_link_dialled_total"),
            accepted: count("grains_link_accepted_total"),
            batch_frames: spread("grains_link_batch_frames"),
            queued_seconds: spread("grains_link_queued_seconds"),
            round_trip_seconds: spread("grains_link_round_trip_seconds"),
        }
    }

    pub(super) fn sent(&self, frames: u64, bytes: usize) {
        self.frames_sent.increment(frames);
        self.bytes_sent.increment(bytes as u64);
        self.batch_frames.record(frames as f64);
    }

    pub(super) fn queued(&self, waited: Duration) {
        self.queued_seconds.record(waited);
    }

    pub(super) fn received(&self, frames: u64, bytes: usize) {
        self.frames_received.increment(frames);
        self.bytes_received.increment(bytes as u64);
    }

    pub(super) fn dialled(&self) {
        self.dialled.increment(1);
    }

    pub(super) fn accepted(&self) {
        self.accepted.increment(1);
    }

    pub(super) fn round_trip(&self, took: Duration) {
        self.round_trip_seconds.record(took);
    }
}

//! What the wire of one node is told: who it is, where it listens, and every limit.

use std::time::Duration;

use super::{
    handshake::{Purpose, VERSIONS, Versions},
    outbox::SHORT_BYTES_MAX,
    security::Security,
};
use crate::cluster::{NodeId, NodeName};

/// Who a node is and where it listens.
#[derive(Clone, Debug)]
pub(crate) struct WireConfig {
    /// The cluster.
    pub(crate) cluster: NodeName,
    /// The name of this node.
    pub(crate) name: NodeName,
    /// This node.
    pub(crate) node: NodeId,
    /// Where to listen, `"127.0.0.1:7101"`; port 0 picks a free one.
    pub(crate) listen: String,
    /// Where others reach it, if not where it listens: a host, or a host and a port.
    pub(crate) advertise: Option<String>,
    /// From where others may reach it.
    pub(crate) reach: Reach,
    /// How connections are kept from others.
    pub(crate) security: Security,
    /// How much of everything.
    pub(crate) limits: Limits,
}

/// From where a node may be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reach {
    /// From the same machine only, as long as connections are neither encrypted nor authenticated.
    #[default]
    Loopback,
    /// From everywhere its address is known: connections are secret, or their network is.
    Anywhere,
}

/// Every limit of the wire.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// The versions of the protocol it speaks.
    pub(crate) versions: Versions,
    /// The longest question that nothing large may hold up: one such frame holds up those behind it for some 4 ms on a link
    /// of 10 Gbit/s.
    pub(crate) frame_bytes_max: usize,
    /// The longest call, answer or item of a stream. Nothing short waits behind a long one, so what bounds it is the memory
    /// that one takes at its ends: its arguments, the message, and its parts over there.
    pub(crate) message_bytes_max: usize,
    /// The longest frame of a bulk question: a snapshot of the cluster's state or the directory of a partition, of which
    /// each is sent whole. Nothing small waits behind it.
    pub(crate) bulk_frame_bytes_max: usize,
    /// The longest frame of a client with a call, at a gateway; of an answer, at a client.
    pub(crate) client_frame_bytes_max: usize,
    /// How many bytes of answers wait for one client's connection before more wait for room.
    pub(crate) client_outgoing_bytes_max: usize,
    /// How many bytes of calls and questions wait for one connection before more are refused as overload. As many of
    /// answers and items of streams wait beside them; more of these wait for room.
    pub(crate) outgoing_bytes_max: usize,
    /// The same of long calls, and of long answers and items, beside those.
    pub(crate) long_bytes_max: usize,
    /// How many questions may wait for an answer on one connection, on either side of it.
    pub(crate) requests_max: usize,
    /// How many questions of all connections together are answered at the same time.
    pub(crate) serving_max: usize,
    /// How many connections others may have to this node.
    pub(crate) connections_max: usize,
    /// How many of them may be in their handshake.
    pub(crate) handshakes_max: usize,
    /// How many peers, and addresses to ask, are remembered.
    pub(crate) peers_max: usize,
    /// How long a connection may take to come about, and its handshake after it.
    pub(crate) handshake_timeout: Duration,
    /// How often who dialled asks whether the other side is there.
    pub(crate) ping_every: Duration,
    /// How long the other side may be silent; who was dialled waits twice as long. More than two pings.
    pub(crate) silence_max: Duration,
    /// How long a connection for questions stays when there are none.
    pub(crate) idle_timeout: Duration,
    /// The first pause after an address could not be reached; it doubles.
    pub(crate) backoff_min: Duration,
    /// The longest pause.
    pub(crate) backoff_max: Duration,
}

impl Limits {
    /// The longest message this node takes on a connection for `purpose`.
    pub(super) fn message_bytes_max(&self, purpose: Purpose) -> usize {
        match purpose {
            Purpose::Control => self.frame_bytes_max,
            Purpose::Data => self.message_bytes_max,
            Purpose::Bulk => self.bulk_frame_bytes_max,
            Purpose::Client => self.client_frame_bytes_max,
        }
    }

    /// The longest frame this node takes on it: longer messages come in parts between calls.
    pub(super) fn frame_bytes_max(&self, purpose: Purpose) -> usize {
        match purpose {
            Purpose::Data => self.message_bytes_max.min(SHORT_BYTES_MAX),
            Purpose::Control | Purpose::Bulk | Purpose::Client => self.message_bytes_max(purpose),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            versions: VERSIONS,
            frame_bytes_max: 4 << 20,
            message_bytes_max: 16 << 20,
            bulk_frame_bytes_max: 16 << 20,
            client_frame_bytes_max: 4 << 20,
            client_outgoing_bytes_max: 4 << 20,
            outgoing_bytes_max: 16 << 20,
            long_bytes_max: 64 << 20,
            requests_max: 1024,
            serving_max: 8192,
            connections_max: 1024,
            handshakes_max: 64,
            peers_max: 1024,
            handshake_timeout: Duration::from_secs(2),
            ping_every: Duration::from_secs(1),
            silence_max: Duration::from_secs(4),
            idle_timeout: Duration::from_secs(60),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(1),
        }
    }
}

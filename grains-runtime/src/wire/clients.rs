//! Connections of clients: what their two ends are given, and how a client dials. One connection carries both directions:
//! calls one way, answers the other. The end of a gateway is in `cluster/gateway`, that of a client in `client`.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use grains_core::Instant;

#[cfg(feature = "client")]
use super::outbox::Marks;
use super::{
    Unreadable,
    ended::Ended,
    frame,
    outbox::{Order, Outbox, SendError, Sent, Ticket},
    pump::Duty,
};
use crate::cluster::NodeName;

#[cfg(feature = "client")]
mod dialling;
#[cfg_attr(
    not(all(feature = "client", feature = "cluster")),
    allow(dead_code, reason = "who builds one of the two sides says and hears half of it")
)]
pub(crate) mod words;

#[cfg(feature = "client")]
pub(crate) use self::dialling::{Dialled, Dialler};

/// Where a client has come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    /// By the port of nodes.
    OfNodes,
    /// By one that only clients use.
    OfClients,
}

/// A client whose greeting is fine, and who is to be taken or not.
pub(crate) struct Newcomer {
    /// Its address.
    pub(crate) peer: String,
    /// What it calls itself, for people only.
    pub(crate) name: NodeName,
    /// Who it is by its certificate; none on a plaintext connection.
    pub(crate) principal: Option<NodeName>,
    pub(crate) port: Port,
    /// The way to it.
    pub(crate) line: Line,
}

/// What one end of a client's connection does with what arrives. Dropped when the connection has ended.
pub(crate) trait Ear: Send {
    /// A frame of a kind below 128, in order. It returns soon. One that cannot be read ends the connection.
    fn frame(&mut self, kind: u8, body: &[u8]) -> Result<(), Unreadable>;

    /// About once a second.
    fn tick(&mut self) {}
}

/// The outgoing side of a client's connection.
#[derive(Clone)]
pub(crate) struct Line(Arc<Outbox>);

impl Line {
    pub(super) fn new(outbox: Arc<Outbox>) -> Self {
        Self(outbox)
    }

    /// Sends a frame that cannot wait for room.
    #[cfg(feature = "client")]
    pub(crate) fn send(&self, kind: u8, write: impl FnOnce(&mut Vec<u8>)) -> Result<Sent, SendError> {
        self.0.send(kind, write)
    }

    /// Sends a small frame for which the other side waits: without room for it the connection ends.
    #[cfg(feature = "cluster")]
    pub(crate) fn tell(&self, kind: u8, write: impl FnOnce(&mut Vec<u8>)) -> Result<Sent, SendError> {
        self.0.tell(Order::Free, kind, write)
    }

    /// Sends a frame that can wait for room, if nobody does.
    #[cfg(feature = "cluster")]
    pub(crate) fn answer(&self, kind: u8, write: impl FnOnce(&mut Vec<u8>)) -> Result<Sent, SendError> {
        self.0.send_in_turn(Order::Free, kind, write)
    }

    /// The same as soon as there is room, for which `cx` waits by `ticket`.
    #[cfg(feature = "cluster")]
    pub(crate) fn poll_answer(
        &self,
        cx: &mut Context<'_>,
        ticket: &mut Ticket,
        kind: u8,
        body: &[u8],
    ) -> Poll<Result<Sent, SendError>> {
        self.0.poll_send(cx, ticket, Order::Free, kind, &[body])
    }

    /// Whether a frame with a body of so many bytes can be sent at all.
    #[cfg(feature = "cluster")]
    pub(crate) fn fits(&self, body_len: usize) -> Result<(), SendError> {
        self.0.fits(body_len)
    }

    /// Takes no more frames, and ends the connection.
    pub(crate) fn close(&self) {
        self.0.close();
    }

    /// Whether it takes no more frames.
    #[cfg(feature = "client")]
    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// Once the connection has ended: no frame beyond this has left or ever will.
    #[cfg(feature = "client")]
    pub(crate) fn written(&self) -> Option<Marks> {
        self.0.written()
    }
}

/// The duty of a client's connection, on both sides.
pub(super) struct Hears<'e>(pub(super) &'e mut dyn Ear);

impl Duty for Hears<'_> {
    fn frame(&mut self, kind: u8, body: &[u8]) -> Result<(), Ended> {
        if frame::is_control(kind) {
            return Err(Ended::Protocol(format!("a frame of kind {kind:#04x} on a client's connection")));
        }
        self.0.frame(kind, body).map_err(|Unreadable(why)| {
            Ended::Protocol(format!("a frame of kind {kind:#04x} that cannot be read: {why}"))
        })
    }

    fn tick(&mut self, _: Instant) -> Result<(), Ended> {
        self.0.tick();
        Ok(())
    }
}

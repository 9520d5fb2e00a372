//! Answers that go on after their call, between this node and others: see `cluster::streams`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use grains_core::{
    codec,
    stream::{ImportedStream, StreamError},
};

use super::{
    Clustered,
    envelope::{BadFrame, STREAM},
};
use crate::{
    activation::lock,
    cluster::{
        names::MemberId,
        streams::{LinkGone, NotSent, StreamFrame, StreamLink, StreamLinks, Streams},
    },
    wire::{Link, Order, SendError, Ticket},
};

/// The way of stream frames to other members.
pub(super) struct StreamWay(pub(super) Weak<Clustered>);

impl StreamLinks for StreamWay {
    fn tell(&self, to: MemberId, frame: StreamFrame) {
        // A new one, too: the other side may keep what this is about on its own link alone.
        let link = self.0.upgrade().and_then(|clustered| clustered.link_to(to).ok());
        if let Some(link) = link {
            LinkWay(link).tell(&frame).ok();
        }
    }
}

/// A link, as streams see it.
pub(super) struct LinkWay(pub(super) Arc<Link>);

/// In which the answer to a call and its streams leave.
pub(super) fn order(call: u64) -> Order {
    Order::Key(call)
}

impl StreamLink for LinkWay {
    fn id(&self) -> u64 {
        self.0.id()
    }

    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    fn tell(&self, frame: &StreamFrame) -> Result<(), LinkGone> {
        let body = codec::encode(frame).expect("frames are made of bytes, texts and numbers");
        self.0.tell(order(frame.call()), STREAM, |out| out.extend_from_slice(&body)).map(drop).map_err(|_| LinkGone)
    }

    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        ticket: &mut Ticket,
        call: u64,
        frame: &[u8],
    ) -> Poll<Result<(), NotSent>> {
        self.0.poll_answer(cx, ticket, order(call), STREAM, frame).map(|sent| match sent {
            Ok(_) => Ok(()),
            Err(why @ SendError::TooLarge { .. }) => Err(NotSent::TooLarge(why.to_string())),
            Err(SendError::Closed | SendError::Overloaded { .. }) => Err(NotSent::Gone),
        })
    }
}

impl Clustered {
    fn streams(&self) -> Option<Arc<Streams>> {
        lock(&self.streams).clone()
    }

    /// The streams in an answer, which came on link `theirs` of `from` to a call that went on link `ours`, are read here
    /// from now on.
    pub(super) fn import(
        &self,
        from: MemberId,
        (call, ours): (u64, u64),
        theirs: u64,
        streams: BTreeMap<u32, ImportedStream>,
    ) {
        let link = self.wire().and_then(|wire| wire.known_link(from)).filter(|link| link.id() == ours);
        match (self.streams(), link) {
            (Some(all), Some(link)) => {
                let link: Arc<dyn StreamLink> = Arc::new(LinkWay(link));
                all.import(from, call, &link, theirs, streams);
            }
            _ => {
                let why = format!("the connection to member {from} is lost");
                let error = StreamError::Disconnected { why: why.into() };
                streams.into_values().for_each(|imported| imported.end(Some(error.clone())));
            }
        }
    }

    pub(super) fn stream_frame(&self, from: MemberId, body: &[u8]) -> Result<(), BadFrame> {
        let frame = codec::decode(body).map_err(|_| BadFrame::new("no part of a stream"))?;
        if let Some(streams) = self.streams() {
            streams.frame(from, frame);
        }
        Ok(())
    }

    /// This node's link to a member has ended.
    pub(super) fn streams_lost(&self, member: MemberId, ours: u64) {
        if let Some(streams) = self.streams() {
            streams.link_ended(member, ours);
        }
    }

    /// A member's link to this node has ended.
    pub(super) fn streams_cut(&self, member: MemberId, theirs: u64) {
        if let Some(streams) = self.streams() {
            streams.data_ended(member, theirs);
        }
    }

    /// A member is gone.
    pub(super) fn streams_gone(&self, member: MemberId) {
        if let Some(streams) = self.streams() {
            streams.gone(member);
        }
    }
}

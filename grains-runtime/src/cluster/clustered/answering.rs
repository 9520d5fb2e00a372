//! The way back to whoever sent a call. Its caller waits, so nothing is lost in silence: an answer waits for room on its link,
//! or the caller's node hears that none comes.

use std::{
    future::poll_fn,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
};

use grains_core::{CallError, Failure, Outcome, stream::ExportedStream};

use super::{
    Clustered,
    arriving::Acting,
    envelope::{
        BOUNCE, Bounce, Found, Ordered, REDIRECT, REPLY, ReplyFrame, TAKEN, write_bounce, write_redirect, write_taken,
    },
    streaming::{LinkWay, order},
};
use crate::{
    activation::turn::drop_quietly,
    cluster::{names::MemberId, streams::StreamLink},
    wire::{Link, Order, SendError, Sent, Ticket},
};

/// The bytes of the answers that wait for room on one link. Over it, whoever does not take its answers loses that link.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// How often a link may end under a frame that is being sent.
const TRIES_MAX: usize = 3;

#[derive(Clone)]
pub(super) struct Back {
    pub(super) clustered: Weak<Clustered>,
    pub(super) to: MemberId,
    pub(super) call: u64,
    /// The number of the link on which the call came.
    pub(super) link: u64,
}

impl Back {
    pub(super) fn bounce(&self, why: Bounce) {
        self.tell(BOUNCE, |out| write_bounce(out, self.call, why)).ok();
    }

    pub(super) fn redirect(&self, order: Ordered) {
        self.tell(REDIRECT, |out| write_redirect(out, self.call, order)).ok();
    }

    pub(super) fn taken(&self) {
        self.tell(TAKEN, |out| write_taken(out, self.call)).ok();
    }

    pub(super) fn fail(&self, found: Option<Found>, failure: Failure) {
        let outcome = failure.outcome();
        let frame = ReplyFrame::failed(self.call, found, failure);
        if let Err(why @ SendError::TooLarge { .. }) = self.tell(REPLY, |out| frame.write(out)) {
            let why = format!("its failure: {why}").into();
            let frame = ReplyFrame::failed(self.call, found, CallError::Codec { why, outcome });
            self.tell(REPLY, |out| frame.write(out)).ok();
        }
    }

    /// Sends an answer, and then the streams in it.
    pub(super) fn reply(&self, acting: &Acting, found: Found, bytes: &[u8], streams: Vec<Box<dyn ExportedStream>>) {
        let frame = ReplyFrame { call: self.call, found: Some(found), answer: Ok(bytes) };
        let mut full = None;
        let sent = self.over_link(|link| {
            let sent = link.answer(order(self.call), REPLY, |out| frame.write(out));
            full = matches!(sent, Err(SendError::Overloaded { .. })).then(|| link.clone());
            sent
        });
        match (sent, full) {
            (Ok(link), _) => self.export(acting, link, streams),
            (Err(_), Some(link)) => {
                let mut body = Vec::new();
                frame.write(&mut body);
                match link.fits(body.len()) {
                    Ok(()) => self.reply_when_room(acting, link, found, body, streams),
                    Err(why) => self.unsendable(found, why, streams),
                }
            }
            (Err(why), None) => self.unsendable(found, why, streams),
        }
    }

    /// An answer that no link takes: because it is too large, which the caller is told; or because there is none, of which
    /// the caller's node hears.
    fn unsendable(&self, found: Found, why: SendError, streams: Vec<Box<dyn ExportedStream>>) {
        streams.into_iter().for_each(|stream| drop_quietly(stream, "a stream"));
        if let SendError::TooLarge { .. } = why {
            let why = format!("its answer: {why}").into();
            self.fail(Some(found), CallError::Codec { why, outcome: Outcome::Executed });
        }
    }

    fn export(&self, acting: &Acting, link: Arc<Link>, streams: Vec<Box<dyn ExportedStream>>) {
        if !streams.is_empty() {
            let link: Arc<dyn StreamLink> = Arc::new(LinkWay(link));
            acting.streams.export(self.to, self.call, &link, self.link, streams);
        }
    }

    fn reply_when_room(
        &self,
        acting: &Acting,
        link: Arc<Link>,
        found: Found,
        body: Vec<u8>,
        streams: Vec<Box<dyn ExportedStream>>,
    ) {
        let Some(clustered) = self.clustered.upgrade() else { return };
        let Some(waiting) = Waiting::new(&clustered.answers_waiting, &link, body.len()) else {
            tracing::warn!(to = %self.to, "it takes no answers, and too many wait for it: its link ends");
            streams.into_iter().for_each(|stream| drop_quietly(stream, "a stream"));
            return link.close();
        };
        let (back, acting) = (self.clone(), acting.clone());
        let tasks = acting.tenure.clone();
        tasks.tasks.spawn(async move {
            let mut ticket = Ticket::default();
            let sent = poll_fn(|cx| match acting.tenure.may_act() {
                true => link.poll_answer(cx, &mut ticket, order(back.call), REPLY, &body),
                false => Poll::Ready(Err(SendError::Closed)),
            });
            let sent = sent.await;
            drop((waiting, ticket));
            match sent {
                Ok(_) => back.export(&acting, link, streams),
                // Closed: its node hears of the link's end.
                Err(why) => back.unsendable(found, why, streams),
            }
        });
    }

    fn tell(&self, kind: u8, write: impl Fn(&mut Vec<u8>)) -> Result<Arc<Link>, SendError> {
        self.over_link(|link| link.tell(Order::Free, kind, &write))
    }

    /// Sends over the link there is. What is given to a link and lost with it is told by its end; if none takes it, the
    /// caller's node is told by the end of its own.
    fn over_link(&self, mut send: impl FnMut(&Arc<Link>) -> Result<Sent, SendError>) -> Result<Arc<Link>, SendError> {
        let clustered = self.clustered.upgrade().ok_or(SendError::Closed)?;
        for _ in 0..TRIES_MAX {
            let Ok(link) = clustered.link_to(self.to) else { break };
            match send(&link) {
                Ok(_) => return Ok(link),
                Err(SendError::Closed) => {}
                Err(why) => return Err(why),
            }
        }
        tracing::warn!(to = %self.to, "an answer could not be sent");
        if let Some(wire) = clustered.wire() {
            wire.close_heard(self.to);
        }
        Err(SendError::Closed)
    }
}

/// Bytes of an answer that waits for room: counted for its link, and for this node, which does not leave before.
struct Waiting {
    all: Arc<AtomicUsize>,
    link: Arc<Link>,
    bytes: usize,
}

impl Waiting {
    fn new(all: &Arc<AtomicUsize>, link: &Arc<Link>, bytes: usize) -> Option<Self> {
        let waiting = Self { all: all.clone(), link: link.clone(), bytes };
        all.fetch_add(bytes, Ordering::AcqRel);
        (link.answers_waiting().fetch_add(bytes, Ordering::AcqRel) + bytes <= WAITING_BYTES_MAX).then_some(waiting)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::AcqRel);
        self.link.answers_waiting().fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

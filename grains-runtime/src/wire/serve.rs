//! Answering questions: each on a task of its own, a bounded number at a time.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use grains_core::catch_unwind;

use super::{
    PeerInfo,
    control::{Head, NO_ANSWER, OVERLOADED},
    ended::Ended,
    frame,
    handshake::Greeting,
    identity::Unconfirmed,
    outbox::{Order, Outbox, SendError},
    pump::Duty,
    shared::Shared,
};
use crate::cluster::{NodeId, NodeName};

/// The duty of a connection on which the other side asks.
pub(super) struct Serve {
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
    name: NodeName,
    node: NodeId,
    unconfirmed: Unconfirmed,
    /// The last question. Numbers grow, so one that does not is a copy of one that was answered or is about to be.
    last: u64,
    serving: Arc<AtomicUsize>,
}

impl Serve {
    pub(super) fn new(shared: &Arc<Shared>, them: &Greeting, outbox: &Arc<Outbox>, unconfirmed: Unconfirmed) -> Self {
        let (name, node) = (them.about.name.clone(), them.about.node);
        let (shared, outbox) = (shared.clone(), outbox.clone());
        Self { shared, outbox, name, node, unconfirmed, last: 0, serving: Arc::default() }
    }

    fn slots(&self) -> Option<[Slot; 2]> {
        let limits = &self.shared.config.limits;
        Some([Slot::take(&self.serving, limits.requests_max)?, Slot::take(&self.shared.serving, limits.serving_max)?])
    }
}

impl Duty for Serve {
    fn frame(&mut self, kind: u8, body: &[u8]) -> Result<(), Ended> {
        let (frame::REQUEST, Some((head, body))) = (kind, Head::split(body)) else {
            if frame::is_hint(kind) {
                return Ok(());
            }
            return Err(Ended::Protocol(format!("a frame of kind {kind:#04x} where questions are asked")));
        };
        if head.id <= self.last {
            return Ok(());
        }
        let confirmed = self.unconfirmed.confirm(|| self.shared.handler.name_of(self.node));
        confirmed.map_err(Ended::Protocol)?;
        self.last = head.id;
        let Some(slots) = self.slots() else {
            // Whoever asks on and does not read hears it by the end of the connection.
            let no = [&head.answered(None)[..], &[OVERLOADED]].concat();
            self.outbox.tell(Order::Free, frame::FAILED, |out| out.extend(no)).ok();
            return Ok(());
        };
        let from = PeerInfo { name: self.name.clone(), node: self.node, incarnation: head.incarnation };
        let answering = answer(self.shared.clone(), self.outbox.clone(), head, from, body.to_vec());
        self.shared.crew.spawn(async move {
            answering.await;
            drop(slots);
        });
        Ok(())
    }
}

async fn answer(shared: Arc<Shared>, outbox: Arc<Outbox>, head: Head, from: PeerInfo, body: Vec<u8>) {
    let node = from.node;
    let handler = shared.handler.clone();
    let answer = catch_unwind(async move { handler.control(from, body).await }).await;
    let head = head.answered(shared.incarnation());
    let failure = match answer {
        Ok(answer) => match outbox.send_when_room(frame::RESPONSE, &[&head, &answer]).await {
            Err(why @ SendError::TooLarge { .. }) => format!("its answer is {why}"),
            // Or there is nobody any more who waits.
            _ => return,
        },
        Err(_) => "it panicked over the question".to_owned(),
    };
    tracing::warn!(%node, failure, "a question stays without an answer");
    outbox.send_when_room(frame::FAILED, &[&head, &[NO_ANSWER], failure.as_bytes()]).await.ok();
}

/// One of a bounded number.
struct Slot(Arc<AtomicUsize>);

impl Slot {
    fn take(taken: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let more = |taken| if taken < max { Some(taken + 1) } else { None };
        taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Self(taken.clone()))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

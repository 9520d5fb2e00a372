//! The questions on one connection that wait for their answers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use grains_core::Instant;
use tokio::sync::oneshot;

use super::{
    PeerInfo,
    config::Limits,
    control::{Head, OVERLOADED, RequestError, Response},
    ended::Ended,
    frame,
    handshake::Greeting,
    outbox::{Marks, Outbox, SendError, Sent},
    pump::Duty,
    shared::Shared,
};
use crate::{
    cluster::{NodeId, NodeName},
    sync::{Mutex, lock},
};

/// A connection on which this side asks.
pub(super) struct Open {
    address: String,
    name: NodeName,
    node: NodeId,
    outbox: Arc<Outbox>,
    requests_max: usize,
    waiting: Mutex<Waiting>,
}

struct Waiting {
    last: u64,
    questions: BTreeMap<u64, Question>,
    /// When the last one was asked or answered.
    used: Instant,
}

struct Question {
    sent: Sent,
    answer: oneshot::Sender<Result<Response, RequestError>>,
}

impl Open {
    pub(super) fn new(address: &str, them: &Greeting, limits: &Limits, frame_bytes_max: usize, now: Instant) -> Self {
        Self {
            address: address.to_owned(),
            name: them.about.name.clone(),
            node: them.about.node,
            outbox: Arc::new(Outbox::new(limits.outgoing_bytes_max, frame_bytes_max)),
            requests_max: limits.requests_max,
            waiting: Mutex::new(Waiting { last: 0, questions: BTreeMap::new(), used: now }),
        }
    }

    pub(super) fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// Who is at the other end.
    pub(super) fn node(&self) -> NodeId {
        self.node
    }

    pub(super) fn is_closed(&self) -> bool {
        self.outbox.is_closed()
    }

    /// Sends a question. None if the connection has ended and did not take it.
    pub(super) fn ask(self: Arc<Self>, shared: &Shared, body: &[u8]) -> Result<Option<Asked>, RequestError> {
        let incarnation = shared.incarnation();
        let mut waiting = lock(&self.waiting);
        if waiting.questions.len() >= self.requests_max {
            return Err(self.overloaded(format!("{} wait for answers", self.requests_max)));
        }
        // Numbers leave in their order, because this lock is held meanwhile: the other side relies on it.
        let id = waiting.last + 1;
        let head = Head { id, incarnation }.bytes();
        let sent = match self.outbox.send(frame::REQUEST, |out| {
            out.extend_from_slice(&head);
            out.extend_from_slice(body);
        }) {
            Ok(sent) => sent,
            Err(SendError::Closed) => return Ok(None),
            Err(SendError::TooLarge { bytes, max }) => return Err(RequestError::TooLarge { bytes, max }),
            Err(why @ SendError::Overloaded { .. }) => return Err(self.overloaded(why.to_string())),
        };
        let (answer, wait) = oneshot::channel();
        waiting.last = id;
        waiting.used = shared.world.clock.now();
        waiting.questions.insert(id, Question { sent, answer });
        drop(waiting);
        Ok(Some(Asked { open: self, id, wait }))
    }

    /// The connection has ended: what left may have been handled, the rest was not.
    pub(super) fn fail_all(&self, why: &str) {
        self.outbox.close();
        let questions = std::mem::take(&mut lock(&self.waiting).questions);
        // Not known only if the writer is still there, and then anything may have left.
        let written = self.outbox.written().unwrap_or(Marks::ALL);
        for question in questions.into_values() {
            let (address, why) = (self.address.clone(), why.to_owned());
            let failure = match written.have(question.sent) {
                true => RequestError::Unanswered { address, why },
                false => RequestError::Unreachable { address, why },
            };
            drop(question.answer.send(Err(failure)));
        }
    }

    fn overloaded(&self, why: String) -> RequestError {
        RequestError::Overloaded { address: self.address.clone(), why }
    }

    fn answered(&self, head: Head, now: Option<Instant>, result: Result<Vec<u8>, RequestError>) {
        let mut waiting = lock(&self.waiting);
        waiting.used = now.unwrap_or(waiting.used);
        // None if it was answered already, or nobody waits any more.
        let question = waiting.questions.remove(&head.id);
        drop(waiting);
        if let Some(question) = question {
            let from = PeerInfo { name: self.name.clone(), node: self.node, incarnation: head.incarnation };
            drop(question.answer.send(result.map(|body| Response { from, body })));
        }
    }
}

/// A question that was asked. Dropped, it is forgotten.
pub(super) struct Asked {
    open: Arc<Open>,
    id: u64,
    wait: oneshot::Receiver<Result<Response, RequestError>>,
}

impl Asked {
    pub(super) async fn answer(mut self) -> Result<Response, RequestError> {
        let answer = (&mut self.wait).await;
        let gone = || RequestError::Unanswered { address: self.open.address.clone(), why: "it was forgotten".into() };
        answer.unwrap_or_else(|_| Err(gone()))
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        lock(&self.open.waiting).questions.remove(&self.id);
    }
}

/// The duty of such a connection.
pub(super) struct Asks {
    pub(super) open: Arc<Open>,
    pub(super) idle_timeout: Duration,
}

impl Duty for Asks {
    fn frame(&mut self, kind: u8, body: &[u8]) -> Result<(), Ended> {
        let (frame::RESPONSE | frame::FAILED, Some((head, body))) = (kind, Head::split(body)) else {
            if frame::is_hint(kind) {
                return Ok(());
            }
            return Err(Ended::Protocol(format!("a frame of kind {kind:#04x} where answers are awaited")));
        };
        let result = match (kind, body.split_first()) {
            (frame::RESPONSE, _) => Ok(body.to_vec()),
            (_, Some((&OVERLOADED, _))) => Err(self.open.overloaded("it answers as many as it can".into())),
            (_, rest) => {
                let text = rest.map_or(&[][..], |(_, text)| text);
                let why = String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).collect();
                Err(RequestError::Unanswered { address: self.open.address.clone(), why })
            }
        };
        self.open.answered(head, None, result);
        Ok(())
    }

    fn tick(&mut self, now: Instant) -> Result<(), Ended> {
        let mut waiting = lock(&self.open.waiting);
        if !waiting.questions.is_empty() {
            waiting.used = now;
        }
        match now.since(waiting.used) >= self.idle_timeout {
            true => Err(Ended::Idle),
            false => Ok(()),
        }
    }
}

//! The way back of one call of a client: over its connection, as soon as there is room.

use std::{
    future::poll_fn,
    sync::{Arc, atomic::Ordering},
    task::Poll,
};

use grains_core::{
    CallError, Failure, GrainId, Outcome, cancel::Cancellation, route::ReplySink, stream::with_outgoing,
};

use super::session::Session;
use crate::{
    activation::turn::drop_quietly,
    scratch,
    tenure::Tenure,
    wire::{
        SendError, Ticket,
        clients::words::{REPLY, write_answer},
    },
};

/// Where the answer to a client's call goes.
pub(super) struct ClientReply {
    session: Arc<Session>,
    /// Under which the call was taken: nothing that ran here is told after it.
    tenure: Arc<Tenure>,
    call: u64,
    grain: GrainId,
    wanted: Arc<Cancellation>,
    told: bool,
    /// Its answer waits for room, and the call counts until that has left.
    waits: bool,
}

/// What a client is told whose call is answered by a stream.
pub(crate) const NO_STREAMS: &str =
    "it has a stream, which clients cannot be sent yet: ask for it on a node, or have the method answer page by page";

impl ClientReply {
    pub(super) fn new(
        session: Arc<Session>,
        tenure: Arc<Tenure>,
        call: u64,
        grain: GrainId,
        wanted: Arc<Cancellation>,
    ) -> Self {
        Self { session, tenure, call, grain, wanted, told: false, waits: false }
    }

    fn tell(&mut self, failure: Failure) {
        self.told = true;
        if self.wanted.has_fired() {
            return;
        }
        let failure = match failure.outcome() {
            Outcome::NotExecuted => failure,
            Outcome::Unknown | Outcome::Executed if self.tenure.may_act() => failure,
            Outcome::Unknown | Outcome::Executed => self.lost("the lease of its gateway has ended"),
        };
        self.session.fail(self.call, failure);
    }

    fn lost(&self, why: &str) -> Failure {
        CallError::Lost { grain: self.grain.to_string().into(), why: why.into() }
    }

    fn give(&mut self, bytes: &[u8]) {
        if self.wanted.has_fired() {
            self.told = true;
            return;
        }
        if !self.tenure.may_act() {
            let failure = self.lost("the lease of its gateway has ended");
            return self.tell(failure);
        }
        self.told = true;
        let call = self.call;
        match self.session.line.answer(REPLY, |out| write_answer(out, call, bytes)) {
            Ok(_) | Err(SendError::Closed) => {}
            Err(SendError::TooLarge { bytes, max }) => self.too_large(bytes, max),
            Err(SendError::Overloaded { .. }) => {
                let mut body = Vec::with_capacity(bytes.len() + 16);
                write_answer(&mut body, call, bytes);
                match self.session.line.fits(body.len()) {
                    Ok(()) => self.give_when_room(body),
                    Err(SendError::TooLarge { bytes, max }) => self.too_large(bytes, max),
                    Err(_) => {}
                }
            }
        }
    }

    fn too_large(&mut self, bytes: usize, max: usize) {
        let why = format!("its answer: a frame of {bytes} bytes, and at most {max} are taken").into();
        self.tell(CallError::Codec { why, outcome: Outcome::Executed });
    }

    /// The call counts until its answer has found room.
    fn give_when_room(&mut self, body: Vec<u8>) {
        let (session, bytes) = (self.session.clone(), body.len());
        let max = session.gateway.config.answer_bytes_max;
        let waiting = Waiting { session, bytes, call: self.call };
        self.waits = true;
        if waiting.session.answers_waiting.fetch_add(bytes, Ordering::AcqRel) + bytes > max {
            let principal = waiting.session.principal();
            tracing::warn!(%principal, max, "a client takes no answers, and too many wait for it: its connection ends");
            return waiting.session.close();
        }
        let tenure = self.tenure.clone();
        self.tenure.tasks.spawn(async move {
            let mut ticket = Ticket::default();
            let sent = poll_fn(|cx| match tenure.may_act() {
                true => waiting.session.line.poll_answer(cx, &mut ticket, REPLY, &body),
                false => Poll::Ready(Err(SendError::Closed)),
            });
            if sent.await.is_err() {
                // It waits, and nothing comes: it hears that by the end of its connection.
                waiting.session.close();
            }
        });
    }
}

/// An answer that waits for room: so many bytes, and a call that is not over.
struct Waiting {
    session: Arc<Session>,
    bytes: usize,
    call: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.session.answers_waiting.fetch_sub(self.bytes, Ordering::AcqRel);
        self.session.over(self.call);
    }
}

impl Drop for ClientReply {
    fn drop(&mut self) {
        if !self.told {
            let failure = self.lost("its turn ended without an answer");
            self.tell(failure);
        }
        if !self.waits {
            self.session.over(self.call);
        }
    }
}

impl ReplySink for ClientReply {
    fn begin(&self) -> bool {
        !self.is_withdrawn()
    }

    fn is_withdrawn(&self) -> bool {
        self.wanted.has_fired()
    }

    fn watch(&self) -> Arc<Cancellation> {
        self.wanted.clone()
    }

    fn answer(mut self: Box<Self>, encode: &mut dyn FnMut() -> Result<Vec<u8>, String>) {
        let (bytes, streams) = with_outgoing(encode);
        match bytes {
            Ok(_) if !streams.is_empty() => {
                streams.into_iter().for_each(|stream| drop_quietly(stream, "a stream"));
                self.tell(CallError::Codec {
                    why: format!("its answer: {NO_STREAMS}").into(),
                    outcome: Outcome::Executed,
                });
            }
            Ok(bytes) => {
                self.give(&bytes);
                scratch::give_back(bytes);
            }
            Err(why) => {
                self.tell(CallError::Codec { why: format!("its answer: {why}").into(), outcome: Outcome::Executed })
            }
        }
    }

    fn answered(mut self: Box<Self>, result: &[u8]) {
        self.give(result);
    }

    fn failed(mut self: Box<Self>, failure: Failure) {
        self.tell(failure);
    }
}

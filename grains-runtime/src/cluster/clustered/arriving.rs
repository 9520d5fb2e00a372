//! Frames that come: calls for grains of this node, and what became of calls it sent.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock, atomic::Ordering},
    time::Duration,
};

use grains_core::{
    CallError, Failure, Outcome,
    cancel::Cancellation,
    codec,
    route::ReplySink,
    stream::{ExportedStream, with_incoming, with_outgoing},
};

use super::{
    Clustered,
    answering::Back,
    early::EarlyFrame,
    envelope::{
        BOUNCE, BadFrame, Bounce, CALL, CANCEL, CallFrame, DIRECTORY, FAREWELL, Found, HEARD, Ordered, REDIRECT, REPLY,
        ReplyFrame, STREAM, TAKEN, Target, read_bounce, read_cancel, read_redirect, read_round, read_taken,
    },
    pending::Returned,
    table::{Standing, Table, Way},
};
use crate::{
    activation::{
        arrived::Arrived,
        lock,
        turn::{drop_quietly, panic_message},
    },
    ambient::{Hop, Inherited, Link},
    catalog::Made,
    cluster::{
        directory::{Message, Order},
        gateway::NO_STREAMS,
        names::MemberId,
        streams::Streams,
    },
    node::NodeInner,
    scratch,
    tenure::Tenure,
    wire::{Unreadable, frame::is_hint},
};

impl Clustered {
    /// A frame of another member, over its link of number `link`. Those of one link come one after the other; `memo` is the era
    /// in which one of these was found to count, and all do until it ends.
    pub(crate) fn arrived(
        &self,
        from: MemberId,
        link: u64,
        kind: u8,
        body: &[u8],
        memo: &mut u64,
    ) -> Result<(), Unreadable> {
        let era = self.era.load(Ordering::Acquire);
        if *memo == era && era != 0 {
            return self.hear(from, link, kind, body);
        }
        let mut counts = self.counts(from, link, kind, body)?;
        if counts == Counts::Now {
            *memo = era;
        }
        if counts == Counts::BehindEarly {
            // What came before it is heard when whoever turns to the next view is done.
            drop(lock(&self.turning));
            counts = self.counts(from, link, kind, body)?;
        }
        match counts {
            Counts::Now | Counts::BehindEarly => self.hear(from, link, kind, body),
            Counts::NotNow => Ok(()),
        }
    }

    fn hear(&self, from: MemberId, link: u64, kind: u8, body: &[u8]) -> Result<(), Unreadable> {
        let read = match kind {
            CALL => CallFrame::read(body).map(|frame| self.call(from, link, frame)),
            REPLY => ReplyFrame::read(body).map(|frame| self.reply(from, link, frame)),
            BOUNCE => read_bounce(body).map(|(call, why)| self.bounced(from, call, why)),
            REDIRECT => read_redirect(body).map(|(call, order)| self.redirect(from, call, order)),
            TAKEN => read_taken(body).map(|call| self.taken(from, call)),
            CANCEL => read_cancel(body).map(|call| self.cancelled(from, call)),
            DIRECTORY => match codec::decode::<Message>(body) {
                Ok(message) => {
                    self.directory_message(from, message);
                    Ok(())
                }
                Err(_) => Err(BadFrame::new("no message between owners and hosts")),
            },
            FAREWELL => read_round(body).map(|round| self.farewell(from, round)),
            HEARD => read_round(body).map(|round| self.heard(from, round)),
            STREAM => self.stream_frame(from, body),
            _ if is_hint(kind) => Ok(()),
            _ => Err(BadFrame::new("of a kind that this node does not know")),
        };
        read.map_err(Unreadable::from)
    }

    /// Whether a frame counts now. Nothing does that an incarnation says after it was removed; what one says of which this
    /// node has yet to hear is kept until then.
    fn counts(&self, from: MemberId, link: u64, kind: u8, body: &[u8]) -> Result<Counts, Unreadable> {
        let mut table = lock(&self.table);
        let Table { standing: Some(standing), early, .. } = &mut *table else { return Ok(Counts::NotNow) };
        if standing.view.member(from).is_some() {
            return Ok(if early.is_heard_now(from) { Counts::BehindEarly } else { Counts::Now });
        }
        if standing.view.has_or_awaits(self.view_index(), from) && !early.keep(from, link, kind, body) {
            return Err(Unreadable("one too many of a member that this node has yet to hear of"));
        }
        Ok(Counts::NotNow)
    }

    /// Frames that came before this node had heard of their senders.
    pub(super) fn hear_early(&self, frames: Vec<EarlyFrame>) {
        for EarlyFrame { from, link, kind, body } in frames {
            if let Err(why) = self.hear(from, link, kind, &body)
                && let Some(wire) = self.wire()
            {
                tracing::warn!(%from, kind, %why, "connection closed for a frame that cannot be read");
                wire.close_heard(from);
            }
        }
        lock(&self.table).early.heard();
    }

    /// A call for a grain that its sender believes to be here, or this node to own.
    fn call(&self, from: MemberId, link: u64, mut frame: CallFrame) {
        let Some(node) = self.node() else { return };
        let back = Back { clustered: self.weak(), to: from, call: frame.call, link };
        if let Err(failure) = self.let_in(&node, &mut frame) {
            return if frame.one_way { back.taken() } else { back.fail(None, failure) };
        }
        match self.look(&node, from, &frame) {
            Looked::Here(made, acting) => self.deliver(&node, back, frame, made, acting),
            Looked::Redirect(order) => back.redirect(order),
            Looked::Bounce(why) => back.bounce(why),
            Looked::Fails(failure) if frame.one_way => {
                tracing::warn!(grain = %frame.grain, %failure, "a one-way call failed");
                back.taken();
            }
            Looked::Fails(failure) => back.fail(None, failure),
        }
    }

    /// A client's call may be made of what is marked for clients. The gateway of the client knows that only of what it hosts.
    fn let_in(&self, node: &NodeInner, frame: &mut CallFrame) -> Result<(), Failure> {
        if !frame.of_client {
            return Ok(());
        }
        let named = frame.request.take_method_named();
        let failure = match node.open_to_clients(&frame.grain, frame.method, named.as_deref()) {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        if frame.one_way {
            tracing::warn!(grain = %frame.grain, %failure, "a one-way call of a client is refused");
        }
        Err(failure)
    }

    fn look(&self, node: &NodeInner, from: MemberId, frame: &CallFrame) -> Looked {
        let hash = node.hash_of(&frame.grain);
        let mut table = lock(&self.table);
        let Ok(standing) = table.acting() else { return Looked::Bounce(Bounce::NotNow) };
        let acting = Acting { me: standing.me, tenure: standing.tenure.clone(), streams: standing.streams.clone() };
        let made = match frame.target {
            Target::Whoever => {
                if let Some(void) = frame.void {
                    standing.directory.gone(&frame.grain, void);
                }
                return match table.way(node, &frame.grain, hash, from.node) {
                    Way::Here(made) => Looked::Here(made, acting),
                    Way::Away(_, Target::Ordered(order)) => Looked::Redirect(order),
                    // The sender has another view than this node, or will have it soon.
                    Way::Away(_, Target::Whoever | Target::Known(_)) | Way::Wait => Looked::Bounce(Bounce::NotNow),
                    Way::Fails(CallError::NotReady { .. }) => Looked::Bounce(Bounce::NotNow),
                    Way::Fails(failure) => Looked::Fails(failure),
                };
            }
            Target::Ordered(Ordered { partition, epoch, counter, host }) => {
                let order = Order { partition, epoch, counter, host, grain: frame.grain.clone() };
                standing.obey(node, &order, hash)
            }
            Target::Known(activation) if standing.host.here(&frame.grain) == Some(activation) => {
                node.catalog.find(hash, &frame.grain).map(|found| Ok(Made::Found(found)))
            }
            Target::Known(_) => None,
        };
        drop(table);
        let activation = frame.target.activation();
        match (made, activation) {
            (Some(Ok(made)), _) => Looked::Here(made, acting),
            (Some(Err(failure)), Some(activation)) => {
                self.ended(&frame.grain, activation);
                Looked::Fails(failure)
            }
            (None, Some(activation)) => {
                self.ended(&frame.grain, activation);
                Looked::Bounce(Bounce::NotHere)
            }
            (_, None) => Looked::Bounce(Bounce::NotNow),
        }
    }

    fn deliver(&self, node: &NodeInner, back: Back, frame: CallFrame, made: Made, acting: Acting) {
        let (Made::New(activation) | Made::Found(activation)) = &made;
        let (one_way, activation) = (frame.one_way, activation.clone());
        let found = Found { host: acting.me, activation: activation.activation_id() };
        let caller = self.caller(frame.chain);
        let reply = (!one_way).then(|| {
            let (back, caller, wanted) = (back.clone(), caller.clone(), OnceLock::new());
            let of_client = frame.of_client;
            Box::new(AwayReply { back, acting, found, caller, answered: false, of_client, wanted })
                as Box<dyn ReplySink>
        });
        let timeout = Duration::from_micros(frame.left_us).min(FAR);
        let clock = &*self.world.clock;
        let now = if timeout < COARSE { clock.now() } else { clock.recent() };
        let inherited = Inherited { caller, request: frame.request, deadline: Some(now + timeout), timeout };
        let arrived = Arrived { method: frame.method, args: frame.args, reply, inherited };
        let arrived = match made {
            Made::New(new) => new.arrive_first(arrived),
            Made::Found(found) => found.arrive(arrived),
        };
        match arrived {
            Ok(()) if one_way => back.taken(),
            Ok(()) => {}
            Err(Arrived { reply, .. }) => {
                node.over(&*activation);
                match reply {
                    Some(sink) => sink.failed(CallError::NotReady { why: "its activation has just ended".into() }),
                    None => back.bounce(Bounce::NotNow),
                }
            }
        }
    }

    /// The chain by which a call has come.
    fn caller(&self, chain: Vec<Hop>) -> Option<Arc<Link>> {
        if chain.is_empty() {
            return None;
        }
        let me = self.incarnation();
        let pending = lock(&self.pending);
        Link::arrived(chain, |hop| (hop.origin == me).then(|| pending.caller_of(hop.call))?)
    }

    fn reply(&self, from: MemberId, theirs: u64, frame: ReplyFrame<'_>) {
        let returned = lock(&self.pending).answered(frame.call, from);
        let Some(Returned { call, target, link }) = returned else { return };
        // Most answers come from where they were known to come from.
        let is_news = |found: &Found| found.activation.counter != 0 && target != Target::Known(found.activation);
        if let Some(found) = frame.found.filter(is_news) {
            lock(&self.table).places.learn(call.hash, &call.grain, found);
        }
        let Some(sink) = call.sink else { return };
        match frame.answer {
            Ok(bytes) => self.answered(from, (frame.call, link), theirs, sink, bytes),
            Err(failure) => sink.failed(failure),
        }
    }

    /// Decoding runs users' code: if it panics, the reply is dropped, which tells the caller.
    fn answered(&self, from: MemberId, call: (u64, u64), theirs: u64, sink: Box<dyn ReplySink>, bytes: &[u8]) {
        let answered = catch_unwind(AssertUnwindSafe(|| with_incoming(|| sink.answered(bytes))));
        match answered {
            Ok(((), streams)) if streams.is_empty() => {}
            Ok(((), streams)) => self.import(from, call, theirs, streams),
            Err(panic) => tracing::error!(message = panic_message(&*panic), "decoding an answer panicked"),
        }
    }

    fn bounced(&self, from: MemberId, number: u64, why: Bounce) {
        let returned = lock(&self.pending).answered(number, from);
        let Some(Returned { call, target, .. }) = returned else { return };
        match why {
            Bounce::NotHere => self.not_there(call, target.activation()),
            Bounce::NotNow => {
                let mut table = lock(&self.table);
                table.places.forget(call.hash, &call.grain);
                let of_workers = |standing: &Standing| standing.workers.has(call.grain.grain_type());
                let of_workers = table.standing.as_ref().is_some_and(of_workers);
                drop(table);
                if of_workers {
                    self.passed_over.add(self.world.clock.now(), from);
                }
                self.park(call);
            }
        }
    }

    fn redirect(&self, from: MemberId, number: u64, order: Ordered) {
        let returned = lock(&self.pending).answered(number, from);
        let Some(Returned { call, .. }) = returned else { return };
        self.redirected(call, order);
    }

    fn taken(&self, from: MemberId, number: u64) {
        let returned = lock(&self.pending).answered(number, from);
        drop(returned);
    }

    fn directory_message(&self, from: MemberId, message: Message) {
        let actions = {
            let mut table = lock(&self.table);
            let Some(standing) = &mut table.standing else { return };
            standing.handle(self.world.clock.now(), from, message)
        };
        self.carry_out(actions);
    }
}

/// Whether a frame is heard.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counts {
    Now,
    /// Once the early frames of its sender are.
    BehindEarly,
    /// Never, or when a view has its sender.
    NotNow,
}

/// What is to be done with a call.
enum Looked {
    Here(Made, Acting),
    Redirect(Ordered),
    Bounce(Bounce),
    Fails(Failure),
}

/// As what this node answers a call.
#[derive(Clone)]
pub(super) struct Acting {
    me: MemberId,
    /// Under which it is answered: nothing is heard of a node after its lease has ended.
    pub(super) tenure: Arc<Tenure>,
    pub(super) streams: Arc<Streams>,
}

/// Who waits that long may find its call refused as late some milliseconds early: the caller itself knows when its time is over.
const COARSE: Duration = Duration::from_secs(1);

/// Longer than anybody waits; keeps what a peer says from overflowing.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Where the answer to a call of another node goes.
struct AwayReply {
    back: Back,
    acting: Acting,
    found: Found,
    /// The turn that made the call, if one did.
    caller: Option<Arc<Link>>,
    answered: bool,
    /// A client made the call.
    of_client: bool,
    /// Whether anybody still wants it, from when it has to wait.
    wanted: OnceLock<Arc<Cancellation>>,
}

impl AwayReply {
    fn reply(&mut self, bytes: &[u8], streams: Vec<Box<dyn ExportedStream>>) {
        self.answered = true;
        if self.acting.tenure.may_act() {
            self.back.reply(&self.acting, self.found, bytes, streams);
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.answered = true;
        if self.acting.tenure.may_act() {
            self.back.fail(Some(self.found), failure);
        }
    }
}

impl Drop for AwayReply {
    fn drop(&mut self) {
        if self.wanted.get().is_some()
            && let Some(clustered) = self.back.clustered.upgrade()
        {
            clustered.no_longer_waits_here(self.back.to, self.back.call);
        }
        // Whoever has taken it back has ended it for itself.
        if !self.answered && !self.is_withdrawn() {
            let why = "its turn ended without an answer".into();
            self.fail(CallError::Lost { grain: "the grain".into(), why });
        }
    }
}

impl ReplySink for AwayReply {
    fn begin(&self) -> bool {
        !self.is_withdrawn()
    }

    fn is_withdrawn(&self) -> bool {
        self.wanted.get().is_some_and(|wanted| wanted.has_fired())
    }

    fn watch(&self) -> Arc<Cancellation> {
        let wanted = self.wanted.get_or_init(|| {
            let wanted: Arc<Cancellation> = Arc::default();
            if let Some(clustered) = self.back.clustered.upgrade() {
                let caller = self.caller.clone();
                clustered.waits_here((self.back.to, self.back.call), self.back.link, wanted.clone(), caller);
            }
            wanted
        });
        wanted.clone()
    }

    fn answer(mut self: Box<Self>, encode: &mut dyn FnMut() -> Result<Vec<u8>, String>) {
        let (bytes, streams) = with_outgoing(encode);
        match bytes {
            Ok(_) if self.of_client && !streams.is_empty() => {
                streams.into_iter().for_each(|stream| drop_quietly(stream, "a stream"));
                self.fail(CallError::Codec {
                    why: format!("its answer: {NO_STREAMS}").into(),
                    outcome: Outcome::Executed,
                });
            }
            Ok(bytes) => {
                self.reply(&bytes, streams);
                scratch::give_back(bytes);
            }
            Err(why) => {
                let why = format!("its answer: {why}").into();
                self.fail(CallError::Codec { why, outcome: Outcome::Executed });
            }
        }
    }

    fn answered(mut self: Box<Self>, result: &[u8]) {
        self.reply(result, Vec::new());
    }

    fn failed(mut self: Box<Self>, failure: Failure) {
        match failure {
            CallError::NotReady { .. } if self.acting.tenure.may_act() => {
                self.answered = true;
                self.back.bounce(Bounce::NotNow);
            }
            failure => self.fail(failure),
        }
    }
}

//! Frames that come: calls for grains of this node or to be passed on, and what became of calls it sent.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
    time::Duration,
};

use grains_core::{ActivationId, CallError, Failure, Outcome, codec, route::ReplySink};

use super::{
    Clustered,
    envelope::{
        BOUNCE, BadFrame, Bounce, CALL, CallFrame, DIRECTORY, Found, HOPS_MAX, REPLY, ReplyFrame, STREAM, TAKEN,
        Target, read_bounce, read_taken, write_bounce, write_taken,
    },
    pending::{Call, Returned},
};
use crate::{
    activation::{arrived::Arrived, lock, turn::panic_message},
    ambient::{Inherited, Link},
    catalog::Made,
    cluster::{
        directory::{Message, Order},
        names::{MemberId, NodeId},
    },
    node::NodeInner,
    tenure::Tenure,
    wire::SendError,
};

impl Clustered {
    /// A frame of another member. Those of one member come one after the other.
    pub(crate) fn arrived(&self, from: MemberId, kind: u8, body: &[u8]) {
        match self.standing_of(from) {
            Speaker::Member => {}
            Speaker::Removed => return,
            Speaker::Unknown => {
                if !lock(&self.early).keep(from, kind, body) {
                    tracing::warn!(%from, "too many frames of a member that this node has yet to hear of");
                }
                return;
            }
        }
        let read = match kind {
            CALL => CallFrame::read(body).map(|frame| self.call(from, frame)),
            REPLY => ReplyFrame::read(body).map(|frame| self.reply(from, frame)),
            BOUNCE => read_bounce(body).map(|(call, why)| self.bounced(from, call, why)),
            TAKEN => read_taken(body).map(|call| drop(lock(&self.pending).answered(call, from))),
            DIRECTORY => match codec::decode::<Message>(body) {
                Ok(message) => Ok(self.directory_message(from, message)),
                Err(_) => Err(BadFrame::new("no message between owners and hosts")),
            },
            STREAM => Ok(self.stream_frame(from, body)),
            _ => Err(BadFrame::new("of a kind that this node does not know")),
        };
        if let Err(why) = read {
            tracing::warn!(%from, kind, %why, "ignored");
        }
    }

    /// Nothing counts that an incarnation says after it was removed.
    fn standing_of(&self, from: MemberId) -> Speaker {
        let table = lock(&self.table);
        match &table.standing {
            Some(standing) if standing.view.member(from).is_some() => Speaker::Member,
            Some(_) if from.incarnation.0 <= self.view_index() => Speaker::Removed,
            Some(_) | None => Speaker::Unknown,
        }
    }

    /// Frames that came before this node had heard of their senders.
    pub(super) fn hear_early(&self) {
        let frames = lock(&self.early).take();
        frames.into_iter().for_each(|(from, kind, body)| self.arrived(from, kind, &body));
    }

    fn call(&self, from: MemberId, frame: CallFrame) {
        let Some(node) = self.node() else { return };
        let back = Back { clustered: self.weak(), to: from, call: frame.call };
        let (order, activation) = match frame.target {
            Target::Whoever => return self.pass_on(&node, back, frame),
            Target::Known(activation) => (None, activation),
            Target::Ordered { partition, epoch, counter, host } => {
                let order = Order { partition, epoch, counter, host, grain: frame.grain.clone() };
                let activation = order.activation();
                (Some(order), activation)
            }
        };
        let hash = node.hash_of(&frame.grain);
        let made = {
            let mut table = lock(&self.table);
            let standing = match table.acting() {
                Ok(standing) => standing,
                Err(_) => return back.bounce(Bounce::NotNow),
            };
            match order {
                Some(order) => standing.obey(&node, &order, hash),
                None if standing.host.here(&frame.grain) == Some(activation) => {
                    node.catalog.find(hash, &frame.grain).map(|found| Ok(Made::Found(found)))
                }
                None => None,
            }
            .map(|made| (made, standing.me, standing.tenure.clone()))
        };
        let Some((made, me, tenure)) = made else {
            self.ended(&frame.grain, activation);
            return back.bounce(Bounce::NotHere);
        };
        let made = match made {
            Ok(made) => made,
            Err(failure) => {
                self.ended(&frame.grain, activation);
                return back.fail_unless(frame.one_way, failure);
            }
        };
        let found = Found { host: me, activation };
        let reply = AwayReply { back: back.clone(), tenure, found: Some(found), answered: false };
        let grain = frame.grain.clone();
        let one_way = frame.one_way;
        let arrived = self.to_arrived(from, frame, (!one_way).then(|| Box::new(reply) as Box<dyn ReplySink>));
        let (activation, arrived) = match made {
            Made::New(activation) => (activation.clone(), activation.arrive_first(arrived)),
            Made::Found(activation) => (activation.clone(), activation.arrive(arrived)),
        };
        match arrived {
            Ok(()) if one_way => back.taken(),
            Ok(()) => {}
            Err(_) => {
                debug_assert_eq!(*activation.id(), grain);
                node.over(&*activation);
                back.bounce(Bounce::NotHere);
            }
        }
    }

    /// A call for whoever owns the grain's partition, or holds the singleton.
    fn pass_on(&self, node: &NodeInner, back: Back, frame: CallFrame) {
        if frame.hops > HOPS_MAX {
            return back.bounce(Bounce::NotNow);
        }
        let tenure = match lock(&self.table).acting() {
            Ok(standing) => standing.tenure.clone(),
            Err(_) => return back.bounce(Bounce::NotNow),
        };
        if frame.one_way {
            back.taken();
        }
        let sink = AwayReply { back: back.clone(), tenure, found: None, answered: false };
        let (view, hops, one_way) = (frame.view, frame.hops, frame.one_way);
        let (grain, from) = (frame.grain.clone(), back.to.node);
        let hash = node.hash_of(&grain);
        let arrived = self.to_arrived(back.to, frame, None);
        let Inherited { caller, request, deadline, timeout } = arrived.inherited;
        let sink = (!one_way).then(|| Box::new(sink) as Box<dyn ReplySink>);
        self.submit(Call {
            grain,
            hash,
            method: arrived.method,
            args: arrived.args,
            sink,
            request,
            caller,
            deadline: deadline.unwrap_or_else(|| self.world.clock.now() + timeout),
            timeout,
            from,
            hops,
            asked_under: Some(view),
            tries: 0,
        });
    }

    fn to_arrived(&self, _from: MemberId, frame: CallFrame, reply: Option<Box<dyn ReplySink>>) -> Arrived {
        let timeout = Duration::from_micros(frame.left_us).min(FAR);
        let me = self.incarnation();
        let pending = lock(&self.pending);
        let caller = match frame.chain.is_empty() {
            true => None,
            false => Link::arrived(frame.chain, |hop| (hop.origin == me).then(|| pending.caller_of(hop.call))?),
        };
        drop(pending);
        let deadline = Some(self.world.clock.now() + timeout);
        let inherited = Inherited { caller, request: frame.request, deadline, timeout };
        Arrived { method: frame.method, args: frame.args, reply, inherited }
    }

    fn reply(&self, from: MemberId, frame: ReplyFrame<'_>) {
        let Some(Returned { call, .. }) = lock(&self.pending).answered(frame.call, from) else { return };
        if let Some(found) = frame.found.filter(|found| found.host.node != self.node_id()) {
            lock(&self.table).places.learn(call.grain.clone(), found);
        }
        let Some(mut sink) = call.sink else { return };
        if let Some(found) = frame.found {
            sink.found_at(found.activation, (found.host.node.0, found.host.incarnation.0));
        }
        match frame.answer {
            Ok(bytes) => self.answer(from, frame.call, sink, bytes),
            Err(failure) => sink.failed(failure),
        }
    }

    /// Decoding runs users' code: if it panics, the reply is dropped, which tells the caller.
    fn answer(&self, from: MemberId, call: u64, sink: Box<dyn ReplySink>, bytes: &[u8]) {
        let answered = catch_unwind(AssertUnwindSafe(|| self.with_incoming(from, call, || sink.answered(bytes))));
        if let Err(panic) = answered {
            tracing::error!(message = panic_message(&*panic), "decoding an answer panicked");
        }
    }

    fn bounced(&self, from: MemberId, number: u64, why: Bounce) {
        let Some(Returned { call, target }) = lock(&self.pending).answered(number, from) else { return };
        {
            let mut table = lock(&self.table);
            table.places.forget(&call.grain);
            // A host that cannot act may still hold the activation; one that says "not here" does not, and will not.
            if let (Target::Ordered { epoch, counter, .. }, Bounce::NotHere, Some(standing)) =
                (target, why, &mut table.standing)
            {
                standing.directory.gone(&call.grain, ActivationId { epoch: epoch.0, counter });
            }
        }
        match why {
            Bounce::NotHere => self.submit(call),
            Bounce::NotNow => self.park(call),
        }
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

/// What the view that is applied says of whoever sent a frame.
enum Speaker {
    Member,
    Removed,
    /// It has joined by a later view.
    Unknown,
}

/// Longer than anybody waits; keeps what a peer says from overflowing.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// The way back to whoever sent a call.
#[derive(Clone)]
struct Back {
    clustered: Weak<Clustered>,
    to: MemberId,
    call: u64,
}

impl Back {
    fn send(&self, kind: u8, write: impl FnOnce(&mut Vec<u8>)) {
        if let Err(why) = self.try_send(kind, write) {
            // Its caller learns from the end of the link, or from its deadline.
            tracing::warn!(to = %self.to, %why, "an answer could not be sent");
        }
    }

    fn try_send(&self, kind: u8, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), SendError> {
        let clustered = self.clustered.upgrade().ok_or(SendError::Closed)?;
        clustered.send_frame(self.to, kind, write)
    }

    fn bounce(&self, why: Bounce) {
        self.send(BOUNCE, |out| write_bounce(out, self.call, why));
    }

    fn taken(&self) {
        self.send(TAKEN, |out| write_taken(out, self.call));
    }

    fn fail_unless(&self, one_way: bool, failure: Failure) {
        match one_way {
            true => self.taken(),
            false => self.reply(None, Err(failure)),
        }
    }

    fn reply(&self, found: Option<Found>, answer: Result<&[u8], Failure>) {
        let frame = ReplyFrame { call: self.call, found, answer };
        if let Err(why @ SendError::TooLarge { .. }) = self.try_send(REPLY, |out| frame.write(out)) {
            let why = format!("its answer: {why}").into();
            let answer = Err(CallError::Codec { why, outcome: Outcome::Executed });
            let frame = ReplyFrame { answer, ..frame };
            self.send(REPLY, |out| frame.write(out));
        }
    }
}

/// Where the answer to a call of another node goes.
struct AwayReply {
    back: Back,
    /// Under which it is answered: nothing is heard of a node after its lease has ended.
    tenure: Arc<Tenure>,
    found: Option<Found>,
    answered: bool,
}

impl Drop for AwayReply {
    fn drop(&mut self) {
        if !self.answered && self.tenure.may_act() {
            let why = "its turn ended without an answer".into();
            self.back.reply(self.found, Err(CallError::Lost { grain: "the grain".into(), why }));
        }
    }
}

impl ReplySink for AwayReply {
    fn begin(&self) -> bool {
        true
    }

    fn is_withdrawn(&self) -> bool {
        false
    }

    fn answered(mut self: Box<Self>, result: &[u8]) {
        self.answered = true;
        if self.tenure.may_act() {
            self.back.reply(self.found, Ok(result));
        }
    }

    fn failed(mut self: Box<Self>, failure: Failure) {
        self.answered = true;
        if !self.tenure.may_act() {
            return;
        }
        match failure {
            CallError::NotReady { .. } => self.back.bounce(Bounce::NotNow),
            failure => self.back.reply(self.found, Err(failure)),
        }
    }

    fn found_at(&mut self, activation: ActivationId, (node, incarnation): (u64, u64)) {
        let host = MemberId { node: NodeId(node), incarnation: crate::cluster::names::Incarnation(incarnation) };
        self.found = Some(Found { host, activation });
    }
}

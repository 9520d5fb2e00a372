//! Calls that leave: from the first poll of a call whose grain does not live here to the frame that carries it, and what
//! happens when a frame comes back or its link ends.
//!
//! Locks, in this order: the table, the calls that wait, a link's buffer. None is held while users' code runs.

use std::{
    sync::{Arc, MutexGuard},
    task::Context,
};

use grains_core::{
    ActivationId, CallError, Failure, GrainId, MethodInfo, Outcome, RawRef,
    route::{AnySlot, Departure, WaitEdge},
    switches::{Mechanism, on},
    timed_out,
};

use super::{
    Clustered,
    envelope::{CALL, CallFrame, Ordered, Target},
    pending::{Call, Full, Pending, Sent, order, unanswered},
    table::{Standing, Way},
};
use crate::{
    activation::{arrived::Arrived, lock, turn::encoding},
    ambient::Inherited,
    catalog::Made,
    cluster::{member::Member, names::MemberId},
    node::NodeInner,
    scratch,
    wire::{Link, Marks, SendError, Wire, micros},
};

/// How often a call is tried without waiting before its caller is told that its grain is nowhere to be found: each time it was given
/// an activation of this node that had just ended.
const TRIES_MAX: u32 = 64;

/// How often a call is tried in a row, whatever it is told, before it waits for something to change. Places that are out of date cost
/// one or two tries. An owner that has yet to hear of a view of which its host knows gives one order after the other that is
/// refused, and only time will help: the call then waits as long as its caller does.
const TRIES_AT_ONCE_MAX: u32 = 8;

impl Clustered {
    /// Starts the call in `slot`, whose grain has no activation here yet.
    pub(crate) fn start(
        &self,
        node: &NodeInner,
        to: &RawRef,
        method: &'static MethodInfo,
        slot: &mut dyn AnySlot,
        cx: &mut Context<'_>,
    ) {
        for _ in 0..TRIES_MAX {
            let (way, era) = lock(&self.table).way_now(node, to.id(), to.lookup_hash(), self.node_id());
            let (activation, started) = match way {
                Way::Here(Made::New(activation)) => (activation.clone(), activation.start_first(method, slot, cx)),
                Way::Here(Made::Found(activation)) => (activation.clone(), activation.start(method, slot, cx)),
                Way::Fails(failure) => return slot.fail(failure),
                Way::Away(member, target) => {
                    return self.depart(node, to, method, slot, Some(Seen { member, target, era }));
                }
                Way::Wait => return self.depart(node, to, method, slot, None),
            };
            match started {
                Ok(()) => return,
                Err(_) => node.over(&*activation),
            }
        }
        slot.fail(lost_track(to.id()));
    }

    /// Sends the call in `slot` one-way; its grain has no activation here yet.
    pub(crate) fn send(&self, node: &NodeInner, to: &RawRef, method: &'static MethodInfo, slot: &mut dyn AnySlot) {
        for _ in 0..TRIES_MAX {
            let (way, era) = lock(&self.table).way_now(node, to.id(), to.lookup_hash(), self.node_id());
            let (activation, sent) = match way {
                Way::Here(Made::New(activation)) => (activation.clone(), activation.send_first(method, slot)),
                Way::Here(Made::Found(activation)) => (activation.clone(), activation.send(method, slot)),
                Way::Fails(failure) => return slot.fail(failure),
                Way::Away(member, target) => {
                    return self.depart_one_way(node, to, method, slot, Some(Seen { member, target, era }));
                }
                Way::Wait => return self.depart_one_way(node, to, method, slot, None),
            };
            match sent {
                Ok(()) => return,
                Err(_) => node.over(&*activation),
            }
        }
        slot.fail(lost_track(to.id()));
    }

    fn depart(
        &self,
        node: &NodeInner,
        to: &RawRef,
        method: &'static MethodInfo,
        slot: &mut dyn AnySlot,
        seen: Option<Seen>,
    ) {
        let clock = &*self.world.clock;
        let inherited = Inherited::here(slot.timeout(), node.config.call_timeout, slot.request(), clock);
        if inherited.timeout.is_zero() {
            return slot.fail(timed_out(to.id(), method, inherited.timeout, Outcome::NotExecuted));
        }
        let Some(args) = encoded(to.id(), method, slot) else { return };
        let deadline = inherited.deadline(clock);
        let edge = inherited.caller.clone().map(|link| WaitEdge(link as _));
        let wait = Departure { route: node.route(), deadline, after: inherited.timeout, edge };
        let sink = slot.depart(wait);
        let Inherited { caller, request, timeout, .. } = inherited;
        let call = Call {
            grain: to.id().clone(),
            hash: to.lookup_hash(),
            method: method.id,
            args,
            sink: Some(sink),
            request,
            caller,
            deadline,
            timeout,
            void: None,
            tries: 0,
            of_client: false,
        };
        self.submit_seen(seen, call);
    }

    /// Brings a call to where its grain was found last, if that still stands: most of them need not look twice. Any other target
    /// is chosen under the lock under which the call leaves: orders, and whose turn it is among hosts of workers.
    fn submit_seen(&self, seen: Option<Seen>, mut call: Call) {
        let Some(Seen { member, target: target @ Target::Known(_), era }) = seen else { return self.submit(call) };
        call.tries += 1;
        let handed = self.hand_over(&member, target, call, Some(era));
        self.unless_handed(handed);
    }

    fn depart_one_way(
        &self,
        node: &NodeInner,
        to: &RawRef,
        method: &'static MethodInfo,
        slot: &mut dyn AnySlot,
        seen: Option<Seen>,
    ) {
        let timeout = slot.timeout().unwrap_or(node.config.call_timeout);
        let Inherited { request, .. } = Inherited::one_way(slot.request(), timeout);
        let Some(args) = encoded(to.id(), method, slot) else { return };
        let call = Call {
            grain: to.id().clone(),
            hash: to.lookup_hash(),
            method: method.id,
            args,
            sink: None,
            request,
            caller: None,
            deadline: self.world.clock.now() + timeout,
            timeout,
            void: None,
            tries: 0,
            of_client: false,
        };
        self.submit_seen(seen, call);
    }

    /// A call of this node, or a one-way call of any, that waited in the mailbox of an activation which has ended.
    pub(crate) fn forward(&self, grain: GrainId, call: Arrived) {
        let Arrived { method, args, reply, inherited } = call;
        let deadline = inherited.deadline(&*self.world.clock);
        let Inherited { caller, request, timeout, .. } = inherited;
        let Some(node) = self.node() else { return };
        let hash = node.hash_of(&grain);
        let (sink, void, tries) = (reply, None, 0);
        // Of a client, too: where it waited it was let in.
        let of_client = false;
        self.submit(Call {
            grain,
            hash,
            method,
            args,
            sink,
            request,
            caller,
            deadline,
            timeout,
            void,
            tries,
            of_client,
        });
    }

    /// Brings a call to where its grain lives, or keeps it until that is known.
    pub(crate) fn submit(&self, mut call: Call) {
        let Some(node) = self.node() else { return };
        loop {
            let now = self.world.clock.now();
            if call.is_over(now) {
                return;
            }
            if call.deadline <= now {
                return self.park(call); // until its caller has given up: it must not run any more
            }
            if call.tries >= TRIES_MAX {
                let failure = lost_track(&call.grain);
                return call.fail(failure);
            }
            call.tries += 1;
            let mut table = lock(&self.table);
            if let (Some(void), Some(standing)) = (call.void, &mut table.standing) {
                standing.directory.gone(&call.grain, void);
            }
            match table.way(&node, &call.grain, call.hash, self.node_id()) {
                Way::Here(made) => {
                    drop(table);
                    match deliver(&node, call, made) {
                        Some(returned) => call = returned,
                        None => return,
                    }
                }
                Way::Fails(failure) => {
                    drop(table);
                    return call.fail(failure);
                }
                Way::Wait => {
                    drop(table);
                    return self.park(call);
                }
                Way::Away(member, target) => {
                    if let Some(sender) = &mut table.standing {
                        sender.workers.went(call.grain.grain_type());
                    }
                    // Still under the lock of the table: orders leave in the order in which they were given.
                    let handed = match &table.standing {
                        Some(sender) => self.hand_to_link(sender, &member, target, call),
                        None => Handed::Refused(call, SendError::Closed),
                    };
                    drop(table);
                    return self.unless_handed(handed);
                }
            }
        }
    }

    /// The owner of a grain's partition says where the call goes, and gives the order with it.
    pub(super) fn redirected(&self, mut call: Call, order: Ordered) {
        call.void = None;
        let table = lock(&self.table);
        let handed = match &table.standing {
            Some(sender) => match sender.view.member(order.host).cloned() {
                Some(host) => self.hand_to_link(sender, &host, Target::Ordered(order), call),
                // A member that this node has yet to hear of, or that is gone: it will be told by the next view.
                None => Handed::Refused(call, SendError::Closed),
            },
            None => Handed::Refused(call, SendError::Closed),
        };
        drop(table);
        self.unless_handed(handed);
    }

    fn unless_handed(&self, handed: Handed) {
        match handed {
            Handed::Sent | Handed::Withdrawn(_) => {}
            Handed::Refused(call, SendError::Overloaded { limit }) => {
                let grain = call.grain.to_string().into();
                let limit = format!("a limit of {limit} on what is under way to other nodes").into();
                call.fail(CallError::Overloaded { grain, limit });
            }
            Handed::Refused(call, too_large @ SendError::TooLarge { .. }) => {
                let why = format!("arguments for {}: {too_large}", call.grain).into();
                call.fail(CallError::Codec { why, outcome: Outcome::NotExecuted });
            }
            Handed::Refused(call, SendError::Closed) => self.park(call),
            Handed::Late(mut call) => {
                call.tries -= 1; // that was none
                self.submit(call);
            }
        }
    }

    /// Keeps a call until something changes.
    pub(crate) fn park(&self, call: Call) {
        let refused = lock(&self.pending).park(call);
        if let Some((call, limit)) = refused {
            let grain = call.grain.to_string().into();
            call.fail(CallError::Overloaded { grain, limit: limit.into() });
        }
        // A node that has stopped meanwhile looks at no parked call again.
        if self.node().is_none() {
            self.fail_parked();
        }
    }

    /// Fails what still waits: the node has stopped.
    pub(super) fn fail_parked(&self) {
        let parked = lock(&self.pending).unpark();
        for call in parked {
            call.fail(CallError::Stopped { outcome: Outcome::NotExecuted });
        }
    }

    fn hand_to_link(&self, sender: &Standing, to: &Member, target: Target, call: Call) -> Handed {
        match sender.parted.contains(&to.id) {
            true => Handed::Refused(call, SendError::Closed), // it waits until the view says where it goes instead
            false => self.hand_over(to, target, call, None),
        }
    }

    /// The calls that wait, and the link to a member. Gives the one that there was before, too, to be dropped when nothing is
    /// locked any more.
    fn pending_with_link(
        &self,
        wire: &Arc<Wire>,
        to: &Member,
    ) -> (Option<Arc<Link>>, Arc<Link>, MutexGuard<'_, Pending>) {
        let pending = lock(&self.pending);
        if let Some(link) = pending.link(to.id) {
            return (None, link, pending);
        }
        drop(pending);
        // A wire that is closing tells the end of a new link at once.
        let link = wire.link(to.id, &to.joiner.address);
        let mut pending = lock(&self.pending);
        (pending.set_link(to.id, link.clone()), link, pending)
    }

    /// Hands a call over if its way was found under the lock of the table that is held now, or in this era.
    fn hand_over(&self, to: &Member, target: Target, call: Call, era: Option<u64>) -> Handed {
        let Some(wire) = self.wire() else { return Handed::Refused(call, SendError::Closed) };
        let (_before, link, mut pending) = self.pending_with_link(wire, to);
        let now = self.world.clock.now();
        // A call whose time is over leaves no more.
        if era.is_some_and(|era| call.deadline <= now || !pending.stands(era, now)) {
            return Handed::Late(call);
        }
        let number = match pending.number(to.id, &call) {
            Ok(number) => number,
            Err(Full::All(limit) | Full::Member(limit)) => {
                return Handed::Refused(call, SendError::Overloaded { limit });
            }
        };
        if call.sink.as_ref().is_some_and(|sink| !sink.begin()) {
            return Handed::Withdrawn(call);
        }
        let chain = call.caller.as_ref().map(|link| link.hops(pending.incarnation(), number));
        let frame = CallFrame {
            call: number,
            grain: call.grain.clone(),
            method: call.method,
            one_way: call.sink.is_none(),
            left_us: micros(call.deadline.since(now)),
            target,
            void: call.void.filter(|_| target == Target::Whoever),
            of_client: call.of_client,
            request: call.request.clone(),
            chain: chain.unwrap_or_default(),
            args: call.args.clone(),
        };
        match link.send_in(pending.company(to.id), order(call.hash, target), CALL, |out| frame.write(out)) {
            Ok(sequence) => {
                pending.sent(Sent { number, call, to: to.id, link: link.id(), sequence, target });
                Handed::Sent
            }
            Err(why) => Handed::Refused(call, why),
        }
    }

    /// The activation that a call was sent to is not there, and never will be again.
    pub(super) fn not_there(&self, mut call: Call, activation: Option<ActivationId>) {
        lock(&self.table).places.forget(call.hash, &call.grain);
        if on(Mechanism::RefusalIsTold) {
            call.void = activation.or(call.void);
        }
        match call.tries < TRIES_AT_ONCE_MAX {
            true => self.submit(call),
            false => self.park(call),
        }
    }

    /// Tries everything again that waits, on a task: calls that get through begin their turns there.
    pub(crate) fn retry_parked(&self) {
        let (Some(me), Some(node)) = (self.weak().upgrade(), self.node()) else { return };
        let calls = lock(&self.pending).unpark();
        if calls.is_empty() {
            return;
        }
        node.tasks.spawn(async move {
            for mut call in calls {
                call.tries = call.tries.saturating_sub(1); // waiting is no try
                me.submit(call);
            }
        });
    }

    /// A link has ended. What may have arrived is unknown; what has not is sent again.
    pub(crate) fn link_ended(&self, to: MemberId, link: u64, written: Marks) {
        let (unknown, unsent) = lock(&self.pending).link_ended(link, written);
        if !(unknown.is_empty() && unsent.is_empty()) {
            self.passed_over.add(self.world.clock.now(), to);
        }
        for call in unknown {
            let failure = unanswered(&call.grain, &format!("the connection to {to} was lost"));
            call.fail(failure);
        }
        for call in unsent {
            self.park(call);
        }
        self.streams_lost(to, link);
    }

    /// A member's link to this node has ended. Of what was sent to it up to `asked`, answers may be lost.
    pub(crate) fn data_ended(&self, from: MemberId, link: u64, asked: Option<(u64, Marks)>) {
        let lost = asked.map(|(link, asked)| lock(&self.pending).answers_lost(link, asked));
        let (unknown, unwanted) = lost.unwrap_or_default();
        for call in unknown {
            let failure = unanswered(&call.grain, &format!("the connection from {from} was lost"));
            call.fail(failure);
        }
        self.say_cancelled(unwanted);
        self.callers_cut(from, link);
        self.streams_cut(from, link);
    }
}

/// Where the way of a call led in this era.
struct Seen {
    member: Arc<Member>,
    target: Target,
    era: u64,
}

/// What became of a call that was given to a link.
enum Handed {
    Sent,
    /// Its caller has withdrawn it. To be dropped where nothing is locked: what it holds may be the last of anything.
    Withdrawn(#[allow(dead_code, reason = "it is only dropped")] Call),
    Refused(Call, SendError),
    /// Its way may lead elsewhere by now, or its time is over.
    Late(Call),
}

/// Hands a call over on this node. Gives it back if the activation turned out to be gone.
fn deliver(node: &Arc<NodeInner>, call: Call, made: Made) -> Option<Call> {
    let inherited = call.inherited();
    let Call { grain, hash, method, args, sink, request, caller, deadline, timeout, void, tries, of_client } = call;
    let arrived = Arrived { method, args, reply: sink, inherited };
    let (activation, returned) = match made {
        Made::New(activation) => (activation.clone(), activation.arrive_first(arrived)),
        Made::Found(activation) => (activation.clone(), activation.arrive(arrived)),
    };
    let Arrived { args, reply: sink, .. } = returned.err()?;
    node.over(&*activation);
    Some(Call { grain, hash, method, args, sink, request, caller, deadline, timeout, void, tries, of_client })
}

/// The arguments as they travel; `None` if the call has failed because they cannot. Streams are answers: as arguments to
/// another node they cannot travel.
fn encoded(grain: &GrainId, method: &MethodInfo, slot: &mut dyn AnySlot) -> Option<Arc<[u8]>> {
    let mut bytes = scratch::take();
    match encoding(|| slot.encode_args(&mut bytes)) {
        Ok(()) => {
            let args = bytes.as_slice().into();
            scratch::give_back(bytes);
            Some(args)
        }
        Err(why) => {
            let why = format!("arguments of {grain}.{}: {why}", method.name).into();
            slot.fail(CallError::Codec { why, outcome: Outcome::NotExecuted });
            None
        }
    }
}

fn lost_track(grain: &GrainId) -> Failure {
    let why = "it moved each time it was looked for".into();
    CallError::NoHost { grain: grain.to_string().into(), why }
}

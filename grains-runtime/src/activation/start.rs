//! How a call enters an activation: inline if nothing excludes it, otherwise through the mailbox.

use std::{
    cell::Cell,
    ops::ControlFlow,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use grains_core::{
    Access, ActivationId, AnsweredBy, CallError, DeactivationReason, Error, GrainId, InterfaceSet, Lifecycle, Method,
    MethodId, MethodInfo, Outcome, Turns,
    reply::reply_channel,
    route::{AnySlot, Queue, Slot, WaitEdge, Waiting},
    tasks::TaskId,
    through_bytes, timed_out,
};

use super::{
    Activation, AnyActivation, IsGone, Spare,
    arrived::{self, Arrived},
    backlog::NodeFull,
    mailbox::{Enqueued, Full},
    parked::{Awaited, go_on},
    turn::{ACTIVATE, DEACTIVATE, TASK, TICK, Turn, answer, answer_through_bytes, encoding},
    waiter::{CallWaiter, ReplyTo, Waiter},
};
use crate::{
    ambient::{Chain, Holder as _, Inherited, Link, chain_to},
    deadlock::{Look, Looking, Watch},
    tenure::{Tenure, fenced},
};

/// How much of a thread's stack nested inline turns may take before the next one goes to a task with a stack of its own. A
/// worker thread has 2 MiB; one more turn, and what called the first one, must still fit.
const INLINE_STACK_BYTES_MAX: usize = 256 * 1024;

thread_local! {
    /// Where on the stack the outermost of the inline turns on this thread began; 0 without one.
    static INLINE_BASE: Cell<usize> = const { Cell::new(0) };
}

/// One inline turn on this thread's stack.
pub(super) struct Deeper {
    outermost: bool,
}

impl Deeper {
    /// `None` if the stack below is used up.
    pub(super) fn enter() -> Option<Self> {
        let marker = 0_u8;
        let here = std::ptr::from_ref(&marker) as usize;
        match INLINE_BASE.get() {
            0 => {
                INLINE_BASE.set(here);
                Some(Self { outermost: true })
            }
            base => (base.abs_diff(here) < INLINE_STACK_BYTES_MAX).then_some(Self { outermost: false }),
        }
    }
}

impl Drop for Deeper {
    fn drop(&mut self) {
        if self.outermost {
            INLINE_BASE.set(0);
        }
    }
}

impl<G: Lifecycle> AnyActivation for Activation<G> {
    fn id(&self) -> &GrainId {
        &self.id
    }

    fn hash(&self) -> u64 {
        self.hash
    }

    fn start(
        self: Arc<Self>,
        method: &'static MethodInfo,
        slot: &mut dyn AnySlot,
        cx: &mut Context<'_>,
    ) -> Result<(), IsGone> {
        self.touch();
        let started = G::Interfaces::dispatch(method.id, Ask { activation: self, slot, cx });
        started.unwrap_or_else(|ask| unknown(&ask.activation, method, ask.slot))
    }

    fn start_first(
        self: Arc<Self>,
        method: &'static MethodInfo,
        slot: &mut dyn AnySlot,
        cx: &mut Context<'_>,
    ) -> Result<(), IsGone> {
        match Self::begin_here(&self, slot, cx) {
            // It lives: the call goes the ordinary way, and most likely inline.
            Ok(None) => {
                let started = self.clone().start(method, slot, cx);
                self.leave_if_asked();
                started
            }
            // It will: the call waits in front of all others.
            Ok(Some(rest)) => {
                let started = self.clone().start(method, slot, cx);
                self.tenure.tasks.spawn(rest);
                started
            }
            Err(failure) => {
                slot.fail(failure);
                Ok(())
            }
        }
    }

    fn send(self: Arc<Self>, method: &'static MethodInfo, slot: &mut dyn AnySlot) -> Result<(), IsGone> {
        self.touch();
        let sent = G::Interfaces::dispatch(method.id, Tell { activation: self, slot });
        sent.unwrap_or_else(|tell| unknown(&tell.activation, method, tell.slot))
    }

    fn send_first(self: Arc<Self>, method: &'static MethodInfo, slot: &mut dyn AnySlot) -> Result<(), IsGone> {
        // Made first: if the arguments cannot even be encoded, what was begun must end.
        let life = Self::life_elsewhere(&self);
        let sent = self.clone().send(method, slot);
        self.tenure.tasks.spawn(life);
        sent
    }

    fn close_if_idle(self: Arc<Self>, scans_of: &dyn Fn(Duration) -> u32, reason: DeactivationReason) {
        let quiet = self.node.scan().wrapping_sub(self.last_used.load(Ordering::Relaxed));
        if quiet >= scans_of(self.grain_type.idle_timeout) && self.mailbox.try_close() {
            self.set_reason(reason);
            Self::close(self);
        } else if quiet > 0 {
            self.mailbox.trim();
        }
    }

    fn spare(self: Arc<Self>, spare: &mut Vec<Spare>) -> usize {
        if !self.grain_type.stays && self.mailbox.is_idle() {
            let quiet = self.node.scan().wrapping_sub(self.last_used.load(Ordering::Relaxed));
            spare.push(Spare { activation: self, quiet });
        }
        1
    }

    fn is_ending(&self) -> bool {
        self.mailbox.is_ending()
    }

    fn drop_now(self: Arc<Self>) {
        if self.mailbox.shut() {
            Self::close(self);
        }
    }

    fn arrive(self: Arc<Self>, call: Arrived) -> Result<(), Arrived> {
        self.touch();
        arrived::arrive(&self, call)
    }

    fn arrive_first(self: Arc<Self>, call: Arrived) -> Result<(), Arrived> {
        let life = Self::life_elsewhere(&self);
        let arrived = arrived::arrive(&self, call);
        self.tenure.tasks.spawn(life);
        arrived
    }

    fn live(self: Arc<Self>) {
        let life = Self::life_elsewhere(&self);
        self.tenure.tasks.spawn(life);
    }

    fn send_away(self: Arc<Self>, reason: DeactivationReason) {
        self.set_reason(reason);
        if self.mailbox.shut() {
            Self::close(self);
        }
    }

    fn look(&self, watch: &Watch) -> Look {
        let now = self.node.world.clock.now();
        let mut looking = Looking::new(watch, &self.id, self.is_worker.then(|| self.life()));
        self.mailbox.look(&mut |waiter| match waiter {
            Some(waiter) => looking.see(waiter.round(), waiter.made_by(now)),
            None => {
                // Under the lock: a call that comes now finds it unwatched.
                if !looking.has_seen_any() {
                    self.watched.store(false, Ordering::Release);
                }
                ControlFlow::Break(())
            }
        });
        looking.seen()
    }

    fn break_call(&self, made_by: &Arc<Link>, cycle: Vec<String>) {
        let now = self.node.world.clock.now();
        let mut is_it = |waiter: &Waiter<G>| waiter.made_by(now).is_some_and(|(link, _)| Arc::ptr_eq(link, made_by));
        let Some((waiter, released)) = self.mailbox.take_out(&mut is_it) else { return };
        waiter.fail(CallError::Deadlock { cycle });
        self.released(released);
    }

    fn forget_task(&self, id: TaskId) {
        self.extras.forget(id);
    }

    fn tenure(&self) -> &Arc<Tenure> {
        &self.tenure
    }

    fn activation_id(&self) -> ActivationId {
        self.order().unwrap_or_else(|| self.life())
    }

    fn method_name(&self, id: MethodId) -> Option<&'static str> {
        method_name::<G>(id)
    }
}

/// What runs under this id in activations of `G`.
pub(super) fn method_name<G: Lifecycle>(id: MethodId) -> Option<&'static str> {
    let others = || [ACTIVATE, DEACTIVATE, TICK, TASK].into_iter().find(|other| other.id == id);
    G::Interfaces::dispatch(id, NameOf).ok().or_else(|| Some(others()?.name))
}

/// Asks for the name of a method.
struct NameOf;

impl<G: Lifecycle> Turns<G> for NameOf {
    type Output = &'static str;

    fn turn<M: AnsweredBy<G>>(self) -> &'static str {
        M::INFO.name
    }
}

/// A call whose caller waits, until its method's type is known.
struct Ask<'s, 'c, 'w, G: Lifecycle> {
    activation: Arc<Activation<G>>,
    slot: &'s mut dyn AnySlot,
    cx: &'c mut Context<'w>,
}

fn unknown<G: Lifecycle>(
    activation: &Activation<G>,
    method: &MethodInfo,
    slot: &mut dyn AnySlot,
) -> Result<(), IsGone> {
    slot.fail(CallError::UnknownMethod { grain: activation.id.to_string().into(), method: method.name.into() });
    Ok(())
}

impl<G: Lifecycle> Turns<G> for Ask<'_, '_, '_, G> {
    type Output = Result<(), IsGone>;

    fn turn<M: AnsweredBy<G>>(self) -> Self::Output {
        let Self { activation, slot, cx } = self;
        let Some((slot, args)) = typed::<G, M>(&activation, slot) else { return Ok(()) };
        // Borrowed, not cloned: the node's count is the one thing that all callers of all grains would share.
        let node = &activation.node;
        if !activation.tenure.may_begin() {
            slot.fail(fenced());
            return Ok(());
        }
        let clock = &*node.world.clock;
        let inherited = Inherited::here(slot.timeout, node.config.call_timeout, slot.request.clone(), clock);
        if inherited.timeout.is_zero() {
            let late = timed_out(&activation.id, &M::INFO, inherited.timeout, Outcome::NotExecuted);
            slot.fail(late);
            return Ok(());
        }
        let deeper = if node.world.tasks.here() { Deeper::enter() } else { None };
        if deeper.is_some() && activation.mailbox.try_begin(M::Access::KIND) {
            run_inline(activation, args, slot, inherited, cx);
            return Ok(());
        }
        let name = || activation.turn_name(activation.life(), const { &M::INFO });
        match chain_to(name, inherited.caller.as_ref()) {
            Chain::Cycle(cycle) => {
                slot.answer = Some(Err(CallError::Deadlock { cycle }));
                Ok(())
            }
            Chain::HoldsShared if activation.mailbox.try_begin_beside() => {
                match deeper {
                    Some(_) => run_inline(activation, args, slot, inherited, cx),
                    None => run_elsewhere(&activation, args, slot, inherited),
                }
                Ok(())
            }
            Chain::HoldsShared => {
                let error = Error::new(
                    "it is ending or has too many shared turns, and this call is made on behalf of one of them",
                );
                slot.answer = Some(Err(CallError::NotActivated { grain: activation.id.to_string().into(), error }));
                Ok(())
            }
            Chain::Apart => wait(&activation, args, slot, inherited),
        }
    }
}

/// The typed slot with its arguments; `None` if the call has failed already.
fn typed<'s, G: Lifecycle, M: AnsweredBy<G>>(
    activation: &Activation<G>,
    slot: &'s mut dyn AnySlot,
) -> Option<(&'s mut Slot<M>, M)> {
    if !slot.as_any().is::<Slot<M>>() {
        slot.fail(CallError::Codec {
            why: format!(
                "{}.{} was called through another interface type than the one the grain answers: use one `#[rpc_trait]` for both",
                activation.id,
                M::INFO.name
            )
            .into(),
            outcome: Outcome::NotExecuted,
        });
        return None;
    }
    let slot = slot.as_any().downcast_mut::<Slot<M>>().expect("checked above");
    let args = slot.args.take().expect("a call is started once");
    if !activation.node.config.encode_local_calls {
        return Some((slot, args));
    }
    let node = &activation.node;
    match encoding(|| node.with_streams(|| through_bytes(&args, &node.route()))) {
        Ok(args) => Some((slot, args)),
        Err(why) => {
            let why = format!("arguments of {}: {why}", M::INFO.name).into();
            slot.answer = Some(Err(CallError::Codec { why, outcome: Outcome::NotExecuted }));
            None
        }
    }
}

/// Polls the turn once under the caller; what has to wait becomes a task of the node, so that the caller can neither cut
/// nor stall it.
fn run_inline<G, M>(
    activation: Arc<Activation<G>>,
    args: M,
    slot: &mut Slot<M>,
    inherited: Inherited,
    cx: &mut Context<'_>,
) where
    G: Lifecycle,
    M: AnsweredBy<G>,
{
    let edge = inherited.caller.clone();
    let encoded = activation.node.config.encode_local_calls.then(|| activation.clone());
    let mut future = answer(Turn::granted(activation, M::Access::KIND), args, inherited);
    let finish = move |answer| match encoded {
        Some(activation) => answer_through_bytes::<G, M>(&activation, answer),
        None => answer,
    };
    match future.poll(cx) {
        Poll::Ready(answer) => {
            future.ended();
            slot.answer = Some(finish(answer));
        }
        Poll::Pending => {
            let (frame, holder) = future.get().held();
            holder.parked(M::Access::KIND);
            let (deadline, after) = (frame.deadline(holder.clock()), frame.timeout());
            let tenure = holder.tenure().clone();
            let (sender, receiver) = reply_channel();
            let begun = sender.begin();
            debug_assert!(begun, "the receiver is still here");
            let waiting = Waiting::new(receiver, deadline, after, holder.clock());
            slot.waiting = Some(waiting.with(edge.map(waits_on), None));
            let caller = Awaited::Here(sender.watched());
            tenure.tasks.spawn(async move { sender.send(finish(go_on(future, caller).await)) });
        }
    }
}

/// Runs a turn that has begun on a task.
fn run_elsewhere<G, M>(activation: &Arc<Activation<G>>, args: M, slot: &mut Slot<M>, inherited: Inherited)
where
    G: Lifecycle,
    M: AnsweredBy<G>,
{
    let (sender, receiver) = reply_channel();
    let deadline = inherited.deadline(&*activation.node.world.clock);
    let (after, edge) = (inherited.timeout, inherited.caller.clone().map(waits_on));
    let waiter = CallWaiter::new(args, ReplyTo::Here(sender), inherited, deadline);
    let turn = Turn::granted(activation.clone(), M::Access::KIND);
    let waiter = Waiter::<G>::new(waiter);
    let waiting = Waiting::new(receiver, deadline, after, &*activation.node.world.clock);
    slot.waiting = Some(waiting.with(edge, None));
    let me = activation.clone();
    activation.tenure.tasks.spawn(async move {
        if let Some(rest) = waiter.run(turn, &me) {
            rest.await;
        }
    });
}

impl<G: Lifecycle> Activation<G> {
    /// A call of a turn waits here: it may be part of a cycle.
    pub(super) fn is_watched(&self) {
        if !self.watched.swap(true, Ordering::AcqRel) {
            self.node.watch.add(self.me.clone());
        }
    }
}

impl<G: Lifecycle> Queue for Activation<G> {
    fn withdrawn(&self) {
        self.released(self.mailbox.withdrawn());
    }
}

fn waits_on(link: Arc<Link>) -> WaitEdge {
    WaitEdge(link)
}

/// Puts the call into the mailbox.
fn wait<G, M>(activation: &Arc<Activation<G>>, args: M, slot: &mut Slot<M>, inherited: Inherited) -> Result<(), IsGone>
where
    G: Lifecycle,
    M: AnsweredBy<G>,
{
    let (sender, receiver) = reply_channel();
    let deadline = inherited.deadline(&*activation.node.world.clock);
    let (after, edge) = (inherited.timeout, inherited.caller.clone());
    let reply = ReplyTo::Here(sender);
    match enqueue_waiter(activation, CallWaiter::new(args, reply, inherited, deadline)) {
        Put::Waits => {
            let waiting = Waiting::new(receiver, deadline, after, &*activation.node.world.clock);
            slot.waiting = Some(waiting.with(edge.map(waits_on), Some(activation.clone())));
            Ok(())
        }
        Put::Full(failure, _) => {
            slot.fail(failure);
            Ok(())
        }
        Put::Gone(waiter) => {
            slot.args = Some(waiter.args);
            Err(IsGone(activation.clone()))
        }
    }
}

/// Whether a call is in the mailbox; if not, it is here again.
pub(super) enum Put<M: Method> {
    Waits,
    Full(grains_core::Failure, CallWaiter<M>),
    Gone(CallWaiter<M>),
}

pub(super) fn enqueue_waiter<G, M>(activation: &Arc<Activation<G>>, mut waiter: CallWaiter<M>) -> Put<M>
where
    G: Lifecycle,
    M: AnsweredBy<G>,
{
    waiter.weigh();
    waiter.round = activation.node.watch.round();
    let of_turn = waiter.inherited.caller.is_some();
    let waiter = Waiter::<G>::new(waiter);
    let len_max = activation.grain_type.mailbox_len_max;
    match activation.mailbox.enqueue(waiter, len_max, &activation.node.backlog) {
        Enqueued::Waits => {
            if of_turn {
                activation.is_watched();
            }
            Put::Waits
        }
        Enqueued::Granted(waiter) => {
            Activation::begin_elsewhere(activation, waiter);
            Put::Waits
        }
        Enqueued::Full(waiter, full) => {
            let limit = match full {
                Full::Mailbox => format!("mailbox_len_max = {len_max}"),
                Full::Node(NodeFull::Calls(max)) => format!("waiting_calls_max = {max}"),
                Full::Node(NodeFull::Bytes(max)) => format!("waiting_bytes_max = {max}"),
            };
            let limit = limit.into();
            let failure = CallError::Overloaded { grain: activation.id.to_string().into(), limit };
            Put::Full(failure, waiter.into_typed())
        }
        Enqueued::Gone(waiter) => Put::Gone(waiter.into_typed()),
    }
}

/// A one-way call, until its method's type is known. It always goes through the mailbox: the sender has other things to
/// do than run it.
struct Tell<'s, G: Lifecycle> {
    activation: Arc<Activation<G>>,
    slot: &'s mut dyn AnySlot,
}

impl<G: Lifecycle> Turns<G> for Tell<'_, G> {
    type Output = Result<(), IsGone>;

    fn turn<M: AnsweredBy<G>>(self) -> Self::Output {
        let Some((slot, args)) = typed::<G, M>(&self.activation, self.slot) else { return Ok(()) };
        let node = &self.activation.node;
        let inherited = Inherited::one_way(slot.request.clone(), slot.timeout.unwrap_or(node.config.call_timeout));
        let deadline = inherited.deadline(&*node.world.clock);
        let reply = ReplyTo::Nobody;
        match enqueue_waiter(&self.activation, CallWaiter::new(args, reply, inherited, deadline)) {
            Put::Waits => Ok(()),
            Put::Full(failure, _) => {
                slot.fail(failure);
                Ok(())
            }
            Put::Gone(waiter) => {
                slot.args = Some(waiter.args);
                Err(IsGone(self.activation.clone()))
            }
        }
    }
}

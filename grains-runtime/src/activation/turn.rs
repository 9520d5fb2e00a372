//! A turn: the right to touch the instance, and the future that runs under it.

use std::{
    any::Any,
    cell::Cell,
    future::Future,
    mem::ManuallyDrop,
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    ptr::NonNull,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use grains_core::{
    Access, AccessKind, ActivationId, AnsweredBy, CallError, Failure, Lifecycle, Method, MethodInfo, Outcome, Reply,
    codec,
    route::Answer,
    switches::{Mechanism, on},
    with_route,
    world::Clock,
};
use pin_project_lite::pin_project;

use super::{Activation, place::Placed};
use crate::{
    ambient::{Frame, Holder, Inherited, TurnMethod, TurnName},
    blocked,
    node::SlowTurns,
    tenure::Tenure,
};

/// A granted turn. Dropping it gives the turn back; unless [`end`](Self::end) was called first, it was cut off half-way and
/// the instance is not used again.
pub(crate) struct Turn<G: Lifecycle, A: Deref<Target = Activation<G>> = Arc<Activation<G>>> {
    activation: A,
    access: AccessKind,
    ended: bool,
}

impl<G: Lifecycle> Turn<G> {
    /// The turn that the mailbox has just granted. Called once per grant: this is what the safety of `grain` rests on.
    pub(super) fn granted(activation: Arc<Activation<G>>, access: AccessKind) -> Self {
        Self { activation, access, ended: false }
    }

    /// The same turn, held by a future that lives inside `holder`, which keeps its activation.
    fn held_by(self) -> (Arc<Activation<G>>, Turn<G, Kept<G>>) {
        let turn = ManuallyDrop::new(self);
        // SAFETY: `turn` is not dropped and not used again, so this is where its activation moves to.
        let activation = unsafe { std::ptr::read(&raw const turn.activation) };
        let kept = Kept(NonNull::from(&*activation));
        (activation, Turn { activation: kept, access: turn.access, ended: turn.ended })
    }
}

impl<G: Lifecycle, A: Deref<Target = Activation<G>>> Turn<G, A> {
    /// The instance, as this turn may touch it.
    pub(super) fn grain<T: Access>(&mut self) -> T::Of<'_, G> {
        assert!(T::KIND == self.access, "a method is given the turn of its own access");
        let grain = self.activation.grain.get();
        T::take(
            // SAFETY: the mailbox granted a shared turn, so no exclusive one exists until this is dropped, and the
            // reference lives no longer than the borrow of `self`.
            || unsafe { &*grain }.as_ref().expect("turns are granted while there is an instance"),
            // SAFETY: the mailbox granted the exclusive turn (checked above), so there is no other turn until this is
            // dropped, and `&mut self` makes this the only reference taken through it.
            || unsafe { &mut *grain }.as_mut().expect("turns are granted while there is an instance"),
        )
    }

    /// Gives the turn back with the instance fit for the next one.
    pub(super) fn end(mut self) {
        self.ended = true;
    }

    /// The turn has run to its end; unless its life lost its state meanwhile, that counts. Asked before the turn is given
    /// back, because after that another life may be the one that answers.
    pub(super) fn finish(self) -> Result<(), Failure> {
        if self.activation.lost.load(Ordering::Acquire) {
            return Err(self.activation.lost_error());
        }
        self.end();
        Ok(())
    }
}

/// An activation that somebody else keeps: the [`TurnFuture`] around the future that has this. Calls to a busy grain are
/// little more than counting its references, so a turn does that once.
pub(super) struct Kept<G: Lifecycle>(NonNull<Activation<G>>);

// SAFETY: it is no more than a shared reference to the activation, which is `Sync`.
unsafe impl<G: Lifecycle> Send for Kept<G> where Activation<G>: Sync {}
// SAFETY: as above.
unsafe impl<G: Lifecycle> Sync for Kept<G> where Activation<G>: Sync {}

impl<G: Lifecycle> Deref for Kept<G> {
    type Target = Activation<G>;
    fn deref(&self) -> &Activation<G> {
        // SAFETY: `answer` makes this for a future inside a `TurnFuture`, whose frame has the `Arc` of the activation. The
        // future cannot leave it, as it is pinned there, and it is dropped before the frame: see the order of its fields.
        unsafe { self.0.as_ref() }
    }
}

thread_local! {
    /// The activation whose exclusive turn this thread has lent to the call that it runs; 0 for none.
    static LENT: Cell<usize> = const { Cell::new(0) };
}

/// What became of a turn that was lent.
pub(super) enum Lent {
    /// It came back: the next call may have it.
    Back,
    /// The call it was lent to still has it, and gives it back to the mailbox.
    Kept,
}

/// Runs `call` with the exclusive turn of `activation`, which the caller holds on behalf of several calls.
pub(super) fn lending<G: Lifecycle, R>(activation: &Arc<Activation<G>>, call: impl FnOnce(Turn<G>) -> R) -> (R, Lent) {
    let address = activation.address();
    let outer = LENT.replace(address);
    let result = call(Turn::granted(activation.clone(), AccessKind::Exclusive));
    match LENT.replace(outer) == address {
        true => (result, Lent::Kept),
        false => (result, Lent::Back),
    }
}

impl<G: Lifecycle, A: Deref<Target = Activation<G>>> Drop for Turn<G, A> {
    fn drop(&mut self) {
        let activation = &*self.activation;
        if !self.ended {
            activation.broken.store(true, Ordering::Release);
            let closes = activation.mailbox.shut();
            debug_assert!(!closes, "this turn is still held");
        }
        // There is one exclusive turn: if this thread has lent that of this activation, it is this one.
        if self.access == AccessKind::Exclusive && LENT.get() == activation.address() {
            return LENT.set(0);
        }
        activation.released(activation.mailbox.release(self.access));
    }
}

/// The exclusive turn of a closed mailbox: the right to begin or end a life. Dropping it half-way, as a stop of the node
/// does, ends the activation for good.
pub(super) struct Closer<G: Lifecycle>(Option<Arc<Activation<G>>>);

impl<G: Lifecycle> Closer<G> {
    /// For whoever made the activation, or was told by the mailbox to close. There is one at a time.
    pub(super) fn of(activation: Arc<Activation<G>>) -> Self {
        Self(Some(activation))
    }

    pub(super) fn activation(&self) -> &Arc<Activation<G>> {
        self.0.as_ref().expect("it is there until this is given back")
    }

    /// The place of the instance.
    pub(super) fn place(&mut self) -> &mut Option<G> {
        // SAFETY: the mailbox is closed, so it grants no turn, and its exclusive turn is held by this value, of which
        // there is one; `&mut self` makes this the only reference taken through it.
        unsafe { &mut *self.activation().grain.get() }
    }

    /// Goes on without this value; the exclusive turn stays held.
    pub(super) fn give_back(mut self) -> Arc<Activation<G>> {
        self.0.take().expect("it is there until this is given back")
    }
}

impl<G: Lifecycle> Drop for Closer<G> {
    fn drop(&mut self) {
        if let Some(activation) = self.0.take() {
            activation.drop_and_fail();
        }
    }
}

pin_project! {
    /// A turn's future with its guards: the lost-state check and the panic catcher around every poll, and the frame that
    /// its calls inherit from.
    pub(crate) struct TurnFuture<F> {
        // Dropped first: it may rest on the activation that the frame has.
        #[pin]
        future: F,
        frame: Frame,
        // What its grain is looked up by.
        grain: u64,
        // Whether whoever polls it next has just asked whether turns may begin.
        asked: bool,
    }
}

/// The future of method `M`, to be polled with whatever guards [`TurnFuture`] brings: at once, by whoever has just asked
/// whether turns may begin.
pub(super) fn answer<G, M>(
    turn: Turn<G>,
    args: M,
    inherited: Inherited,
) -> Placed<TurnFuture<impl Future<Output = Answer<M>> + Send>>
where
    G: Lifecycle,
    M: AnsweredBy<G>,
{
    let (holder, mut turn) = turn.held_by();
    let future = async move {
        let answer = args.answer(turn.grain::<M::Access>()).await;
        turn.finish().map_err(Failure::widen)?;
        answer.into_result().map_err(CallError::Grain)
    };
    let turn = TurnFuture::new(holder, const { &M::INFO }, inherited, future);
    Placed::new(M::INFO.id, TurnFuture { asked: true, ..turn })
}

impl<F> TurnFuture<F> {
    pub(super) fn new<G: Lifecycle>(
        activation: Arc<Activation<G>>,
        method: &'static MethodInfo,
        inherited: Inherited,
        future: F,
    ) -> Self {
        let (life, grain) = (activation.life(), activation.hash);
        Self { future, frame: Frame::of_turn(activation, life, method, inherited), grain, asked: false }
    }

    /// Its frame and the activation that it is a turn of.
    pub(super) fn held(&self) -> (&Frame, &dyn Holder) {
        (&self.frame, holder(&self.frame).0)
    }

    /// What its caller is told when it is cut because it has waited for so long.
    pub(super) fn abandoned(&self, limit: Duration) -> Failure {
        let (holder, method) = holder(&self.frame);
        holder.abandoned(method, limit)
    }
}

fn holder(frame: &Frame) -> (&dyn Holder, &'static MethodInfo) {
    frame.holder().expect("`new` made it the frame of a turn")
}

impl<F, T, E> Future for TurnFuture<F>
where
    F: Future<Output = Result<T, CallError<E>>>,
{
    type Output = Result<T, CallError<E>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let me = self.project();
        let (holder, method) = holder(me.frame);
        let asked = std::mem::take(me.asked);
        if !asked && !holder.tenure().may_act() && on(Mechanism::EveryPollAsks) {
            return Poll::Ready(Err(holder.fenced().widen()));
        }
        if let Some(lost) = holder.lost() {
            return Poll::Ready(Err(lost.widen()));
        }
        let future = me.future;
        let _noted = blocked::Poll::begin(*me.grain, method.id);
        match me.frame.enter(|| catch_unwind(AssertUnwindSafe(|| future.poll(cx)))) {
            Err(panic) => Poll::Ready(Err(holder.panicked(method, &*panic).widen())),
            Ok(Poll::Pending) => match holder.lost() {
                Some(lost) => Poll::Ready(Err(lost.widen())),
                None => Poll::Pending,
            },
            // Nothing of an activation whose lease ended meanwhile is heard any more.
            Ok(Poll::Ready(_)) if !holder.tenure().may_act() && on(Mechanism::EveryPollAsks) => {
                Poll::Ready(Err(holder.fenced().widen()))
            }
            Ok(polled) => polled,
        }
    }
}

impl<G: Lifecycle> Activation<G> {
    /// What the caller of a turn is told when this life lost its state.
    pub(super) fn lost_error(&self) -> Failure {
        let why = self.extras.lost();
        CallError::Lost { grain: self.id.to_string().into(), why: why.unwrap_or_else(|| "it lost its state".into()) }
    }
}

impl<G: Lifecycle> Holder for Activation<G> {
    fn turn_name(&self, life: ActivationId, method: &'static MethodInfo) -> TurnName {
        let (node, grain, method) = (self.node.number, self.id.clone(), TurnMethod::Known(method));
        TurnName { node, grain, life, is_worker: self.is_worker, method }
    }

    fn tenure(&self) -> &Arc<Tenure> {
        &self.tenure
    }

    fn clock(&self) -> &dyn Clock {
        &*self.node.world.clock
    }

    fn lost(&self) -> Option<Failure> {
        self.lost.load(Ordering::Acquire).then(|| self.lost_error())
    }

    fn fenced(&self) -> Failure {
        let why = "the lease of its node ended during the turn".into();
        CallError::Lost { grain: self.id.to_string().into(), why }
    }

    fn parked(&self, access: AccessKind) {
        self.mailbox.parked(access);
    }

    fn slow_turns(&self) -> &SlowTurns {
        &self.node.slow
    }

    fn abandon_after(&self) -> Option<Duration> {
        self.grain_type.abandon_after
    }

    fn abandoned(&self, method: &MethodInfo, limit: Duration) -> Failure {
        let method = method.name;
        tracing::warn!(grain = %self.id, method, "waited longer than abandon_after = {limit:?}: the activation is dropped");
        let why = format!("`{method}` waited longer than abandon_after = {limit:?}, and was cut").into();
        CallError::Lost { grain: self.id.to_string().into(), why }
    }

    fn panicked(&self, method: &MethodInfo, panic: &(dyn Any + Send)) -> Failure {
        let message = panic_message(panic);
        tracing::error!(grain = %self.id, method = method.name, message, "panicked; the activation is dropped");
        CallError::Panicked { grain: self.id.to_string().into(), method: method.name.into(), message: message.into() }
    }
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a value that is not text")
}

/// Drops something of the user's that may panic.
pub(crate) fn drop_quietly<T>(value: T, what: &str) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(value))) {
        tracing::error!(message = panic_message(&*panic), "dropping {what} panicked");
    }
}

/// Does something in which users' code runs that may panic, but not turns, which catch their panics: wakers, arguments and answers
/// that are dropped.
pub(crate) fn quietly<T>(what: &str, work: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(value) => Some(value),
        Err(panic) => {
            tracing::error!(message = panic_message(&*panic), "{what} panicked");
            None
        }
    }
}

/// An answer after a trip through bytes, as a caller on another node would see it arrive.
pub(super) fn answer_through_bytes<G: Lifecycle, M: Method>(
    activation: &Activation<G>,
    answer: Answer<M>,
) -> Answer<M> {
    let result: Result<_, <M::Reply as Reply>::Err> = match answer {
        Ok(value) => Ok(value),
        Err(CallError::Grain(error)) => Err(error),
        Err(failure) => return Err(failure),
    };
    let route = activation.node.route();
    let trip = || {
        let bytes = codec::encode(&result)?;
        with_route(&route, || codec::decode::<Result<<M::Reply as Reply>::Ok, <M::Reply as Reply>::Err>>(&bytes))
    };
    match encoding(|| activation.node.with_streams(trip)) {
        Ok(result) => result.map_err(CallError::Grain),
        Err(why) => Err(CallError::Codec {
            why: format!("answer of {}: {why}", M::INFO.name).into(),
            outcome: Outcome::Executed,
        }),
    }
}

/// What users' `Serialize` and `Deserialize` come to; their panics are errors too.
pub(crate) fn encoding<T>(trip: impl FnOnce() -> Result<T, codec::CodecError>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(trip)) {
        Ok(done) => done.map_err(|why| why.to_string()),
        Err(panic) => Err(format!("encoding or decoding it panicked: {}", panic_message(&*panic))),
    }
}

/// The info of the turns that nobody calls.
pub(super) const ACTIVATE: MethodInfo = MethodInfo::new("activate", AccessKind::Exclusive);
pub(super) const DEACTIVATE: MethodInfo = MethodInfo::new("deactivate", AccessKind::Exclusive);
pub(super) const TICK: MethodInfo = MethodInfo::new("tick", AccessKind::Exclusive);
/// That of a task, which is no turn.
pub(super) const TASK: MethodInfo = MethodInfo::new("task", AccessKind::Shared);

#[cfg(test)]
mod tests;

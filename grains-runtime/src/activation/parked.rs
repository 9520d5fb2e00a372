//! A turn that was polled once and has to wait: it goes on as a task, and from then on it can ask whether its caller still
//! wants its answer. Turns that end in their first poll never come here.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use grains_core::{
    CallError, Failure,
    cancel::{Caller, Cancellation, Watched},
    world::{BoxFuture, Clock},
};

use super::{
    place::Placed,
    turn::{TurnFuture, drop_quietly},
};
use crate::{
    ambient::Frame,
    node::{Entered, SlowTurns},
};

scoped_tls::scoped_thread_local!(static PARKED: Parked);

/// A turn that goes on as a task, while that is polled.
struct Parked {
    /// Which turn: others are polled inside it for the first time.
    frame: usize,
    caller: Awaited,
}

/// Who waits for the answer of a turn.
pub(super) enum Awaited {
    /// It is on this node.
    Here(Arc<dyn Watched>),
    /// It is elsewhere, or its call has come by way of bytes.
    Away(Arc<Cancellation>),
    /// Nobody waits for an answer.
    Nobody,
}

/// A turn that has been polled once, polled to its end or until it has waited for too long. Written by hand: an `async fn` would
/// have its arguments twice.
pub(super) struct GoOn<F> {
    /// There until it ends.
    turn: Option<Placed<TurnFuture<F>>>,
    parked: Parked,
    _waits: Option<Entered>,
    /// After how long it is cut.
    limit: Option<Box<(Duration, BoxFuture<'static, ()>)>>,
}

pub(super) fn go_on<F: 'static>(turn: Placed<TurnFuture<F>>, caller: Awaited) -> GoOn<F> {
    let (frame, holder) = turn.get().held();
    let parked = Parked { frame: address(frame), caller };
    let waits = SlowTurns::enter(frame);
    let clock = holder.clock();
    let limit = holder.abandon_after().map(|limit| Box::new((limit, clock.sleep_until(clock.now() + limit))));
    GoOn { turn: Some(turn), parked, _waits: waits, limit }
}

impl<F> Unpin for GoOn<F> {}

impl<F, T, E> Future for GoOn<F>
where
    F: Future<Output = Result<T, CallError<E>>> + 'static,
{
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let Self { turn: place, parked, limit, .. } = &mut *self;
        let Some(turn) = place else { panic!("a turn was polled after it ended") };
        if let Poll::Ready(answer) = PARKED.set(parked, || turn.poll(cx)) {
            *place = None;
            return Poll::Ready(answer);
        }
        let Some((limit, over)) = limit.as_deref_mut() else { return Poll::Pending };
        if over.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        let Some(turn) = place.take() else { unreachable!("it was polled above") };
        Poll::Ready(Err(abandon(turn, *limit).widen()))
    }
}

/// Cuts a turn: its activation ends, and what waits for that finds the next one.
fn abandon<F: 'static>(turn: Placed<TurnFuture<F>>, limit: Duration) -> Failure {
    let failure = turn.get().abandoned(limit);
    drop_quietly(turn, "a turn that was cut");
    failure
}

/// Runs `poll`, that of the turn of `frame` which nobody waits for.
pub(super) fn for_nobody<R>(frame: &Frame, poll: impl FnOnce() -> R) -> R {
    PARKED.set(&Parked { frame: address(frame), caller: Awaited::Nobody }, poll)
}

/// The caller of the turn of `frame`, which runs on this thread.
pub(super) fn caller_of(frame: &Frame, clock: &dyn Clock) -> Caller {
    if !PARKED.is_set() {
        return Caller::NotYet;
    }
    PARKED.with(|parked| {
        let waits = |call| Caller::Waits { call, deadline: Some(frame.deadline(clock)) };
        match &parked.caller {
            _ if parked.frame != address(frame) => Caller::NotYet,
            Awaited::Here(caller) => waits(caller.watch()),
            Awaited::Away(call) => waits(call.clone()),
            Awaited::Nobody => Caller::Nobody,
        }
    })
}

/// Where a frame is, as long as its turn lives.
fn address(frame: &Frame) -> usize {
    std::ptr::from_ref(frame) as usize
}

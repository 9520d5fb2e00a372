//! A turn that was polled once and has to wait: it goes on as a task, and from then on it can ask whether its caller still
//! wants its answer. Turns that end in their first poll never come here.

use std::{future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Duration};

use grains_core::{
    CallError, Failure,
    cancel::{Caller, Cancellation, Watched},
    world::Clock,
};

use super::turn::{TurnFuture, drop_quietly};
use crate::{ambient::Frame, node::SlowTurns};

scoped_tls::scoped_thread_local!(static PARKED: Parked);

/// A turn that goes on as a task, while that is polled.
struct Parked {
    /// Which turn: others are polled inside it for the first time.
    frame: usize,
    caller: Watch,
}

/// How the caller of a turn is watched.
pub(super) enum Watch {
    /// It is on this node.
    Here(Arc<dyn Watched>),
    /// It is elsewhere, or its call has come by way of bytes.
    Away(Arc<Cancellation>),
    /// Nobody waits for an answer.
    Nobody,
}

/// Polls a turn that has been polled once to its end, or until it has waited for too long.
pub(super) async fn go_on<F, T, E>(mut turn: Pin<Box<TurnFuture<F>>>, caller: Watch) -> F::Output
where
    F: Future<Output = Result<T, CallError<E>>>,
{
    let (frame, holder) = turn.held();
    let parked = Parked { frame: address(frame), caller };
    let _waits = SlowTurns::enter(frame);
    let clock = holder.clock();
    let mut limit = holder.abandon_after().map(|limit| (limit, clock.sleep_until(clock.now() + limit)));
    let answer = poll_fn(|cx| match (PARKED.set(&parked, || turn.as_mut().poll(cx)), &mut limit) {
        (Poll::Ready(answer), _) => Poll::Ready(Ok(answer)),
        (Poll::Pending, Some((limit, over))) => over.as_mut().poll(cx).map(|()| Err(*limit)),
        (Poll::Pending, None) => Poll::Pending,
    });
    match answer.await {
        Ok(answer) => answer,
        Err(limit) => Err(abandon(turn, limit).widen()),
    }
}

/// Cuts a turn: its activation ends, and what waits for that finds the next one.
fn abandon<F>(turn: Pin<Box<TurnFuture<F>>>, limit: Duration) -> Failure {
    let failure = turn.abandoned(limit);
    drop_quietly(turn, "a turn that was cut");
    failure
}

/// Runs `poll`, that of the turn of `frame` which nobody waits for.
pub(super) fn for_nobody<R>(frame: &Frame, poll: impl FnOnce() -> R) -> R {
    PARKED.set(&Parked { frame: address(frame), caller: Watch::Nobody }, poll)
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
            Watch::Here(caller) => waits(caller.watch()),
            Watch::Away(call) => waits(call.clone()),
            Watch::Nobody => Caller::Nobody,
        }
    })
}

/// Where a frame is, as long as its turn lives.
fn address(frame: &Frame) -> usize {
    std::ptr::from_ref(frame) as usize
}

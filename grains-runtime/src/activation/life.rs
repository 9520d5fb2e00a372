//! The two ends of a life. Whoever runs these holds the exclusive turn of a closed mailbox.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker},
};

use grains_core::{
    AccessKind, ActivationId, CallError, Ctx, DeactivationReason, Error, Failure, Lifecycle, Outcome, catch_unwind,
    route::{AnySlot, WaitEdge},
    switches::{Mechanism, on},
    tasks::TaskId,
    world::BoxFuture,
};
use pin_project_lite::pin_project;

use super::{
    Activation, AnyActivation,
    parked::for_nobody,
    start::Deeper,
    turn::{ACTIVATE, Closer, DEACTIVATE, Turn, drop_quietly, panic_message},
};
use crate::{
    ambient::{Frame, Holder as _, Inherited},
    blocked,
    tenure::fenced,
    timeout::timeout,
};

impl<G: Lifecycle> Activation<G> {
    /// Begins a life for the call in `slot`, made on this thread: ready at once if `activate` does not wait. Otherwise
    /// gives back what is left of it, to be run after the call is queued.
    ///
    /// `activate` runs on behalf of this first caller, whose chain it continues; but others will wait for it too, so it
    /// has a time of its own.
    pub(super) fn begin_here(
        me: &Arc<Self>,
        slot: &mut dyn AnySlot,
        cx: &mut Context<'_>,
    ) -> Result<Option<BoxFuture<'static, ()>>, Failure> {
        let limit = me.node.config.activate_timeout;
        let inherited = Inherited::here(None, limit, None, &*me.node.world.clock);
        if let Some(caller) = &inherited.caller {
            slot.keep(WaitEdge(caller.clone()));
        }
        let mut life = me.begin(Inherited { deadline: None, timeout: limit, ..inherited });
        let deeper = if me.node.world.tasks.here() { Deeper::enter() } else { None };
        if deeper.is_some() {
            match life.as_mut().poll(cx) {
                Poll::Ready(Ok(())) => return Ok(None),
                Poll::Ready(Err(failure)) => return Err(failure),
                Poll::Pending => {}
            }
        }
        Ok(Some(Self::then_leave(me, life)))
    }

    /// A life for calls that wait, or are about to: a task yet to be run.
    pub(super) fn life_elsewhere(me: &Arc<Self>) -> BoxFuture<'static, ()> {
        let life = me.begin(Inherited::nothing(me.node.config.activate_timeout));
        Self::then_leave(me, life)
    }

    /// A life whose calls wait already: they are served before it leaves, if it wants to.
    fn then_leave(me: &Arc<Self>, life: BoxFuture<'static, Result<(), Failure>>) -> BoxFuture<'static, ()> {
        let me = me.clone();
        Box::pin(async move {
            if life.await.is_ok() {
                me.leave_if_asked();
            }
        })
    }

    /// Makes the instance and opens the mailbox; or fails whatever waits, and leaves nothing behind.
    fn begin(self: &Arc<Self>, inherited: Inherited) -> BoxFuture<'static, Result<(), Failure>> {
        let mut closer = Closer::of(self.clone());
        let life = self.next_life();
        self.life.store(life.counter, Ordering::Release);
        self.broken.store(false, Ordering::Release);
        self.lost.store(false, Ordering::Release);
        self.leaves.store(false, Ordering::Release);
        self.activating.store(true, Ordering::Release);
        self.set_reason(DeactivationReason::Requested);
        self.grain_type.live.fetch_add(1, Ordering::Relaxed);

        let weak = Arc::downgrade(self);
        let ctx = Ctx::live(self.id.clone(), life, self.node.route(), weak);
        let frame = Frame::of_turn(self.clone(), life, &ACTIVATE, inherited);
        let limit = self.node.config.activate_timeout;
        // Called inside the future: an `activate` written as a plain function may panic before there is one.
        let activate = Box::pin(catch_unwind(async move { G::activate(ctx).await }));
        let activate = InFrame { frame, activation: self.clone(), future: activate };
        let activate = timeout(&self.node.world.clock, limit, activate);
        Box::pin(async move {
            let error = match activate.await {
                Some(Ok(Ok(Ok(grain)))) => {
                    *closer.place() = Some(grain);
                    closer.activation().mailbox.open();
                    // After it is open, which forgets who wanted it to end; before the call that looks whether somebody did.
                    closer.activation().activating.store(false, Ordering::SeqCst);
                    let activation = closer.give_back();
                    Turn::granted(activation.clone(), AccessKind::Exclusive).end();
                    if activation.is_over() {
                        activation.drop_now(); // the end may have passed by before there was anything to drop
                    }
                    return Ok(());
                }
                Some(Ok(Ok(Err(error)))) => error,
                Some(Ok(Err(panic))) => Error::new(format_args!("`activate` panicked: {}", panic_message(&*panic))),
                Some(Err(lost)) => Error::new(lost),
                None => Error::new(format_args!("`activate` took longer than activate_timeout = {limit:?}")),
            };
            // What `activate` has spawned ends before another one may begin.
            end_all(&closer).await;
            let activation = closer.give_back();
            tracing::warn!(grain = %activation.id, %error, "could not be activated");
            let failure = CallError::NotActivated { grain: activation.id.to_string().into(), error };
            activation.finish_failing(&failure);
            Err(failure)
        })
    }

    /// Ends this life: runs `deactivate`, drops the instance, and begins the next life if calls wait. Goes as far as it
    /// can at once; what has to wait becomes a task.
    pub(super) fn close(me: Arc<Self>) {
        if me.is_over() {
            return me.drop_and_fail();
        }
        let (node, tenure) = (me.node.clone(), me.tenure.clone());
        // Made here: a task that is dropped before its first poll must end the activation too.
        let mut closing: BoxFuture<'static, ()> = Box::pin(Self::closing(Closer::of(me)));
        let here = node.world.tasks.here() && !std::thread::panicking();
        if here && closing.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            return;
        }
        tenure.tasks.spawn(closing);
    }

    async fn closing(mut closer: Closer<G>) {
        // Beats that come now would only wait for a life of their own.
        let activation = closer.activation();
        if !on(Mechanism::GoneAfterLastTurn) {
            activation.node.ended(&**activation);
        }
        activation.extras.end_timers(&activation.tenure.tasks);
        if !closer.activation().broken.load(Ordering::Acquire) {
            deactivate(&mut closer).await;
        }
        end_all(&closer).await;
        let activation = closer.give_back();
        activation.drop_instance();
        if activation.mailbox.finish() {
            activation.leave_catalog();
        } else if activation.is_over() {
            let failure = activation.over();
            activation.finish_failing(&failure);
        } else if activation.is_sent_away() {
            activation.finish_forwarding();
        } else {
            activation.tenure.tasks.spawn(Self::life_elsewhere(&activation));
        }
    }

    /// Whether calls that wait go to where the grain lives next, rather than to the next life in this place.
    fn is_sent_away(&self) -> bool {
        match self.is_worker {
            true => self.reason() == DeactivationReason::Stopping && self.node.is_in_cluster(),
            false => self.order.is_some(),
        }
    }

    fn next_life(&self) -> ActivationId {
        let next = || ActivationId { epoch: self.epoch, counter: self.node.next_life() };
        self.order().unwrap_or_else(next)
    }

    /// Nothing that belongs to this life begins any more. Gives the tasks that may not have ended yet.
    fn end_of_life(&self) -> Vec<TaskId> {
        self.life.store(0, Ordering::Release);
        self.grain_type.live.fetch_sub(1, Ordering::Relaxed);
        self.extras.end(&self.tenure.tasks)
    }

    fn drop_instance(self: &Arc<Self>) {
        let mut closer = Closer::of(self.clone());
        let instance = closer.place().take();
        closer.give_back();
        drop_quietly(instance, "a grain");
    }

    /// After the last turn: from here on the grain may live elsewhere.
    fn leave_catalog(self: Arc<Self>) {
        let node = self.node.clone();
        let activation = self;
        if activation.is_worker {
            // The catalog has its pool, as long as that has workers.
            if let Some(pool) = node.catalog.find_entered(activation.hash, &activation.id) {
                pool.worker_ended(&*activation);
            }
            return;
        }
        node.catalog.remove(&*activation);
        node.ended(&*activation);
    }

    /// Ends the activation for good, and sends whatever waits to where the grain lives next, in the same order.
    fn finish_forwarding(self: Arc<Self>) {
        let waiting = self.mailbox.abandon();
        let (node, grain) = (self.node.clone(), self.id.clone());
        self.leave_catalog();
        waiting.into_iter().for_each(|waiter| waiter.forward(&grain, &node));
    }

    /// Ends the activation for good, and gives whatever waits this failure.
    fn finish_failing(self: Arc<Self>, failure: &Failure) {
        let waiting = self.mailbox.abandon();
        self.leave_catalog();
        for waiter in waiting {
            waiter.fail(failure.clone());
        }
    }

    pub(super) fn drop_and_fail(self: Arc<Self>) {
        if self.life.load(Ordering::Acquire) != 0 {
            drop(self.end_of_life());
        }
        self.drop_instance();
        let failure = self.over();
        self.finish_failing(&failure);
    }

    /// What calls are told that did not begin because it is over.
    pub(super) fn over(&self) -> Failure {
        if self.node.is_stopped() { stopped() } else { fenced() }
    }

    pub(super) fn set_reason(&self, reason: DeactivationReason) {
        let code = match reason {
            DeactivationReason::Idle => 1,
            DeactivationReason::Stopping => 2,
            DeactivationReason::MadeRoom => 3,
            _ => 0,
        };
        self.reason.store(code, Ordering::Release);
    }

    fn reason(&self) -> DeactivationReason {
        match self.reason.load(Ordering::Acquire) {
            1 => DeactivationReason::Idle,
            2 => DeactivationReason::Stopping,
            3 => DeactivationReason::MadeRoom,
            _ => DeactivationReason::Requested,
        }
    }
}

/// Ends everything that belongs to this life, and waits for it.
async fn end_all<G: Lifecycle>(closer: &Closer<G>) {
    let aborted = closer.activation().end_of_life();
    if aborted.is_empty() {
        return;
    }
    let (node, tenure) = (closer.activation().node.clone(), closer.activation().tenure.clone());
    let (clock, limit) = (&node.world.clock, node.config.deactivate_timeout);
    if timeout(clock, limit, tenure.tasks.gone(&aborted)).await.is_none() {
        tracing::warn!(grain = %closer.activation().id, "a task of a grain did not end with it: it blocks its thread");
    }
}

fn stopped() -> Failure {
    CallError::Stopped { outcome: Outcome::NotExecuted }
}

async fn deactivate<G: Lifecycle>(closer: &mut Closer<G>) {
    let activation = closer.activation().clone();
    let Some(grain) = closer.place() else { return };
    let reason = activation.reason();
    let limit = activation.node.config.deactivate_timeout;
    let frame = Frame::of_turn(activation.clone(), activation.life(), &DEACTIVATE, Inherited::nothing(limit));
    let future = Box::pin(catch_unwind(async move { grain.deactivate(reason).await }));
    let deactivate = InFrame { frame, activation: activation.clone(), future };
    let problem = match timeout(&activation.node.world.clock, limit, deactivate).await {
        Some(Ok(Ok(Ok(())))) => return,
        Some(Ok(Ok(Err(error)))) => error,
        Some(Ok(Err(panic))) => Error::new(format_args!("it panicked: {}", panic_message(&*panic))),
        Some(Err(lost)) => Error::new(lost),
        None => Error::new(format_args!("it took longer than deactivate_timeout = {limit:?}")),
    };
    tracing::warn!(grain = %activation.id, ?reason, error = %problem, "`deactivate` failed; the activation is dropped all the same");
}

pin_project! {
    /// `activate` or `deactivate`, polled inside a frame, so that the calls it makes have a chain. Ends with a failure when the
    /// life has lost its state: whoever waits for that commit would wait for ever.
    struct InFrame<G: Lifecycle, F> {
        frame: Frame,
        activation: Arc<Activation<G>>,
        #[pin]
        future: F,
    }
}

impl<G: Lifecycle, F: Future> Future for InFrame<G, F> {
    type Output = Result<F::Output, Failure>;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let me = self.project();
        let (frame, activation, future) = (&*me.frame, &*me.activation, me.future);
        if !activation.tenure.may_act() {
            return Poll::Ready(Err(activation.fenced()));
        }
        let method = frame.holder().map_or(ACTIVATE.id, |(_, method)| method.id);
        let _noted = blocked::Poll::begin(activation.hash, method);
        let polled = frame.enter(|| for_nobody(frame, || future.poll(cx)));
        if activation.lost.load(Ordering::Acquire) {
            return Poll::Ready(Err(activation.lost_error()));
        }
        polled.map(Ok)
    }
}

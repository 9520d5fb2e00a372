//! The two ends of a life. Whoever runs these holds the exclusive turn of a closed mailbox.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, Waker},
};

use grains_core::{
    AccessKind, CallError, Ctx, DeactivationReason, Error, Failure, Lifecycle, Outcome,
    route::{AnySlot, WaitEdge},
    world::BoxFuture,
};

use super::{
    Activation, AnyActivation, lock,
    turn::{ACTIVATE, Closer, DEACTIVATE, Turn, drop_quietly, panic_message},
};
use crate::{
    ambient::{Frame, Inherited},
    catch::catch_unwind,
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
        if me.node.world.tasks.here() {
            match life.as_mut().poll(cx) {
                Poll::Ready(Ok(())) => return Ok(None),
                Poll::Ready(Err(failure)) => return Err(failure),
                Poll::Pending => {}
            }
        }
        Ok(Some(Box::pin(async move { drop(life.await) })))
    }

    /// Begins a life for calls that wait already.
    pub(super) fn begin_elsewhere(me: &Arc<Self>) {
        let life = me.begin(Inherited::nothing(me.node.config.activate_timeout));
        me.node.tasks.spawn(async move { drop(life.await) });
    }

    /// Makes the instance and opens the mailbox; or fails whatever waits, and leaves nothing behind.
    fn begin(self: &Arc<Self>, inherited: Inherited) -> BoxFuture<'static, Result<(), Failure>> {
        let mut closer = Closer::of(self.clone());
        let life = self.node.next_life();
        self.life.store(life.counter, Ordering::Release);
        self.broken.store(false, Ordering::Release);
        self.lost.store(false, Ordering::Release);
        self.set_reason(DeactivationReason::Requested);
        self.grain_type.live.fetch_add(1, Ordering::Relaxed);

        let weak = Arc::downgrade(self);
        let ctx = Ctx::live(self.id.clone(), life, self.node.route(), weak);
        let activate = G::activate(ctx);
        let frame = Frame::new(Some(self.name_of(&ACTIVATE)), inherited);
        let limit = self.node.config.activate_timeout;
        let guarded =
            timeout(&self.node.world.clock, limit, InFrame { frame, future: Box::pin(catch_unwind(activate)) });
        Box::pin(async move {
            let error = match guarded.await {
                Some(Ok(Ok(grain))) => {
                    *closer.place() = Some(grain);
                    closer.activation().mailbox.open();
                    let activation = closer.give_back();
                    Turn::granted(activation.clone(), AccessKind::Exclusive).end();
                    if activation.node.is_stopped() {
                        activation.drop_now(); // the stop may have passed by before there was anything to drop
                    }
                    return Ok(());
                }
                Some(Ok(Err(error))) => error,
                Some(Err(panic)) => Error::new(format_args!("`activate` panicked: {}", panic_message(&*panic))),
                None => Error::new(format_args!("`activate` took longer than activate_timeout = {limit:?}")),
            };
            let activation = closer.give_back();
            tracing::warn!(grain = %activation.id, %error, "could not be activated");
            activation.end_of_life();
            let failure = CallError::NotActivated { grain: activation.id.to_string().into(), error };
            activation.finish_failing(&failure);
            Err(failure)
        })
    }

    /// Ends this life: runs `deactivate`, drops the instance, and begins the next life if calls wait. Goes as far as it
    /// can at once; what has to wait becomes a task.
    pub(super) fn close(me: Arc<Self>) {
        if me.node.is_stopped() {
            return me.drop_and_fail();
        }
        let node = me.node.clone();
        let mut closing: BoxFuture<'static, ()> = Box::pin(me.closing());
        let here = node.world.tasks.here() && !std::thread::panicking();
        if here && closing.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            return;
        }
        node.tasks.spawn(closing);
    }

    async fn closing(self: Arc<Self>) {
        let mut closer = Closer::of(self);
        if !closer.activation().broken.load(Ordering::Acquire) {
            deactivate(&mut closer).await;
        }
        let activation = closer.give_back();
        activation.end_of_life();
        activation.drop_instance();
        if activation.mailbox.finish() {
            activation.leave_catalog();
        } else if activation.node.is_stopped() {
            activation.finish_failing(&stopped());
        } else {
            Self::begin_elsewhere(&activation);
        }
    }

    /// Nothing that belongs to this life acts from now on.
    fn end_of_life(&self) {
        self.life.store(0, Ordering::Release);
        self.grain_type.live.fetch_sub(1, Ordering::Relaxed);
        let extras = lock(&self.extras).take();
        if let Some(extras) = extras {
            let timers = extras.timers.into_iter().map(|(_, id)| id);
            extras.tasks.into_iter().chain(timers).for_each(|id| self.node.tasks.abort(id));
        }
    }

    fn drop_instance(self: &Arc<Self>) {
        let mut closer = Closer::of(self.clone());
        let instance = closer.place().take();
        closer.give_back();
        drop_quietly(instance, "a grain");
    }

    fn leave_catalog(self: Arc<Self>) {
        let node = self.node.clone();
        let activation: Arc<dyn AnyActivation> = self;
        node.catalog.remove(&activation);
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
            self.end_of_life();
        }
        self.drop_instance();
        self.finish_failing(&stopped());
    }

    pub(super) fn set_reason(&self, reason: DeactivationReason) {
        let code = match reason {
            DeactivationReason::Idle => 1,
            DeactivationReason::Stopping => 2,
            _ => 0,
        };
        self.reason.store(code, Ordering::Release);
    }

    fn reason(&self) -> DeactivationReason {
        match self.reason.load(Ordering::Acquire) {
            1 => DeactivationReason::Idle,
            2 => DeactivationReason::Stopping,
            _ => DeactivationReason::Requested,
        }
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
    let frame = Frame::new(Some(activation.name_of(&DEACTIVATE)), Inherited::nothing(limit));
    let future = Box::pin(catch_unwind(grain.deactivate(reason)));
    let problem = match timeout(&activation.node.world.clock, limit, InFrame { frame, future }).await {
        Some(Ok(Ok(()))) => return,
        Some(Ok(Err(error))) => error,
        Some(Err(panic)) => Error::new(format_args!("it panicked: {}", panic_message(&*panic))),
        None => Error::new(format_args!("it took longer than deactivate_timeout = {limit:?}")),
    };
    tracing::warn!(grain = %activation.id, ?reason, error = %problem, "`deactivate` failed; the activation is dropped all the same");
}

/// A future polled inside a frame, so that the calls it makes have a chain.
struct InFrame<'f, T> {
    frame: Frame,
    future: Pin<Box<dyn Future<Output = T> + Send + 'f>>,
}

impl<T> Future for InFrame<'_, T> {
    type Output = T;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Self { frame, future } = &mut *self;
        frame.enter(|| future.as_mut().poll(cx))
    }
}

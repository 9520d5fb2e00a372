//! What the context of a grain asks of its activation.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use grains_core::{
    ActivationId, AfterLoss, Anchor, Gone, Host, Instant, Lifecycle, RequestContext, ScheduleError, SharedTick,
    StoredTimer, cancel::Caller, catch_unwind, store::Store, world::BoxFuture,
};

use super::{
    Activation,
    extras::{self, TaskKind},
    parked::caller_of,
    timer::timer_task,
    turn::{TASK, panic_message},
};
use crate::{
    ambient::{self, Frame, Inherited},
    blocked,
    timeout::timeout,
};

impl<G: Lifecycle> Anchor for Activation<G> {
    fn lives(&self, life: ActivationId) -> bool {
        self.is_life(life) && self.tenure.may_act()
    }

    fn store(&self) -> Arc<dyn Store> {
        self.grain_type.store.clone()
    }

    fn state_bytes_max(&self) -> usize {
        self.node.config.state_bytes_max
    }

    fn within_store_timeout<'a>(&'a self, load_or_commit: BoxFuture<'a, ()>) -> BoxFuture<'a, Option<()>> {
        Box::pin(timeout(&self.node.world.clock, self.node.config.store_timeout, load_or_commit))
    }

    fn lose(&self, life: ActivationId, why: &str) -> AfterLoss {
        if !self.is_life(life) {
            return AfterLoss::TurnGoesOn;
        }
        self.extras.lose(why);
        self.lost.store(true, Ordering::Release);
        self.broken.store(true, Ordering::Release);
        tracing::warn!(grain = %self.id, why, "state was lost; the activation is dropped");
        // No further turn begins, not even if the one that runs goes on to its end within this poll.
        if self.mailbox.shut()
            && let Some(me) = self.me.upgrade()
        {
            Self::close(me);
        }
        let mine =
            |turn: &ambient::TurnName| turn.life == life && turn.node == self.node.number && turn.grain == self.id;
        match ambient::current(|frame| frame.and_then(Frame::turn).as_ref().is_some_and(mine)) {
            true => AfterLoss::TurnEnds,
            false => AfterLoss::TurnGoesOn,
        }
    }

    fn spawn(&self, life: ActivationId, task: BoxFuture<'static, ()>) -> Result<(), ScheduleError> {
        let request = ambient::current(|frame| frame.map(|frame| frame.request.clone())).unwrap_or_default();
        let inherited = Inherited { request, ..Inherited::nothing(self.node.config.call_timeout) };
        let grain = self.id.clone();
        let task = GrainTask { frame: Frame::of_task(inherited), grain: self.hash, task };
        let task = async move {
            if let Err(panic) = catch_unwind(task).await {
                tracing::error!(%grain, message = panic_message(&*panic), "a task of a grain panicked");
            }
        };
        self.start_task(life, TaskKind::Spawned, Box::pin(task))
    }

    fn set_timer(&self, life: ActivationId, timer: StoredTimer) -> Result<(), ScheduleError> {
        self.cancel_timer(life, &timer.name);
        let kind = TaskKind::Timer(timer.name.clone());
        self.start_task(life, kind, timer_task(self.node.world.clock.clone(), self.id.clone(), timer))
    }

    fn cancel_timer(&self, life: ActivationId, name: &str) -> bool {
        if !self.is_life(life) {
            return false;
        }
        let Some(id) = self.extras.take_timer(name) else { return false };
        self.tenure.tasks.abort(id);
        true
    }

    fn deactivate_on_idle(&self, life: ActivationId) {
        if !self.is_life(life) {
            return;
        }
        if !self.activating.load(Ordering::SeqCst) {
            return self.leave_when_idle();
        }
        self.leaves.store(true, Ordering::SeqCst);
        // Whoever ends `activate` looks for that after it said so: if it has said so meanwhile, it may have looked before.
        if !self.activating.load(Ordering::SeqCst) {
            self.leave_if_asked();
        }
    }

    fn request(&self) -> RequestContext {
        ambient::current(|frame| frame.map(|frame| frame.request.clone())).unwrap_or_default()
    }

    fn deadline(&self) -> Option<Instant> {
        ambient::current(|frame| {
            frame.filter(|frame| frame.holder().is_some()).map(|frame| frame.deadline(&*self.node.world.clock))
        })
    }

    fn caller(&self) -> Caller {
        ambient::current(|frame| match frame.filter(|frame| frame.holder().is_some()) {
            Some(frame) => caller_of(frame, &*self.node.world.clock),
            None => Caller::Nobody,
        })
    }
}

impl<G: Lifecycle> Host<G> for Activation<G> {
    fn every(&self, life: ActivationId, period: Duration, tick: SharedTick<G>) -> Result<(), ScheduleError> {
        let me = self.me.upgrade().ok_or(Gone)?;
        let task = Self::tick_task(&me, life, period, tick);
        self.start_task(life, TaskKind::Tick, Box::pin(task))
    }
}

impl<G: Lifecycle> Activation<G> {
    /// Runs a task until it ends or this life does, if there is room for it.
    fn start_task(
        &self,
        life: ActivationId,
        kind: TaskKind,
        task: BoxFuture<'static, ()>,
    ) -> Result<(), ScheduleError> {
        let id = self.tenure.tasks.reserve().ok_or(Gone)?;
        if let Err(error) = self.extras.enter(kind, id, &|| self.is_life(life)) {
            self.tenure.tasks.give_back(id);
            return Err(error);
        }
        extras::run(&self.tenure.tasks, id, task, self.me.clone());
        Ok(())
    }
}

/// A task of a grain: no turn, but the request context of the turn that spawned it.
struct GrainTask {
    frame: Frame,
    /// What its grain is looked up by.
    grain: u64,
    task: BoxFuture<'static, ()>,
}

impl Future for GrainTask {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { frame, grain, task } = &mut *self;
        let _noted = blocked::Poll::begin(*grain, TASK.id);
        frame.enter(|| task.as_mut().poll(cx))
    }
}

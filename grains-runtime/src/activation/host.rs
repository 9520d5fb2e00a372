//! What the context of a grain asks of its activation.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Weak, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use grains_core::{
    ActivationId, AfterLoss, Anchor, Gone, Host, Instant, Lifecycle, RequestContext, SPAWNED_MAX, ScheduleError,
    SharedTick, StoredTimer, TIMERS_MAX, catch_unwind, store::Store, tasks::TaskId, world::BoxFuture,
};

use super::{Activation, Extras, lock, turn::panic_message};
use crate::{
    ambient::{self, Frame, Inherited},
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
        lock(&self.extras).get_or_insert_default().lost.get_or_insert_with(|| why.into());
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
        match ambient::current(|frame| frame.and_then(|frame| frame.turn.as_ref()).is_some_and(mine)) {
            true => AfterLoss::TurnEnds,
            false => AfterLoss::TurnGoesOn,
        }
    }

    fn spawn(&self, life: ActivationId, task: BoxFuture<'static, ()>) -> Result<(), ScheduleError> {
        let request = ambient::current(|frame| frame.map(|frame| frame.request.clone())).unwrap_or_default();
        let inherited = Inherited { request, ..Inherited::nothing(self.node.config.call_timeout) };
        let grain = self.id.clone();
        let task = GrainTask { frame: Frame::new(None, inherited), task };
        let task = async move {
            if let Err(panic) = catch_unwind(task).await {
                tracing::error!(%grain, message = panic_message(&*panic), "a task of a grain panicked");
            }
        };
        self.start_task(
            life,
            || task,
            |extras, id| {
                if extras.tasks.len() >= SPAWNED_MAX {
                    return Err(ScheduleError::TooManyTasks { max: SPAWNED_MAX });
                }
                extras.tasks.insert(id);
                Ok(())
            },
        )
    }

    fn set_timer(&self, life: ActivationId, timer: StoredTimer) -> Result<(), ScheduleError> {
        self.cancel_timer(life, &timer.name);
        let name = timer.name.clone();
        self.start_task(
            life,
            || self.timer_task(timer),
            |extras, id| {
                extras.room_for_a_timer()?;
                extras.timers.push((name, id));
                Ok(())
            },
        )
    }

    fn cancel_timer(&self, life: ActivationId, name: &str) -> bool {
        if !self.is_life(life) {
            return false;
        }
        let mut extras = lock(&self.extras);
        let Some(timers) = extras.as_mut().map(|extras| &mut extras.timers) else { return false };
        let Some(place) = timers.iter().position(|(other, _)| **other == *name) else { return false };
        let (_, id) = timers.remove(place);
        drop(extras);
        self.tenure.tasks.abort(id);
        true
    }

    fn deactivate_on_idle(&self, life: ActivationId) {
        if !self.is_life(life) {
            return;
        }
        match self.activating.load(Ordering::Acquire) {
            true => self.leaves.store(true, Ordering::Release),
            false => self.leave_when_idle(),
        }
    }

    fn request(&self) -> RequestContext {
        ambient::current(|frame| frame.map(|frame| frame.request.clone())).unwrap_or_default()
    }

    fn deadline(&self) -> Option<Instant> {
        ambient::current(|frame| {
            frame.filter(|frame| frame.turn.is_some()).map(|frame| frame.deadline(&*self.node.world.clock))
        })
    }
}

impl<G: Lifecycle> Host<G> for Activation<G> {
    fn every(&self, life: ActivationId, period: Duration, tick: SharedTick<G>) -> Result<(), ScheduleError> {
        let me = self.me.upgrade().ok_or(Gone)?;
        let task = Self::tick_task(&me, life, period, tick);
        self.start_task(
            life,
            || task,
            |extras, id| {
                extras.room_for_a_timer()?;
                extras.ticks.insert(id);
                Ok(())
            },
        )
    }
}

impl Extras {
    fn room_for_a_timer(&self) -> Result<(), ScheduleError> {
        let full = self.ticks.len() + self.timers.len() >= TIMERS_MAX;
        if full { Err(ScheduleError::TooManyTimers { max: TIMERS_MAX }) } else { Ok(()) }
    }
}

impl<G: Lifecycle> Activation<G> {
    /// Runs a task until it ends or this life does, if `enter` finds room for it.
    fn start_task<F>(
        &self,
        life: ActivationId,
        task: impl FnOnce() -> F,
        enter: impl FnOnce(&mut Extras, TaskId) -> Result<(), ScheduleError>,
    ) -> Result<(), ScheduleError>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let id = self.tenure.tasks.reserve().ok_or(Gone)?;
        let entered = {
            let mut extras = lock(&self.extras);
            // Checked under the lock that the end of a life takes to find what it must end.
            if self.is_life(life) { enter(extras.get_or_insert_default(), id) } else { Err(Gone.into()) }
        };
        if let Err(error) = entered {
            self.tenure.tasks.abort(id);
            return Err(error);
        }
        let forget = Forget { activation: self.me.clone(), id };
        let task = task();
        self.tenure.tasks.start(id, async move {
            task.await;
            drop(forget);
        });
        Ok(())
    }
}

/// Makes room for another task when this one ends, or panics.
struct Forget<G: Lifecycle> {
    activation: Weak<Activation<G>>,
    id: TaskId,
}

impl<G: Lifecycle> Drop for Forget<G> {
    fn drop(&mut self) {
        if let Some(activation) = self.activation.upgrade() {
            activation.forget_task(self.id);
        }
    }
}

/// A task of a grain: no turn, but the request context of the turn that spawned it.
struct GrainTask {
    frame: Frame,
    task: BoxFuture<'static, ()>,
}

impl Future for GrainTask {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { frame, task } = &mut *self;
        frame.enter(|| task.as_mut().poll(cx))
    }
}

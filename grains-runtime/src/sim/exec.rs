//! Who runs next, and how time passes.
//!
//! One future inside one paused tokio runtime polls all tasks. Tokio's timers ring at whole milliseconds, ours at any
//! nanosecond: within a millisecond this future moves tokio's clock itself, and at each border of one it lets tokio look
//! at its timers, so that both kinds ring in the order of their times.

use std::{
    any::Any,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use grains_core::world::BoxFuture;
use tokio::{
    task::coop::unconstrained,
    time::{Instant, Sleep, advance, sleep_until},
};

use super::{
    engine::{Engine, Life, Phase},
    here,
    ready::waker_of,
    tasks::TaskId,
    trace::What,
};

/// What the test ended with.
pub(super) type Ended = Result<(), Box<dyn Any + Send>>;

/// Polls the test and all tasks until the test ends.
pub(super) struct Executor<'t> {
    engine: Arc<Engine>,
    test: Pin<Box<dyn Future<Output = ()> + 't>>,
    waker: Waker,
    begun: Instant,
    /// Rings at the millisecond of the next event.
    border: Pin<Box<Sleep>>,
    limits: Limits,
    polls: u64,
    /// How many of them since time has passed.
    polls_now: u64,
}

/// Where a run that leads nowhere is given up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) time_nanos_max: u64,
    pub(super) polls_at_once_max: u64,
}

impl<'t> Executor<'t> {
    /// To be made inside the paused runtime.
    pub(super) fn new(engine: Arc<Engine>, limits: Limits, test: Pin<Box<dyn Future<Output = ()> + 't>>) -> Self {
        let begun = Instant::now();
        let waker = waker_of(TaskId::TEST, &engine.ready);
        engine.ready.add(TaskId::TEST);
        Self { engine, test, waker, begun, border: Box::pin(sleep_until(begun)), limits, polls: 0, polls_now: 0 }
    }

    pub(super) fn polls(&self) -> u64 {
        self.polls
    }

    /// Polls one task; the end of the test if that was it.
    fn poll_one(&mut self, id: TaskId) -> Option<Ended> {
        self.polls += 1;
        self.polls_now += 1;
        assert!(
            self.polls_now <= self.limits.polls_at_once_max,
            "the simulation does not get on: {} polls while no time passed, the last one of task {}",
            self.limits.polls_at_once_max,
            id.0,
        );
        if id != TaskId::TEST {
            self.engine.poll_task(id);
            return None;
        }
        let _here = here::enter(self.engine.number, Life::TEST);
        self.engine.with(|state| state.note(Life::TEST.machine, What::Poll, [0; 3]));
        match catch_unwind(AssertUnwindSafe(|| poll_fully(self.test.as_mut(), &self.waker))) {
            Ok(Poll::Pending) => None,
            Ok(Poll::Ready(())) => Some(Ok(())),
            Err(panic) => Some(Err(panic)),
        }
    }

    /// Nothing is ready and nothing is due: lets time pass. `Pending`: tokio goes on and comes back.
    fn pass_time(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let next = self.engine.with(|state| state.agenda.next_at());
        let now = self.engine.with(|state| state.now);
        let most = self.limits.time_nanos_max;
        match next {
            _ if now < most => {}
            Some(_) => panic!("the simulation has gone on for {:?}: see `time_max`", Duration::from_nanos(now)),
            None => panic!("the simulation is stuck: nothing is ready and nothing is to happen any more"),
        }
        let next = next.unwrap_or(most).min(most);
        if next / MILLI == now / MILLI {
            self.move_to(next);
            return Poll::Ready(());
        }
        if !now.is_multiple_of(MILLI) {
            self.move_to(now.next_multiple_of(MILLI));
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let border = self.begun + Duration::from_nanos(next / MILLI * MILLI);
        if self.border.deadline() != border {
            self.border.as_mut().reset(border);
        }
        self.border.as_mut().poll(cx)
    }

    /// Moves the clocks, tokio's and ours, to `to`.
    fn move_to(&mut self, to: u64) {
        let step = self.engine.with(|state| to - std::mem::replace(&mut state.now, to));
        // It moves the clock when it is first polled, and all that follows is a yield.
        let _ = pin!(advance(Duration::from_nanos(step))).poll(&mut Context::from_waker(Waker::noop()));
        self.polls_now = 0;
    }

    /// Takes over the time that tokio has let pass.
    fn catch_up(&mut self) {
        let now = self.begun.elapsed().as_nanos() as u64;
        if self.engine.with(|state| std::mem::replace(&mut state.now, now)) != now {
            self.polls_now = 0;
        }
    }
}

const MILLI: u64 = 1_000_000;

impl Future for Executor<'_> {
    type Output = Ended;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended> {
        let me = &mut *self;
        me.catch_up();
        loop {
            while let Some(id) = me.engine.with(|state| me.engine.ready.choose(&mut state.chance.schedule)) {
                if let Some(ended) = me.poll_one(id) {
                    return Poll::Ready(ended);
                }
            }
            if !me.engine.happen() && me.pass_time(cx).is_pending() && me.engine.ready.wait(cx.waker()) {
                return Poll::Pending;
            }
        }
    }
}

/// Tokio would make its resources wait after so many polls in one go, until its scheduler runs again: it never does.
fn poll_fully<F: Future + ?Sized>(future: Pin<&mut F>, waker: &Waker) -> Poll<F::Output> {
    pin!(unconstrained(future)).poll(&mut Context::from_waker(waker))
}

/// A task that was chosen.
struct Chosen {
    life: Life,
    future: BoxFuture<'static, ()>,
    waker: Waker,
    aborted: bool,
}

impl Engine {
    fn poll_task(&self, id: TaskId) {
        let Some(Chosen { life, mut future, waker, aborted }) = self.take(id) else { return };
        let _here = here::enter(self.number, life);
        let polled = match aborted {
            true => Ok(Poll::Ready(())),
            false => catch_unwind(AssertUnwindSafe(|| poll_fully(future.as_mut(), &waker))),
        };
        match polled {
            Ok(Poll::Pending) => {
                // Its machine may have crashed meanwhile, by its own doing.
                let lost = self.with(|state| match state.tasks.tasks.get_mut(&id) {
                    Some(task) => task.future.replace(future),
                    None => Some(future),
                });
                return self.drop_task(id, life, lost);
            }
            Ok(Poll::Ready(())) => {}
            Err(panic) => self.panicked(id, life, panic),
        }
        self.drop_task(id, life, Some(future));
        let ended = self.with(|state| {
            state.note(life.machine, What::End, [id.0, 0, 0]);
            state.tasks.tasks.remove(&id)
        });
        drop(ended);
    }

    /// Takes the future of a ready task; `None` if it has ended, or its machine is frozen.
    fn take(&self, id: TaskId) -> Option<Chosen> {
        self.with(|state| {
            let task = state.tasks.tasks.get_mut(&id)?;
            let life = task.life;
            if state.machines[life.machine.index()].frozen {
                state.machines[life.machine.index()].held.push(id);
                return None;
            }
            let future = task.future.take()?;
            let chosen = Chosen { life, future, waker: task.waker.clone(), aborted: task.aborted };
            state.note(life.machine, What::Poll, [id.0, 0, 0]);
            Some(chosen)
        })
    }

    /// Ends everything: drops all tasks, each on its machine.
    pub(super) fn end(&self) {
        loop {
            let tasks = self.with(|state| {
                state.phase = Phase::Over;
                state.take_tasks(|_| true)
            });
            if tasks.is_empty() {
                break;
            }
            for (id, task) in tasks {
                self.drop_task(id, task.life, task.future);
            }
        }
        // Wakers, which may hold anything.
        let left = self.with(|state| {
            (std::mem::take(&mut state.timers), std::mem::take(&mut state.agenda), state.net.take_links())
        });
        drop(left);
    }
}

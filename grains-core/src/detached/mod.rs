//! The context of unit tests: an activation with no node. Time stands still until told, tasks run when told, other grains
//! are fakes.

mod fake;
mod world;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

pub use self::fake::Fakes;
use self::{fake::FakeRoute, world::ManualClock};
use crate::{
    cancel::{Caller, Cancellation},
    ctx::{AfterLoss, Anchor, Host, ScheduleError, SharedTick, StoredTimer, TIMERS_MAX},
    error::Result,
    grain::Grain,
    id::ActivationId,
    interface::Interface,
    request::RequestContext,
    route::Route,
    store::{STATE_BYTES_MAX, Store, memory::MemoryStore},
    time::Instant,
    world::BoxFuture,
};

/// What a unit test sees and controls of a context made by [`Ctx::detached`](crate::Ctx::detached).
pub struct Detached<G> {
    route: Arc<FakeRoute>,
    store: Mutex<Arc<dyn Store>>,
    caller: Arc<Cancellation>,
    inner: Mutex<Inner<G>>,
}

struct Inner<G> {
    ticks: Vec<SharedTick<G>>,
    timers: Vec<StoredTimer>,
    request: RequestContext,
    deactivation_requested: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<G: 'static> Detached<G> {
    pub(crate) const LIFE: ActivationId = ActivationId { epoch: 1, counter: 1 };

    pub(crate) fn new() -> Self {
        let inner = Inner {
            ticks: Vec::new(),
            timers: Vec::new(),
            request: RequestContext::new(),
            deactivation_requested: false,
        };
        Self {
            route: Arc::new(FakeRoute::new()),
            store: Mutex::new(Arc::new(MemoryStore::default())),
            caller: Arc::default(),
            inner: Mutex::new(inner),
        }
    }

    pub(crate) fn route(&self) -> Arc<dyn Route> {
        self.route.clone()
    }

    pub(crate) fn answers<C: Interface>(&self, fake: impl Fakes<C>) {
        self.route.add(fake.erase());
    }

    pub(crate) fn set_store(&self, store: Arc<dyn Store>) {
        *lock(&self.store) = store;
    }

    /// The store behind [`Ctx::state`](crate::Ctx::state): fill it before `activate`, look into it afterwards.
    pub fn store(&self) -> Arc<dyn Store> {
        lock(&self.store).clone()
    }

    /// Moves the clock, and wakes what waited for that time. Ticks and stored calls do not run by it: see
    /// [`tick`](Self::tick) and [`timers`](Self::timers).
    pub fn advance(&self, by: Duration) {
        self.clock().advance(by);
    }

    /// Nobody wants an answer any more: from now on [`Ctx::cancelled`](crate::Ctx::cancelled) ends, in the method that runs
    /// and in those called later.
    pub fn cancel(&self) {
        self.caller.fire();
    }

    /// Runs everything that was spawned, or sent one-way to a fake, until it has ended.
    pub async fn run_spawned(&self) {
        self.route.tasks().run().await;
    }

    /// Runs each tick set with [`Ctx::every`](crate::Ctx::every) once, in the order they were set.
    pub async fn tick(&self, grain: &mut G) -> Result<()> {
        let ticks = lock(&self.inner).ticks.clone();
        for tick in ticks {
            tick.tick(grain).await?;
        }
        Ok(())
    }

    /// The timers set and not cancelled, in the order they were set.
    pub fn timers(&self) -> Vec<StoredTimer> {
        lock(&self.inner).timers.clone()
    }

    /// The calls sent one-way so far, as `type/key.method`.
    pub fn sent(&self) -> Vec<String> {
        self.route.sent()
    }

    /// What [`Ctx::request`](crate::Ctx::request) answers.
    pub fn set_request(&self, request: RequestContext) {
        lock(&self.inner).request = request;
    }

    /// Whether [`Ctx::deactivate_on_idle`](crate::Ctx::deactivate_on_idle) was called.
    pub fn deactivation_requested(&self) -> bool {
        lock(&self.inner).deactivation_requested
    }

    fn clock(&self) -> &ManualClock {
        self.route.clock()
    }
}

impl<G: Grain> Anchor for Detached<G> {
    fn lives(&self, life: ActivationId) -> bool {
        life == Self::LIFE
    }
    fn store(&self) -> Arc<dyn Store> {
        lock(&self.store).clone()
    }
    fn state_bytes_max(&self) -> usize {
        STATE_BYTES_MAX
    }
    fn within_store_timeout<'a>(&'a self, load_or_commit: BoxFuture<'a, ()>) -> BoxFuture<'a, Option<()>> {
        Box::pin(async move {
            load_or_commit.await;
            Some(())
        })
    }
    fn lose(&self, _: ActivationId, _: &str) -> AfterLoss {
        AfterLoss::TurnGoesOn
    }
    fn spawn(&self, _: ActivationId, task: BoxFuture<'static, ()>) -> Result<(), ScheduleError> {
        self.route.tasks().add(task);
        Ok(())
    }
    fn set_timer(&self, life: ActivationId, timer: StoredTimer) -> Result<(), ScheduleError> {
        self.cancel_timer(life, &timer.name);
        let mut inner = lock(&self.inner);
        if inner.timers.len() + inner.ticks.len() >= TIMERS_MAX {
            return Err(ScheduleError::TooManyTimers { max: TIMERS_MAX });
        }
        inner.timers.push(timer);
        Ok(())
    }
    fn cancel_timer(&self, _: ActivationId, name: &str) -> bool {
        let timers = &mut lock(&self.inner).timers;
        let before = timers.len();
        timers.retain(|timer| &*timer.name != name);
        timers.len() < before
    }
    fn deactivate_on_idle(&self, _: ActivationId) {
        lock(&self.inner).deactivation_requested = true;
    }
    fn request(&self) -> RequestContext {
        lock(&self.inner).request.clone()
    }
    fn deadline(&self) -> Option<Instant> {
        None
    }
    fn caller(&self) -> Caller {
        Caller::Waits { call: self.caller.clone(), deadline: None }
    }
}

impl<G: Grain> Host<G> for Detached<G> {
    fn every(&self, _: ActivationId, _: Duration, tick: SharedTick<G>) -> Result<(), ScheduleError> {
        let mut inner = lock(&self.inner);
        if inner.timers.len() + inner.ticks.len() >= TIMERS_MAX {
            return Err(ScheduleError::TooManyTimers { max: TIMERS_MAX });
        }
        inner.ticks.push(tick);
        Ok(())
    }
}

impl<G> std::fmt::Debug for Detached<G> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Detached")
    }
}

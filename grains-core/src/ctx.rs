//! What a grain may ask of its surroundings, and the traits by which a runtime answers.

use std::{
    fmt,
    future::Future,
    sync::{Arc, Weak},
    time::Duration,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    call::{Call, StoredCall},
    cancel::{Caller, Cancelled},
    codec::CodecError,
    detached::{Detached, Fakes},
    error::{Gone, Result, StateError},
    grain::Grain,
    id::{ActivationId, FencingToken, GrainId},
    interface::{Answers, Interface},
    key::{GrainKey, KeyFrom, KeyOf},
    method::Method,
    reference::RawRef,
    request::RequestContext,
    route::Route,
    state::State,
    store::Store,
    time::Instant,
    world::BoxFuture,
};

/// The surroundings of one activation: who it is, how to reach other grains, its state, its timers, its tasks.
///
/// `activate` receives it; keep it in a field. It holds the activation weakly, so it may be cloned into tasks: what needs
/// the activation fails with [`Gone`] once that has ended. [`Ctx::detached`] makes one for unit tests.
pub struct Ctx<G: Grain> {
    id: GrainId,
    life: ActivationId,
    route: Arc<dyn Route>,
    host: Link<G>,
}

enum Link<G: Grain> {
    Live(Weak<dyn Host<G>>),
    Detached(Arc<Detached<G>>),
}

impl<G: Grain> Clone for Ctx<G> {
    fn clone(&self) -> Self {
        let host = match &self.host {
            Link::Live(host) => Link::Live(host.clone()),
            Link::Detached(host) => Link::Detached(host.clone()),
        };
        Self { id: self.id.clone(), life: self.life, route: self.route.clone(), host }
    }
}

impl<G: Grain> fmt::Debug for Ctx<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ctx({}, {})", self.id, self.life)
    }
}

/// The most tasks one activation may have running through [`Ctx::spawn`]: a grain that needs more is a queue in disguise.
pub const SPAWNED_MAX: usize = 1024;

/// The most timers one activation may have, of both kinds together: they are kept in memory and checked one by one.
pub const TIMERS_MAX: usize = 128;

/// Why a timer or task was not started. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ScheduleError {
    /// The activation has ended.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// It has [`TIMERS_MAX`] timers already.
    #[error("this activation already has {max} timers")]
    TooManyTimers {
        /// The limit.
        max: usize,
    },
    /// It has [`SPAWNED_MAX`] running tasks already.
    #[error("this activation already has {max} spawned tasks")]
    TooManyTasks {
        /// The limit.
        max: usize,
    },
    /// A period of zero would never let anything else run.
    #[error("a timer needs a period longer than zero")]
    ZeroPeriod,
    /// The call's arguments cannot be stored.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

impl<G: Grain> Ctx<G> {
    /// A context for the activation that `host` holds: for runtimes.
    #[doc(hidden)]
    pub fn live(id: GrainId, life: ActivationId, route: Arc<dyn Route>, host: Weak<dyn Host<G>>) -> Self {
        Self { id, life, route, host: Link::Live(host) }
    }

    /// A context with no node behind it, for unit tests: build the grain with it and call its methods directly.
    ///
    /// Give it fakes for the grains it calls with [`answers`](Self::answers); see [`test`](Self::test) for its clock,
    /// store, timers and tasks.
    pub fn detached<T>(key: T) -> Self
    where
        G::Key: KeyFrom<T>,
    {
        let id = GrainId::new(G::GRAIN_TYPE, G::Key::key_from(key).to_text());
        let detached = Arc::new(Detached::new());
        Self { id, life: Detached::<G>::LIFE, route: detached.route(), host: Link::Detached(detached) }
    }

    /// Lets `fake` answer every grain of the type of `C`, whatever its key, in place of real ones. Calls run one at a
    /// time. Only for a [`detached`](Self::detached) context; several interfaces of a grain type can have a fake each.
    ///
    /// # Panics
    /// On a context of a node.
    #[must_use]
    pub fn answers<C: Interface>(self, fake: impl Fakes<C>) -> Self {
        self.test().answers::<C>(fake);
        self
    }

    /// Keeps the states of a [`detached`](Self::detached) context in `store` in place of a memory of its own: one that
    /// refuses, say, or one that another context has filled.
    ///
    /// # Panics
    /// On a context of a node.
    #[must_use]
    pub fn stored_in(self, store: impl Store) -> Self {
        self.test().set_store(Arc::new(store));
        self
    }

    /// What a unit test controls: the clock, the store, timers and spawned tasks of a detached context.
    ///
    /// # Panics
    /// On a context of a node.
    pub fn test(&self) -> &Detached<G> {
        match &self.host {
            Link::Detached(detached) => detached,
            Link::Live(_) => {
                panic!("`test` and `answers` are for contexts made by `Ctx::detached`, this one belongs to a node")
            }
        }
    }

    /// The id of this grain.
    pub fn id(&self) -> &GrainId {
        &self.id
    }

    /// The key of this grain.
    pub fn key(&self) -> G::Key {
        G::Key::from_text(self.id.key()).expect("a node activates only keys of the grain's key type")
    }

    /// Which life of this grain this is.
    pub fn activation(&self) -> ActivationId {
        self.life
    }

    /// The number that grows with every activation of this grain: hand it to systems that can refuse a smaller one.
    pub fn fence(&self) -> FencingToken {
        self.life.into()
    }

    /// A reference to another grain: `let room: RoomRef = ctx.get("lobby")`.
    pub fn get<C: Interface>(&self, key: impl KeyOf<C>) -> C {
        RawRef::get(key, self.route.clone())
    }

    /// A reference to this grain, by one of its interfaces.
    pub fn me<C: Answers<G>>(&self) -> C {
        C::from_raw(RawRef::bound(self.id.clone(), self.route.clone()))
    }

    /// Loads the state called `name`; `T::default()` if it was never stored. Usually called in `activate`.
    pub async fn state<T>(&self, name: &str) -> Result<State<T>, StateError>
    where
        T: Serialize + DeserializeOwned + Default + Send,
    {
        State::load(self.anchor()?, &self.route, name).await
    }

    /// Runs `tick` every `period`, first after one period, as an exclusive turn, until the activation ends. `tick` is an
    /// `async fn(&mut self) -> grains::Result<()>` of the grain; an error is logged.
    ///
    /// A tick that is late or long makes the ticks it covers disappear: they never pile up. Ticks do not count as calls:
    /// an activation that only ticks becomes idle. Set it again in every `activate`.
    pub fn every<T>(&self, period: Duration, tick: T) -> Result<(), ScheduleError>
    where
        T: for<'g> Tick<'g, G>,
    {
        if period.is_zero() {
            return Err(ScheduleError::ZeroPeriod);
        }
        self.host()?.every(self.life, period, Arc::new(tick))
    }

    /// Makes `call` once after `delay`, if the activation still lives then. A timer of the same name is replaced.
    pub fn call_after<M: Method>(&self, name: &str, delay: Duration, call: Call<M>) -> Result<(), ScheduleError> {
        let timer = StoredTimer { name: name.into(), first: delay, period: None, call: call.store()? };
        self.host()?.set_timer(self.life, timer)
    }

    /// Makes `call` every `period`, first after one period, until the activation ends. A timer of the same name is
    /// replaced. The next call is made when the one before has ended; periods that passed meanwhile are left out.
    pub fn call_every<M: Method>(&self, name: &str, period: Duration, call: Call<M>) -> Result<(), ScheduleError> {
        if period.is_zero() {
            return Err(ScheduleError::ZeroPeriod);
        }
        let timer = StoredTimer { name: name.into(), first: period, period: Some(period), call: call.store()? };
        self.host()?.set_timer(self.life, timer)
    }

    /// Stops the timer set by [`call_after`](Self::call_after) or [`call_every`](Self::call_every), and says whether there
    /// was one.
    pub fn cancel_timer(&self, name: &str) -> bool {
        self.host().is_ok_and(|host| host.cancel_timer(self.life, name))
    }

    /// Runs `task` beside the turns of this grain, until it ends or the activation does. It keeps the request context of
    /// the turn that spawned it; its calls are not part of that turn's chain, so it may call this grain.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> Result<(), ScheduleError> {
        self.host()?.spawn(self.life, Box::pin(task))
    }

    /// Ends this activation when the turn that runs now and the calls that wait have ended, without waiting for the idle
    /// time. The next call makes a new one.
    pub fn deactivate_on_idle(&self) {
        if let Ok(host) = self.host() {
            host.deactivate_on_idle(self.life);
        }
    }

    /// The request context of the call that this turn answers.
    pub fn request(&self) -> RequestContext {
        self.host().map(|host| host.request()).unwrap_or_default()
    }

    /// The time left to the caller of this turn: what this turn does later is of no use to it. `None` outside a turn,
    /// and for turns nobody waits for.
    pub fn time_left(&self) -> Option<Duration> {
        let deadline = self.host().ok()?.deadline()?;
        Some(deadline.since(self.now()))
    }

    /// Waits until the caller of this turn no longer wants its answer: it dropped the call, its deadline has passed, or its
    /// node has died, left, or lost its connection to this one. Whoever calls from another node is heard some 25 ms later.
    ///
    /// It is a hint, so that a long turn can stop early; nobody hears what it answers then. A turn that returns drops the
    /// calls it waits for, and those it called see the same. The turn that runs is meant: await it there, and not in a task.
    ///
    /// It never ends where nobody waits for an answer: in one-way calls, ticks, tasks, `activate` and `deactivate`. What a
    /// timer calls has a caller, the timer, which waits until the timer is cancelled or the activation ends.
    ///
    /// ```ignore
    /// async fn all_pages(&mut self) -> Result<Vec<Page>> {
    ///     tokio::select! {
    ///         pages = self.ask_everybody() => pages,
    ///         () = self.ctx.cancelled() => Err(Error::new("nobody waits for it any more")),
    ///     }
    /// }
    /// ```
    /// The guide of the crate `grains` has a whole grain with it, and its unit test.
    pub fn cancelled(&self) -> Cancelled {
        Cancelled::new(self.anchored(), self.route.world().clock.clone())
    }

    /// Now, on the clock of this node.
    pub fn now(&self) -> Instant {
        self.route.world().clock.now()
    }

    /// Milliseconds since 1970, for people to read. It may jump: never decide by it.
    pub fn wall_ms(&self) -> u64 {
        self.route.world().clock.wall_ms()
    }

    /// Waits for `duration`.
    pub async fn sleep(&self, duration: Duration) {
        let clock = &self.route.world().clock;
        clock.sleep_until(clock.now() + duration).await;
    }

    /// A random number. Not for secrets.
    pub fn random_u64(&self) -> u64 {
        self.route.world().random.next_u64()
    }

    fn host(&self) -> Result<Arc<dyn Host<G>>, Gone> {
        match &self.host {
            Link::Live(host) => host.upgrade().filter(|host| host.lives(self.life)).ok_or(Gone),
            Link::Detached(host) => Ok(host.clone()),
        }
    }

    fn anchor(&self) -> Result<StateHome, Gone> {
        let _alive = self.host()?;
        Ok(StateHome { grain: self.id.clone(), life: self.life, anchor: self.anchored() })
    }

    fn anchored(&self) -> Anchored {
        match &self.host {
            Link::Live(host) => Anchored::Weakly(host.clone()),
            Link::Detached(host) => Anchored::Strongly(host.clone()),
        }
    }
}

/// Whose state it is, and how to reach the activation that loaded it.
pub(crate) struct StateHome {
    pub(crate) grain: GrainId,
    pub(crate) life: ActivationId,
    anchor: Anchored,
}

/// An activation, held as its context holds it.
pub(crate) enum Anchored {
    Weakly(Weak<dyn Anchor>),
    Strongly(Arc<dyn Anchor>),
}

impl Anchored {
    pub(crate) fn upgrade(&self) -> Option<Arc<dyn Anchor>> {
        match self {
            Self::Weakly(anchor) => anchor.upgrade(),
            Self::Strongly(anchor) => Some(anchor.clone()),
        }
    }
}

impl StateHome {
    /// The activation, if it still is the one that loaded the state.
    pub(crate) fn anchor(&self) -> Result<Arc<dyn Anchor>, Gone> {
        self.anchor.upgrade().filter(|anchor| anchor.lives(self.life)).ok_or(Gone)
    }
}

/// A local timer's body: any `async fn(&mut G) -> grains::Result<()>`.
#[diagnostic::on_unimplemented(
    message = "this is not a tick of `{G}`",
    label = "not a tick",
    note = "pass a method, `Self::tick`, that is an `async fn(&mut self) -> grains::Result<()>`; closures cannot be ticks"
)]
pub trait Tick<'g, G: 'g>: Send + Sync + 'static {
    /// Runs it once.
    fn tick(&self, grain: &'g mut G) -> BoxFuture<'g, Result<()>>;
}

impl<'g, G: 'g, F, Fut> Tick<'g, G> for F
where
    F: Fn(&'g mut G) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<()>> + Send + 'g,
{
    fn tick(&self, grain: &'g mut G) -> BoxFuture<'g, Result<()>> {
        Box::pin(self(grain))
    }
}

/// A [`Tick`] that many turns can share.
pub type SharedTick<G> = Arc<dyn for<'g> Tick<'g, G>>;

/// A timer that makes a stored call.
#[derive(Debug, Clone)]
pub struct StoredTimer {
    /// Its name within the activation.
    pub name: Box<str>,
    /// How long until the first call.
    pub first: Duration,
    /// How long between calls; `None` for one call only.
    pub period: Option<Duration>,
    /// The call.
    pub call: StoredCall,
}

/// What happens to a turn whose commit may have left memory and store apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterLoss {
    /// The runtime drops the turn's future at the end of this poll: the commit need not return.
    TurnEnds,
    /// Nobody will drop it: the commit returns its error.
    TurnGoesOn,
}

/// The activation behind a context, as far as its grain's type does not matter. Implemented by runtimes.
pub trait Anchor: Send + Sync + 'static {
    /// Whether `life` is the one that lives now.
    fn lives(&self, life: ActivationId) -> bool;
    /// Where this grain's states are kept.
    fn store(&self) -> Arc<dyn Store>;
    /// The largest state it may write, in bytes.
    fn state_bytes_max(&self) -> usize;
    /// Waits for `load_or_commit` no longer than stores are given; `None` when that time is over.
    fn within_store_timeout<'a>(&'a self, load_or_commit: BoxFuture<'a, ()>) -> BoxFuture<'a, Option<()>>;
    /// Memory and store may differ from now on: no further turn of `life` may run.
    fn lose(&self, life: ActivationId, why: &str) -> AfterLoss;
    /// See [`Ctx::spawn`].
    fn spawn(&self, life: ActivationId, task: BoxFuture<'static, ()>) -> Result<(), ScheduleError>;
    /// See [`Ctx::call_after`] and [`Ctx::call_every`].
    fn set_timer(&self, life: ActivationId, timer: StoredTimer) -> Result<(), ScheduleError>;
    /// See [`Ctx::cancel_timer`].
    fn cancel_timer(&self, life: ActivationId, name: &str) -> bool;
    /// See [`Ctx::deactivate_on_idle`].
    fn deactivate_on_idle(&self, life: ActivationId);
    /// The request context of the turn that runs on this thread.
    fn request(&self) -> RequestContext;
    /// The deadline of the turn that runs on this thread.
    fn deadline(&self) -> Option<Instant>;
    /// The caller of the turn that runs on this thread. See [`Ctx::cancelled`].
    fn caller(&self) -> Caller;
}

/// The activation behind a context of `G`. Implemented by runtimes.
pub trait Host<G>: Anchor {
    /// See [`Ctx::every`].
    fn every(&self, life: ActivationId, period: Duration, tick: SharedTick<G>) -> Result<(), ScheduleError>;
}

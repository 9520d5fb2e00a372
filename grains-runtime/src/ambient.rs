//! The turn that runs on this thread, and the chain of calls that led to it: set at each poll of a turn, read by the
//! calls it makes.

use std::{
    any::Any,
    cell::{Cell, OnceCell},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use grains_core::{
    AccessKind, ActivationId, Failure, GrainId, Instant, MethodInfo, RequestContext, route::Waits, world::Clock,
};

use crate::{node::SlowTurns, tenure::Tenure};

scoped_tls::scoped_thread_local!(static FRAME: Frame);

/// What a turn has besides its arguments.
pub(crate) struct Frame {
    whose: Whose,
    /// The call that this turn answers, if a grain made it.
    pub(crate) caller: Option<Arc<Link>>,
    /// The request context it carries.
    pub(crate) request: RequestContext,
    /// When its caller gives up. Many turns never ask, so the clock is read when one does.
    deadline: Cell<Option<Instant>>,
    /// How long its caller waits, counted from the first question.
    timeout: Duration,
    /// Shared with the links of the calls this turn makes, if it makes any.
    over: OnceCell<Arc<AtomicBool>>,
}

impl Drop for Frame {
    fn drop(&mut self) {
        if let Some(over) = self.over.get() {
            over.store(true, Ordering::Release);
        }
    }
}

/// Whose frame it is.
enum Whose {
    /// That of a turn. It is named when somebody asks: most turns are not.
    Turn { holder: Arc<dyn Holder>, life: ActivationId, method: &'static MethodInfo },
    /// That of a task of a grain, which holds no turn.
    Task,
}

/// The activation behind a turn.
pub(crate) trait Holder: Send + Sync {
    /// What a turn of it is called.
    fn turn_name(&self, life: ActivationId, method: &'static MethodInfo) -> TurnName;
    /// The tenure that its turns run under.
    fn tenure(&self) -> &Arc<Tenure>;
    /// The clock of its node.
    fn clock(&self) -> &dyn Clock;
    /// Why its turns may not go on, if its memory may differ from the store.
    fn lost(&self) -> Option<Failure>;
    /// What the caller of a turn is told that was cut off because the lease of its node had ended.
    fn fenced(&self) -> Failure;
    /// A turn of it was polled once and has to wait.
    fn parked(&self, access: AccessKind);
    /// Where its node looks for turns that wait for long.
    fn slow_turns(&self) -> &SlowTurns;
    /// After how long a turn that waits is cut.
    fn abandon_after(&self) -> Option<Duration>;
    /// What the caller of a turn is told that was cut because it has waited for so long.
    fn abandoned(&self, method: &MethodInfo, limit: Duration) -> Failure;
    /// What the caller of a turn is told that has panicked.
    fn panicked(&self, method: &MethodInfo, panic: &(dyn Any + Send)) -> Failure;
}

/// The name of a turn, for chains and messages.
#[derive(Clone)]
pub(crate) struct TurnName {
    /// Which node of this process.
    pub(crate) node: u64,
    pub(crate) grain: GrainId,
    pub(crate) life: ActivationId,
    /// Several activations have turns of this grain at a time: it is one of these workers.
    pub(crate) is_worker: bool,
    pub(crate) method: TurnMethod,
}

/// The method a turn runs.
#[derive(Clone)]
pub(crate) enum TurnMethod {
    /// One of this program.
    Known(&'static MethodInfo),
    /// One that runs on another node, as that node described it.
    Elsewhere(Arc<str>, AccessKind),
}

impl TurnMethod {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Known(info) => info.name,
            Self::Elsewhere(name, _) => name,
        }
    }

    pub(crate) fn access(&self) -> AccessKind {
        match self {
            Self::Known(info) => info.access,
            Self::Elsewhere(_, access) => *access,
        }
    }
}

impl Frame {
    /// The frame of a turn whose caller gives up at `deadline`, or `timeout` after the first time anyone asks.
    pub(crate) fn of_turn(
        holder: Arc<dyn Holder>,
        life: ActivationId,
        method: &'static MethodInfo,
        inherited: Inherited,
    ) -> Self {
        Self::new(Whose::Turn { holder, life, method }, inherited)
    }

    /// The frame of a task of a grain.
    pub(crate) fn of_task(inherited: Inherited) -> Self {
        Self::new(Whose::Task, inherited)
    }

    fn new(whose: Whose, inherited: Inherited) -> Self {
        let Inherited { caller, request, deadline, timeout } = inherited;
        Self { whose, caller, request, deadline: Cell::new(deadline), timeout, over: OnceCell::new() }
    }

    /// Which turn this is; none for a task.
    pub(crate) fn turn(&self) -> Option<TurnName> {
        match &self.whose {
            Whose::Turn { holder, life, method } => Some(holder.turn_name(*life, method)),
            Whose::Task => None,
        }
    }

    /// The activation whose turn this is, and the method; none for a task.
    pub(crate) fn holder(&self) -> Option<(&dyn Holder, &'static MethodInfo)> {
        match &self.whose {
            Whose::Turn { holder, method, .. } => Some((&**holder, method)),
            Whose::Task => None,
        }
    }

    /// The activation whose turn this is, to be kept.
    pub(crate) fn shared_holder(&self) -> Option<Arc<dyn Holder>> {
        match &self.whose {
            Whose::Turn { holder, .. } => Some(holder.clone()),
            Whose::Task => None,
        }
    }

    /// When the caller of this turn gives up.
    pub(crate) fn deadline(&self, clock: &dyn Clock) -> Instant {
        self.deadline.get().unwrap_or_else(|| {
            let deadline = clock.recent() + self.timeout;
            self.deadline.set(Some(deadline));
            deadline
        })
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Runs `poll` with this frame as the turn of the thread.
    pub(crate) fn enter<R>(&self, poll: impl FnOnce() -> R) -> R {
        FRAME.set(self, poll)
    }
}

/// Runs `look` with the turn of this thread, if there is one.
pub(crate) fn current<R>(look: impl FnOnce(Option<&Frame>) -> R) -> R {
    if FRAME.is_set() { FRAME.with(|frame| look(Some(frame))) } else { look(None) }
}

/// What a call takes over from the turn that makes it.
pub(crate) struct Inherited {
    pub(crate) caller: Option<Arc<Link>>,
    pub(crate) request: RequestContext,
    /// When the caller gives up, if the clock was read.
    pub(crate) deadline: Option<Instant>,
    /// How long the caller waits.
    pub(crate) timeout: Duration,
}

impl Inherited {
    /// What the next call made on this thread takes over. `timeout` is the caller's own wish, `default` the node's.
    pub(crate) fn here(
        timeout: Option<Duration>,
        default: Duration,
        request: Option<RequestContext>,
        clock: &dyn Clock,
    ) -> Self {
        current(|frame| {
            let Some(frame) = frame else {
                let deadline = timeout.map(|timeout| clock.now() + timeout);
                let timeout = timeout.unwrap_or(default);
                return Self { caller: None, request: request.unwrap_or_default(), deadline, timeout };
            };
            let Some(turn) = frame.turn() else {
                // A task of a grain may run for ever: nobody waits for it, so nobody's deadline binds it.
                let request = request.unwrap_or_else(|| frame.request.clone());
                let deadline = timeout.map(|timeout| clock.now() + timeout);
                return Self { caller: None, request, deadline, timeout: timeout.unwrap_or(default) };
            };
            // A wish may be for milliseconds, and counts from this very moment.
            let now = if timeout.is_some() { clock.now() } else { clock.recent() };
            let left = frame.deadline(clock).since(now);
            let timeout = timeout.map_or(left, |wish| wish.min(left));
            Self {
                caller: Some(Link::new(turn, frame)),
                request: request.unwrap_or_else(|| frame.request.clone()),
                deadline: Some(now + timeout),
                timeout,
            }
        })
    }

    /// The same without a caller who waits: for one-way calls.
    pub(crate) fn one_way(request: Option<RequestContext>, default: Duration) -> Self {
        let request = request.or_else(|| current(|frame| frame.map(|frame| frame.request.clone())));
        Self { caller: None, request: request.unwrap_or_default(), deadline: None, timeout: default }
    }

    /// For work that the node itself begins: ticks, timers.
    pub(crate) fn nothing(timeout: Duration) -> Self {
        Self { caller: None, request: RequestContext::new(), deadline: None, timeout }
    }

    pub(crate) fn deadline(&self, clock: &dyn Clock) -> Instant {
        self.deadline.unwrap_or_else(|| clock.recent() + self.timeout)
    }
}

/// One call in a chain, seen from its caller: the turn that made it, and whether that still waits for it.
pub(crate) struct Link {
    turn: TurnName,
    caller: Option<Arc<Link>>,
    waits: AtomicBool,
    /// Whether that turn has ended: a call can outlive it, moved into a task.
    over: Arc<AtomicBool>,
    /// The chain this link stands for, if it came from another node.
    arrived: Option<Arc<[Hop]>>,
}

/// What a call carries of its chain from one node to the next: the turns on one node, the latest first, and the call by
/// which they left it. That node can tell by the call whether they still wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hop {
    /// The node, by the number of its incarnation in its cluster.
    pub(crate) origin: u64,
    /// Its number for the call.
    pub(crate) call: u64,
    pub(crate) turns: Vec<HopTurn>,
}

/// A turn of a [`Hop`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HopTurn {
    pub(crate) grain: GrainId,
    /// Which of its workers, if it has any.
    pub(crate) worker: Option<ActivationId>,
    pub(crate) method: Arc<str>,
    pub(crate) access: AccessKind,
}

/// How many turns of a chain travel with a call. Longer cycles across nodes are ended by the deadline.
pub(crate) const HOP_TURNS_MAX: usize = 64;

/// Stands for "another node" in the names of turns there: numbers of nodes in this process begin at zero.
const ELSEWHERE: u64 = u64::MAX;

/// Stands for whichever life a grain without workers has there.
const NO_LIFE: ActivationId = ActivationId { epoch: 0, counter: 0 };

impl Link {
    fn new(turn: TurnName, frame: &Frame) -> Arc<Self> {
        let over = frame.over.get_or_init(Arc::default).clone();
        Arc::new(Self { turn, caller: frame.caller.clone(), waits: AtomicBool::new(true), over, arrived: None })
    }

    /// The chain of a call that came from another node. `mine` finds the turn of this node that made a call to another
    /// one, while it waits for it: only those can be part of a cycle that ends here.
    pub(crate) fn arrived(hops: Vec<Hop>, mine: impl Fn(&Hop) -> Option<Arc<Link>>) -> Option<Arc<Self>> {
        let hops: Arc<[Hop]> = hops.into();
        let mut link = None;
        for (at, hop) in hops.iter().enumerate().rev() {
            if let Some(waiting) = mine(hop) {
                link = Some(waiting);
                continue;
            }
            for (nth, turn) in hop.turns.iter().enumerate().rev() {
                let method = TurnMethod::Elsewhere(turn.method.clone(), turn.access);
                let (life, is_worker) = (turn.worker.unwrap_or(NO_LIFE), turn.worker.is_some());
                let first = (at, nth) == (0, 0);
                link = Some(Arc::new(Self {
                    turn: TurnName { node: ELSEWHERE, grain: turn.grain.clone(), life, is_worker, method },
                    caller: link.take(),
                    waits: AtomicBool::new(true),
                    over: Arc::default(),
                    arrived: first.then(|| hops.clone()),
                }));
            }
        }
        link
    }

    /// What a call of this turn to another node carries of its chain.
    pub(crate) fn hops(self: &Arc<Self>, origin: u64, call: u64) -> Vec<Hop> {
        let mut turns = Vec::new();
        let mut earlier: &[Hop] = &[];
        let mut next = Some(self);
        while let Some(link) = next.filter(|_| turns.len() < HOP_TURNS_MAX) {
            if let Some(arrived) = &link.arrived {
                earlier = arrived;
                break;
            }
            let turn = &link.turn;
            turns.push(HopTurn {
                grain: turn.grain.clone(),
                worker: turn.worker(),
                method: turn.method.name().into(),
                access: turn.method.access(),
            });
            next = link.caller.as_ref();
        }
        let mut room = HOP_TURNS_MAX - turns.len();
        let mut hops = vec![Hop { origin, call, turns }];
        for hop in earlier {
            let Some(left) = room.checked_sub(hop.turns.len()) else { break };
            room = left;
            hops.push(hop.clone());
        }
        hops
    }

    /// The turns that wait for this call, the latest first. At most so many.
    pub(crate) fn waiting_turns(&self, max: usize) -> impl Iterator<Item = &TurnName> {
        let waiting =
            std::iter::successors(Some(self), |link| link.caller.as_deref()).take_while(|link| link.still_waits());
        waiting.take(max).map(|link| &link.turn)
    }

    /// The call by which this chain came from another node is wanted no more: the turn that made it has given up there.
    #[cfg(feature = "cluster")]
    pub(crate) fn given_up(&self) {
        // Another first link is of this node, and knows by itself.
        if self.arrived.is_some() {
            self.no_longer();
        }
    }

    /// Whether the turn still waits for its call.
    pub(crate) fn still_waits(&self) -> bool {
        self.waits.load(Ordering::Acquire) && !self.over.load(Ordering::Acquire)
    }
}

/// The turns of the chain that ends with `caller`, that first, at most `max` of them.
pub(crate) fn chain_names(caller: Option<&Arc<Link>>, max: usize) -> Vec<String> {
    let links = std::iter::successors(caller, |link| link.caller.as_ref());
    links.take(max).map(|link| link.turn.to_string()).collect()
}

impl Drop for Link {
    /// Chains can be long: dropped link by link, not by recursion.
    fn drop(&mut self) {
        let mut next = self.caller.take();
        while let Some(mut link) = next.and_then(Arc::into_inner) {
            next = link.caller.take();
        }
    }
}

impl Waits for Link {
    fn no_longer(&self) {
        self.waits.store(false, Ordering::Release);
    }
}

/// How the chain behind a call stands to the activation it is for.
pub(crate) enum Chain {
    /// Nobody in the chain holds a turn of it.
    Apart,
    /// The chain holds a shared turn of it.
    HoldsShared,
    /// The chain holds a turn that excludes the call, which excludes the chain: these wait for each other.
    Cycle(Vec<String>),
}

/// Looks for a turn of `callee` in the chain that ends with `caller`. Turns that nobody waits for any more do not count.
pub(crate) fn chain_to(callee: impl FnOnce() -> TurnName, caller: Option<&Arc<Link>>) -> Chain {
    // Most calls that wait come from outside, and need no name for that.
    let Some(first) = caller else { return Chain::Apart };
    let callee = callee();
    let mut names = vec![&callee];
    let mut next = Some(first);
    while let Some(link) = next {
        if !link.still_waits() {
            return Chain::Apart;
        }
        names.push(&link.turn);
        if link.turn.holds_same(&callee) {
            let shared = AccessKind::Shared;
            if (link.turn.method.access(), callee.method.access()) == (shared, shared) {
                return Chain::HoldsShared;
            }
            return Chain::Cycle(names.into_iter().rev().map(TurnName::to_string).collect());
        }
        next = link.caller.as_ref();
    }
    Chain::Apart
}

/// The lives of this grain on this node whose turns wait for whatever is called on this thread now.
pub(crate) fn lives_held_here(node: u64, grain: &GrainId) -> Vec<ActivationId> {
    current(|frame| {
        let Some(frame) = frame else { return Vec::new() };
        let mine = frame.turn().filter(|turn| (turn.node, &turn.grain) == (node, grain)).map(|turn| turn.life);
        let mut lives = lives_held(node, grain, frame.caller.as_ref());
        lives.extend(mine);
        lives
    })
}

/// The lives of this grain on this node that have a turn in the chain that ends with `caller`.
pub(crate) fn lives_held(node: u64, grain: &GrainId, caller: Option<&Arc<Link>>) -> Vec<ActivationId> {
    let mut lives = Vec::new();
    let mut next = caller;
    while let Some(link) = next.filter(|link| link.still_waits()) {
        if (link.turn.node, &link.turn.grain) == (node, grain) {
            lives.push(link.turn.life);
        }
        next = link.caller.as_ref();
    }
    lives
}

impl TurnName {
    /// Which worker of its grain it is, if that has any. Nobody else in the cluster has this id.
    pub(crate) fn worker(&self) -> Option<ActivationId> {
        self.is_worker.then_some(self.life)
    }

    fn holds_same(&self, other: &Self) -> bool {
        (self.node, self.life) == (other.node, other.life) && self.grain == other.grain
    }
}

impl std::fmt::Display for TurnName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.grain, self.method.name())
    }
}

//! One grain on this node: its mailbox, its instance, and the lives it goes through. The catalog holds it, calls enter by
//! [`AnyActivation`].
//!
//! An activation outlives its instance. When a life ends while calls wait, the next life begins in the same place with
//! the same queue, so a call is never lost between two lives and never overtakes an earlier one.
//!
//! ```text
//! made ── activate ok ──> open <── turns ──┐
//!  │                       │ └─────────────┘
//!  └─ activate failed      │ idle, asked to, stopping, panicked, state lost
//!       │                  v
//!       │               closing: no turn runs ── deactivate ── instance dropped ──┬── calls wait ──> made, next life
//!       v                                                                         └── none ──> gone
//!     gone (waiting calls fail)
//! ```

pub(crate) mod arrived;
pub(crate) mod backlog;
mod extras;
pub(crate) mod host;
pub(crate) mod life;
pub(crate) mod mailbox;
mod parked;
mod place;
pub(crate) mod pool;
pub(crate) mod start;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod timer;
pub(crate) mod turn;
pub(crate) mod waiter;

use std::{
    cell::UnsafeCell,
    num::NonZeroU64,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    task::Context,
    time::Duration,
};

use grains_core::{
    ActivationId, DeactivationReason, GrainId, Lifecycle, MethodId, MethodInfo, route::AnySlot, store::Store,
    tasks::TaskId,
};

use self::{arrived::Arrived, extras::Extras, mailbox::Mailbox, waiter::Waiter};
use crate::{
    ambient::Link,
    deadlock::{Look, Watch},
    node::NodeInner,
    tenure::Tenure,
};

/// What the activations of one grain type have in common.
pub(crate) struct GrainTypeInfo {
    pub(crate) name: &'static str,
    pub(crate) idle_timeout: Duration,
    /// They are deactivated neither because they are idle nor to make room.
    pub(crate) stays: bool,
    pub(crate) mailbox_len_max: usize,
    /// After how long a turn that waits is cut.
    pub(crate) abandon_after: Option<Duration>,
    /// What keeps their states.
    pub(crate) store: Arc<dyn Store>,
    /// Larger than in every earlier start of a node over that store; for nodes alone.
    pub(crate) epoch: u64,
    /// How many live now.
    pub(crate) live: AtomicUsize,
}

/// What every call of a busy grain writes comes first, behind the count of references which it writes too: threads that call the
/// same grain hand one line of memory to each other, not several.
#[repr(C)]
pub(crate) struct Activation<G: Lifecycle> {
    mailbox: Mailbox<Waiter<G>>,
    /// The node's scan that was due when the last call began.
    last_used: AtomicU32,
    /// This life may not go on: no `deactivate`.
    broken: AtomicBool,
    /// This life's memory may differ from the store: its turns end at their next poll.
    lost: AtomicBool,
    reason: AtomicU8,
    /// `activate` runs. What asks for the end of this life then is heeded once a call was served: the life was made for it.
    activating: AtomicBool,
    leaves: AtomicBool,
    /// The node's watch knows that calls of turns wait here.
    watched: AtomicBool,
    is_worker: bool,
    /// The counter of the life that lives; 0 between two lives.
    life: AtomicU64,
    /// The instance. `Some` whenever a turn other than the closing one runs.
    grain: UnsafeCell<Option<G>>,
    extras: Extras,
    node: Arc<NodeInner>,
    tenure: Arc<Tenure>,
    grain_type: Arc<GrainTypeInfo>,
    hash: u64,
    id: GrainId,
    epoch: u64,
    /// The number of the order by which it is made, if it is.
    order: Option<NonZeroU64>,
    me: Weak<Self>,
}

// SAFETY: `grain` is only reached through `Turn`, which exists while the mailbox has granted a turn of its access: many
// `&G` (hence `G: Sync`) or one `&mut G` (hence `G: Send`, as turns move between threads). `Lifecycle` implies both.
unsafe impl<G: Lifecycle> Sync for Activation<G> {}

/// Where its lives get their ids from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numbering {
    /// This node numbers them: nobody else can make an activation of this grain.
    Here {
        /// Which start of the node, or which assignment of a singleton.
        epoch: u64,
    },
    /// The owner of its partition ordered this one activation. It has one life; calls that are left then go back to the
    /// owner.
    Ordered(ActivationId),
    /// It is a worker of a [`Pool`](pool::Pool), which this node numbers, too. Sent away in a cluster, its calls go elsewhere.
    Worker {
        /// Which start of the node, or which incarnation.
        epoch: u64,
    },
}

impl Numbering {
    fn epoch(self) -> u64 {
        match self {
            Self::Here { epoch } | Self::Worker { epoch } => epoch,
            Self::Ordered(id) => id.epoch,
        }
    }

    fn order(self) -> Option<NonZeroU64> {
        match self {
            Self::Ordered(id) => NonZeroU64::new(id.counter),
            Self::Here { .. } | Self::Worker { .. } => None,
        }
    }
}

/// What an activation is made from.
pub(crate) struct Place {
    pub(crate) id: GrainId,
    pub(crate) hash: u64,
    pub(crate) tenure: Arc<Tenure>,
    pub(crate) numbering: Numbering,
}

/// There is no activation behind this entry of the catalog any more: look again.
pub(crate) struct IsGone(pub(crate) Arc<dyn AnyActivation>);

/// An activation that may be ended to make room for others.
pub(crate) struct Spare {
    pub(crate) activation: Arc<dyn AnyActivation>,
    /// For how many scans it had no call.
    pub(crate) quiet: u32,
}

/// An activation of whatever grain.
pub(crate) trait AnyActivation: Send + Sync {
    fn id(&self) -> &GrainId;
    fn hash(&self) -> u64;
    /// Starts the call in `slot`, which then holds its answer or where to wait for it.
    fn start(
        self: Arc<Self>,
        method: &'static MethodInfo,
        slot: &mut dyn AnySlot,
        cx: &mut Context<'_>,
    ) -> Result<(), IsGone>;
    /// The first call of a new activation: begins its life.
    fn start_first(
        self: Arc<Self>,
        method: &'static MethodInfo,
        slot: &mut dyn AnySlot,
        cx: &mut Context<'_>,
    ) -> Result<(), IsGone>;
    /// Queues the call in `slot`; nobody waits for it.
    fn send(self: Arc<Self>, method: &'static MethodInfo, slot: &mut dyn AnySlot) -> Result<(), IsGone>;
    /// The first call of a new activation, one-way.
    fn send_first(self: Arc<Self>, method: &'static MethodInfo, slot: &mut dyn AnySlot) -> Result<(), IsGone>;
    /// Ends this life if nothing runs and nothing waits, and no call came for as many scans as `scans_of` its type's idle
    /// time says (0: whenever the last came).
    fn close_if_idle(self: Arc<Self>, scans_of: &dyn Fn(Duration) -> u32, reason: DeactivationReason);
    /// Adds itself, or those of its workers that are, to what may be ended now to make room. Gives how many there are.
    fn spare(self: Arc<Self>, spare: &mut Vec<Spare>) -> usize;
    /// Whether its life ends and it has yet to go.
    fn is_ending(&self) -> bool;
    /// Drops the instance without ceremony and fails whatever waits: the node has stopped.
    fn drop_now(self: Arc<Self>);
    /// Hands over a call that came from another node. Gives it back if there is no activation here any more.
    fn arrive(self: Arc<Self>, call: Arrived) -> Result<(), Arrived>;
    /// The first call of a new activation, from another node.
    fn arrive_first(self: Arc<Self>, call: Arrived) -> Result<(), Arrived>;
    /// Makes the instance without a call: singletons live without being called.
    fn live(self: Arc<Self>);
    /// Lets no further turn begin; what runs ends, and what waits goes elsewhere.
    fn send_away(self: Arc<Self>, reason: DeactivationReason);
    /// What calls of turns wait here. If there are none, it is watched no more until one comes.
    fn look(&self, watch: &Watch) -> Look;
    /// Fails a call that waits here, as the last one of this cycle.
    fn break_call(&self, made_by: &Arc<Link>, cycle: Vec<String>);
    /// This one of its workers is gone; for pools.
    fn worker_ended(&self, worker: &dyn AnyActivation) {
        let _ = worker;
    }
    /// One of its tasks has ended.
    fn forget_task(&self, id: TaskId);
    /// The tenure it lives in.
    fn tenure(&self) -> &Arc<Tenure>;
    /// The life that lives, or will; the counter is 0 if that is not known yet.
    fn activation_id(&self) -> ActivationId;
    /// The name of one of its methods, or of what else runs in it.
    fn method_name(&self, id: MethodId) -> Option<&'static str>;
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<G: Lifecycle> Activation<G> {
    /// An activation whose maker holds the exclusive turn, to begin its first life with.
    pub(crate) fn made(node: Arc<NodeInner>, grain_type: Arc<GrainTypeInfo>, place: Place) -> Arc<Self> {
        let Place { id, hash, tenure, numbering } = place;
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            id,
            hash,
            last_used: AtomicU32::new(node.scan()),
            node,
            grain_type,
            tenure,
            epoch: numbering.epoch(),
            order: numbering.order(),
            is_worker: matches!(numbering, Numbering::Worker { .. }),
            mailbox: Mailbox::closed(),
            life: AtomicU64::new(0),
            broken: AtomicBool::new(false),
            lost: AtomicBool::new(false),
            reason: AtomicU8::new(0),
            activating: AtomicBool::new(false),
            leaves: AtomicBool::new(false),
            watched: AtomicBool::new(false),
            extras: Extras::default(),
            grain: UnsafeCell::new(None),
        })
    }

    /// The life that lives, or 0 as its counter.
    fn life(&self) -> ActivationId {
        ActivationId { epoch: self.epoch, counter: self.life.load(Ordering::Acquire) }
    }

    /// The one life it has, if it was ordered.
    fn order(&self) -> Option<ActivationId> {
        self.order.map(|counter| ActivationId { epoch: self.epoch, counter: counter.get() })
    }

    /// Nothing of it may run any more: its node has stopped, or its lease has ended.
    fn is_over(&self) -> bool {
        self.node.is_stopped() || self.tenure.is_over()
    }

    fn is_life(&self, life: ActivationId) -> bool {
        life == self.life() && life.counter != 0
    }

    /// Ends this life as soon as nothing runs and nothing waits.
    fn leave_when_idle(&self) {
        if self.mailbox.leave_when_idle()
            && let Some(me) = self.me.upgrade()
        {
            Self::close(me);
        }
    }

    /// The same, if it was asked for in `activate`.
    fn leave_if_asked(&self) {
        if self.leaves.swap(false, Ordering::SeqCst) {
            self.leave_when_idle();
        }
    }

    fn touch(&self) {
        let scan = self.node.scan();
        // Written when it changes only: every thread that calls this grain reads it.
        if self.last_used.load(Ordering::Relaxed) != scan {
            self.last_used.store(scan, Ordering::Relaxed);
        }
    }
}

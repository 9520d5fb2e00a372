//! What users have their clusters do while things fail, and what must hold then.

use std::{
    any::type_name,
    fmt,
    future::{Future, poll_fn},
    mem,
    ops::RangeInclusive,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Poll,
    time::Duration,
};

use grains_core::{Interface, KeyOf, Result, world::BoxFuture};

use super::{Sim, tasks::text_of};
use crate::Node;

/// This is work for a simulated cluster: what callers on its nodes do while faults strike, and what must hold when these are
/// over. [`Worlds`](super::Worlds) runs it, several side by side if there are, in many worlds. Each world has a workload of its
/// own, shared by all of its callers: keep in it what they have seen, such as how many calls were answered.
///
/// Wherever something must hold, assert it: a panic in a workload is a violation, with what it says. A call that fails is none:
/// that is what faults are for, and [`outcome`](grains_core::CallError::outcome) says what is known of it.
///
/// ```
/// # use grains_runtime as grains;
/// # use grains_core::Result;
/// use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
///
/// use grains::sim::{Caller, Workload};
///
/// /// Somebody has a turn somewhere, at least now and then.
/// #[derive(Default)]
/// struct Ticks(AtomicU64);
///
/// impl Workload for Ticks {
///     async fn run(&self, caller: Caller) {
///         while caller.goes_on().await {
///             self.0.fetch_add(1, SeqCst);
///         }
///     }
///
///     async fn check(&self, _: Caller) -> Result<()> {
///         assert!(self.0.load(SeqCst) > 0, "nobody did anything");
///         Ok(())
///     }
/// }
/// ```
///
/// Whatever a workload does has to follow from the seed, or its worlds cannot be replayed: draw from [`Caller::sim`], keep no
/// std `HashMap` whose order matters, and read no clock but that of the node.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no workload",
    label = "implement `grains::sim::Workload` for it: `async fn run(&self, caller: Caller)`"
)]
pub trait Workload: Send + Sync + 'static {
    /// Before anything fails: called once in a world, on its first node. An error is a violation. Default: nothing.
    fn set_up(&self, caller: Caller) -> impl Future<Output = Result<()>> + Send {
        let _ = caller;
        async { Ok(()) }
    }

    /// One caller at work, until [`Caller::goes_on`] says that it is time to end. Each node has as many callers as
    /// [asked for](super::Worlds::workload) from when it becomes a member. They end with its process, at any `.await`, so write
    /// down what you are about to do before you do it. When the process starts again, so do others in their place.
    fn run(&self, caller: Caller) -> impl Future<Output = ()> + Send;

    /// What must hold, when all faults are over and no caller works any more: called on one node after the other, of all that
    /// there are. An error is a violation. Default: nothing, which is for work that is there to disturb others.
    fn check(&self, caller: Caller) -> impl Future<Output = Result<()>> + Send {
        let _ = caller;
        async { Ok(()) }
    }
}

/// Somebody who calls grains from a node of a simulated cluster, on behalf of a [`Workload`].
#[derive(Clone)]
pub struct Caller {
    node: Node,
    number: u64,
    pace: RangeInclusive<Duration>,
    hours: Hours,
}

/// Until when callers work, and how many there have been. Clones are the same.
#[derive(Clone)]
pub(super) struct Hours {
    pub(super) sim: Sim,
    over: Arc<AtomicBool>,
    callers: Arc<AtomicU64>,
}

impl Hours {
    pub(super) fn new(sim: &Sim) -> Self {
        Self { sim: sim.clone(), over: Arc::default(), callers: Arc::default() }
    }

    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// A new caller on this node.
    pub(super) fn caller(&self, node: Node) -> Caller {
        let number = self.callers.fetch_add(1, Ordering::Relaxed);
        Caller { node, number, pace: PACE, hours: self.clone() }
    }
}

/// Fast enough that a second sees some twenty calls of each caller, and slow enough that a debug build keeps up.
const PACE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_millis(100);

impl Caller {
    /// A reference to a grain, which calls it from this node. The same as `caller.node().get(key)`.
    pub fn get<C: Interface>(&self, key: impl KeyOf<C>) -> C {
        self.node.get(key)
    }

    /// The node that it is on.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Which caller it is: a number that no other one has, in this world.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The simulation, for chance and for lines in the trace.
    pub fn sim(&self) -> &Sim {
        &self.hours.sim
    }

    /// Lets it pause for other times than 1 to 100 ms.
    #[must_use]
    pub fn pace(mut self, pause: RangeInclusive<Duration>) -> Self {
        self.pace = pause;
        self
    }

    /// Pauses for a time of its [pace](Self::pace), by the seed and the clock of its node. Gives whether there is more to do.
    pub async fn goes_on(&self) -> bool {
        self.sleep(self.sim().between(*self.pace.start(), *self.pace.end())).await;
        !self.hours.over.load(Ordering::Relaxed)
    }

    /// Waits for so long, by the clock of its node.
    pub async fn sleep(&self, time: Duration) {
        let clock = &self.node.world().clock;
        clock.sleep_until(clock.now() + time).await;
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("number", &self.number).field("node", &self.node.name()).finish_non_exhaustive()
    }
}

/// A workload of any type, as a world has it. What goes wrong in it, panics included, comes as text.
pub(super) trait AnyWorkload: Send + Sync {
    /// What people call it.
    fn name(&self) -> &'static str;
    fn set_up(self: Arc<Self>, caller: Caller) -> BoxFuture<'static, Result<(), String>>;
    fn run(self: Arc<Self>, caller: Caller) -> BoxFuture<'static, Result<(), String>>;
    fn check(self: Arc<Self>, caller: Caller) -> BoxFuture<'static, Result<(), String>>;
}

impl<W: Workload> AnyWorkload for W {
    fn name(&self) -> &'static str {
        let name = type_name::<W>();
        // Parameters have paths of their own.
        let path = name.split('<').next().unwrap_or(name);
        path.rsplit("::").next().unwrap_or(path)
    }

    fn set_up(self: Arc<Self>, caller: Caller) -> BoxFuture<'static, Result<(), String>> {
        heard(async move { Workload::set_up(&*self, caller).await })
    }

    fn run(self: Arc<Self>, caller: Caller) -> BoxFuture<'static, Result<(), String>> {
        heard(async move {
            Workload::run(&*self, caller).await;
            Ok(())
        })
    }

    fn check(self: Arc<Self>, caller: Caller) -> BoxFuture<'static, Result<(), String>> {
        heard(async move { Workload::check(&*self, caller).await })
    }
}

/// Ends with what a part of a workload ends with, or with what it says when it panics.
fn heard(part: impl Future<Output = Result<()>> + Send + 'static) -> BoxFuture<'static, Result<(), String>> {
    let mut part = Box::pin(part);
    Box::pin(poll_fn(move |cx| match catch_unwind(AssertUnwindSafe(|| part.as_mut().poll(cx))) {
        Ok(polled) => polled.map_err(|error| error.message().to_owned()),
        Err(panic) => {
            let said = text_of(&*panic);
            // What a user panics with may panic when it is dropped.
            mem::forget(panic);
            Poll::Ready(Err(said))
        }
    }))
}

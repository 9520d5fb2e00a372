//! A node: what hosts grains, and the handle by which a program uses it.

mod builder;
#[cfg(feature = "cluster")]
mod certificates;
#[cfg(feature = "cluster")]
mod clustering;
mod cycles;
#[cfg(feature = "cluster")]
mod membership;
mod room;
mod scan;
mod slow;
mod stop;
mod watch;

use std::{
    collections::BTreeMap,
    fmt,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use grains_core::{
    About, CallError, Failure, GrainId, Interface, KeyOf, MethodId, MethodInfo, Outcome, RawRef,
    route::{AnySlot, Route},
    store::Store,
    stream::{StreamTable, with_exports},
    tasks::TaskSet,
    world::{BoxFuture, World},
};
use litemap::LiteMap;

use self::builder::HostingKind;
#[cfg(feature = "cluster")]
pub(crate) use self::certificates::security;
pub(crate) use self::slow::{Entered, SlowTurns};
pub use self::{
    builder::{NodeBuilder, StartError},
    stop::Stopped,
};
use crate::{
    activation::{AnyActivation, GrainTypeInfo, IsGone, Numbering, Place, arrived::Arrived, backlog::Backlog},
    ambient,
    catalog::{Catalog, Made},
    config::NodeConfig,
    deadlock::Watch,
    tenure::Tenure,
};
#[cfg(feature = "cluster")]
use crate::{
    cluster::{Placement, clustered::Clustered, driver::Driver},
    store::StoreChoice,
};

/// One process's part in hosting grains. Cloning gives another handle to the same node; when the last handle is dropped
/// without [`stop`](Self::stop), the node stops hard, as if killed.
#[derive(Clone)]
pub struct Node {
    inner: Arc<NodeInner>,
    _stop: Arc<StopHard>,
}

/// Stops the node when the last handle goes. References do not count: a grain that holds one would keep its node alive.
struct StopHard(Arc<NodeInner>);

impl Drop for StopHard {
    fn drop(&mut self) {
        self.0.stop_hard();
        #[cfg(feature = "cluster")]
        if let Some(driver) = self.0.driver.clone() {
            self.0.world.tasks.spawn(Box::pin(async move { driver.close().await }));
        }
    }
}

pub(crate) struct NodeInner {
    me: Weak<NodeInner>,
    /// Which node of this process, for telling chains of two nodes apart.
    pub(crate) number: u64,
    pub(crate) config: NodeConfig,
    pub(crate) world: World,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) catalog: Catalog,
    /// What waits in the mailboxes.
    pub(crate) backlog: Arc<Backlog>,
    /// Bytes of arguments that were read and are about to be decoded.
    pub(crate) undecoded: Arc<AtomicUsize>,
    /// Looks for calls that wait for each other.
    pub(crate) watch: Arc<Watch>,
    /// Its turns that wait.
    pub(crate) slow: SlowTurns,
    /// What the node does for itself.
    pub(crate) tasks: TaskSet,
    /// Under which activations live outside of clusters.
    pub(crate) tenure: Arc<Tenure>,
    /// Its part in a cluster.
    #[cfg(feature = "cluster")]
    pub(crate) clustered: Option<Arc<Clustered>>,
    /// What keeps it there.
    #[cfg(feature = "cluster")]
    pub(crate) driver: Option<Arc<Driver>>,
    /// Larger than in every earlier start of a node over the same store, as its own store says.
    pub(crate) epoch: u64,
    types: LiteMap<&'static str, HostedType>,
    hasher: RandomState,
    lives: AtomicU64,
    scan: AtomicU32,
    phase: AtomicU8,
    /// Closes the store, if the node opened it.
    close: Mutex<Option<BoxFuture<'static, ()>>>,
}

/// How to make activations of one grain type.
struct HostedType {
    info: Arc<GrainTypeInfo>,
    kind: HostingKind,
    #[cfg(feature = "cluster")]
    placement: Placement,
    /// The name of what keeps its states.
    #[cfg(feature = "cluster")]
    kept_in: StoreChoice,
    accepts: fn(&str) -> bool,
    about: fn(MethodId) -> Option<About>,
    make: MakeActivation,
}

/// Makes the activation of a grain, before its first life.
type MakeActivation = fn(Arc<NodeInner>, Arc<GrainTypeInfo>, Place) -> Arc<dyn AnyActivation>;

const RUNNING: u8 = 0;
/// Calls from outside are refused; turns and the calls they make go on.
const DRAINING: u8 = 1;
/// Nothing runs any more.
const STOPPED: u8 = 2;

impl Node {
    /// Begins to describe a node.
    pub fn builder() -> NodeBuilder {
        NodeBuilder::default()
    }

    /// A reference to the grain with this key: `let room: RoomRef = node.get("lobby")`. This makes no call and cannot fail:
    /// grains always exist. The reference does not keep the node alive.
    pub fn get<C: Interface>(&self, key: impl KeyOf<C>) -> C {
        RawRef::get(key, self.inner.route())
    }

    /// The name of this node.
    pub fn name(&self) -> &str {
        &self.inner.config.name
    }

    /// How many activations of each hosted grain type live now.
    pub fn activations(&self) -> BTreeMap<&'static str, usize> {
        self.inner.types.values().map(|hosted| (hosted.info.name, hosted.info.live.load(Ordering::Relaxed))).collect()
    }

    /// How many calls wait now: in mailboxes, or one-way for a task that begins them. See [`NodeConfig::waiting_calls_max`].
    pub fn waiting_calls(&self) -> usize {
        self.inner.backlog.calls()
    }

    /// The memory that those calls hold, in bytes: see [`NodeConfig::waiting_bytes_max`].
    pub fn waiting_bytes(&self) -> usize {
        self.inner.backlog.bytes()
    }

    /// The seams this node lives in.
    pub fn world(&self) -> &World {
        &self.inner.world
    }

    /// The store of this node. A grain type may have [another](crate::GrainOptions::store).
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    /// Stops taking calls from outside, lets turns and the calls they make end, deactivates every activation, and returns
    /// when all is gone or `stop_timeout` has passed; what is left then is dropped. Stopping again is harmless. If this future
    /// is dropped half-way, the node goes on refusing calls until it is stopped again or dropped.
    pub fn stop(&self) -> impl Future<Output = Stopped> + Send {
        Box::pin(self.inner.stop()) as BoxFuture<'_, _>
    }
}

#[cfg(test)]
impl Node {
    pub(crate) fn inner(&self) -> &Arc<NodeInner> {
        &self.inner
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("name", &self.name()).field("epoch", &self.inner.epoch).finish_non_exhaustive()
    }
}

impl NodeInner {
    pub(crate) fn route(&self) -> Arc<dyn Route> {
        self.arc()
    }

    fn arc(&self) -> Arc<Self> {
        self.me.upgrade().expect("a node is only used through its Arc")
    }

    /// The number of the life of an activation that begins now.
    pub(crate) fn next_life(&self) -> u64 {
        self.lives.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The grain type of this name, if it is hosted here.
    #[cfg(feature = "cluster")]
    pub(crate) fn hosted_name(&self, grain_type: &str) -> Option<&'static str> {
        self.types.get(grain_type).map(|hosted| hosted.info.name)
    }

    /// What is known of a method, if its grain type is hosted here.
    #[cfg(feature = "cluster")]
    pub(crate) fn about(&self, grain_type: &str, method: MethodId) -> Option<Option<About>> {
        self.types.get(grain_type).map(|hosted| (hosted.about)(method))
    }

    /// What `id` is looked up by.
    #[cfg(feature = "cluster")]
    pub(crate) fn hash_of(&self, id: &GrainId) -> u64 {
        self.hash(id)
    }

    /// A call found this activation closed for good: it is gone, and its grain may live elsewhere.
    #[cfg(feature = "cluster")]
    pub(crate) fn over(&self, activation: &dyn AnyActivation) {
        self.catalog.remove(activation);
        self.ended(activation);
    }

    /// An activation has ended, after its last turn.
    pub(crate) fn ended(&self, activation: &dyn AnyActivation) {
        #[cfg(feature = "cluster")]
        if let Some(clustered) = &self.clustered {
            clustered.ended(activation.id(), activation.activation_id());
        }
        let _ = activation;
    }

    /// Sends a call that waited for an activation which has ended to where its grain lives next.
    pub(crate) fn forward(&self, grain: GrainId, call: Arrived) {
        #[cfg(feature = "cluster")]
        if let Some(clustered) = &self.clustered {
            return clustered.forward(grain, call);
        }
        let _ = grain;
        call.fail(CallError::Stopped { outcome: Outcome::NotExecuted });
    }

    /// Whether what waits here may go to another node.
    pub(crate) fn is_in_cluster(&self) -> bool {
        #[cfg(feature = "cluster")]
        return self.clustered.is_some();
        #[cfg(not(feature = "cluster"))]
        false
    }

    /// The number of the scan for idle activations that comes next.
    pub(crate) fn scan(&self) -> u32 {
        self.scan.load(Ordering::Relaxed)
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.phase.load(Ordering::Acquire) == STOPPED
    }

    /// Runs `trip`, which encodes and decodes, so that streams survive it. What it encodes and does not decode ends.
    pub(crate) fn with_streams<R>(&self, trip: impl FnOnce() -> R) -> R {
        with_exports(&StreamTable::default(), trip)
    }

    /// Whether a call made on this thread may go on: while the node drains, only turns and tasks of grains may call.
    fn admit(&self) -> Result<(), Failure> {
        let refused = match self.phase.load(Ordering::Acquire) {
            RUNNING => false,
            DRAINING => ambient::current(|frame| frame.is_none()),
            _ => true,
        };
        if refused { Err(CallError::Stopped { outcome: Outcome::NotExecuted }) } else { Ok(()) }
    }

    /// The activation of a grain, if there is one.
    fn found(&self, to: &RawRef) -> Option<Made> {
        self.catalog.find(to.lookup_hash(), to.id()).map(Made::Found)
    }

    /// The activation of a grain that had none a moment ago; of nodes alone.
    fn made(&self, to: &RawRef) -> Result<Made, Failure> {
        let (id, hash) = (to.id(), to.lookup_hash());
        let epoch = self.types.get(id.grain_type()).map_or(self.epoch, |hosted| hosted.info.epoch);
        let place = Place { id: id.clone(), hash, tenure: self.tenure.clone(), numbering: Numbering::Here { epoch } };
        self.make(place)
    }

    /// Finds the activation of a grain, or makes it as `place` says.
    pub(crate) fn make(&self, place: Place) -> Result<Made, Failure> {
        let (id, hash) = (place.id.clone(), place.hash);
        let Some(hosted) = self.types.get(id.grain_type()) else {
            return Err(CallError::NotHosted { grain_type: id.grain_type().into() });
        };
        if !(hosted.accepts)(id.key()) {
            let why = format!("`{}` is not a key of grain type \"{}\"", id.key(), id.grain_type());
            return Err(CallError::BadReference { grain: id.to_string().into(), why: why.into() });
        }
        let make = || (hosted.make)(self.arc(), hosted.info.clone(), place);
        self.catalog.find_or_add(hash, &id, make).map_err(|full| CallError::Overloaded {
            grain: id.to_string().into(),
            limit: format!("activations_max = {}", full.len_max).into(),
        })
    }

    /// Starts a call on a node alone, again if the activation turns out to be gone. `Pending` if it needs a new one and has to wait
    /// for room.
    fn start_here(
        &self,
        to: &RawRef,
        method: &'static MethodInfo,
        slot: &mut dyn AnySlot,
        cx: &mut Context<'_>,
    ) -> Result<Poll<()>, Failure> {
        loop {
            // Each time: a node that stops meanwhile ends every activation as soon as it is made.
            self.admit()?;
            let started = match self.found(to) {
                None if self.waits_for_room(cx) => return Ok(Poll::Pending),
                found => match found.map_or_else(|| self.made(to), Ok)? {
                    Made::New(activation) => activation.start_first(method, slot, cx),
                    Made::Found(activation) => activation.start(method, slot, cx),
                },
            };
            match started {
                Ok(()) => return Ok(Poll::Ready(())),
                Err(gone) => self.take_out(&gone),
            }
        }
    }

    /// Whether a call that needs a new activation waits for room: it looks again when it is woken.
    fn waits_for_room(&self, cx: &Context<'_>) -> bool {
        // Looked at last: a node that stopped before has woken those who waited, and one that stops now wakes this one, too.
        self.catalog.waits_for_room(cx) && !self.is_stopped()
    }

    /// The same for a one-way call, which never waits.
    fn send_here(&self, to: &RawRef, method: &'static MethodInfo, slot: &mut dyn AnySlot) -> Result<(), Failure> {
        loop {
            self.admit()?;
            let sent = match self.found(to).map_or_else(|| self.made(to), Ok)? {
                Made::New(activation) => activation.send_first(method, slot),
                Made::Found(activation) => activation.send(method, slot),
            };
            match sent {
                Ok(()) => return Ok(()),
                Err(gone) => self.take_out(&gone),
            }
        }
    }

    /// Whoever closed it takes it out of the catalog next; doing it here means never to wait for that.
    fn take_out(&self, IsGone(activation): &IsGone) {
        self.catalog.remove(&**activation);
    }
}

impl Route for NodeInner {
    fn start(
        &self,
        to: &RawRef,
        method: &'static MethodInfo,
        slot: &mut dyn AnySlot,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        ready!(self.world.tasks.give_way(cx));
        #[cfg(feature = "cluster")]
        if let Some(clustered) = &self.clustered {
            return self.start_clustered(clustered, to, method, slot, cx);
        }
        self.start_here(to, method, slot, cx).unwrap_or_else(|failure| {
            slot.fail(failure);
            Poll::Ready(())
        })
    }

    fn send(&self, to: &RawRef, method: &'static MethodInfo, slot: &mut dyn AnySlot) {
        #[cfg(feature = "cluster")]
        if let Some(clustered) = &self.clustered {
            return self.send_clustered(clustered, to, method, slot);
        }
        if let Err(failure) = self.send_here(to, method, slot) {
            slot.fail(failure);
        }
    }

    fn hash(&self, id: &GrainId) -> u64 {
        Catalog::hash_of(id, self.hasher.hash_one(id))
    }

    fn world(&self) -> &World {
        &self.world
    }
}

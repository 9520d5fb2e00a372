//! Raft, by openraft: the only room that knows it. `Consensus` is the handle; it works the same over the real world and
//! the simulated one.
//!
//! Reading order: `types` (what openraft is told about), `runtime` and `tasks` (how it runs), `log` (what it remembers),
//! `machine` and `group` (what it agrees on), `body`, `network` and `snapshot` (how it talks), `leadership`, `propose`, `voters` (what it
//! is asked).

mod body;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod golden;
mod group;
mod keeping;
mod leadership;
mod log;
mod machine;
mod network;
mod propose;
mod runtime;
mod snapshot;
mod tasks;
mod types;
mod voters;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use grains_core::{
    switches::{Mechanism, on},
    world::{BoxFuture, World},
};
use openraft::{
    BasicNode, Config, Raft, SnapshotPolicy,
    errors::{Fatal, RaftError},
    rt::AsyncRuntime,
};
use tokio::sync::watch;

pub(crate) use self::propose::check_size;
use self::{
    body::Reply,
    log::Log,
    machine::Driven,
    network::{Addresses, Network, Receiver, Sent},
    runtime::{WorldRuntime, in_world},
    snapshot::Arriving,
    tasks::{OwnTasks, Running},
    types::Types,
};
pub use self::{
    group::{Agreed, Applied, AppliedCommand, Group},
    leadership::Leadership,
    log::OpenError,
    machine::{DiskState, Machine, Picture, Read, Reading, State},
    network::{Lane, LinkError, RaftLinks},
    propose::{Committed, ProposeError, Proposed},
    voters::LogProgress,
};
use crate::{NodeId, NodeName};

/// How fast a lost leader is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often the leader says that it lives; also how long it waits for one answer.
    pub heartbeat: Duration,
    /// A voter stands for election between `election_min` and `election_max` after it gave up the leader, which is
    /// `election_max` after it last heard of it.
    pub election_min: Duration,
    /// See `election_min`.
    pub election_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let millis = Duration::from_millis;
        Self { heartbeat: millis(75), election_min: millis(250), election_max: millis(500) }
    }
}

/// Where the log is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Storage {
    /// Nowhere: the node is a new one at each start.
    Memory,
    /// In a file in a folder.
    File {
        /// The folder of the node.
        folder: PathBuf,
        /// The name of the file in it.
        file: String,
    },
}

/// Whose part in a group it is, and how it is kept.
#[derive(Clone, Debug)]
pub struct Part {
    /// The name of the node.
    pub name: NodeName,
    /// The number that the node has in another group; otherwise it is that in the file, or a new one.
    pub node: Option<NodeId>,
    /// Where the log is.
    pub storage: Storage,
    /// How fast a lost leader is noticed.
    pub timing: Timing,
}

/// A new snapshot after so many entries, and how many entries before it are kept for voters that are a little behind.
const SNAPSHOT_ENTRIES: u64 = 1000;
const ENTRIES_KEPT_MAX: u64 = 1024;

/// How many bytes of them are kept when a state on disk was made durable.
const BYTES_KEPT_MAX: usize = 16 * 1024 * 1024;

/// How long a voter may take for entries with megabytes of states in them. One that is gone is found out by its connection,
/// or by the heartbeats, which go beside.
const LARGE_ENTRIES_MAX: Duration = Duration::from_secs(4);

/// How long one part of a snapshot may take to arrive and be stored.
const PART_SEND_MAX: Duration = Duration::from_secs(5);

/// How long a node waits for its tasks and its file when it closes.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// The largest command, in bytes: what fits into a message with what is said about it.
pub const COMMAND_BYTES_MAX: usize = 8 * 1024 * 1024;

/// This node's part in a group of voters. Clones are the same one; when the last is dropped, it ends as if the process had
/// been killed. Every future of it can be awaited anywhere, ends in bounded time, and can be dropped. They are boxed, so that
/// openraft is compiled here and not by whoever awaits them.
#[derive(Clone)]
pub struct Consensus {
    inner: Arc<Inner>,
}

impl fmt::Debug for Consensus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consensus").field("node", &self.inner.node).finish_non_exhaustive()
    }
}

struct Inner {
    /// The world with `tasks` in it.
    world: World,
    tasks: Running,
    node: NodeId,
    timing: Timing,
    raft: Raft<Types, Driven>,
    log: Log,
    driven: Driven,
    sent: Sent,
    /// A snapshot that comes in.
    arriving: Arc<tokio::sync::Mutex<Option<Arriving>>>,
    leadership: watch::Receiver<Leadership>,
    /// Set while voters are changed.
    changing: Arc<AtomicBool>,
    /// Set while it stands for a leader that has ended.
    standing: Arc<AtomicBool>,
    /// Why this node was ended by whoever uses it.
    closed: Mutex<Option<String>>,
}

/// Why a node cannot begin a group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoundError {
    /// It already belongs to a group, or has voted in one.
    #[error("this node already belongs to a cluster")]
    NotPristine,
    /// It began one and does not lead it yet.
    #[error("the cluster was begun, and there was no leader in time")]
    Slow,
    /// This node takes no part any more.
    #[error("this node takes no part in the cluster any more: {why}")]
    Closed {
        /// Why.
        why: String,
    },
}

/// Where one node of a group runs: a world with tasks of its own.
struct Place {
    world: World,
    tasks: Running,
}

impl Place {
    fn new(world: &World) -> Self {
        let tasks = Running(Arc::new(OwnTasks::new(world.tasks.clone())));
        Self { world: World { tasks: tasks.0.clone(), ..world.clone() }, tasks }
    }
}

impl Consensus {
    /// Opens the log of a node and starts to take part: with nothing in it, to wait until this node [founds](Self::found) a
    /// group or is made a voter of one.
    pub fn open<'a>(
        world: &'a World,
        part: Part,
        links: Arc<dyn RaftLinks>,
        state: State,
    ) -> BoxFuture<'a, Result<Self, OpenError>> {
        Box::pin(async move {
            let place = Place::new(world);
            let (log, node) = match &part.storage {
                Storage::Memory => Log::in_memory(&place.world, part.node),
                Storage::File { folder, file } => Log::in_file(&place.world, folder, file, &part).await?,
            };
            Self::start(place, log, node, state, part.timing, links).await
        })
    }

    async fn start(
        place: Place,
        log: Log,
        node: NodeId,
        state: State,
        timing: Timing,
        links: Arc<dyn RaftLinks>,
    ) -> Result<Self, OpenError> {
        let Place { world, tasks } = place;
        let addresses = Addresses::default();
        let entries_max = match state {
            State::Memory(_) => timing.election_max,
            State::Disk(_) => timing.election_max.max(LARGE_ENTRIES_MAX),
        };
        let sent = Sent::default();
        let network = Network { me: node, links, addresses: addresses.clone(), entries_max, sent: sent.clone() };
        let unusable = |why: String| OpenError::Unusable { why };
        let config = config(timing, &state).validate().map_err(|error| unusable(error.to_string()))?;
        let config = Arc::new(config);
        let driven = match Driven::new(&world, log.clone(), state).await {
            Ok(driven) => driven,
            Err(error) => {
                log.close().await;
                return Err(unusable(error.to_string()));
            }
        };
        let starting = in_world(&world, async {
            let of_fatal = |error: Fatal<Types>| error.to_string();
            let raft = Raft::new(node.0, config, network, log.clone(), driven.clone()).await.map_err(of_fatal)?;
            // Asked for its answer only: after it, what openraft reports is what it has read.
            raft.is_initialized().await.map_err(of_fatal)?;
            // openraft takes what it has just applied from the log for a snapshot, before which the log may go.
            driven.persist().await.map_err(|error| format!("its state cannot be made durable: {error}"))?;
            Ok::<_, String>(raft)
        });
        let raft = match starting.await {
            Ok(raft) => raft,
            Err(why) => {
                log.close().await;
                driven.close().await;
                return Err(unusable(why));
            }
        };
        let keeping = keeping::short(raft.clone(), log.clone(), driven.clone(), BYTES_KEPT_MAX);
        world.tasks.spawn(Box::pin(in_world(&world, keeping)));
        let leadership = leadership::watch(&world, node, raft.metrics(), addresses);
        let inner = Inner {
            world,
            tasks,
            node,
            timing,
            raft,
            log,
            driven,
            sent,
            arriving: Arc::default(),
            leadership,
            changing: Arc::default(),
            standing: Arc::default(),
            closed: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The number of this node: that in the file, or a new one.
    pub fn node(&self) -> NodeId {
        self.inner.node
    }

    /// Whether this node has never been part of any group: nothing in the log, no vote.
    pub fn is_pristine(&self) -> bool {
        self.inner.log.is_pristine()
    }

    /// Whether at most so many bytes of entries are kept.
    #[cfg(test)]
    pub(crate) fn is_log_short(&self, bytes_max: usize) -> bool {
        self.inner.log.beyond(bytes_max).is_none()
    }

    /// Makes a state on disk durable, and has the log before it go.
    #[cfg(test)]
    pub(crate) async fn shorten(&self) -> Result<(), String> {
        let shortening = keeping::shorten(&self.inner.raft, &self.inner.log, 0);
        self.inner.run(shortening).await.map_err(|error| error.to_string())
    }

    /// Begins a new group with this node as its only voter, to be reached by later ones at `address`, and waits until it
    /// leads.
    pub fn found(&self, address: &str) -> BoxFuture<'_, Result<(), FoundError>> {
        let node = BasicNode::new(address);
        let founding = async {
            let begun = self.inner.raft.initialize(BTreeMap::from([(self.inner.node.0, node)])).await;
            match begun {
                Ok(()) => {}
                Err(RaftError::APIError(_)) => return Err(FoundError::NotPristine),
                Err(RaftError::Fatal(fatal)) => return Err(FoundError::Closed { why: fatal.to_string() }),
            }
            let mut leadership = self.leadership();
            let leads = leadership.wait_for(|leadership| leadership.is_me);
            match WorldRuntime::timeout(self.inner.timing.answer_max(), leads).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(_)) => Err(FoundError::Closed { why: "it was closed".into() }),
                Err(_) => Err(FoundError::Slow),
            }
        };
        Box::pin(self.inner.run(founding))
    }

    /// Who leads, as this node knows.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// Answers the body of a message that another node's [`RaftLinks`] brought.
    pub fn handle(&self, body: Vec<u8>) -> BoxFuture<'_, Vec<u8>> {
        let inner = &self.inner;
        let receiver = Receiver { me: inner.node, raft: &inner.raft, driven: &inner.driven, arriving: &inner.arriving };
        Box::pin(async move {
            match inner.run(receiver.receive(&body)).await {
                Ok(result) => Reply::Done(&result).encode(),
                Err(why) => Reply::Refused(&why).encode(),
            }
        })
    }

    /// Ends this node's part: after it nothing runs, and the file can be opened again. Answers to what is under way are
    /// errors.
    pub fn close(&self) -> BoxFuture<'_, ()> {
        let inner = &self.inner;
        inner.closed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| "it was closed".into());
        let closing = async {
            // Late tasks are dropped in what follows.
            let _ = WorldRuntime::timeout(CLOSE_MAX, inner.raft.shutdown()).await;
            let _ = WorldRuntime::timeout(CLOSE_MAX, inner.log.close()).await;
            let _ = WorldRuntime::timeout(CLOSE_MAX, inner.driven.close()).await;
            inner.tasks.0.stop();
            let _ = WorldRuntime::timeout(CLOSE_MAX, inner.tasks.0.gone()).await;
        };
        Box::pin(inner.run(closing))
    }
}

impl Inner {
    /// Runs `asking` where openraft finds its world.
    fn run<F: Future>(&self, asking: F) -> impl Future<Output = F::Output> + use<F> {
        in_world(&self.world, asking)
    }

    /// Why this node takes no part any more, if so.
    fn over(&self) -> Option<String> {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        closed.or_else(|| self.leadership.borrow().fatal.clone())
    }
}

fn config(timing: Timing, state: &State) -> Config {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Config {
        cluster_name: "grains".into(),
        heartbeat_interval: millis(timing.heartbeat),
        election_timeout_min: millis(timing.election_min),
        election_timeout_max: millis(timing.election_max),
        install_snapshot_timeout: millis(PART_SEND_MAX),
        snapshot_policy: match state {
            State::Memory(_) => SnapshotPolicy::LogsSinceLast(SNAPSHOT_ENTRIES),
            // When so many bytes are applied: `keeping`.
            State::Disk(_) => SnapshotPolicy::Never,
        },
        max_in_snapshot_log_to_keep: ENTRIES_KEPT_MAX,
        // A voter that far behind gets a snapshot. More than is kept, as openraft asks for.
        replication_lag_threshold: SNAPSHOT_ENTRIES + ENTRIES_KEPT_MAX,
        // How many questions to this node may wait.
        api_channel_size: Some(4096),
        // How long to wait before an unreachable voter is tried again.
        backoff: "20ms 50ms 100ms ..250ms".into(),
        // A voter may have lost what it said was durable: its disk lied, or was put back. The leader is not to die of that.
        allow_log_reversion: Some(true),
        // A leader that comes back starts as a follower: its state may be older than what it has answered before.
        enable_leader_restore: Some(!on(Mechanism::NoLeaderRestore)),
        // A voter that was cut off does not depose a leader that the others hear.
        enable_pre_vote: Some(true),
        ..Config::default()
    }
}

/// Set for as long as it lives.
struct Changing(Arc<AtomicBool>);

impl Changing {
    /// `None` if somebody else has it.
    fn begin(flag: &Arc<AtomicBool>) -> Option<Self> {
        let free = flag.compare_exchange(false, true, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        free.then(|| Self(flag.clone()))
    }
}

impl Drop for Changing {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

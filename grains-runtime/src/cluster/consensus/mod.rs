//! Raft, by openraft: the only room that knows it. `Consensus` is the handle; it works the same over the real world and
//! the simulated one.
//!
//! Reading order: `types` (what openraft is told about), `runtime` and `tasks` (how it runs), `log` (what it remembers),
//! `machine` (what it agrees on), `body` and `network` (how it talks), `leadership`, `propose`, `voters` (what it is asked).

mod body;
mod leadership;
mod log;
mod machine;
mod network;
mod propose;
mod runtime;
mod tasks;
mod types;
mod voters;

#[cfg(test)]
mod testing;
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

use grains_core::world::World;
use openraft::{
    BasicNode, Config, Raft, SnapshotPolicy,
    errors::{Fatal, RaftError},
    rt::AsyncRuntime,
};
use tokio::sync::watch;

#[cfg(test)]
pub(crate) use self::propose::{COMMAND_BYTES_MAX, Committed};
use self::{
    body::Reply,
    log::Log,
    machine::{Published, StateMachine},
    network::{Addresses, Network},
    runtime::{WorldRuntime, in_world},
    tasks::{OwnTasks, Running},
    types::Types,
};
pub(crate) use self::{
    leadership::Leadership,
    log::OpenError,
    machine::{Applied, AppliedCommand, Machine},
    network::{Lane, LinkError, RaftLinks},
    propose::ProposeError,
};
use crate::cluster::names::NodeId;

/// How fast a lost leader is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timing {
    /// How often the leader says that it lives; also how long it waits for one answer.
    pub(crate) heartbeat: Duration,
    /// A voter stands for election between `election_min` and `election_max` after it gave up the leader, which is
    /// `election_max` after it last heard of it.
    pub(crate) election_min: Duration,
    /// See `election_min`.
    pub(crate) election_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let millis = Duration::from_millis;
        Self { heartbeat: millis(75), election_min: millis(250), election_max: millis(500) }
    }
}

/// Where the log is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Storage {
    /// Nowhere: the node is a new one at each start.
    Memory,
    /// In a file in this folder.
    Folder(PathBuf),
}

/// A new snapshot after so many entries, and how many entries before it are kept for voters that are a little behind.
const SNAPSHOT_ENTRIES: u64 = 1000;
const ENTRIES_KEPT_MAX: u64 = 1024;

/// How long one snapshot may take to arrive and be stored.
const SNAPSHOT_SEND_MAX: Duration = Duration::from_secs(5);

/// How long a node waits for its tasks and its file when it closes.
const CLOSE_MAX: Duration = Duration::from_secs(5);

/// This node's part in the group of voters that agree on `M`. Clones are the same one; when the last is dropped, it ends
/// as if the process had been killed. Every future of it can be awaited anywhere, ends in bounded time, and can be dropped.
pub(crate) struct Consensus<M: Machine> {
    inner: Arc<Inner<M>>,
}

impl<M: Machine> Clone for Consensus<M> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<M: Machine> fmt::Debug for Consensus<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consensus").field("node", &self.inner.node).finish_non_exhaustive()
    }
}

struct Inner<M: Machine> {
    /// The world with `tasks` in it.
    world: World,
    tasks: Running,
    node: NodeId,
    timing: Timing,
    raft: Raft<Types, StateMachine<M>>,
    log: Log,
    published: Arc<Published<M>>,
    leadership: watch::Receiver<Leadership>,
    /// Set while voters are changed.
    changing: Arc<AtomicBool>,
    /// Why this node was ended by whoever uses it.
    closed: Mutex<Option<String>>,
}

/// Why a node cannot begin a group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FoundError {
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

impl<M: Machine> Consensus<M> {
    /// Opens the log and starts to take part: with nothing in it, to wait until this node [founds](Self::found) a group
    /// or is made a voter of one.
    pub(crate) async fn open(
        world: &World,
        storage: Storage,
        timing: Timing,
        links: Arc<dyn RaftLinks>,
    ) -> Result<Self, OpenError> {
        let tasks = Running(Arc::new(OwnTasks::new(world.tasks.clone())));
        let world = World { tasks: tasks.0.clone(), ..world.clone() };
        let (log, node) = match storage {
            Storage::Memory => Log::in_memory(&world),
            Storage::Folder(folder) => Log::in_folder(&world, &folder).await?,
        };
        let published = Arc::new(Published::new());
        let machine = StateMachine::new(log.clone(), published.clone());
        let addresses = Addresses::default();
        let network = Network { me: node, links, addresses: addresses.clone(), entries_max: timing.election_max };
        let unusable = |why: String| OpenError::Unusable { why };
        let config = Arc::new(config(timing).validate().map_err(|error| unusable(error.to_string()))?);
        let starting = in_world(&world, async {
            let raft = Raft::new(node.0, config, network, log.clone(), machine).await?;
            // Asked for its answer only: after it, what openraft reports is what it has read.
            raft.is_initialized().await?;
            Ok::<_, Fatal<Types>>(raft)
        });
        let raft = match starting.await {
            Ok(raft) => raft,
            Err(error) => {
                log.close().await;
                return Err(unusable(error.to_string()));
            }
        };
        let leadership = leadership::watch(&world, node, raft.metrics(), addresses);
        let changing = Arc::default();
        let closed = Mutex::default();
        let inner = Inner { world, tasks, node, timing, raft, log, published, leadership, changing, closed };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The number of this node: that in the file, or a new one.
    pub(crate) fn node(&self) -> NodeId {
        self.inner.node
    }

    /// Whether this node has never been part of any group: nothing in the log, no vote.
    pub(crate) fn is_pristine(&self) -> bool {
        self.inner.log.is_pristine()
    }

    /// Begins a new group with this node as its only voter, to be reached by later ones at `address`, and waits until it
    /// leads.
    pub(crate) async fn found(&self, address: &str) -> Result<(), FoundError> {
        let node = BasicNode::new(address);
        self.inner
            .run(async {
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
            })
            .await
    }

    /// The state, after each batch of commands.
    pub(crate) fn applied(&self) -> watch::Receiver<Applied<M>> {
        self.inner.published.applied()
    }

    /// The commands applied after the entry `index`, oldest first; `None` if some of them are not kept any more, so that
    /// whoever asks needs the whole state.
    pub(crate) fn since(&self, index: u64) -> Option<Vec<AppliedCommand>> {
        self.inner.published.since(index)
    }

    /// Who leads, as this node knows.
    pub(crate) fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// Answers the body of a message that another node's [`RaftLinks`] brought.
    pub(crate) async fn handle(&self, body: Vec<u8>) -> Vec<u8> {
        let inner = &self.inner;
        // Longer than any voter waits: this only keeps requests from piling up behind a disk that hangs.
        let receive = network::receive(&inner.raft, inner.node, &body);
        let answer = inner.run(async { WorldRuntime::timeout(SNAPSHOT_SEND_MAX, receive).await }).await;
        match answer {
            Ok(Ok(result)) => Reply::Done(&result).encode(),
            Ok(Err(why)) => Reply::Refused(&why).encode(),
            Err(late) => Reply::Refused(&late.to_string()).encode(),
        }
    }

    /// Ends this node's part: after it nothing runs, and the file can be opened again. Answers to what is under way are
    /// errors.
    pub(crate) async fn close(&self) {
        let inner = &self.inner;
        inner.closed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| "it was closed".into());
        inner
            .run(async {
                // Late tasks are dropped in what follows.
                let _ = WorldRuntime::timeout(CLOSE_MAX, inner.raft.shutdown()).await;
                let _ = WorldRuntime::timeout(CLOSE_MAX, inner.log.close()).await;
                inner.tasks.0.stop();
                let _ = WorldRuntime::timeout(CLOSE_MAX, inner.tasks.0.gone()).await;
            })
            .await;
    }
}

impl<M: Machine> Inner<M> {
    /// Runs `asking` where openraft finds its world.
    fn run<F: Future>(&self, asking: F) -> impl Future<Output = F::Output> + use<F, M> {
        in_world(&self.world, asking)
    }

    /// Why this node takes no part any more, if so.
    fn over(&self) -> Option<String> {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        closed.or_else(|| self.leadership.borrow().fatal.clone())
    }
}

fn config(timing: Timing) -> Config {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Config {
        cluster_name: "grains".into(),
        heartbeat_interval: millis(timing.heartbeat),
        election_timeout_min: millis(timing.election_min),
        election_timeout_max: millis(timing.election_max),
        install_snapshot_timeout: millis(SNAPSHOT_SEND_MAX),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_ENTRIES),
        max_in_snapshot_log_to_keep: ENTRIES_KEPT_MAX,
        // A voter that far behind gets a snapshot. More than is kept, as openraft asks for.
        replication_lag_threshold: SNAPSHOT_ENTRIES + ENTRIES_KEPT_MAX,
        // How many questions to this node may wait.
        api_channel_size: Some(4096),
        // How long to wait before an unreachable voter is tried again.
        backoff: "20ms 50ms 100ms ..250ms".into(),
        // A leader that comes back starts as a follower: its state may be older than what it has answered before.
        enable_leader_restore: Some(false),
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

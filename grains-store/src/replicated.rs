//! The store of a cluster: the states of grains agreed on by the voters, so that they outlive any minority of nodes, with no
//! database beside it. A group of Raft of its own keeps them; each voter has all of them in a file.
//!
//! A commit takes this way: it waits in its node (`commits`) with those of other grains, all of them go to the leader as one
//! command, the leader appends it, with those of other nodes (`proposals`), to its log and to that of a majority, each of which has
//! made it durable (`consensus`), it is applied (`state`: token and versions are checked here, in the order of the log), and
//! everybody who waited is answered. A load asks the leader, which first makes sure that it still is the leader (`serving`).
//!
//! Reading order: `words` (what is said), `state` (what is kept), `commits` and `loads` (what waits in a node), `asking` (finding
//! the leader), `serving` and `proposals` (what the leader does); `moving` (what a node alone has kept).

mod asking;
mod commits;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod golden;
mod loads;
mod moving;
mod proposals;
mod serving;
mod state;
mod words;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use grains_core::{
    GrainId, Instant, codec,
    store::{CommitError, LoadError, Store, Stored, WriteSet},
    world::{BoxFuture, World},
};
use tokio::sync::{Notify, watch};

pub use self::{
    asking::{Peers, Unanswered},
    commits::{CommitCounts, SET_BYTES_MAX},
    moving::{MoveError, Moved},
};
use self::{
    commits::Commits,
    loads::Loads,
    proposals::Proposals,
    state::States,
    words::{Answer, Ask, Command, Name, Outcome, Work},
};
use crate::{
    NodeId, NodeName,
    consensus::{Consensus, LogProgress, OpenError, Part, State, Storage, Timing},
};

/// The limits of the store that a cluster keeps, for one node of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicatedConfig {
    /// How many commits may wait in a node. One more is answered [`CommitError::NotStored`]. Default 4,096: sixteen full
    /// batches, some 100 ms of writing.
    pub commits_max: usize,
    /// How many bytes of states may wait in a node, [`SET_BYTES_MAX`] or more. Default 64 MiB: as much as a disk of 100 MB/s
    /// takes within a second.
    pub commit_bytes_max: usize,
    /// How many commits go as one command. Default 256: beyond that, sharing an fsync gains nothing more.
    pub batch_len_max: usize,
    /// How many bytes of states go as one command, [`SET_BYTES_MAX`] or fewer; a larger set goes alone. Default 1 MiB: a
    /// heartbeat that waits behind one is late by 1 ms on a link of 10 Gbit/s.
    pub batch_bytes_max: usize,
    /// How many loads may wait in a node. One more is answered [`LoadError::Unavailable`]. Default 65,536.
    pub loads_max: usize,
    /// How long a leader is looked for and waited for, before a commit is given up as *unknown* and a load as *unavailable*.
    /// Default 8 s: a new leader is there after one, and a node's `store_timeout` is 10 s.
    pub patience: Duration,
}

impl Default for ReplicatedConfig {
    fn default() -> Self {
        Self {
            commits_max: 4096,
            commit_bytes_max: 64 * 1024 * 1024,
            batch_len_max: 256,
            batch_bytes_max: 1024 * 1024,
            loads_max: 65_536,
            patience: Duration::from_secs(8),
        }
    }
}

impl ReplicatedConfig {
    /// Whether these limits make sense, together and each.
    ///
    /// # Errors
    /// Which one does not, and why.
    pub fn check(&self) -> Result<(), String> {
        let Self { commits_max, commit_bytes_max, batch_len_max, batch_bytes_max, loads_max, patience } = self;
        let counts = [
            ("commits_max", commits_max),
            ("batch_len_max", batch_len_max),
            ("batch_bytes_max", batch_bytes_max),
            ("loads_max", loads_max),
        ];
        if let Some((limit, _)) = counts.iter().find(|(_, count)| **count == 0) {
            return Err(format!("`states.{limit}` is zero: no state could be loaded or written"));
        }
        if patience.is_zero() {
            return Err("`states.patience` is zero: no leader could be waited for".to_owned());
        }
        if *commit_bytes_max < SET_BYTES_MAX {
            return Err(format!(
                "`states.commit_bytes_max` is less than {SET_BYTES_MAX}: large states could never be written"
            ));
        }
        if *batch_bytes_max > SET_BYTES_MAX {
            return Err(format!(
                "`states.batch_bytes_max` is more than {SET_BYTES_MAX}: a batch has to fit into a message"
            ));
        }
        Ok(())
    }
}

/// How the store of a cluster does, as one node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreMetrics {
    /// Who leads the group.
    pub leader: Option<NodeId>,
    /// Who votes in it, as far as this node has been told: one without a vote may not have been.
    pub voters: Vec<NodeId>,
    /// How far this node has come.
    pub progress: LogProgress,
    /// What this node has asked for.
    pub commits: CommitCounts,
}

/// What a node must be told to take part.
pub struct Opening {
    /// The folder of the node; none if its states die with the process.
    pub folder: Option<PathBuf>,
    /// Its name.
    pub name: NodeName,
    /// Its number.
    pub node: NodeId,
    /// The number of the group, which tells it from one that was begun and came to nothing.
    pub group: u64,
    /// How fast a lost leader is noticed.
    pub timing: Timing,
    /// The way to the other nodes.
    pub peers: Arc<dyn Peers>,
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opening").field("node", &self.node).field("group", &self.group).finish_non_exhaustive()
    }
}

/// The states of a cluster, as one of its nodes sees them. It can be used before it is [opened](Self::open): whoever loads or
/// commits waits for that. Clones are the same one.
#[derive(Clone)]
pub struct ReplicatedStore {
    shared: Arc<Shared>,
}

struct Shared {
    world: World,
    config: ReplicatedConfig,
    /// A random number for this process, by which the log knows its commands.
    client: u64,
    /// The last command, while it is sent: one at a time, so that none overtakes another.
    serial: tokio::sync::Mutex<u64>,
    part: watch::Sender<Option<Arc<Running>>>,
    commits: Mutex<Commits>,
    /// Rung when as many commits wait as the sender waits for.
    gathered: Notify,
    loads: Mutex<Loads>,
    /// Where the leader answered last.
    leader: Mutex<Option<String>>,
}

/// This node's part in the group.
struct Running {
    group: u64,
    /// All nodes have agreed on this group, so what it acknowledges stays.
    serves: AtomicBool,
    /// What is to be proposed while this node leads.
    proposals: Proposals,
    consensus: Consensus,
    states: Arc<States>,
    peers: Arc<dyn Peers>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ReplicatedStore {
    /// A store that is not opened yet.
    pub fn new(world: &World, config: ReplicatedConfig) -> Self {
        let shared = Shared {
            world: world.clone(),
            client: world.random.next_u64(),
            serial: tokio::sync::Mutex::new(0),
            part: watch::Sender::new(None),
            commits: Mutex::new(Commits::new(&config)),
            gathered: Notify::new(),
            loads: Mutex::new(Loads::new(&config)),
            leader: Mutex::new(None),
            config,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Opens the files of this node and takes part: with nothing in them, to wait until it [founds](Consensus::found) the group or
    /// is made a voter of it.
    pub fn open(&self, opening: Opening) -> BoxFuture<'_, Result<(), OpenError>> {
        Box::pin(async move {
            let Opening { folder, name, node, group, timing, peers } = opening;
            let states = Arc::new(self.open_states(folder.as_deref(), group).await?);
            let storage = match folder {
                Some(folder) => Storage::File { folder, file: format!("states-log-{group}.redb") },
                None => Storage::Memory,
            };
            let part = Part { name, node: Some(node), storage, timing };
            let links = Arc::new(asking::Links { group, peers: peers.clone() });
            let opened = Consensus::open(&self.shared.world, part, links, State::Disk(states.clone())).await;
            let consensus = match opened {
                Ok(consensus) => consensus,
                Err(error) => {
                    crate::consensus::DiskState::close(states.as_ref());
                    return Err(error);
                }
            };
            let running = Running {
                group,
                serves: AtomicBool::new(false),
                proposals: Proposals::default(),
                consensus,
                states,
                peers,
            };
            self.shared.part.send_replace(Some(Arc::new(running)));
            Ok(())
        })
    }

    async fn open_states(&self, folder: Option<&std::path::Path>, group: u64) -> Result<States, OpenError> {
        let Some(folder) = folder else {
            return States::in_memory().map_err(|error| OpenError::Unusable { why: error.to_string() });
        };
        let path = folder.join(format!("states-{group}.redb"));
        let world = self.shared.world.clone();
        let opened = self.shared.world.off_thread(move || States::in_file(&world, &path)).await;
        let unusable = |why: String| OpenError::Unusable { why };
        opened.ok_or_else(|| unusable("the runtime has ended".into()))?.map_err(|why| unusable(why.to_string()))
    }

    /// The number of the group in which this node takes part.
    pub fn group(&self) -> Option<u64> {
        self.shared.part.borrow().as_ref().map(|running| running.group)
    }

    /// The group is the one that all nodes have agreed on: until this is called, it agrees on voters and acknowledges nothing
    /// to grains, because another group might be begun in its place.
    pub fn serve(&self) {
        if let Some(running) = &*self.shared.part.borrow() {
            running.serves.store(true, Ordering::Release);
        }
    }

    /// This node's part in the group, once it was opened.
    pub fn consensus(&self) -> Option<Consensus> {
        self.shared.part.borrow().as_ref().map(|running| running.consensus.clone())
    }

    /// Who votes in the group, as its leader says; none if nobody says it until then. While that changes nobody does.
    pub async fn voters(&self, until: Instant) -> Option<Vec<NodeId>> {
        match self.shared.ask_leader(&Ask::Voters, until).await {
            Ok(Answer::Voters(voters)) => Some(voters),
            _ => None,
        }
    }

    /// How it does, as this node sees it.
    pub fn metrics(&self) -> StoreMetrics {
        let consensus = self.consensus();
        let leadership = consensus.as_ref().map(|part| part.leadership().borrow().clone());
        StoreMetrics {
            leader: leadership.and_then(|known| known.leader).map(|(node, _)| node),
            voters: consensus.as_ref().map(|part| part.agreed_voters().keys().copied().collect()).unwrap_or_default(),
            progress: consensus.map(|part| part.progress()).unwrap_or_default(),
            commits: lock(&self.shared.commits).counts(),
        }
    }

    /// Answers what another node's [`Peers`] brought.
    pub fn handle(&self, body: Vec<u8>) -> BoxFuture<'static, Vec<u8>> {
        let shared = self.shared.clone();
        Box::pin(async move {
            let answer = shared.answer_bytes(&body).await;
            codec::encode(&answer).expect("answers are made of texts, numbers and bytes")
        })
    }

    /// Ends this node's part in a group that came to nothing, so that it can take part in another.
    pub async fn leave(&self) {
        let running = self.shared.part.send_replace(None);
        if let Some(running) = running {
            running.consensus.close().await;
        }
    }

    /// Ends this node's part: its files can be opened again. Whoever waits is told.
    pub async fn close(&self) {
        let running = self.shared.part.borrow().clone();
        lock(&self.shared.commits).refuse("the store was closed");
        lock(&self.shared.loads).refuse("the store was closed");
        if let Some(running) = running {
            running.consensus.close().await;
        }
    }
}

impl Shared {
    /// Has `work` applied, once, and gives what it came to.
    async fn apply(&self, work: Work<'_>) -> Result<Outcome, Unanswered> {
        let mut serial = self.serial.lock().await;
        *serial += 1;
        let command = Command { client: self.client, serial: *serial, work };
        let command = codec::encode(&command).expect("commands are made of texts, numbers and bytes");
        let until = self.world.clock.now() + self.config.patience;
        match self.ask_leader(&Ask::Apply(command), until).await? {
            Answer::Applied(outcome) => match codec::decode(&outcome) {
                Ok(outcome) => Ok(outcome),
                Err(error) => Err(Unanswered { why: error.to_string(), sent: true }),
            },
            _ => Err(Unanswered { why: "the answer is to another question".into(), sent: true }),
        }
    }
}

impl Store for ReplicatedStore {
    fn load<'a>(&'a self, grain: &'a GrainId, name: &'a str) -> BoxFuture<'a, Result<Option<Stored>, LoadError>> {
        let (grain_type, key, name) = (grain.grain_type().to_owned(), grain.key().to_owned(), name.to_owned());
        self.shared.load(Name { grain_type, key, name })
    }

    fn commit(&self, set: WriteSet) -> BoxFuture<'_, Result<(), CommitError>> {
        self.shared.commit(set)
    }

    fn list<'a>(
        &'a self,
        grain_type: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<String>, LoadError>> {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        let ask = Ask::List { grain_type: grain_type.to_owned(), after: after.map(str::to_owned), limit };
        Box::pin(async move {
            let until = self.shared.world.clock.now() + self.shared.config.patience;
            match self.shared.ask_leader(&ask, until).await {
                Ok(Answer::Listed(keys)) => keys,
                Err(Unanswered { why, .. }) => Err(LoadError::Unavailable { why }),
                Ok(_) => Err(LoadError::Unavailable { why: "the answer is to another question".into() }),
            }
        })
    }

    fn next_epoch(&self) -> BoxFuture<'_, Result<u64, LoadError>> {
        Box::pin(async move {
            match self.shared.apply(Work::Epoch).await {
                Ok(Outcome::Epoch(epoch)) => Ok(epoch),
                Ok(_) => Err(LoadError::Unavailable { why: "the answer is to another question".into() }),
                Err(Unanswered { why, .. }) => Err(LoadError::Unavailable { why }),
            }
        })
    }
}

impl fmt::Debug for ReplicatedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicatedStore").finish_non_exhaustive()
    }
}

//! Carries out what the pure rooms decide: founds or joins a cluster, renews the lease, leads while Raft says so, follows
//! the view, leaves. One per node; its tasks end with the node.

mod asking;
mod confirmed;
mod ended;
mod following;
mod hearing;
pub(crate) mod joining;
mod leading;
mod leaving;
mod links;
pub(super) mod promise;
mod renewing;
mod states;
mod waits;

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicBool, AtomicUsize},
    },
};

use grains_core::{tasks::TaskSet, world::World};
use litemap::LiteMap;
use tokio::sync::{Notify, watch};

pub(crate) use self::states::States;
use self::{confirmed::Confirmed, following::Followed};
pub(crate) use self::{
    hearing::Ears,
    joining::JoinError,
    links::{Links, Ways},
};
use super::{
    clustered::Clustered,
    command::{Command, Numbered},
    consensus::{Group, Leadership as RaftLeadership},
    founding::Founding,
    lease::{Grants, Lease, LeaseRules},
    member::Joiner,
    names::{MemberId, NodeId, NodeName},
    state::ClusterState,
};
use crate::{
    activation::lock,
    watchdog::{Watched, ward::Ward},
    wire::Wire,
};

pub(crate) struct Driver {
    me: Weak<Self>,
    world: World,
    clustered: Arc<Clustered>,
    pub(super) consensus: Group<ClusterState>,
    wire: OnceLock<Arc<Wire>>,
    /// The driver's own tasks.
    tasks: TaskSet,
    cluster: NodeName,
    /// What this node says of itself when it joins; its address is known once it listens.
    joiner: Mutex<Joiner>,
    data_dir: Option<PathBuf>,
    /// This node, as a watchdog knows it, but for who is to be told.
    ward: Ward,
    /// Its watchdog, and whom that is to tell.
    watched: Mutex<Option<(Watched, Vec<String>)>>,
    /// None if the node was given another store.
    states: States,
    rules: LeaseRules,
    grants: Mutex<Grants>,
    last_confirmed: Mutex<Confirmed>,
    lease: Mutex<Option<Lease>>,
    founding: Mutex<Option<Founding>>,
    followed: Mutex<Followed>,
    /// Who votes, as others have said.
    voters: Mutex<LiteMap<NodeId, String>>,
    /// Where the leader of Raft was last.
    leader_hint: Mutex<Option<String>>,
    /// Which of the voters this node follows: grows when that one turns out to know too little.
    followed_voter: AtomicUsize,
    /// Renewals under way.
    renewing: AtomicUsize,
    /// Who would not talk to this node, and why: people have to mend that.
    refused: Mutex<Option<String>>,
    /// Whether this node may act; and what it waits for, or why it gave up.
    standing: watch::Sender<Progress>,
    /// This incarnation may have to end.
    stirred: Notify,
    /// A singleton has ended, or may have to begin.
    singletons: Notify,
    removed: AtomicBool,
    leaving: AtomicBool,
}

/// How far a node has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Not yet, and why.
    Waiting(String),
    /// It acts.
    Ready,
    /// It will not.
    Failed(JoinError),
}

impl Driver {
    pub(crate) fn new(
        world: &World,
        clustered: Arc<Clustered>,
        consensus: Group<ClusterState>,
        ward: Ward,
        joiner: Joiner,
        data_dir: Option<PathBuf>,
        states: States,
    ) -> Arc<Self> {
        let rules = LeaseRules { length: clustered.config.lease, ..LeaseRules::default() };
        let (standing, progress) = watch::channel(Progress::Waiting("it has just started".into()));
        lock(&clustered.table).progress = Some(progress);
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            world: world.clone(),
            clustered,
            consensus,
            wire: OnceLock::new(),
            tasks: TaskSet::new(world.tasks.clone()),
            cluster: ward.cluster().clone(),
            ward,
            watched: Mutex::new(None),
            joiner: Mutex::new(joiner),
            data_dir,
            states,
            rules,
            grants: Mutex::new(Grants::new(rules)),
            last_confirmed: Mutex::default(),
            lease: Mutex::new(None),
            founding: Mutex::new(None),
            followed: Mutex::default(),
            voters: Mutex::default(),
            leader_hint: Mutex::new(None),
            followed_voter: AtomicUsize::new(0),
            renewing: AtomicUsize::new(0),
            refused: Mutex::new(None),
            standing,
            stirred: Notify::new(),
            singletons: Notify::new(),
            removed: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
        })
    }

    /// The states find the other nodes this way.
    pub(crate) fn tie(&self, ways: Arc<Ways>) {
        self.states.peers.tie(ways, self.me.clone());
    }

    /// Begins, once the node listens.
    pub(crate) fn start(&self, wire: Arc<Wire>) {
        let clients = self.clustered.gateway().and_then(|gateway| gateway.address()).map(str::to_owned);
        {
            let mut joiner = lock(&self.joiner);
            (joiner.address, joiner.clients) = (wire.address().to_owned(), clients);
        }
        drop(self.wire.set(wire));
        let tasks: [fn(Arc<Self>) -> grains_core::world::BoxFuture<'static, ()>; 7] = [
            |me| Box::pin(async move { me.live().await }),
            |me| Box::pin(async move { me.lead().await }),
            |me| Box::pin(async move { me.follow_log().await }),
            |me| Box::pin(async move { me.follow_voters().await }),
            |me| Box::pin(async move { me.look_after_singletons().await }),
            |me| Box::pin(async move { me.keep_states().await }),
            |me| Box::pin(async move { me.say_what_it_waits_for().await }),
        ];
        for task in tasks {
            self.tasks.spawn(task(self.arc()));
        }
        let clustered = self.clustered.clone();
        self.tasks.spawn(async move {
            let clock = clustered.world.clock.clone();
            loop {
                clock.sleep_until(clock.now() + TICK).await;
                clustered.tick();
            }
        });
    }

    fn arc(&self) -> Arc<Self> {
        self.me.upgrade().expect("a driver is only used through its Arc")
    }

    /// How far this node has come.
    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.standing.subscribe()
    }

    /// Who votes, as far as this node knows.
    pub(crate) fn voters(&self) -> LiteMap<NodeId, String> {
        // A voter that was replaced while it was away is not told, and its own log names it for ever: so that log counts
        // while nobody has told this node more than stands there.
        let latest = lock(&self.followed).index;
        let heard = lock(&self.voters);
        match self.consensus.agreed_voters() {
            own if heard.is_empty() => own,
            own if !own.is_empty() && self.consensus.applied().borrow().index >= latest => own,
            _ => heard.clone(),
        }
    }

    /// Who leads Raft, as far as this node knows.
    pub(crate) fn raft(&self) -> RaftLeadership {
        self.consensus.leadership().borrow().clone()
    }

    /// A command with a number of its own. Commands of this node may be under way side by side, so each is its own
    /// client: the order of one client's commands would count.
    fn numbered(&self, command: Command) -> Numbered {
        Numbered { client: self.world.random.next_u64(), serial: 1, command }
    }

    fn node_id(&self) -> NodeId {
        self.consensus.node()
    }

    /// A singleton of this node has ended, or may have to begin.
    pub(crate) fn singleton_ended(&self) {
        self.singletons.notify_one();
    }

    /// Keeps the singletons of this node alive, with a pause between two tries.
    async fn look_after_singletons(self: Arc<Self>) {
        let clock = self.world.clock.clone();
        loop {
            self.singletons.notified().await;
            self.clustered.look_after_singletons();
            clock.sleep_until(clock.now() + SINGLETON_AGAIN).await;
        }
    }

    /// Ends everything of it: the node has stopped.
    pub(crate) async fn close(&self) {
        self.end();
        self.states.store.close().await;
        self.consensus.close().await;
        if let Some(wire) = self.wire.get() {
            wire.close().await;
        }
    }

    /// Ends its tasks at once.
    pub(crate) fn end(&self) {
        let watched = lock(&self.watched).take();
        drop(watched);
        self.tasks.close();
    }

    fn incarnation(&self) -> Option<MemberId> {
        lock(&self.clustered.table).standing.as_ref().map(|standing| standing.me)
    }
}

/// How long until a singleton that could not be activated is tried again.
const SINGLETON_AGAIN: std::time::Duration = std::time::Duration::from_millis(100);

/// How often the directory repeats what was not answered, and calls look again where they go: small beside a lease.
const TICK: std::time::Duration = std::time::Duration::from_millis(25);

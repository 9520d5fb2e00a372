//! A node's part in its cluster, as its calls see it: where grains live, calls that leave and arrive, and what a new view
//! changes. The driver tells it what the cluster has agreed on.

mod answering;
pub(crate) mod arriving;
mod early;
pub(crate) mod envelope;
pub(crate) mod gates;
pub(crate) mod parting;
pub(crate) mod pending;
pub(crate) mod places;
pub(crate) mod sending;
mod streaming;
pub(crate) mod table;
pub(crate) mod turning;
mod wanted;
pub(crate) mod workers;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use grains_core::{ActivationId, GrainId, world::World};
use tokio::sync::watch;

use self::{pending::Pending, table::Table, wanted::Wanted, workers::PassedOver};
use super::{
    ClusterConfig, ClusterStatus, Leadership, MemberStatus, StatesStatus,
    driver::{Driver, Progress},
    gateway::Gateway,
    leader::Known,
    names::{MemberId, NodeId, NodeName, ViewVersion},
    streams::Streams,
};
use crate::{
    activation::lock,
    node::NodeInner,
    wire::{Link, Order, SendError, Wire, micros},
};

pub(crate) struct Clustered {
    me: Weak<Self>,
    pub(crate) world: World,
    pub(crate) config: ClusterConfig,
    pub(crate) name: NodeName,
    node_id: NodeId,
    node: OnceLock<Weak<NodeInner>>,
    wire: OnceLock<Arc<Wire>>,
    driver: OnceLock<Weak<Driver>>,
    /// What takes clients, if this node takes any.
    gateway: OnceLock<Arc<Gateway>>,
    /// Held by whoever does what a view changes, from its first word to its last: see `turning`.
    turning: Mutex<()>,
    pub(crate) table: Mutex<Table>,
    pub(crate) pending: Mutex<Pending>,
    /// Calls of other members that wait here.
    wanted: Mutex<Wanted>,
    /// This node's incarnation; 0 while it is no member.
    incarnation: AtomicU64,
    /// See [`pending::Footing`].
    era: AtomicU64,
    /// The log index and the version of the view that is applied.
    view_index: AtomicU64,
    view_version: AtomicU64,
    known: watch::Sender<Known>,
    /// This node is leaving and leads no more, whatever a view says.
    renounced: AtomicBool,
    /// The streams of this incarnation: apart from the table, because the end of a link may be told while that is locked.
    streams: Mutex<Option<Arc<Streams>>>,
    /// The bytes of answers that wait for room on their links.
    answers_waiting: Arc<AtomicUsize>,
    /// Members that get no calls of grains with workers for a moment.
    passed_over: Arc<PassedOver>,
    /// The grain types this node hosts as singletons.
    singletons: BTreeSet<&'static str>,
}

impl Clustered {
    /// What the node of this number is called, if it is in the view of this one.
    pub(crate) fn name_of(&self, node: NodeId) -> Option<NodeName> {
        let table = lock(&self.table);
        let view = &table.standing.as_ref()?.view;
        view.members.get(&node).map(|member| member.joiner.name.clone())
    }

    pub(crate) fn new(
        world: World,
        config: ClusterConfig,
        name: NodeName,
        node_id: NodeId,
        singletons: BTreeSet<&'static str>,
    ) -> Arc<Self> {
        let (known, _) = watch::channel(Known::default());
        let passed_over = Arc::<PassedOver>::default();
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            turning: Mutex::default(),
            table: Mutex::new(Table::new(config.places_max, passed_over.clone())),
            passed_over,
            pending: Mutex::new(Pending::new(config.calls_max)),
            wanted: Mutex::default(),
            world,
            config,
            name,
            node_id,
            node: OnceLock::new(),
            wire: OnceLock::new(),
            driver: OnceLock::new(),
            gateway: OnceLock::new(),
            incarnation: AtomicU64::new(0),
            era: AtomicU64::new(0),
            view_index: AtomicU64::new(0),
            view_version: AtomicU64::new(0),
            known,
            renounced: AtomicBool::new(false),
            streams: Mutex::default(),
            answers_waiting: Arc::default(),
            singletons,
        })
    }

    /// Ties it to the rest of its node, before anything runs.
    pub(crate) fn tie(&self, node: Weak<NodeInner>, wire: Arc<Wire>, driver: Weak<Driver>) {
        drop((self.node.set(node), self.wire.set(wire), self.driver.set(driver)));
    }

    pub(crate) fn node(&self) -> Option<Arc<NodeInner>> {
        self.node.get()?.upgrade().filter(|node| !node.is_stopped())
    }

    pub(crate) fn weak(&self) -> Weak<Self> {
        self.me.clone()
    }

    pub(crate) fn wire(&self) -> Option<&Arc<Wire>> {
        self.wire.get()
    }

    pub(crate) fn driver(&self) -> Option<Arc<Driver>> {
        self.driver.get()?.upgrade()
    }

    /// It takes clients, from when it listens.
    pub(crate) fn set_gateway(&self, gateway: Arc<Gateway>) {
        self.gateway.set(gateway).ok();
    }

    pub(crate) fn gateway(&self) -> Option<&Arc<Gateway>> {
        self.gateway.get()
    }

    pub(crate) fn node_id(&self) -> NodeId {
        self.node_id
    }

    pub(crate) fn incarnation(&self) -> u64 {
        self.incarnation.load(Ordering::Acquire)
    }

    /// The bytes of answers that wait for room on their links.
    pub(crate) fn answers_waiting(&self) -> usize {
        // Long ones that have room leave in parts, and last words behind them.
        let long = self.wire().map_or(0, |wire| wire.long_waiting());
        self.answers_waiting.load(Ordering::Acquire) + long
    }

    pub(crate) fn view_index(&self) -> u64 {
        self.view_index.load(Ordering::Acquire)
    }

    pub(crate) fn view_version(&self) -> ViewVersion {
        ViewVersion(self.view_version.load(Ordering::Acquire))
    }

    /// Sends one small frame to another member, which does not wait for it: it may be lost, and is sent again then.
    fn send_frame(
        &self,
        to: MemberId,
        order: Order,
        kind: u8,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), SendError> {
        self.link_to(to)?.send_small(order, kind, write).map(drop)
    }

    fn link_to(&self, to: MemberId) -> Result<Arc<Link>, SendError> {
        let Some(wire) = self.wire() else { return Err(SendError::Closed) };
        if let Some(link) = wire.known_link(to) {
            return Ok(link);
        }
        let address = {
            let table = lock(&self.table);
            let member = table.standing.as_ref().and_then(|standing| standing.view.member(to));
            member.map(|member| member.joiner.address.clone())
        };
        // A member that this node has yet to hear of is reached by the link there is, or not at all.
        match address {
            Some(address) => Ok(wire.link(to, &address)),
            None => Err(SendError::Closed),
        }
    }

    /// An activation has ended, after its last turn: from here on its grain may live elsewhere.
    pub(crate) fn ended(&self, grain: &GrainId, activation: ActivationId) {
        let actions = {
            let mut table = lock(&self.table);
            let Some(standing) = &mut table.standing else { return };
            standing.host.ended(self.world.clock.now(), grain, activation)
        };
        self.carry_out(actions);
        if self.singletons.contains(grain.grain_type())
            && let Some(driver) = self.driver()
        {
            driver.singleton_ended();
        }
    }

    /// This node leads no more, for good: said before it lets the leadership go, as another node may lead at once.
    pub(crate) fn renounce(&self) {
        self.renounced.store(true, Ordering::Release);
        self.known.send_modify(|known| known.mine = None);
    }

    pub(crate) fn leader(&self) -> Leadership {
        Leadership { known: self.known.subscribe() }
    }

    pub(crate) fn address(&self) -> String {
        self.wire().map(|wire| wire.address().to_owned()).unwrap_or_default()
    }

    pub(crate) fn status(&self, node: &NodeInner) -> ClusterStatus {
        let table = lock(&self.table);
        let standing = table.standing.as_ref();
        let view = standing.map(|standing| standing.view.clone()).unwrap_or_default();
        let name_of = |id: MemberId| view.member(id).map(|member| member.joiner.name.to_string());
        let ready = standing.is_some_and(|standing| standing.tenure.may_act());
        let mine = |owner: Option<MemberId>| owner.is_some() && owner == standing.map(|standing| standing.me);
        let partitions = view.partitions.iter().filter(|partition| mine(partition.owner)).count();
        drop(table);
        let mut members: Vec<_> = view
            .members
            .values()
            .map(|member| MemberStatus {
                name: member.joiner.name.to_string(),
                incarnation: member.id.incarnation.0,
                state: member.state.as_str(),
                address: member.joiner.address.clone(),
            })
            .collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        let voters = self.driver().map(|driver| driver.voters()).unwrap_or_default();
        let voters = voters.keys().filter_map(|id| view.members.get(id)).map(|member| member.joiner.name.to_string());
        let progress = self.driver().map(|driver| driver.progress().borrow().clone());
        let raft = self.driver().map(|driver| driver.raft()).unwrap_or_default();
        let states = self.driver().and_then(|driver| driver.states_metrics());
        let raft_leader = raft.leader.and_then(|(id, _)| view.members.get(&id));
        let held = view.singletons.iter().filter_map(|(name, assignment)| Some((name.clone(), assignment.holder()?)));
        ClusterStatus {
            node: self.name.to_string(),
            incarnation: self.incarnation(),
            ready,
            waiting_for: match progress {
                Some(Progress::Waiting(what)) => Some(what),
                Some(Progress::Failed(error)) => Some(error.to_string()),
                Some(Progress::Ready) | None => None,
            },
            leader: view.leader.and_then(|grant| name_of(grant.holder)),
            term: view.leader.map_or(0, |grant| grant.token),
            view: view.version.0,
            members,
            voters: voters.collect(),
            raft_leader: raft_leader.map(|member| member.joiner.name.to_string()),
            raft_term: raft.term,
            activations: node.activations(),
            singletons: held.filter_map(|(name, holder)| Some((name, name_of(holder)?))).collect(),
            partitions,
            states: states.map(|metrics| {
                let name = |node: NodeId| view.members.get(&node).map(|member| member.joiner.name.to_string());
                StatesStatus {
                    leader: metrics.leader.and_then(name),
                    voters: metrics.voters.into_iter().filter_map(name).collect(),
                    logged: metrics.progress.logged,
                    applied: metrics.progress.applied,
                    lag: metrics.progress.lag.into_iter().filter_map(|(node, lag)| Some((name(node)?, lag))).collect(),
                    commits: metrics.commits.answered,
                    batches: metrics.commits.batches,
                    batches_us: micros(metrics.commits.time),
                    waiting: metrics.commits.waiting,
                }
            }),
            links: self.wire().map(|wire| wire.status()).unwrap_or_default(),
        }
    }
}

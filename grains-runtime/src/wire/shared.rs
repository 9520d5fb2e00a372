//! What the tasks of a wire have in common: who this node is, and which connections there are.

use std::sync::{Arc, atomic::AtomicUsize};

use grains_core::world::World;
use litemap::LiteMap;

use super::{
    WireHandler,
    complaints::Complaints,
    config::WireConfig,
    control::{Caller, Lane},
    counters::PeerCounters,
    crew::Crew,
    handshake::{About, FEATURES, Greeting, Purpose, Refused},
    link::{Link, Place},
    outbox::Outbox,
};
#[cfg(feature = "cluster")]
use crate::cluster::LinkStatus;
use crate::{
    cluster::{Incarnation, MemberId, NodeId},
    sync::{Mutex, lock},
};

pub(super) struct Shared {
    pub(super) world: World,
    pub(super) config: WireConfig,
    pub(super) address: String,
    pub(super) handler: Arc<dyn WireHandler>,
    pub(super) crew: Crew,
    pub(super) state: Mutex<State>,
    /// Questions that are being answered.
    pub(super) serving: Arc<AtomicUsize>,
}

#[derive(Default)]
pub(super) struct State {
    generation: Option<u64>,
    incarnation: Option<Incarnation>,
    pub(super) links: LiteMap<MemberId, Place>,
    pub(super) callers: LiteMap<(String, Lane), Arc<Caller>>,
    /// Connections after their handshake, in both directions.
    connections: LiteMap<u64, Known>,
    accepted: usize,
    complaints: Complaints,
    peers: LiteMap<NodeId, Arc<PeerCounters>>,
    serial: u64,
    closed: bool,
}

struct Known {
    outbox: Arc<Outbox>,
    purpose: Purpose,
    them: Option<MemberId>,
    generation: Option<u64>,
    side: Side,
}

/// Who dialled a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// This node.
    Dialled,
    /// The other one.
    Accepted,
}

/// Why a connection is not to be used, though its handshake went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unwanted {
    #[error("this node became another member meanwhile")]
    Changed,
    #[error("this node has as many connections as it takes")]
    Busy,
    #[error("this node is stopping")]
    Stopping,
}

impl Shared {
    pub(super) fn new(world: World, config: WireConfig, address: String, handler: Arc<dyn WireHandler>) -> Self {
        let crew = Crew::new(world.tasks.clone());
        Self { world, config, address, handler, crew, state: Mutex::default(), serving: Arc::default() }
    }

    /// What this node says when it dials or answers.
    pub(super) fn greeting(&self, purpose: Purpose, to: Option<&Link>) -> Greeting {
        let state = lock(&self.state);
        let config = &self.config;
        let about = About {
            cluster: config.cluster.clone(),
            generation: state.generation,
            name: config.name.clone(),
            node: config.node,
            incarnation: state.incarnation,
            to: to.map(Link::to),
            link: to.map(Link::id),
            frame_bytes_max: u32::try_from(config.limits.message_bytes_max(purpose)).unwrap_or(u32::MAX),
            features: FEATURES,
        };
        Greeting { purpose, versions: config.limits.versions, about }
    }

    /// Whether a refusal is worth a warning.
    pub(super) fn is_news(&self, why: &Refused, peer: &str, side: Side) -> bool {
        lock(&self.state).complaints.is_news(why, peer, side == Side::Accepted, self.world.clock.now())
    }

    pub(super) fn incarnation(&self) -> Option<Incarnation> {
        lock(&self.state).incarnation
    }

    /// A number of its own for whatever needs one.
    pub(super) fn serial(state: &mut State) -> u64 {
        state.serial += 1;
        state.serial
    }

    /// Adds a connection to those that end when this node becomes another one. `me` is what it was told of this node.
    pub(super) fn register(
        self: &Arc<Self>,
        side: Side,
        me: &Greeting,
        them: &Greeting,
        outbox: &Arc<Outbox>,
    ) -> Result<Registered, Unwanted> {
        let mut state = lock(&self.state);
        if state.closed {
            return Err(Unwanted::Stopping);
        }
        let other_cluster = matches!((state.generation, them.about.generation), (Some(a), Some(b)) if a != b);
        let other_life = me.purpose == Purpose::Data && state.incarnation != me.about.incarnation;
        if other_cluster || other_life {
            return Err(Unwanted::Changed);
        }
        // Clients are counted by whoever takes them.
        let is_client = me.purpose == Purpose::Client;
        if side == Side::Accepted && !is_client {
            if state.accepted >= self.config.limits.connections_max {
                return Err(Unwanted::Busy);
            }
            state.accepted += 1;
        }
        let id = Self::serial(&mut state);
        let (purpose, generation) = (me.purpose, them.about.generation);
        let known = Known { outbox: outbox.clone(), purpose, them: them.member(), generation, side };
        state.connections.insert(id, known);
        let new = || Arc::new(PeerCounters::new(&self.config.name, &them.about.name));
        let counters = match is_client {
            true => new(),
            false => state.counters(them.about.node, self.config.limits.peers_max, new),
        };
        match side {
            Side::Dialled => counters.dialled(),
            Side::Accepted => counters.accepted(),
        }
        Ok(Registered { id, shared: self.clone(), counters })
    }

    pub(super) fn set_incarnation(&self, incarnation: Option<Incarnation>) {
        let mut state = lock(&self.state);
        if std::mem::replace(&mut state.incarnation, incarnation) == incarnation {
            return;
        }
        // Also the links that have no connection yet: they may have greeted already.
        let mut ends = state.outboxes(|known| known.purpose == Purpose::Data);
        ends.extend(state.links.values().filter_map(Place::outbox));
        drop(state);
        ends.iter().for_each(|outbox| outbox.close());
    }

    pub(super) fn set_generation(&self, generation: u64) {
        let mut state = lock(&self.state);
        state.generation = Some(generation);
        let ends = state.outboxes(|known| known.generation.is_some_and(|theirs| theirs != generation));
        drop(state);
        ends.iter().for_each(|outbox| outbox.close());
    }

    #[cfg(feature = "client")]
    pub(super) fn forget_generation(&self) {
        lock(&self.state).generation = None;
    }

    /// Ends what `member` has dialled for its calls, so that it hears that no answer comes.
    pub(super) fn close_heard(&self, member: MemberId) {
        let ends = lock(&self.state)
            .outboxes(|known| (known.side, known.purpose, known.them) == (Side::Accepted, Purpose::Data, Some(member)));
        ends.iter().for_each(|outbox| outbox.close());
    }

    pub(super) fn close_link(&self, member: MemberId) -> Option<u64> {
        let place = lock(&self.state).links.remove(&member);
        let link = place.and_then(|place| place.link())?;
        link.close();
        Some(link.id())
    }

    pub(super) fn known_link(&self, member: MemberId) -> Option<Arc<Link>> {
        lock(&self.state).links.get(&member).and_then(Place::link).filter(|link| !link.is_closed())
    }

    pub(super) fn linked(&self) -> Vec<MemberId> {
        lock(&self.state).links.keys().copied().collect()
    }

    pub(super) fn long_waiting(&self) -> usize {
        let links: Vec<_> = lock(&self.state).links.values().filter_map(Place::outbox).collect();
        links.iter().map(|outbox| outbox.long_waiting()).sum()
    }

    #[cfg(feature = "cluster")]
    pub(super) fn status(&self) -> Vec<LinkStatus> {
        let mut status: Vec<_> = lock(&self.state).peers.values().map(|counters| counters.status()).collect();
        status.sort_by(|a, b| a.name.cmp(&b.name));
        status
    }

    #[cfg(test)]
    pub(super) fn peers(&self) -> Vec<(NodeId, Arc<PeerCounters>)> {
        lock(&self.state).peers.iter().map(|(node, counters)| (*node, counters.clone())).collect()
    }

    pub(super) fn close(&self) {
        lock(&self.state).closed = true;
        self.crew.close();
    }
}

impl State {
    fn outboxes(&self, which: impl Fn(&Known) -> bool) -> Vec<Arc<Outbox>> {
        self.connections.values().filter(|known| which(known)).map(|known| known.outbox.clone()).collect()
    }

    fn counters(
        &mut self,
        node: NodeId,
        peers_max: usize,
        new: impl FnOnce() -> Arc<PeerCounters>,
    ) -> Arc<PeerCounters> {
        if !self.peers.contains_key(&node) && self.peers.len() >= peers_max {
            // Those that are only remembered make room; others are counted, but not shown.
            self.peers.retain(|_, counters| Arc::strong_count(counters) > 1);
            if self.peers.len() >= peers_max {
                return new();
            }
        }
        self.peers.entry(node).or_insert_with(new).clone()
    }
}

/// A connection among those that are known. Dropped, it is forgotten.
pub(super) struct Registered {
    id: u64,
    shared: Arc<Shared>,
    pub(super) counters: Arc<PeerCounters>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        let known = state.connections.remove(&self.id);
        if known.is_some_and(|known| known.side == Side::Accepted && known.purpose != Purpose::Client) {
            state.accepted -= 1;
        }
    }
}

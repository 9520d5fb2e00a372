//! A node as the gateway of clients: who may come in, what each may call and how much, and the way back. A client's call is
//! checked here and goes on as one of this node's own; its answer goes over the client's connection.
//!
//! Reading order: `principal` (who calls), `limits` (how much; pure), `session` (one connection), `reply` (the way back of one
//! call), and below, what they have in common.

mod limits;
mod principal;
mod reply;
mod session;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use grains_core::{GrainId, Instant, world::World};

pub use self::principal::Principal;
use self::{
    limits::{Principals, Rate},
    session::{Hearing, Session},
};
pub(crate) use self::{reply::NO_STREAMS, session::forbidden};
use super::{clustered::Clustered, config::ClientsConfig, names::NodeName};
use crate::{
    activation::lock,
    wire::{Ear, Newcomer, Port},
};

/// Whether a principal may call this method of this grain; the error says why not, and is told to the client.
pub(crate) type Authorize = Arc<dyn Fn(&Principal, &GrainId, &str) -> Result<(), String> + Send + Sync>;

/// The gateway of one node.
pub(crate) struct Gateway {
    config: ClientsConfig,
    cluster: NodeName,
    authorize: Option<Authorize>,
    clustered: Weak<Clustered>,
    /// Where clients reach it.
    address: OnceLock<String>,
    state: Mutex<State>,
    leaving: AtomicBool,
    world: World,
}

struct State {
    principals: Principals,
    sessions: BTreeMap<u64, Weak<Session>>,
    next: u64,
}

/// How often a gateway that leaves looks whether its clients have gone.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// How long it waits for clients to go that have nothing under way: those that know another gateway are there by then.
const GO_MAX: Duration = Duration::from_secs(1);

impl Gateway {
    pub(crate) fn new(
        world: &World,
        config: ClientsConfig,
        cluster: NodeName,
        authorize: Option<Authorize>,
        clustered: Weak<Clustered>,
    ) -> Arc<Self> {
        let rate = Rate { per_second: f64::from(config.calls_per_second), burst: f64::from(config.burst) };
        let principals = Principals::new(rate, config.connections_max, config.connections_per_principal_max);
        Arc::new(Self {
            config,
            cluster,
            authorize,
            clustered,
            address: OnceLock::new(),
            state: Mutex::new(State { principals, sessions: BTreeMap::new(), next: 0 }),
            leaving: AtomicBool::new(false),
            world: world.clone(),
        })
    }

    /// Where clients reach it, from now on.
    pub(crate) fn set_address(&self, address: String) {
        self.address.set(address).ok();
    }

    /// Where clients reach it.
    pub(crate) fn address(&self) -> Option<&str> {
        self.address.get().map(String::as_str)
    }

    /// How many connections clients have to it.
    pub(crate) fn connections(&self) -> usize {
        lock(&self.state).sessions.len()
    }

    /// Takes a client, or says why not.
    pub(crate) fn admit(self: &Arc<Self>, newcomer: Newcomer) -> Result<Box<dyn Ear>, String> {
        let Newcomer { peer, name, principal, port, line } = newcomer;
        if let (Port::OfNodes, Some(_)) = (port, &self.config.listen) {
            let address = self.address().unwrap_or("another address");
            return Err(format!("clients connect to {address}, and this port is for nodes only"));
        }
        if self.leaving.load(Ordering::Acquire) {
            return Err("this node is leaving its cluster: use another one".to_owned());
        }
        if self.clustered.upgrade().and_then(|clustered| clustered.gateways()).is_none() {
            return Err("this node cannot act now, it joins its cluster or has lost it: use another one".to_owned());
        }
        let principal = Principal::new(&self.cluster, principal);
        let mut state = lock(&self.state);
        state.principals.enter(&principal.to_string(), self.world.clock.now()).map_err(|why| why.to_string())?;
        state.next += 1;
        let id = state.next;
        let session = Arc::new(Session::new(self.clone(), id, principal, line));
        state.sessions.insert(id, Arc::downgrade(&session));
        drop(state);
        tracing::info!(peer, client = %name, principal = %session.principal(), "a client is here");
        Ok(Box::new(Hearing::new(session)))
    }

    /// The connection of a client has ended.
    fn ended(&self, session: &Session) {
        lock(&self.state).sessions.remove(&session.id());
    }

    /// So have the calls that came over it. Its place is free only now: whoever comes back with new calls, while turns of the old
    /// ones go on, cannot have more of them than one who stays.
    fn left(&self, principal: &str) {
        lock(&self.state).principals.left(principal);
    }

    /// Whether a principal may make one more call now. It counts.
    fn may_call(&self, principal: &str) -> bool {
        lock(&self.state).principals.may_call(principal, self.world.clock.now())
    }

    fn sessions(&self) -> Vec<Arc<Session>> {
        lock(&self.state).sessions.values().filter_map(Weak::upgrade).collect()
    }

    fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// Says goodbye to all clients, and waits until they have gone, or have nothing under way and nowhere to go, or until
    /// `limit`. Their calls are taken all the while: they have not heard of it yet.
    pub(crate) async fn part(&self, limit: Instant) {
        self.leaving.store(true, Ordering::Release);
        self.sessions().iter().for_each(|session| session.say_goodbye());
        let clock = &self.world.clock;
        let soon = clock.now() + GO_MAX;
        loop {
            let (sessions, now) = (self.sessions(), clock.now());
            let is_idle = || now >= soon && sessions.iter().all(|session| session.calls() == 0);
            if sessions.is_empty() || now >= limit || is_idle() {
                return;
            }
            clock.sleep_until((now + LOOK_AGAIN).min(limit)).await;
        }
    }

    /// Ends what there is. Clients hear that what is not answered never will be.
    pub(crate) fn close(&self) {
        self.leaving.store(true, Ordering::Release);
        self.sessions().iter().for_each(|session| session.close());
    }
}

//! A client: what calls grains of a cluster from outside of it, by way of nodes that take clients. It hosts nothing, is no
//! member, and knows of the cluster only where its gateways are.
//!
//! Reading order: `config`, `choice` (which gateways; pure), `lines` (connections and calls; pure but for what they send),
//! `running` (its tasks), and below, the handle and the way of a call.

mod choice;
mod config;
mod lines;
mod running;
mod security;

use std::{
    fmt,
    sync::{Arc, Mutex, Weak},
    task::{Context, Poll, ready},
    time::Duration,
};

use grains_core::{
    CallError, GrainId, Instant, Interface, KeyOf, MethodInfo, Outcome, RawRef,
    route::{AnySlot, Departure, Route},
    timed_out,
    world::{BoxFuture, World},
};
use tokio::sync::{Notify, watch};

pub use self::config::ClientConfig;
use self::{
    choice::Gateways,
    lines::{Call, Lines},
};
use crate::{
    activation::turn::encoding,
    ambient::Inherited,
    cluster::{BadName, NodeId, NodeName},
    fnv::fnv1a,
    sync::lock,
    timeout::timeout,
    wire::{Limits, Reach, WireConfig, clients::Dialler},
    world::{NoRuntime, tokio_world},
};

/// A process's way to the grains of a cluster that it is not part of. Cloning gives another handle to the same client; when the
/// last handle is dropped, its connections end, and calls of references that are left fail.
///
/// ```no_run
/// # use grains_core as grains_; use grains_runtime as grains;
/// use grains::{Client, ClientConfig};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::connect(ClientConfig::new("shop", ["10.0.0.1:7200", "10.0.0.2:7200"])).await?;
/// // let room: RoomRef = client.get("lobby");
/// // room.say("hi".into()).await?;
/// client.close().await;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
    _close: Arc<Closes>,
}

/// Ends the client when the last handle goes. References do not count.
struct Closes(Arc<Inner>);

impl Drop for Closes {
    fn drop(&mut self) {
        self.0.close();
    }
}

struct Inner {
    me: Weak<Inner>,
    world: World,
    call_timeout: Duration,
    dialler: Dialler,
    lines: Mutex<Lines>,
    /// Those who see to connections look again, each for its slot.
    stirred: Vec<Notify>,
    /// Who looks through the calls does it again.
    unswept: Notify,
    /// Whether there is a connection.
    up: watch::Sender<bool>,
}

/// Why a client is not connected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// There is no tokio runtime to run on.
    #[error(transparent)]
    NoRuntime(#[from] NoRuntime),
    /// Its own name, or the cluster's, cannot be one.
    #[error(transparent)]
    Name(#[from] BadName),
    /// A setting makes no sense.
    #[error("{why}")]
    Config {
        /// Which, and the fix.
        why: String,
    },
    /// Its certificates cannot be used.
    #[error("{why}")]
    Certificates {
        /// Which, why, and the fix.
        why: String,
    },
    /// No node has taken it in time.
    #[error("no node of cluster \"{cluster}\" has taken this client within {within:?}: {why}")]
    NoGateway {
        /// The cluster.
        cluster: String,
        /// How long it has waited.
        within: Duration,
        /// The addresses that were tried, and what became of each.
        why: String,
    },
}

impl Client {
    /// Connects to the first of the gateways that answers, and keeps connected from then on. It runs on the tokio runtime this is
    /// awaited on.
    pub fn connect(config: ClientConfig) -> impl Future<Output = Result<Self, ConnectError>> + Send {
        Box::pin(Self::connected(config)) as BoxFuture<'static, _>
    }

    async fn connected(config: ClientConfig) -> Result<Self, ConnectError> {
        let world = match config.world.clone() {
            Some(world) => world,
            None => tokio_world()?,
        };
        let (cluster, name) = (NodeName::new(&config.cluster)?, NodeName::new(&config.name)?);
        check(&config)?;
        let security = security::security(&world, &config.tls, &cluster).await?;
        let wire_config = WireConfig {
            cluster,
            name,
            node: NodeId(world.random.next_u64()),
            listen: String::new(),
            advertise: None,
            reach: Reach::Loopback,
            security,
            limits: Limits::default(),
        };
        let gateways = Gateways::new(world.random.next_u64(), config.gateways);
        let lines = Lines::new(config.cluster.clone(), gateways, config.connections, config.calls_max);
        let inner = Arc::new_cyclic(|me| Inner {
            me: me.clone(),
            call_timeout: config.call_timeout,
            dialler: Dialler::new(&world, wire_config),
            lines: Mutex::new(lines),
            stirred: (0..config.connections).map(|_| Notify::new()).collect(),
            unswept: Notify::new(),
            up: watch::channel(false).0,
            world,
        });
        let client = Self { _close: Arc::new(Closes(inner.clone())), inner };
        let inner = &client.inner;
        for n in 0..config.connections {
            inner.dialler.spawn(inner.clone().keep_slot(n));
        }
        inner.dialler.spawn(inner.clone().sweep());
        let mut up = inner.up.subscribe();
        let within = config.connect_timeout;
        let connected = timeout(&inner.world.clock, within, up.wait_for(|up| *up)).await;
        if connected.is_none() {
            let why = lock(&inner.lines).gateways.told();
            return Err(ConnectError::NoGateway { cluster: config.cluster, within, why });
        }
        drop(connected);
        Ok(client)
    }

    /// A reference to the grain with this key: `let room: RoomRef = client.get("lobby")`. This makes no call and cannot fail. The
    /// reference does not keep the client alive.
    pub fn get<C: Interface>(&self, key: impl KeyOf<C>) -> C {
        RawRef::get(key, self.inner.route())
    }

    /// The addresses of the nodes that it is connected to now.
    pub fn gateways(&self) -> Vec<String> {
        lock(&self.inner.lines).addresses()
    }

    /// How many calls are under way, or wait for a connection.
    pub fn calls(&self) -> usize {
        lock(&self.inner.lines).calls()
    }

    /// Ends its connections, and returns when that is done. Calls that are under way fail as [`CallError::Stopped`], and so do
    /// all that are made later.
    pub async fn close(&self) {
        self.inner.close();
        self.inner.dialler.gone().await;
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("gateways", &self.gateways()).finish_non_exhaustive()
    }
}

/// More connections than that are no use to one process, and a burden to every node.
const CONNECTIONS_MAX: usize = 64;

fn check(config: &ClientConfig) -> Result<(), ConnectError> {
    let refuse = |why: String| Err(ConnectError::Config { why });
    match config {
        _ if config.gateways.is_empty() => {
            refuse("`gateways` is empty: name the address of a node that takes clients".to_owned())
        }
        _ if !(1..=CONNECTIONS_MAX).contains(&config.connections) => {
            refuse(format!("`connections` is {}: it is 1 to {CONNECTIONS_MAX}", config.connections))
        }
        _ if config.calls_max == 0 => refuse("`calls_max` is zero: no call could be made".to_owned()),
        _ => Ok(()),
    }
}

impl Inner {
    fn route(&self) -> Arc<dyn Route> {
        self.me.upgrade().expect("a client is only used through its Arc")
    }

    fn close(&self) {
        let ends = lock(&self.lines).close();
        ends.settle();
        self.dialler.close();
    }

    fn submit(&self, call: Call, now: Instant) {
        let ends = lock(&self.lines).submit(call, now);
        self.settle(ends);
    }

    /// The arguments as they travel; none if the call has failed because they cannot.
    fn encoded(to: &GrainId, method: &MethodInfo, slot: &mut dyn AnySlot) -> Option<Arc<[u8]>> {
        let mut bytes = Vec::new();
        match encoding(|| slot.encode_args(&mut bytes)) {
            Ok(()) => Some(bytes.into()),
            Err(why) => {
                let why = format!("arguments of {to}.{}: {why}", method.name).into();
                slot.fail(CallError::Codec { why, outcome: Outcome::NotExecuted });
                None
            }
        }
    }
}

impl Route for Inner {
    fn start(
        &self,
        to: &RawRef,
        method: &'static MethodInfo,
        slot: &mut dyn AnySlot,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        ready!(self.world.tasks.give_way(cx));
        let clock = &*self.world.clock;
        let inherited = Inherited::here(slot.timeout(), self.call_timeout, slot.request(), clock);
        if inherited.timeout.is_zero() {
            slot.fail(timed_out(to.id(), method, inherited.timeout, Outcome::NotExecuted));
            return Poll::Ready(());
        }
        let Some(args) = Self::encoded(to.id(), method, slot) else { return Poll::Ready(()) };
        let (deadline, now) = (inherited.deadline(clock), clock.now());
        let Inherited { request, timeout, .. } = inherited;
        let sink = Some(slot.depart(Departure { route: self.route(), deadline, after: timeout, edge: None }));
        let (grain, hash, returned) = (to.id().clone(), to.lookup_hash(), None);
        let retry_at = Instant::default();
        self.submit(Call { grain, hash, method, args, sink, request, deadline, timeout, returned, retry_at }, now);
        Poll::Ready(())
    }

    fn send(&self, to: &RawRef, method: &'static MethodInfo, slot: &mut dyn AnySlot) {
        let timeout = slot.timeout().unwrap_or(self.call_timeout);
        let Inherited { request, .. } = Inherited::one_way(slot.request(), timeout);
        let Some(args) = Self::encoded(to.id(), method, slot) else { return };
        let now = self.world.clock.now();
        let call = Call {
            grain: to.id().clone(),
            hash: to.lookup_hash(),
            method,
            args,
            sink: None,
            request,
            deadline: now + timeout,
            timeout,
            returned: None,
            retry_at: Instant::default(),
        };
        self.submit(call, now);
    }

    fn hash(&self, id: &GrainId) -> u64 {
        fnv1a(id.grain_type().bytes().chain([b'/']).chain(id.key().bytes()))
    }

    fn world(&self) -> &World {
        &self.world
    }
}

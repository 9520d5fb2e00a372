//! A node's start and end as part of a cluster.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use grains_core::{Error, store::Store, world::World};
use grains_store::replicated::ReplicatedStore;
use litemap::LiteMap;

use super::{HostedType, NodeInner, StartError, builder::HostingKind, certificates::security};
use crate::{
    cluster::{
        ClusterConfig, JoinError, Joiner, NodeName,
        clustered::Clustered,
        consensus::{Group, Part, Storage, Timing},
        driver::{Driver, Ears, Links, Progress, States, Ways},
        gateway::{Authorize, Gateway},
    },
    store::StoreChoice,
    timeout::timeout,
    watchdog::{self, Watching, ward::Ward},
    wire::{Limits, Wire, WireConfig},
};

/// What the node has voted and the log of the cluster, in its folder.
pub(super) const LOG_FILE: &str = "consensus.redb";

/// A state with so many takes some 1.5 MB: it fits into a frame.
const PARTITIONS_MAX: u16 = 16_384;

/// What belongs to a cluster in one node.
pub(super) struct Membership {
    pub(super) clustered: Arc<Clustered>,
    pub(super) driver: Arc<Driver>,
    wire: Arc<Wire>,
    /// Whether it may have a watchdog.
    is_real: bool,
}

/// What a node says of itself, but for where it is.
pub(super) struct Description<'t> {
    pub(super) name: &'t str,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) types: &'t LiteMap<&'static str, HostedType>,
    /// Its part in what the cluster keeps.
    pub(super) store: ReplicatedStore,
    /// What keeps the states of the node.
    pub(super) own: StoreChoice,
    /// The stores that the program has given.
    pub(super) given: BTreeMap<String, Arc<dyn Store>>,
    /// Whether it runs over the operating system, and not over a world that the program has given.
    pub(super) is_real: bool,
    /// Which calls of clients are made.
    pub(super) authorize: Option<Authorize>,
}

impl Membership {
    /// Opens what the node has voted, and listens. Nothing runs yet.
    pub(super) async fn open(world: &World, config: ClusterConfig, about: Description<'_>) -> Result<Self, StartError> {
        let name = NodeName::new(about.name)?;
        let cluster = NodeName::new(&config.name)?;
        check(&config)?;
        let (reach, security) = security(world, &config, &cluster, &name).await?;
        let in_file = |folder| Storage::File { folder, file: LOG_FILE.to_owned() };
        let storage = about.data_dir.clone().map_or(Storage::Memory, in_file);
        let (heartbeat, election) = (config.heartbeat, config.election);
        // A leader is given up after `election_max`, and after that again it takes `election_min` to `election_max` until
        // somebody stands: together at least `election`, at most twice as long.
        let timing = Timing { heartbeat, election_min: election / 2, election_max: election };
        let links = Arc::new(Links::default());
        let consensus =
            Group::open(world, Part { name: name.clone(), node: None, storage, timing }, links.clone()).await;
        let consensus = consensus.map_err(|why| StartError::Log { why: Error::from(&why).to_string() })?;
        let of_kind = |kind| about.types.values().filter(move |hosted| hosted.kind == kind);
        let choices = || about.types.values().map(|hosted| &hosted.kept_in);
        let joiner = Joiner {
            node: consensus.node(),
            name: name.clone(),
            address: String::new(),
            process: world.random.next_u64(),
            roles: config.roles.clone(),
            capacity: config.capacity,
            grain_types: of_kind(HostingKind::Called)
                .map(|hosted| (hosted.info.name.to_owned(), hosted.placement.clone()))
                .collect(),
            singletons: of_kind(HostingKind::Singleton).map(|hosted| hosted.info.name.to_owned()).collect(),
            uses_states: [&about.own].into_iter().chain(choices()).any(|choice| *choice == StoreChoice::Replicated),
            kept_elsewhere: about
                .types
                .values()
                .filter(|hosted| hosted.kind != HostingKind::Workers && hosted.kept_in != StoreChoice::Replicated)
                .map(|hosted| (hosted.info.name.to_owned(), hosted.kept_in.to_string()))
                .collect(),
            workers: of_kind(HostingKind::Workers).map(|hosted| hosted.info.name.to_owned()).collect(),
            clients: None,
        };
        let limits = Limits { client_frame_bytes_max: config.clients.frame_bytes_max, ..Limits::default() };
        let wire_config = WireConfig {
            cluster: cluster.clone(),
            name: name.clone(),
            node: consensus.node(),
            listen: config.listen.clone(),
            advertise: config.advertise.clone(),
            reach,
            security,
            limits,
        };
        let ward = Ward::new(&config, cluster.clone(), name.clone(), consensus.node(), joiner.process);
        let singletons = of_kind(HostingKind::Singleton).map(|hosted| hosted.info.name).collect();
        let clustered = Clustered::new(world.clone(), config, name, consensus.node(), singletons);
        let states = States { store: about.store, peers: Arc::default(), given: about.given };
        let weak = Arc::downgrade(&clustered);
        let clients = clustered.config.clients.clone();
        let gateway = clients.enabled.then(|| Gateway::new(world, clients.clone(), cluster, about.authorize, weak));
        let driver = Driver::new(world, clustered.clone(), consensus, ward, joiner, about.data_dir, states);
        let ears = Ears { clustered: Arc::downgrade(&clustered), driver: Arc::downgrade(&driver) };
        let wire = match Wire::listen(world, wire_config, Arc::new(ears)).await {
            Ok(wire) => wire,
            Err(why) => {
                driver.close().await;
                return Err(StartError::Listen { why: why.to_string() });
            }
        };
        if let Some(gateway) = gateway {
            let address = match &clients.listen {
                Some(listen) => wire.listen_for_clients(listen, clients.advertise.as_deref()).await,
                None => Ok(wire.address().to_owned()),
            };
            match address {
                Ok(address) => gateway.set_address(address),
                Err(why) => {
                    wire.close().await;
                    driver.close().await;
                    return Err(StartError::Listen { why: why.to_string() });
                }
            }
            clustered.set_gateway(gateway);
        }
        let ways = Ways::new(wire.clone(), world.clock.clone(), &clustered.config.join);
        links.tie(ways.clone());
        driver.tie(ways);
        Ok(Self { clustered, driver, wire, is_real: about.is_real })
    }

    /// Begins, and waits until the node is a member that may act.
    pub(super) async fn begin(self, node: &Arc<NodeInner>) -> Result<(), StartError> {
        let Self { clustered, driver, wire, is_real } = self;
        clustered.tie(Arc::downgrade(node), wire.clone(), Arc::downgrade(&driver));
        let mut progress = driver.progress();
        driver.start(wire);
        if is_real {
            have_watched(&clustered, &driver);
        }
        let clock = &node.world.clock;
        let done = progress.wait_for(|progress| !matches!(progress, Progress::Waiting(_)));
        let done = timeout(clock, clustered.config.join_timeout, done).await.map(|done| done.map(|done| done.clone()));
        let error = match done {
            Some(Ok(Progress::Ready)) => return Ok(()),
            Some(Ok(Progress::Failed(error))) => error,
            Some(Ok(Progress::Waiting(waiting))) => not_in_time(&clustered, waiting),
            Some(Err(_)) => not_in_time(&clustered, "the node has stopped".to_owned()),
            None => {
                let waiting = match &*progress.borrow() {
                    Progress::Waiting(waiting) => waiting.clone(),
                    _ => "it was about to be".to_owned(),
                };
                not_in_time(&clustered, waiting)
            }
        };
        Err(error.into())
    }
}

/// From before it is a member: whoever is killed on the way has nobody wait for it.
fn have_watched(clustered: &Clustered, driver: &Driver) {
    let (node, lease) = (&clustered.name, clustered.config.lease);
    if !clustered.config.death_certificates {
        return tracing::info!(%node, ?lease, "no watchdog (`cluster.death_certificates`): a kill is noticed when the lease has ended");
    }
    match watchdog::watch(driver.ward()) {
        Watching::By(watched) => driver.watched_by(watched),
        Watching::NotReady => tracing::info!(
            %node,
            ?lease,
            "no watchdog: a kill is noticed when the lease has ended; `#[grains::main]`, or `grains::init()` as the first line of \
             `main`, has it noticed at once"
        ),
        #[cfg(not(target_os = "linux"))]
        Watching::Nowhere => {
            tracing::info!(%node, ?lease, "no watchdog on this system: a kill is noticed when the lease has ended");
        }
    }
}

fn has_port(address: &str) -> bool {
    let port =
        address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, port)| port.parse::<u16>().ok());
    port.is_some_and(|port| port != 0)
}

fn not_in_time(clustered: &Clustered, waiting: String) -> JoinError {
    JoinError::NotInTime { timeout: clustered.config.join_timeout, waiting }
}

fn check(config: &ClusterConfig) -> Result<(), StartError> {
    let refuse = |what: &str| Err(StartError::Cluster { why: what.to_owned() });
    if let Some(address) = config.join.iter().find(|address| !has_port(address)) {
        return refuse(&format!("`join` names \"{address}\": an address looks like 127.0.0.1:7101"));
    }
    match config {
        _ if ![1, 3, 5].contains(&config.voters) => {
            refuse("`voters` is 1, 3 or 5: more cost every change, an even number helps nobody")
        }
        _ if config.partitions == 0 => refuse("`partitions` is zero: no grain could be placed"),
        _ if config.partitions > PARTITIONS_MAX => {
            refuse(&format!("`partitions` is more than {PARTITIONS_MAX}: nobody could be told of all of them at once"))
        }
        _ if config.capacity == 0 => refuse("`capacity` is zero: use a role to keep grains away from this node"),
        _ if config.calls_max == 0 => refuse("`calls_max` is zero: no call could be made"),
        _ if config.heartbeat.is_zero() || config.election <= config.heartbeat * 2 => {
            refuse("`election` must be more than two heartbeats, or every delay makes a new leader")
        }
        _ if config.lease < config.election * 2 => {
            refuse("`lease` must be at least two elections long, or nodes are removed while a leader is elected")
        }
        _ => config.clients.check().and_then(|()| config.states.check()).or_else(|why| refuse(&why)),
    }
}

//! Describing and starting a node.

#[cfg(feature = "config")]
mod settings;

use std::{
    collections::BTreeMap,
    hash::RandomState,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use grains_core::{
    GrainKey, Lifecycle,
    store::{LoadError, Store, memory::MemoryStore},
    tasks::TaskSet,
    world::{BoxFuture, World},
};

#[cfg(feature = "config")]
use crate::settings::{Settings, SettingsError};
#[cfg(feature = "redb")]
use {
    crate::store::{OpenError, RedbStore},
    std::path::PathBuf,
};
#[cfg(feature = "cluster")]
use {
    crate::{
        cluster::{BadName, ClusterConfig, JoinError},
        store::fleeting::Fleeting,
    },
    grains_store::replicated::{ReplicatedConfig, ReplicatedStore},
};

#[cfg(feature = "cluster")]
use super::membership::{Description, Membership};
use super::{HostedType, MakeActivation, Node, NodeInner, RUNNING, StopHard};
use crate::{
    activation::{Activation, GrainTypeInfo},
    catalog::Catalog,
    config::{GrainOptions, NodeConfig},
    tenure::Tenure,
    world::{NoRuntime, tokio_world},
};

/// Describes a node, and starts it.
#[derive(Default)]
#[must_use = "a node is started by `.start().await`"]
pub struct NodeBuilder {
    config: NodeConfig,
    types: Vec<Hosting>,
    store: Option<Arc<dyn Store>>,
    #[cfg(feature = "redb")]
    data_dir: Option<PathBuf>,
    world: Option<World>,
    #[cfg(feature = "cluster")]
    cluster: Option<ClusterConfig>,
    /// The cluster keeps the states of grains itself.
    #[cfg(feature = "cluster")]
    replicated: bool,
    #[cfg(feature = "config")]
    settings: Settings,
}

struct Hosting {
    kind: HostingKind,
    name: &'static str,
    rust_name: &'static str,
    options: GrainOptions,
    accepts: fn(&str) -> bool,
    make: MakeActivation,
}

/// Whether callers bring a grain to life, or the cluster keeps it alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostingKind {
    Called,
    Singleton,
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// There is no tokio runtime to run on.
    #[error(transparent)]
    NoRuntime(#[from] NoRuntime),
    /// Two structs answer the same grain type.
    #[error("grain type \"{grain_type}\" is hosted twice, by `{first}` and `{second}`: give one another `grain_type`")]
    HostedTwice {
        /// The grain type.
        grain_type: &'static str,
        /// The struct hosted first.
        first: &'static str,
        /// The struct hosted second.
        second: &'static str,
    },
    /// The store in the data directory cannot be opened.
    #[cfg(feature = "redb")]
    #[error("data directory `{folder}` cannot be used: {why}", folder = folder.display())]
    DataDir {
        /// The data directory.
        folder: PathBuf,
        /// What is wrong with the store in it, and the fix.
        #[source]
        why: OpenError,
    },
    /// Both a store and a data directory were given.
    #[error("give the node either `.store(..)` or `.data_dir(..)`, not both")]
    TwoStores,
    /// Both a store and the cluster's own were given.
    #[cfg(feature = "cluster")]
    #[error("give the node either `.store(..)` or `.replicated_store()`, not both")]
    StoreBesides,
    /// The cluster's own store was asked for, without a cluster.
    #[cfg(feature = "cluster")]
    #[error(
        "`.replicated_store()` is a store of clusters: give the node a `.cluster(..)`, of one node if need be, or a `.data_dir(..)`"
    )]
    NoCluster,
    /// The store did not say which start this is.
    #[error("the store cannot be used: {0}")]
    Store(#[from] LoadError),
    /// It cannot listen for other nodes.
    #[cfg(feature = "cluster")]
    #[error("{why}")]
    Listen {
        /// Where, why, and the fix.
        why: String,
    },
    /// What the node has agreed to cannot be read or kept.
    #[cfg(feature = "cluster")]
    #[error("{why}")]
    Log {
        /// What is wrong, and the fix.
        why: String,
    },
    /// A setting of the cluster makes no sense.
    #[cfg(feature = "cluster")]
    #[error("{why}")]
    Cluster {
        /// Which, and the fix.
        why: String,
    },
    /// Its own name, or the cluster's, cannot be one.
    #[cfg(feature = "cluster")]
    #[error(transparent)]
    Name(#[from] BadName),
    /// It did not become a member.
    #[cfg(feature = "cluster")]
    #[error(transparent)]
    Join(#[from] JoinError),
    /// A limit of zero would stop everything.
    #[error("`{limit}` is zero: nothing could ever run")]
    ZeroLimit {
        /// The name of the limit.
        limit: &'static str,
    },
    /// What is set for a grain type cannot be.
    #[cfg(feature = "config")]
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

impl NodeBuilder {
    /// Hosts the grains of struct `G` here: its activations can live on this node.
    pub fn host<G: Lifecycle>(self) -> Self {
        self.host_with::<G>(GrainOptions::default())
    }

    /// Hosts the grains of struct `G` with options of their own.
    pub fn host_with<G: Lifecycle>(self, options: GrainOptions) -> Self {
        self.hosting::<G>(HostingKind::Called, options)
    }

    /// Hosts the grain of struct `G` as a singleton: it lives on exactly one node of the cluster (or on this node, outside
    /// of clusters) without being called, and moves when that node leaves or dies. Its key type is `()`.
    pub fn singleton<G: Lifecycle<Key = ()>>(self) -> Self {
        self.hosting::<G>(HostingKind::Singleton, GrainOptions::default())
    }

    fn hosting<G: Lifecycle>(mut self, kind: HostingKind, options: GrainOptions) -> Self {
        self.types.push(Hosting {
            kind,
            name: G::GRAIN_TYPE,
            rust_name: std::any::type_name::<G>(),
            options,
            accepts: |key| G::Key::from_text(key).is_ok(),
            make: |node, info, place| Activation::<G>::made(node, info, place),
        });
        self
    }

    /// Names the node. Default `"node"`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.config.name = name.into();
        self
    }

    /// Keeps the states of grains in `store`. Default: in memory, gone with the node; in a cluster nowhere, so that a state
    /// lives as long as its activation. All nodes of a cluster must be given the same store, for example one database.
    pub fn store(mut self, store: impl Store) -> Self {
        self.store = Some(Arc::new(store));
        self
    }

    /// Keeps the states of grains in an embedded store in `folder`, which is made if it is not there. They survive restarts
    /// and kills. The node opens the store when it starts and closes it when it stops;
    /// meanwhile another node that wants it fails to start with [`StartError::DataDir`].
    #[cfg(feature = "redb")]
    pub fn data_dir(mut self, folder: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(folder.into());
        self
    }

    /// Makes the node part of a cluster. With a data directory it keeps there what it has voted and who it is, and comes
    /// back as the same node after a restart.
    #[cfg(feature = "cluster")]
    pub fn cluster(mut self, config: ClusterConfig) -> Self {
        self.cluster = Some(config);
        self
    }

    /// Has the cluster itself keep the states of grains: the nodes that vote have all of them, and what is committed outlives
    /// any minority of them, with no database beside. With a data directory on every node it outlives a stop of all. The
    /// same on all nodes of a cluster.
    #[cfg(feature = "cluster")]
    pub fn replicated_store(mut self) -> Self {
        self.replicated = true;
        self
    }

    /// Changes the limits, from their defaults.
    pub fn configure(mut self, change: impl FnOnce(&mut NodeConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Runs over other seams than tokio and the operating system.
    pub fn world(mut self, world: World) -> Self {
        self.world = Some(world);
        self
    }

    /// Starts the node. It runs on the tokio runtime this is awaited on.
    ///
    /// Boxed, as [`Node::stop`] is: the code behind an `async fn` is compiled by the crate that awaits it, which would be all of
    /// this one, in every program and test of a user.
    pub fn start(self) -> impl Future<Output = Result<Node, StartError>> + Send {
        Box::pin(self.started()) as BoxFuture<'static, _>
    }

    #[cfg_attr(not(feature = "config"), expect(unused_mut, reason = "only settings change it"))]
    async fn started(mut self) -> Result<Node, StartError> {
        #[cfg(feature = "config")]
        self.set_grains()?;
        check(&self.config)?;
        let types = hosted(self.types, &self.config)?;
        let config = self.config;
        #[cfg(feature = "cluster")]
        match (self.replicated, &self.store, &self.cluster) {
            (true, Some(_), _) => return Err(StartError::StoreBesides),
            (true, None, None) => return Err(StartError::NoCluster),
            _ => {}
        }
        let world = match self.world {
            Some(world) => world,
            None => tokio_world()?,
        };
        #[cfg(feature = "cluster")]
        let data_dir = self.data_dir.clone().filter(|_| self.cluster.is_none());
        #[cfg(all(feature = "redb", not(feature = "cluster")))]
        let data_dir = self.data_dir;
        #[cfg(feature = "redb")]
        let (store, close) = match (self.store, data_dir) {
            (Some(_), Some(_)) => return Err(StartError::TwoStores),
            (None, Some(folder)) => {
                let store = open(&world, folder).await?;
                let closing = store.clone();
                (
                    Some(Arc::new(store) as Arc<dyn Store>),
                    Some(Box::pin(async move { closing.close().await }) as BoxFuture<_>),
                )
            }
            (store, None) => (store, None),
        };
        #[cfg(not(feature = "redb"))]
        let (store, close) = (self.store, None);
        #[cfg(feature = "cluster")]
        let replicated = self.replicated.then(|| ReplicatedStore::new(&world, ReplicatedConfig::default()));
        #[cfg(feature = "cluster")]
        let store = store.or_else(|| {
            self.cluster.as_ref()?;
            if let Some(store) = &replicated {
                return Some(Arc::new(store.clone()));
            }
            tracing::info!(
                node = config.name,
                "no store was given: in a cluster states live and end with their activations"
            );
            Some(Arc::new(Fleeting))
        });
        let store = store.unwrap_or_else(|| Arc::new(MemoryStore::default()));
        // In a cluster the cluster numbers the lives of nodes.
        #[cfg(feature = "cluster")]
        let epoch = if replicated.is_some() { 1 } else { store.next_epoch().await? };
        #[cfg(not(feature = "cluster"))]
        let epoch = store.next_epoch().await?;
        // After all else that may fail: what it opens has to be closed by name.
        #[cfg(feature = "cluster")]
        let membership = match self.cluster {
            Some(cluster) => {
                let about =
                    Description { name: &config.name, data_dir: self.data_dir, types: &types, store: replicated };
                Some(Membership::open(&world, cluster, about).await?)
            }
            None => None,
        };
        let shortest_idle = types.values().map(|hosted| hosted.info.idle_timeout).min().unwrap_or(config.idle_timeout);
        let inner = Arc::new_cyclic(|me| NodeInner {
            me: me.clone(),
            number: next_number(),
            catalog: Catalog::new(config.activations_max),
            tasks: TaskSet::new(world.tasks.clone()),
            tenure: Tenure::endless(&world),
            #[cfg(feature = "cluster")]
            clustered: membership.as_ref().map(|membership| membership.clustered.clone()),
            #[cfg(feature = "cluster")]
            driver: membership.as_ref().map(|membership| membership.driver.clone()),
            config,
            world,
            store,
            epoch,
            types,
            hasher: RandomState::new(),
            lives: AtomicU64::new(0),
            scan: AtomicU32::new(0),
            phase: AtomicU8::new(RUNNING),
            close: Mutex::new(close),
        });
        inner.scan_for_idle(shortest_idle);
        let node = Node { _stop: Arc::new(StopHard(inner.clone())), inner };
        #[cfg(feature = "cluster")]
        if let Some(membership) = membership
            && let Err(error) = membership.begin(&node.inner).await
        {
            node.inner.stop_hard();
            if let Some(driver) = &node.inner.driver {
                driver.close().await;
            }
            return Err(error);
        }
        node.inner.look_after_singletons();
        tracing::info!(node = node.inner.config.name, epoch, "started");
        Ok(node)
    }
}

/// Opens the store in `folder`, which takes reads and writes that block.
#[cfg(feature = "redb")]
async fn open(world: &World, folder: PathBuf) -> Result<RedbStore, StartError> {
    let (file, inside) = (folder.join("grains.redb"), world.clone());
    let opened = world.off_thread(move || RedbStore::open(&inside, &file)).await;
    opened.ok_or(StartError::NoRuntime(NoRuntime))?.map_err(|why| StartError::DataDir { folder, why })
}

fn next_number() -> u64 {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

fn check(config: &NodeConfig) -> Result<(), StartError> {
    let durations = [
        ("call_timeout", config.call_timeout),
        ("activate_timeout", config.activate_timeout),
        ("deactivate_timeout", config.deactivate_timeout),
        ("store_timeout", config.store_timeout),
        ("idle_timeout", config.idle_timeout),
    ];
    let counts = [
        ("mailbox_len_max", config.mailbox_len_max),
        ("activations_max", config.activations_max),
        ("state_bytes_max", config.state_bytes_max),
    ];
    let zero_duration = durations.iter().find(|(_, duration)| *duration == Duration::ZERO).map(|(limit, _)| *limit);
    let zero_count = counts.iter().find(|(_, count)| *count == 0).map(|(limit, _)| *limit);
    match zero_duration.or(zero_count) {
        Some(limit) => Err(StartError::ZeroLimit { limit }),
        None => Ok(()),
    }
}

fn hosted(hostings: Vec<Hosting>, config: &NodeConfig) -> Result<BTreeMap<&'static str, HostedType>, StartError> {
    let mut types = BTreeMap::new();
    let mut rust_names = BTreeMap::new();
    for Hosting { kind, name, rust_name, options, accepts, make } in hostings {
        if let Some(first) = rust_names.insert(name, rust_name) {
            return Err(StartError::HostedTwice { grain_type: name, first, second: rust_name });
        }
        let idle_timeout = match kind {
            HostingKind::Called => options.idle_timeout.unwrap_or(config.idle_timeout),
            HostingKind::Singleton => Duration::MAX,
        };
        let mailbox_len_max = options.mailbox_len_max.unwrap_or(config.mailbox_len_max);
        if idle_timeout.is_zero() {
            return Err(StartError::ZeroLimit { limit: "idle_timeout" });
        }
        if mailbox_len_max == 0 {
            return Err(StartError::ZeroLimit { limit: "mailbox_len_max" });
        }
        let info = Arc::new(GrainTypeInfo { name, idle_timeout, mailbox_len_max, live: AtomicUsize::new(0) });
        let hosted = HostedType {
            info,
            kind,
            #[cfg(feature = "cluster")]
            placement: options.placement,
            accepts,
            make,
        };
        types.insert(name, hosted);
    }
    Ok(types)
}

//! Describing and starting a node.

mod checks;
#[cfg(feature = "cluster")]
mod moving;
#[cfg(feature = "config")]
mod settings;
mod stores;

use std::{
    collections::BTreeMap,
    hash::RandomState,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

#[cfg(feature = "redb")]
use grains_core::Error;
use grains_core::{
    About, GrainKey, InterfaceSet, Lifecycle, MethodId, SingletonKey,
    store::Store,
    tasks::TaskSet,
    world::{BoxFuture, World},
};
use litemap::LiteMap;

#[cfg(feature = "config")]
use crate::settings::{Settings, SettingsError};
#[cfg(feature = "cluster")]
use {
    crate::cluster::{BadName, ClusterConfig, JoinError, Principal, gateway::Authorize},
    grains_core::GrainId,
    grains_store::replicated::MoveError,
};
#[cfg(feature = "redb")]
use {crate::store::OpenError, std::path::PathBuf};

use self::{
    checks::{check, check_types},
    stores::{Stores, Surroundings},
};
#[cfg(feature = "cluster")]
use super::membership::{Description, Membership};
use super::{HostedType, MakeActivation, Node, NodeInner, RUNNING, SlowTurns, StopHard};
use crate::{
    activation::{Activation, GrainTypeInfo, backlog::Backlog, pool::Pool},
    catalog::Catalog,
    config::{GrainOptions, NodeConfig},
    store::StoreChoice,
    tenure::Tenure,
    world::{NoRuntime, tokio_world},
};

/// Describes a node, and starts it.
#[derive(Default)]
#[must_use = "a node is started by `.start().await`"]
pub struct NodeBuilder {
    config: NodeConfig,
    types: Vec<Hosting>,
    /// What the program has given, by name.
    stores: BTreeMap<String, Arc<dyn Store>>,
    #[cfg(feature = "redb")]
    data_dir: Option<PathBuf>,
    world: Option<World>,
    #[cfg(feature = "cluster")]
    cluster: Option<ClusterConfig>,
    #[cfg(feature = "cluster")]
    authorize: Option<Authorize>,
    /// It is started to move what is in its data directory.
    #[cfg(feature = "cluster")]
    moves: bool,
    #[cfg(feature = "config")]
    settings: Settings,
}

struct Hosting {
    kind: HostingKind,
    name: &'static str,
    rust_name: &'static str,
    has_workers: bool,
    options: GrainOptions,
    accepts: fn(&str) -> bool,
    about: fn(MethodId) -> Option<About>,
    make: MakeActivation,
}

/// Whether callers bring a grain to life, and where, or the cluster keeps it alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostingKind {
    Called,
    Singleton,
    /// As called, by each node for itself.
    Workers,
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
    /// A grain type with workers is given what only others have.
    #[error(
        "grain type \"{grain_type}\" has workers, which live on every node that hosts it and keep nothing, so {what} means nothing for it: leave that out, or drop `workers` from the `#[grain(..)]` of `{rust_name}`"
    )]
    Workers {
        /// The grain type.
        grain_type: &'static str,
        /// The struct.
        rust_name: &'static str,
        /// What it is given.
        what: &'static str,
    },
    /// The store in the data directory cannot be opened.
    #[cfg(feature = "redb")]
    #[error("data directory `{folder}` cannot be used: {}", Error::from(why), folder = folder.display())]
    DataDir {
        /// The data directory.
        folder: PathBuf,
        /// What is wrong with the store in it, and the fix.
        why: OpenError,
    },
    /// The data directory has the states of a node alone, and the cluster would not know them.
    #[cfg(feature = "cluster")]
    #[error("`{folder}` has the states of a node without a cluster: move them with `NodeBuilder::move_states`, once, or remove `{file}` from it if nobody misses them", folder = folder.display(), file = stores::FILE)]
    LeftBehind {
        /// The data directory.
        folder: PathBuf,
    },
    /// The data directory is that of a node in a cluster, and without that its grains would seem to be new.
    #[cfg(feature = "cluster")]
    #[error("`{folder}` is of a node in a cluster: give the node its `cluster`, or another data directory", folder = folder.display())]
    OfCluster {
        /// The data directory.
        folder: PathBuf,
    },
    /// The states of a node alone were not moved.
    #[cfg(feature = "cluster")]
    #[error("the states in `{folder}` were not moved: {}", Error::from(why), folder = folder.display())]
    NotMoved {
        /// The data directory.
        folder: PathBuf,
        /// What went wrong. What was moved before that is in both places.
        why: MoveError,
    },
    /// There is a data directory and nothing to keep in it.
    #[cfg(feature = "redb")]
    #[error(
        "the node has a `data_dir` and would keep nothing in it, because its states are in \"{store}\": leave one of the two out"
    )]
    IdleDataDir {
        /// The store of the node.
        store: String,
    },
    /// A store that was chosen cannot be had here, or does not answer.
    #[error("the store \"{store}\" of {of} cannot be used: {why}")]
    Store {
        /// Its name.
        store: String,
        /// Who has chosen it.
        of: String,
        /// What is wrong, and the fix.
        why: String,
    },
    /// It cannot listen for other nodes.
    #[cfg(feature = "cluster")]
    #[error("{why}")]
    Listen {
        /// Where, why, and the fix.
        why: String,
    },
    /// Its certificates cannot be used.
    #[cfg(feature = "tls")]
    #[error("{why}")]
    Certificates {
        /// Which, why, and the fix.
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
    /// A limit is zero with which nothing could ever run.
    #[error("`{limit}` is zero: {why}; set more, or leave it out for the default{place}")]
    ZeroLimit {
        /// The name of the limit, as in settings: `grain.room.idle_timeout` is that of a grain type.
        limit: String,
        /// What could never be.
        why: &'static str,
        /// Where it is set, if that was not in code.
        place: String,
    },
    /// A limit is larger than the node can count.
    #[error("`{limit}` is {given}: it is {max} at most{place}")]
    LargeLimit {
        /// The name of the limit, as in settings.
        limit: &'static str,
        /// What it is set to.
        given: usize,
        /// The most it can be.
        max: usize,
        /// Where it is set, if that was not in code.
        place: String,
    },
    /// Something is given and says nothing.
    #[error("`{setting}` is empty: {why}{place}")]
    Empty {
        /// Its name.
        setting: &'static str,
        /// The fix.
        why: &'static str,
        /// Where it is set, if that was not in code.
        place: String,
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
        let kind = if const { G::WORKERS.is_some() } { HostingKind::Workers } else { HostingKind::Called };
        self.hosting::<G>(kind, options)
    }

    /// Hosts the grain of struct `G` as a singleton: it lives on exactly one node of the cluster (or on this node, outside
    /// of clusters) without being called, and moves when that node leaves or dies. Its key type is `()`.
    pub fn singleton<G: Lifecycle<Key: SingletonKey>>(self) -> Self {
        self.hosting::<G>(HostingKind::Singleton, GrainOptions::default())
    }

    fn hosting<G: Lifecycle>(mut self, kind: HostingKind, options: GrainOptions) -> Self {
        self.types.push(Hosting {
            kind,
            name: G::GRAIN_TYPE,
            rust_name: std::any::type_name::<G>(),
            has_workers: G::WORKERS.is_some(),
            options,
            accepts: |key| G::Key::from_text(key).is_ok(),
            about: G::Interfaces::about,
            // Of what a grain type never needs, no code is made.
            make: match const { G::WORKERS.is_some() } {
                true => |node, info, place| Pool::<G>::made(node, info, place),
                false => |node, info, place| Activation::<G>::made(node, info, place),
            },
        });
        self
    }

    /// Names the node. Default `"node"`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.config.name = name.into();
        self
    }

    /// Keeps the states of grains in `store`. All nodes of a cluster must be given the same, for example one database. Without
    /// it states are kept as [`StoreChoice`] says.
    pub fn store(self, store: impl Store) -> Self {
        self.named_store(StoreChoice::OWN, store).keep_in(StoreChoice::Named(StoreChoice::OWN.to_owned()))
    }

    /// Gives the node a store that can be chosen by `name`, for the node or for single grain types, in the program or in
    /// settings.
    ///
    /// ```
    /// use grains_runtime::{GrainOptions, Node, store::{MemoryStore, StoreChoice}};
    ///
    /// let options = GrainOptions::new().store("archive".into());
    /// let builder = Node::builder().named_store("archive", MemoryStore::default()).keep_in(StoreChoice::Memory);
    /// # let _ = (options, builder);
    /// ```
    pub fn named_store(mut self, name: impl Into<String>, store: impl Store) -> Self {
        self.stores.insert(name.into(), Arc::new(store));
        self
    }

    /// Chooses which store keeps the states of grains that have no [other](GrainOptions::store).
    pub fn keep_in(mut self, choice: StoreChoice) -> Self {
        self.config.store = Some(choice);
        self
    }

    /// Keeps the states of grains in `folder`, which is made if it is not there: those of a node alone in an embedded store,
    /// those of a cluster as far as this node votes there. They survive restarts and kills. The node opens the store when it
    /// starts and closes it when it stops; meanwhile another node that wants it fails to start with [`StartError::DataDir`].
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

    /// Asks `authorize` about each call of a client before it is made: who calls, which grain, and which method, by its name on the
    /// wire. An error refuses the call, which was not executed; its text is told to the client
    /// ([`CallError::Forbidden`](grains_core::CallError::Forbidden)). A panic refuses it, too. Without this, every client that is let in may call every trait
    /// that is marked with `#[rpc_trait(client)]`.
    ///
    /// It is called on tasks that move bytes, so it is short and does not block. All nodes that take clients are to be given the
    /// same one: a client's calls may go by any of them.
    ///
    /// ```
    /// # use grains_runtime as grains;
    /// use grains::Node;
    ///
    /// let builder = Node::builder().authorize_clients(|principal, grain, method| match principal.name() {
    ///     Some("web") => Ok(()),
    ///     Some("kiosk") if grain.grain_type() == "menu" && method == "today" => Ok(()),
    ///     _ => Err(format!("{principal} has no business with {grain}")),
    /// });
    /// # drop(builder);
    /// ```
    #[cfg(feature = "cluster")]
    pub fn authorize_clients(
        mut self,
        authorize: impl Fn(&Principal, &GrainId, &str) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.authorize = Some(Arc::new(authorize));
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

    async fn started(self) -> Result<Node, StartError> {
        #[cfg(feature = "config")]
        let settings = self.effective_settings();
        match self.begun().await {
            Ok((node, _stores)) => Ok(node),
            #[cfg(feature = "config")]
            Err(error) => Err(settings::with_places(error, &settings)),
            #[cfg(not(feature = "config"))]
            Err(error) => Err(error),
        }
    }

    #[cfg_attr(not(feature = "config"), expect(unused_mut, reason = "only settings change it"))]
    async fn begun(mut self) -> Result<(Node, Stores), StartError> {
        #[cfg(feature = "config")]
        self.set_grains()?;
        self.check_empty()?;
        check(&self.config)?;
        check_types(&self.types, &self.config)?;
        let config = self.config;
        #[cfg(feature = "cluster")]
        let is_real = self.world.is_none();
        let world = match self.world {
            Some(world) => world,
            None => tokio_world()?,
        };
        let surroundings = Surroundings {
            #[cfg(feature = "cluster")]
            in_cluster: self.cluster.is_some(),
            #[cfg(feature = "cluster")]
            replicated: self.cluster.as_ref().map(|cluster| cluster.states.clone()).unwrap_or_default(),
            #[cfg(not(feature = "cluster"))]
            in_cluster: false,
            #[cfg(feature = "redb")]
            data_dir: self.data_dir.clone(),
            #[cfg(feature = "cluster")]
            moves: self.moves,
            named: self.stores,
            #[cfg(feature = "cluster")]
            state_bytes_max: config.state_bytes_max,
        };
        let of_types = self.types.iter().filter_map(|hosting| Some((hosting.name, hosting.options.store.clone()?)));
        let mut stores = surroundings.open(&world, config.store.as_ref(), of_types).await?;
        let types = hosted(self.types, &config, &stores);
        let (_, own) = stores.of(None);
        // After all else that may fail: what it opens has to be closed by name.
        #[cfg(feature = "cluster")]
        let membership = match self.cluster {
            Some(cluster) => {
                let about = Description {
                    name: &config.name,
                    data_dir: self.data_dir,
                    types: &types,
                    store: stores.replicated.clone().expect("every node of a cluster has a part"),
                    own: stores.of(None).0.clone(),
                    given: std::mem::take(&mut stores.given),
                    is_real,
                    authorize: self.authorize,
                };
                Some(Membership::open(&world, cluster, about).await?)
            }
            None => None,
        };
        let shortest_idle = types.values().map(|hosted| hosted.info.idle_timeout).min().unwrap_or(config.idle_timeout);
        let inner = Arc::new_cyclic(|me| NodeInner {
            me: me.clone(),
            number: next_number(),
            catalog: Catalog::new(config.activations_max),
            undecoded: Arc::default(),
            backlog: Arc::new(Backlog::new(config.waiting_calls_max, config.waiting_bytes_max)),
            watch: Arc::default(),
            tasks: TaskSet::new(world.tasks.clone()),
            tenure: Tenure::endless(&world),
            #[cfg(feature = "cluster")]
            clustered: membership.as_ref().map(|membership| membership.clustered.clone()),
            #[cfg(feature = "cluster")]
            driver: membership.as_ref().map(|membership| membership.driver.clone()),
            slow: SlowTurns::new(config.slow_turn),
            config,
            world,
            store: own.store,
            epoch: own.epoch,
            types,
            hasher: RandomState::new(),
            lives: AtomicU64::new(0),
            scan: AtomicU32::new(0),
            phase: AtomicU8::new(RUNNING),
            close: Mutex::new(stores.close.take()),
        });
        inner.scan_for_idle(shortest_idle);
        inner.look_for_cycles();
        inner.make_room();
        inner.look_for_slow_turns();
        inner.watch_threads();
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
        tracing::info!(node = node.inner.config.name, epoch = own.epoch, "started");
        Ok((node, stores))
    }
}

fn next_number() -> u64 {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

impl Hosting {
    /// Whether its activations stay without calls.
    fn stays(&self) -> bool {
        self.options.keep_active || self.kind == HostingKind::Singleton
    }

    fn idle_timeout(&self, config: &NodeConfig) -> Duration {
        match self.stays() {
            false => self.options.idle_timeout.unwrap_or(config.idle_timeout),
            true => Duration::MAX,
        }
    }

    fn mailbox_len_max(&self, config: &NodeConfig) -> usize {
        self.options.mailbox_len_max.unwrap_or(config.mailbox_len_max)
    }
}

fn hosted(hostings: Vec<Hosting>, config: &NodeConfig, stores: &Stores) -> LiteMap<&'static str, HostedType> {
    let hosted = hostings.into_iter().map(|hosting| {
        #[cfg_attr(not(feature = "cluster"), expect(unused_variables, reason = "other nodes are told"))]
        let (kept_in, opened) = stores.of(hosting.options.store.as_ref());
        let info = GrainTypeInfo {
            name: hosting.name,
            idle_timeout: hosting.idle_timeout(config),
            stays: hosting.stays(),
            mailbox_len_max: hosting.mailbox_len_max(config),
            abandon_after: hosting.options.abandon_after,
            store: opened.store,
            epoch: opened.epoch,
            live: AtomicUsize::new(0),
        };
        let hosted = HostedType {
            info: Arc::new(info),
            kind: hosting.kind,
            #[cfg(feature = "cluster")]
            placement: hosting.options.placement,
            #[cfg(feature = "cluster")]
            kept_in: kept_in.clone(),
            accepts: hosting.accepts,
            about: hosting.about,
            make: hosting.make,
        };
        (hosting.name, hosted)
    });
    hosted.collect()
}

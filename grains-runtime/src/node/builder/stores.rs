//! Which stores a node needs, and opening them.

#[cfg(feature = "cluster")]
use std::path::Path;
#[cfg(feature = "redb")]
use std::path::PathBuf;
use std::{collections::BTreeMap, sync::Arc};

use grains_core::{
    store::{Store, memory::MemoryStore},
    world::{BoxFuture, World},
};
#[cfg(feature = "cluster")]
use grains_store::replicated::{ReplicatedConfig, ReplicatedStore, SET_BYTES_MAX};

use super::StartError;
#[cfg(feature = "cluster")]
use crate::node::membership::LOG_FILE;
#[cfg(feature = "cluster")]
use crate::store::{OpenError, fleeting::Fleeting};
use crate::store::{StoreChoice, first_epoch};
#[cfg(feature = "redb")]
use crate::{store::RedbStore, world::NoRuntime};

/// What a choice is made from.
pub(super) struct Surroundings {
    pub(super) in_cluster: bool,
    /// The limits of what the cluster keeps.
    #[cfg(feature = "cluster")]
    pub(super) replicated: ReplicatedConfig,
    #[cfg(feature = "redb")]
    pub(super) data_dir: Option<PathBuf>,
    /// It is started to move what is in the data directory.
    #[cfg(feature = "cluster")]
    pub(super) moves: bool,
    /// What the program has given, by name.
    pub(super) named: BTreeMap<String, Arc<dyn Store>>,
    /// How large a state may be.
    #[cfg(feature = "cluster")]
    pub(super) state_bytes_max: usize,
}

/// A store that is open.
#[derive(Clone)]
pub(super) struct Opened {
    pub(super) store: Arc<dyn Store>,
    /// Larger than in every earlier start of a node over this store.
    pub(super) epoch: u64,
}

/// The stores of a node.
pub(super) struct Stores {
    opened: BTreeMap<StoreChoice, Opened>,
    /// The node's, for what has no other.
    of_node: StoreChoice,
    /// What the program has given, by name.
    #[cfg(feature = "cluster")]
    pub(super) given: BTreeMap<String, Arc<dyn Store>>,
    /// Closes what was opened here.
    pub(super) close: Option<BoxFuture<'static, ()>>,
    /// The node's part in what the cluster keeps. Every node of a cluster can have one, whatever its grains use: it may
    /// vote, and voters keep the states of all.
    #[cfg(feature = "cluster")]
    pub(super) replicated: Option<ReplicatedStore>,
}

impl Surroundings {
    /// What is chosen where nothing was.
    fn usual(&self) -> StoreChoice {
        #[cfg(feature = "cluster")]
        if self.in_cluster {
            return StoreChoice::Replicated;
        }
        #[cfg(feature = "redb")]
        if self.data_dir.is_some() {
            return StoreChoice::Redb;
        }
        StoreChoice::Memory
    }

    /// Why `choice` cannot be made here, and the fix.
    fn unfit(&self, choice: &StoreChoice) -> Option<String> {
        match choice {
            StoreChoice::Memory => None,
            #[cfg(feature = "redb")]
            StoreChoice::Redb if self.in_cluster => {
                Some("it is of one node, and the grains of a cluster move: choose \"replicated\"".to_owned())
            }
            #[cfg(feature = "redb")]
            StoreChoice::Redb if self.data_dir.is_none() => {
                Some("it needs a data directory: give the node a `data_dir`".to_owned())
            }
            #[cfg(feature = "redb")]
            StoreChoice::Redb => None,
            #[cfg(feature = "cluster")]
            StoreChoice::Replicated if !self.in_cluster => Some(
                "it is of clusters: give the node a `cluster`, of one node if need be, or a `data_dir` and \"redb\""
                    .to_owned(),
            ),
            #[cfg(feature = "cluster")]
            StoreChoice::Replicated => None,
            StoreChoice::Named(name) if self.named.contains_key(name) => None,
            StoreChoice::Named(_) => {
                let words = StoreChoice::words().into_iter().map(|known| known.to_string());
                let known: Vec<_> = words.chain(self.named.keys().cloned()).map(|name| format!("\"{name}\"")).collect();
                Some(format!("there are {}, and what the program gives by `named_store`", known.join(", ")))
            }
        }
    }

    /// Opens what the node and its grain types have chosen; `of_types` are the types that have chosen.
    pub(super) async fn open(
        self,
        #[cfg_attr(not(feature = "redb"), expect(unused_variables, reason = "files are opened in it"))] world: &World,
        of_node: Option<&StoreChoice>,
        of_types: impl Iterator<Item = (&'static str, StoreChoice)>,
    ) -> Result<Stores, StartError> {
        let of_node = of_node.cloned().unwrap_or_else(|| self.usual());
        let mut wanted = BTreeMap::from([(of_node.clone(), "the node".to_owned())]);
        for (grain_type, choice) in of_types {
            wanted.entry(choice).or_insert_with(|| format!("grain type \"{grain_type}\""));
        }
        let named = self.named.keys().find(|name| StoreChoice::words().iter().any(|word| word.as_str() == *name));
        if let Some(name) = named {
            let why = "that word means another one: give it another name".to_owned();
            return Err(StartError::Store { store: name.clone(), of: "the program".to_owned(), why });
        }
        for (choice, of) in &wanted {
            if let Some(why) = self.unfit(choice) {
                return Err(StartError::Store { store: choice.to_string(), of: of.clone(), why });
            }
        }
        #[cfg(feature = "cluster")]
        if wanted.contains_key(&StoreChoice::Replicated) && self.state_bytes_max > SET_BYTES_MAX {
            let why = format!(
                "`state_bytes_max` is more than {SET_BYTES_MAX}: a cluster that keeps the states takes no larger ones"
            );
            return Err(StartError::Cluster { why });
        }
        #[cfg(feature = "cluster")]
        if self.in_cluster
            && !self.moves
            && wanted.contains_key(&StoreChoice::Replicated)
            && let Some(folder) = &self.data_dir
        {
            refuse_left_behind(world, folder).await?;
        }
        #[cfg(feature = "cluster")]
        if !self.in_cluster
            && let Some(folder) = &self.data_dir
        {
            refuse_of_cluster(world, folder)?;
        }
        #[cfg(feature = "redb")]
        if !self.in_cluster && self.data_dir.is_some() && !wanted.contains_key(&StoreChoice::Redb) {
            return Err(StartError::IdleDataDir { store: of_node.to_string() });
        }
        let mut stores = Stores {
            opened: BTreeMap::new(),
            of_node,
            #[cfg(feature = "cluster")]
            given: self.named.clone(),
            close: None,
            #[cfg(feature = "cluster")]
            replicated: self.in_cluster.then(|| ReplicatedStore::new(world, self.replicated.clone())),
        };
        for (choice, of) in wanted {
            let store: Arc<dyn Store> = match &choice {
                #[cfg(feature = "cluster")]
                StoreChoice::Memory if self.in_cluster => {
                    tracing::info!(of, "states live and end with their activations, as \"memory\" means in a cluster");
                    Arc::new(Fleeting)
                }
                StoreChoice::Memory => Arc::new(MemoryStore::default()),
                #[cfg(feature = "redb")]
                StoreChoice::Redb => {
                    let store = open(world, self.data_dir.clone().unwrap_or_default()).await?;
                    let closing = store.clone();
                    stores.close = Some(Box::pin(async move { closing.close().await }));
                    Arc::new(store)
                }
                #[cfg(feature = "cluster")]
                StoreChoice::Replicated => {
                    Arc::new(stores.replicated.clone().expect("elsewhere than in a cluster it was refused"))
                }
                StoreChoice::Named(name) => self.named[name].clone(),
            };
            // In a cluster the cluster numbers the lives of nodes.
            let epoch = match self.in_cluster {
                true => 1,
                false => {
                    let next = store.next_epoch().await.map_err(|why| StartError::Store {
                        store: choice.to_string(),
                        of,
                        why: why.to_string(),
                    })?;
                    match choice {
                        StoreChoice::Named(_) => first_epoch(next),
                        _ => next,
                    }
                }
            };
            stores.opened.insert(choice, Opened { store, epoch });
        }
        Ok(stores)
    }
}

impl Stores {
    /// What keeps the states of a grain type that has made this choice, and the name of that.
    pub(super) fn of(&self, choice: Option<&StoreChoice>) -> (&StoreChoice, Opened) {
        let choice = choice.unwrap_or(&self.of_node);
        let (choice, opened) = self.opened.get_key_value(choice).expect("every store that was chosen was opened");
        (choice, opened.clone())
    }
}

/// Refuses to begin alone with nothing where a node of a cluster has kept what it is.
#[cfg(feature = "cluster")]
fn refuse_of_cluster(world: &World, folder: &Path) -> Result<(), StartError> {
    let has = |file: &str| {
        let path = folder.join(file);
        let has = world.disk.has(&path);
        has.map_err(|source| StartError::DataDir { folder: folder.to_owned(), why: OpenError::Io { path, source } })
    };
    match has(LOG_FILE)? && !has(FILE)? {
        true => Err(StartError::OfCluster { folder: folder.to_owned() }),
        false => Ok(()),
    }
}

/// Refuses to begin without states that a node alone has kept in `folder`: its grains would seem to be new.
#[cfg(feature = "cluster")]
async fn refuse_left_behind(world: &World, folder: &Path) -> Result<(), StartError> {
    let data_dir = |why| StartError::DataDir { folder: folder.to_owned(), why };
    let file = folder.join(FILE);
    let there = world.disk.has(&file);
    if !there.map_err(|source| data_dir(OpenError::Io { path: file, source }))? {
        return Ok(());
    }
    let store = match open(world, folder.to_owned()).await {
        Ok(store) => store,
        Err(StartError::DataDir { why: OpenError::Moved { .. }, .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    let is_empty = store.is_empty().await;
    store.close().await;
    match is_empty {
        Ok(true) => Ok(()),
        Ok(false) => Err(StartError::LeftBehind { folder: folder.to_owned() }),
        Err(why) => Err(data_dir(OpenError::Damaged { path: folder.join(FILE), why: why.to_string() })),
    }
}

/// The store of a node alone, in its data directory.
#[cfg(feature = "redb")]
pub(super) const FILE: &str = "grains.redb";

/// Opens the store in `folder`, which takes reads and writes that block.
#[cfg(feature = "redb")]
pub(super) async fn open(world: &World, folder: PathBuf) -> Result<RedbStore, StartError> {
    let (file, inside) = (folder.join(FILE), world.clone());
    let opened = world.off_thread(move || RedbStore::open(&inside, &file)).await;
    opened.ok_or(StartError::NoRuntime(NoRuntime))?.map_err(|why| StartError::DataDir { folder, why })
}

//! The activations of this node, by grain id.
//!
//! Sharded, so that callers on different threads rarely meet. Nothing here calls into an activation while a shard is
//! locked, but for its id.

use std::sync::{
    Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicUsize, Ordering},
};

use grains_core::GrainId;
use hashbrown::{HashTable, hash_table::Entry};

use crate::{activation::AnyActivation, fnv::fnv1a};

/// Many times the threads of a large machine, so that two of them rarely want the same one.
const SHARDS: usize = 128;
const SHARD_MASK: u64 = SHARDS as u64 - 1;
const SHARD_SHIFT: u32 = 40;

type Shard = HashTable<Arc<dyn AnyActivation>>;

pub(crate) struct Catalog {
    shards: Box<[RwLock<Shard>]>,
    len: AtomicUsize,
    len_max: usize,
}

/// The catalog holds as many activations as it may.
pub(crate) struct CatalogFull {
    pub(crate) len_max: usize,
}

/// An activation for a grain that had none may have been made by somebody else in the meantime.
pub(crate) enum Made {
    /// This is the caller's: it must begin its life.
    New(Arc<dyn AnyActivation>),
    /// Somebody else's.
    Found(Arc<dyn AnyActivation>),
}

fn read(shard: &RwLock<Shard>) -> RwLockReadGuard<'_, Shard> {
    shard.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(shard: &RwLock<Shard>) -> RwLockWriteGuard<'_, Shard> {
    shard.write().unwrap_or_else(PoisonError::into_inner)
}

/// The hash of the text of an id.
fn hash(id: &GrainId) -> u64 {
    fnv1a(id.grain_type().bytes().chain(*b"/").chain(id.key().bytes()))
}

impl Catalog {
    pub(crate) fn new(len_max: usize) -> Self {
        let shards = (0..SHARDS).map(|_| RwLock::new(HashTable::new())).collect();
        Self { shards, len: AtomicUsize::new(0), len_max }
    }

    /// What an id is looked up by: `keyed` with some bits in the middle replaced by the number of its shard, because the
    /// table inside uses the low and the high ones.
    ///
    /// `keyed` differs in every process, so that nobody outside can choose ids that collide. The shard does not, so that
    /// a walk over the catalog has the same order in every run of a simulation.
    pub(crate) fn hash_of(id: &GrainId, keyed: u64) -> u64 {
        let shard = hash(id) % SHARDS as u64;
        keyed & !(SHARD_MASK << SHARD_SHIFT) | shard << SHARD_SHIFT
    }

    fn shard(&self, hash: u64) -> &RwLock<Shard> {
        &self.shards[(hash >> SHARD_SHIFT & SHARD_MASK) as usize]
    }

    pub(crate) fn find(&self, hash: u64, id: &GrainId) -> Option<Arc<dyn AnyActivation>> {
        read(self.shard(hash)).find(hash, |activation| activation.id() == id).cloned()
    }

    /// The activation of the grain that is looked up by `hash`, which 57 secret bits of it make as good as its id.
    pub(crate) fn find_by_hash(&self, hash: u64) -> Option<Arc<dyn AnyActivation>> {
        read(self.shard(hash)).find(hash, |activation| activation.hash() == hash).cloned()
    }

    /// Finds the activation of `id`, or adds the one that `make` gives.
    pub(crate) fn find_or_add(
        &self,
        hash: u64,
        id: &GrainId,
        make: impl FnOnce() -> Arc<dyn AnyActivation>,
    ) -> Result<Made, CatalogFull> {
        let mut shard = write(self.shard(hash));
        match shard.entry(hash, |activation| activation.id() == id, |activation| activation.hash()) {
            Entry::Occupied(found) => Ok(Made::Found(found.get().clone())),
            Entry::Vacant(place) => {
                if self.len.fetch_add(1, Ordering::Relaxed) >= self.len_max {
                    self.len.fetch_sub(1, Ordering::Relaxed);
                    return Err(CatalogFull { len_max: self.len_max });
                }
                let made = make();
                place.insert(made.clone());
                Ok(Made::New(made))
            }
        }
    }

    /// Takes out this very activation, if it is still in.
    pub(crate) fn remove(&self, activation: &dyn AnyActivation) {
        let removed = {
            let mut shard = write(self.shard(activation.hash()));
            let found = shard.find_entry(activation.hash(), |other| std::ptr::addr_eq(Arc::as_ptr(other), activation));
            found.ok().map(|found| found.remove().0)
        };
        if removed.is_some() {
            self.len.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// All activations, shard by shard, each shard in the order of ids, so that a simulated node repeats itself.
    pub(crate) fn shards(&self) -> impl Iterator<Item = Vec<Arc<dyn AnyActivation>>> {
        self.shards.iter().map(|shard| {
            let mut all: Vec<_> = read(shard).iter().cloned().collect();
            all.sort_unstable_by(|a, b| a.id().cmp(b.id()));
            all
        })
    }
}

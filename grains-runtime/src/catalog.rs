//! The activations of this node, by grain id.
//!
//! Sharded, so that callers on different threads rarely meet. Nothing here calls into an activation while a shard is
//! locked, but for its id.

mod crowd;
mod nearby;

use std::{
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::Context,
};

use grains_core::GrainId;
use hashbrown::{HashTable, hash_table::Entry};
use tokio::sync::Notify;

use self::crowd::Crowd;
use crate::{activation::AnyActivation, fnv::fnv1a};

/// Many times the threads of a large machine, so that two of them rarely want the same one.
pub(crate) const SHARDS: usize = 128;
const SHARD_MASK: u64 = SHARDS as u64 - 1;
const SHARD_SHIFT: u32 = 40;

type Shard = HashTable<Arc<dyn AnyActivation>>;

pub(crate) struct Catalog {
    /// Which catalog of this process.
    number: u64,
    shards: Box<[RwLock<Shard>]>,
    len: AtomicUsize,
    len_max: usize,
    /// Told when there are more than `len_max`.
    over: Arc<Notify>,
    /// Who waits for room.
    pub(crate) crowd: Crowd,
}

/// How many activations there may be above the limit while room is made for them: a sixteenth of it, so that what is promised of
/// memory is nearly kept; but enough for a burst of calls on a small node.
fn slack(len_max: usize) -> usize {
    (len_max / 16).max(SLACK_MIN)
}

const SLACK_MIN: usize = 64;

/// Callers that can wait for room do so when this part of the slack is used up. The rest is for calls of other nodes, and one-way
/// calls, which cannot.
const PART_OF_SLACK: usize = 2;

/// The catalog holds as many activations as it may, and no room was made yet.
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
        static LAST: AtomicU64 = AtomicU64::new(0);
        let number = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        let (len, over) = (AtomicUsize::new(0), Arc::default());
        Self { number, shards, len, len_max, over, crowd: Crowd::default() }
    }

    /// How many activations there are above the limit.
    pub(crate) fn excess(&self) -> usize {
        self.len().saturating_sub(self.len_max)
    }

    /// Whether a caller that needs a new activation waits for room: it looks again when it is woken.
    pub(crate) fn waits_for_room(&self, cx: &Context<'_>) -> bool {
        let waits = self.excess() >= slack(self.len_max) / PART_OF_SLACK && self.crowd.wait(cx);
        if waits {
            // Room may have been made a moment ago, and nobody woken.
            self.over.notify_one();
        }
        waits
    }

    /// What is told when somebody adds one above the limit. For one task, which is told what it has not yet heard.
    pub(crate) fn over(&self) -> Arc<Notify> {
        self.over.clone()
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

    /// Where a call of `id` goes. It may be out of the catalog already, and then says so when it is called.
    pub(crate) fn find(&self, hash: u64, id: &GrainId) -> Option<Arc<dyn AnyActivation>> {
        if let Some(found) = nearby::find(self.number, hash, id) {
            return Some(found);
        }
        let found = self.find_entered(hash, id)?;
        nearby::remember(self.number, hash, &found);
        Some(found)
    }

    /// What is in the catalog now: for whoever does more than to call it.
    pub(crate) fn find_entered(&self, hash: u64, id: &GrainId) -> Option<Arc<dyn AnyActivation>> {
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
                self.take_room()?;
                let made = make();
                place.insert(made.clone());
                Ok(Made::New(made))
            }
        }
    }

    /// Counts one more activation, if it may be there.
    pub(crate) fn take_room(&self) -> Result<(), CatalogFull> {
        let len_max = self.len_max;
        let before = self.len.fetch_add(1, Ordering::Relaxed);
        if before < len_max {
            return Ok(());
        }
        self.over.notify_one();
        if before < len_max.saturating_add(slack(len_max)) {
            return Ok(());
        }
        self.give_room();
        Err(CatalogFull { len_max })
    }

    /// Counts one less.
    pub(crate) fn give_room(&self) {
        self.len.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes out this very activation, if it is still in. This thread does not find it again.
    pub(crate) fn remove(&self, activation: &dyn AnyActivation) {
        nearby::forget(activation);
        let removed = {
            let mut shard = write(self.shard(activation.hash()));
            let found = shard.find_entry(activation.hash(), |other| std::ptr::addr_eq(Arc::as_ptr(other), activation));
            found.ok().map(|found| found.remove().0)
        };
        if removed.is_some() {
            self.give_room();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// All activations, shard by shard, each shard in the order of ids, so that a simulated node repeats itself.
    pub(crate) fn shards(&self) -> impl Iterator<Item = Vec<Arc<dyn AnyActivation>>> {
        (0..SHARDS).map(|shard| {
            let mut all = self.unsorted(shard);
            all.sort_unstable_by(|a, b| a.id().cmp(b.id()));
            all
        })
    }

    /// The activations of one of the [`SHARDS`], in an order that differs from run to run.
    pub(crate) fn unsorted(&self, shard: usize) -> Vec<Arc<dyn AnyActivation>> {
        read(&self.shards[shard]).iter().cloned().collect()
    }
}

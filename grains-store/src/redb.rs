//! A store in one file, for one node: redb over the disk seam, many commits to one fsync.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | `format`, `epoch`, `moved` | the format number (1); the last epoch given; 1 once a cluster has the states |
//! | `grains` | type, key | newest token (epoch, counter); how many states have a value |
//! | `states` | type, key, name | version (`u64`, little-endian), 1 or 0 for *removed*, the bytes of the value |
//!
//! Type and key end with `00 00`, and a NUL in them is written `00 FF`, so rows sort as grains do; the name follows as
//! it is. Listing and fencing read `grains` only, never a value.

mod backend;
pub(crate) mod layout;
mod open;
mod queue;
pub(crate) mod read;
pub(crate) mod rules;
mod writer;

use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use grains_core::{
    GrainId,
    store::{CommitError, LoadError, Store, Stored, WriteSet},
    world::{BoxFuture, World},
};
use redb::{Database, ReadTransaction, ReadableDatabase};
use tokio::sync::oneshot;

pub use self::open::OpenError;
#[cfg(feature = "consensus")]
pub(crate) use self::open::{Why, check_format, open_checked};
#[cfg(feature = "consensus")]
use self::read::KeptGrain;
use self::{
    queue::{Pushed, Queue, Waiting, not_stored},
    writer::{Failed, Writing},
};

/// A durable store for one node, in one file.
///
/// A commit is answered once it would survive a power cut. Commits that arrive while the disk is busy share the next
/// transaction, so throughput grows with load while a lone commit costs its own two fsyncs. After an I/O error the store
/// refuses to write until it is opened again: what a failed fsync has left behind, only the file can tell.
///
/// Clones share one file. [`close`](Self::close) returns when it can be opened again. Dropping the last clone closes it
/// too, but not before the commits under way are written, and on whatever thread that is, for the time of a commit.
///
/// ```
/// # use grains_core::{GrainId, store::Store, world::World};
/// # use grains_store::redb::{OpenError, RedbStore};
/// # async fn example(world: &World) -> Result<(), Box<dyn std::error::Error>> {
/// let store = RedbStore::open(world, "data/grains.redb".as_ref())?;
/// assert_eq!(store.load(&GrainId::new("cart", "ann"), "items").await?, None);
/// store.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RedbStore {
    shared: Arc<Shared>,
}

/// The limits of a [`RedbStore`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedbConfig {
    /// How many commits may wait for the disk. One more is answered [`CommitError::NotStored`].
    pub commit_queue_len_max: usize,
    /// How many bytes of states may wait for the disk. A set beyond that alone is [`CommitError::TooLarge`].
    pub commit_queue_bytes_max: usize,
    /// How many commits share one transaction.
    pub batch_len_max: usize,
    /// How many bytes of states share one transaction; a larger set gets one of its own.
    pub batch_bytes_max: usize,
    /// How much of the file is kept in memory.
    pub cache_bytes_max: usize,
}

impl Default for RedbConfig {
    fn default() -> Self {
        Self {
            commit_queue_len_max: 4096,
            commit_queue_bytes_max: 64 * 1024 * 1024,
            batch_len_max: 256,
            batch_bytes_max: 8 * 1024 * 1024,
            cache_bytes_max: 64 * 1024 * 1024,
        }
    }
}

impl RedbStore {
    /// Opens the store in the file at `path`, made if there is none. Blocks; after a crash it also repairs, in little
    /// time whatever the size.
    pub fn open(world: &World, path: &Path) -> Result<Self, OpenError> {
        Self::open_with(world, path, RedbConfig::default())
    }

    /// Opens the store in the file at `path` with other limits than the usual ones.
    pub fn open_with(world: &World, path: &Path, config: RedbConfig) -> Result<Self, OpenError> {
        let database = open::open(world, path, &config)?;
        let shared = Shared {
            world: world.clone(),
            path: path.to_owned(),
            queue: Mutex::new(Queue::new(config)),
            access: RwLock::new(Access::Open(database)),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Closes the file: commits that wait are not stored, the one under way is, and everything later is refused.
    pub async fn close(&self) {
        self.shared.refuse_writes("the store was closed");
        self.off_thread(|shared| shared.end_access("the store was closed")).await;
    }

    /// Whether no grain has a state here.
    #[cfg(feature = "consensus")]
    pub async fn is_empty(&self) -> Result<bool, LoadError> {
        let (first, _) = self.grains(None, 1, 1).await?;
        Ok(first.is_empty())
    }

    /// The next grains after the row of one, and the row of the last.
    #[cfg(feature = "consensus")]
    pub(crate) async fn grains(
        &self,
        after: Option<Vec<u8>>,
        limit: usize,
        bytes: usize,
    ) -> Result<(Vec<KeptGrain>, Option<Vec<u8>>), LoadError> {
        self.read(move |snapshot| read::grains(snapshot, after.as_deref(), limit, bytes)).await
    }

    /// Writes down that others have all that is here: it cannot be opened any more.
    #[cfg(feature = "consensus")]
    pub(crate) async fn moved(&self) -> Result<(), String> {
        let marked = self.off_thread(|shared| shared.write(writer::moved)).await;
        match marked {
            Some(Ok(())) => Ok(()),
            Some(Err(Failed::Untouched(why) | Failed::InDoubt(why))) => Err(why),
            None => Err("the runtime has ended".into()),
        }
    }

    /// Runs `work` where it holds up no grain; `None` if the runtime ends before.
    async fn off_thread<T: Send + 'static>(&self, work: impl FnOnce(&Shared) -> T + Send + 'static) -> Option<T> {
        let shared = self.shared.clone();
        self.shared.world.off_thread(move || work(&shared)).await
    }

    /// Reads in a snapshot of its own. Not on this thread: a cached page takes microseconds, but a cold one may take
    /// milliseconds and would stop every grain here, while the hop costs tens of microseconds once per activation.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, LoadError> + Send + 'static,
    ) -> Result<T, LoadError> {
        let read = self.off_thread(move |shared| shared.read(work)).await;
        read.unwrap_or_else(|| Err(unavailable("the runtime has ended")))
    }
}

impl Store for RedbStore {
    fn load<'a>(&'a self, grain: &'a GrainId, name: &'a str) -> BoxFuture<'a, Result<Option<Stored>, LoadError>> {
        let row = layout::state_key(&layout::grain_key(grain.grain_type(), grain.key()), name);
        Box::pin(self.read(move |snapshot| read::load(snapshot, &row)))
    }

    fn commit(&self, set: WriteSet) -> BoxFuture<'_, Result<(), CommitError>> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            self.shared.push(Waiting { set, answer })?;
            let lost = |_| Err(CommitError::Unknown { why: "the writer ended before it answered".into() });
            answered.await.unwrap_or_else(lost)
        })
    }

    fn list<'a>(
        &'a self,
        grain_type: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<String>, LoadError>> {
        let (first, end) = layout::type_bounds(grain_type);
        let after = after.map(|key| layout::grain_key(grain_type, key));
        Box::pin(self.read(move |snapshot| read::list(snapshot, &first, after.as_deref(), &end, limit)))
    }

    fn next_epoch(&self) -> BoxFuture<'_, Result<u64, LoadError>> {
        Box::pin(async move {
            let epoch = self.off_thread(|shared| shared.write(writer::next_epoch)).await;
            match epoch {
                Some(Ok(epoch)) => Ok(epoch),
                // A number that was perhaps given is given to nobody.
                Some(Err(Failed::Untouched(why) | Failed::InDoubt(why))) => Err(unavailable(&why)),
                None => Err(unavailable("the runtime has ended")),
            }
        })
    }
}

impl fmt::Debug for RedbStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedbStore").field("path", &self.shared.path).finish_non_exhaustive()
    }
}

struct Shared {
    world: World,
    path: PathBuf,
    queue: Mutex<Queue>,
    access: RwLock<Access>,
}

/// Whether the file may be used.
enum Access {
    Open(Database),
    /// No more, and why. After a failed commit reads are refused too: the file may hold more than this process knows.
    Over(String),
}

impl Shared {
    fn push(self: &Arc<Self>, one: Waiting) -> Result<(), CommitError> {
        // A binding of its own, or the lock would be held while the writer is started.
        let pushed = self.queue().push(one)?;
        match pushed {
            Pushed::WriterRuns => {}
            Pushed::WriterNeeded => self.start_writer(),
        }
        Ok(())
    }

    /// Starts the one writer. It ends by itself when the queue is empty, so nobody keeps its handle.
    fn start_writer(self: &Arc<Self>) {
        self.world.tasks.spawn(Box::pin(Writing::new(self.clone()).run()));
    }

    fn read<T>(&self, work: impl FnOnce(&ReadTransaction) -> Result<T, LoadError>) -> Result<T, LoadError> {
        let access = self.access.read().unwrap_or_else(PoisonError::into_inner);
        let database = match &*access {
            Access::Open(database) => database,
            Access::Over(why) => return Err(unavailable(why)),
        };
        let snapshot = database.begin_read().map_err(|e| read::load_error(e.into()))?;
        no_panic(|| work(&snapshot)).unwrap_or_else(|| Err(LoadError::Damaged { why: self.damaged() }))
    }

    /// Runs `work` in a transaction of its own, and ends all access if that leaves the file in doubt.
    fn write<T>(&self, work: impl FnOnce(&Database) -> Result<T, Failed>) -> Result<T, Failed> {
        let access = self.access.read().unwrap_or_else(PoisonError::into_inner);
        let result = match &*access {
            Access::Open(database) => {
                no_panic(|| work(database)).unwrap_or_else(|| Err(Failed::InDoubt(self.damaged())))
            }
            Access::Over(why) => Err(Failed::Untouched(why.clone())),
        };
        drop(access);
        if let Err(Failed::InDoubt(why)) = &result {
            let why = format!("a write failed, open the store again: {why}");
            self.refuse_writes(&why);
            self.end_access(&why);
        }
        result
    }

    fn refuse_writes(&self, why: &str) {
        let waiting = self.queue().refuse(why);
        answer_not_stored(waiting, why);
    }

    /// Closes the file, once reads and the transaction under way are over. The first reason stays.
    fn end_access(&self, why: &str) {
        let mut access = self.access.write().unwrap_or_else(PoisonError::into_inner);
        if matches!(*access, Access::Open(_)) {
            let open = std::mem::replace(&mut *access, Access::Over(why.to_owned()));
            // What redb fails to tidy up here, the next open repairs.
            let _ = no_panic(|| drop(open));
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // The queue does not panic half-way: it moves what was allocated before.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn damaged(&self) -> String {
        format!("the pages of `{}` contradict each other", self.path.display())
    }
}

/// Runs `work`; `None` if redb panics, as it does on some damaged pages, where a grain wants an error.
pub(crate) fn no_panic<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

fn answer_not_stored(waiting: VecDeque<Waiting>, why: &str) {
    for one in waiting {
        one.answer(Err(not_stored(why)));
    }
}

fn unavailable(why: &str) -> LoadError {
    LoadError::Unavailable { why: why.to_owned() }
}

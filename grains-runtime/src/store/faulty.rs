//! A store that misbehaves on demand, for tests of what uses one.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use grains_core::{
    GrainId,
    store::{CommitError, LoadError, Store, Stored, WriteSet},
    world::BoxFuture,
};

/// A store around another one, which does as scripted: refuses, stalls, or loses an answer.
///
/// Use it to test how grains meet a bad day of their store. Each commit takes the next entry of the script for commits,
/// each load that of the script for loads; when a script is used up, the standing behaviour counts, at first
/// [`Fault::None`]. Listing and epochs follow the standing behaviour of loads. Clones share script and contents.
///
/// ```
/// # use grains_core::{FencingToken, GrainId, Version, store::{CommitError, Store, Write, WriteSet}};
/// # use grains_runtime::store::{Fault, FaultyStore, MemoryStore};
/// # async fn example(set: WriteSet) {
/// let store = FaultyStore::new(MemoryStore::default());
/// store.script_commits([Fault::HideAnswer, Fault::None]);
/// assert!(matches!(store.commit(set.clone()).await, Err(CommitError::Unknown { .. })));
/// // It was stored all the same, and asking again is how the caller finds out.
/// assert!(matches!(store.commit(set).await, Err(CommitError::Conflict { .. })));
/// # }
/// # let (grain, token) = (GrainId::new("t", "k"), FencingToken { epoch: 1, counter: 1 });
/// # let writes = vec![Write { name: "s".into(), expected: Version(0), value: None }];
/// # let ended = std::pin::pin!(example(WriteSet { grain, token, writes }))
/// #     .poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
/// # assert!(ended.is_ready());
/// ```
#[derive(Clone)]
pub struct FaultyStore<S> {
    inner: S,
    plan: Arc<Mutex<Plan>>,
}

/// What a [`FaultyStore`] does with one commit or load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// As the inner store does.
    #[default]
    None,
    /// Does nothing and says so: [`CommitError::NotStored`], [`LoadError::Unavailable`].
    Refuse,
    /// Does nothing and never answers.
    Stall,
    /// Does it and never answers.
    LoseAnswer,
    /// Does it, then says that it cannot tell: [`CommitError::Unknown`], [`LoadError::Unavailable`].
    HideAnswer,
    /// Does nothing, then says that it cannot tell: [`CommitError::Unknown`], [`LoadError::Unavailable`].
    HideRefusal,
}

#[derive(Default)]
struct Plan {
    commits: Script,
    loads: Script,
}

/// What happens to operations of one kind. As long as a test makes it.
#[derive(Default)]
struct Script {
    next: VecDeque<Fault>,
    standing: Fault,
    begun: u64,
}

impl<S: Store> FaultyStore<S> {
    /// Wraps `inner`. Until told otherwise, it does as that one does.
    pub fn new(inner: S) -> Self {
        Self { inner, plan: Arc::default() }
    }

    /// The store inside, which does no harm.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// What happens to the next commits, one entry each, after those scripted before.
    pub fn script_commits(&self, faults: impl IntoIterator<Item = Fault>) {
        self.plan().commits.next.extend(faults);
    }

    /// What happens to the next loads, one entry each, after those scripted before.
    pub fn script_loads(&self, faults: impl IntoIterator<Item = Fault>) {
        self.plan().loads.next.extend(faults);
    }

    /// What happens to everything that is not scripted, from now on. [`Fault::None`] ends an outage.
    pub fn set_standing(&self, fault: Fault) {
        let mut plan = self.plan();
        plan.commits.standing = fault;
        plan.loads.standing = fault;
    }

    /// How many commits have begun.
    pub fn commits_begun(&self) -> u64 {
        self.plan().commits.begun
    }

    /// How many loads have begun.
    pub fn loads_begun(&self) -> u64 {
        self.plan().loads.begun
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        // A queue and two numbers: nothing in them can be half-changed by a panic.
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Script {
    fn take(&mut self) -> Fault {
        self.begun += 1;
        self.next.pop_front().unwrap_or(self.standing)
    }
}

impl<S: Store> Store for FaultyStore<S> {
    fn load<'a>(&'a self, grain: &'a GrainId, name: &'a str) -> BoxFuture<'a, Result<Option<Stored>, LoadError>> {
        Box::pin(async move {
            let fault = self.plan().loads.take();
            read(fault, self.inner.load(grain, name)).await
        })
    }

    fn commit(&self, writes: WriteSet) -> BoxFuture<'_, Result<(), CommitError>> {
        Box::pin(async move {
            let fault = self.plan().commits.take();
            write(fault, self.inner.commit(writes)).await
        })
    }

    fn list<'a>(
        &'a self,
        grain_type: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<String>, LoadError>> {
        Box::pin(async move {
            let fault = self.plan().loads.standing;
            read(fault, self.inner.list(grain_type, after, limit)).await
        })
    }

    fn next_epoch(&self) -> BoxFuture<'_, Result<u64, LoadError>> {
        Box::pin(async move {
            let fault = self.plan().loads.standing;
            read(fault, self.inner.next_epoch()).await
        })
    }
}

impl<S: fmt::Debug> fmt::Debug for FaultyStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStore").field("inner", &self.inner).finish_non_exhaustive()
    }
}

async fn write(fault: Fault, inner: BoxFuture<'_, Result<(), CommitError>>) -> Result<(), CommitError> {
    let why = || SCRIPTED.to_owned();
    match fault {
        Fault::None => inner.await,
        Fault::Refuse => Err(CommitError::NotStored { why: why() }),
        Fault::Stall => std::future::pending().await,
        Fault::LoseAnswer => {
            // Whatever it was, nobody gets to see it.
            let _ = inner.await;
            std::future::pending().await
        }
        Fault::HideAnswer => {
            let _ = inner.await;
            Err(CommitError::Unknown { why: why() })
        }
        Fault::HideRefusal => Err(CommitError::Unknown { why: why() }),
    }
}

async fn read<T>(fault: Fault, inner: BoxFuture<'_, Result<T, LoadError>>) -> Result<T, LoadError> {
    let unavailable = || Err(LoadError::Unavailable { why: SCRIPTED.to_owned() });
    match fault {
        Fault::None => inner.await,
        Fault::Refuse | Fault::HideRefusal => unavailable(),
        Fault::Stall => std::future::pending().await,
        Fault::LoseAnswer => {
            let _ = inner.await;
            std::future::pending().await
        }
        Fault::HideAnswer => {
            let _ = inner.await;
            unavailable()
        }
    }
}

const SCRIPTED: &str = "scripted fault";

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use grains_core::{FencingToken, Version, store::Write};

    use super::*;
    use crate::store::MemoryStore;

    fn set(expected: u64) -> WriteSet {
        let writes = vec![Write { name: "s".into(), expected: Version(expected), value: Some(vec![1]) }];
        WriteSet { grain: GrainId::new("t", "k"), token: FencingToken { epoch: 1, counter: 1 }, writes }
    }

    fn poll<T>(mut future: BoxFuture<'_, T>) -> Poll<T> {
        future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    fn version(store: &impl Store) -> u64 {
        let Poll::Ready(Ok(found)) = poll(store.load(&GrainId::new("t", "k"), "s")) else { panic!("no answer") };
        found.map_or(0, |stored| stored.version.0)
    }

    #[test]
    fn each_commit_takes_the_next_fault() {
        let store = FaultyStore::new(MemoryStore::default());
        store.script_commits([Fault::Refuse, Fault::HideRefusal, Fault::Stall, Fault::LoseAnswer, Fault::HideAnswer]);
        assert!(matches!(poll(store.commit(set(0))), Poll::Ready(Err(CommitError::NotStored { .. }))));
        assert!(matches!(poll(store.commit(set(0))), Poll::Ready(Err(CommitError::Unknown { .. }))));
        assert!(poll(store.commit(set(0))).is_pending());
        assert_eq!(version(store.inner()), 0);
        assert!(poll(store.commit(set(0))).is_pending());
        assert_eq!(version(store.inner()), 1);
        assert!(matches!(poll(store.commit(set(1))), Poll::Ready(Err(CommitError::Unknown { .. }))));
        assert_eq!(version(store.inner()), 2);
        assert!(matches!(poll(store.commit(set(2))), Poll::Ready(Ok(()))));
        assert_eq!(store.commits_begun(), 6);
    }

    #[test]
    fn an_outage_lasts_until_it_is_ended() {
        let store = FaultyStore::new(MemoryStore::default());
        let grain = GrainId::new("t", "k");
        store.set_standing(Fault::Refuse);
        store.script_loads([Fault::Stall]);
        assert!(poll(store.load(&grain, "s")).is_pending());
        assert!(matches!(poll(store.load(&grain, "s")), Poll::Ready(Err(LoadError::Unavailable { .. }))));
        assert!(matches!(poll(store.commit(set(0))), Poll::Ready(Err(CommitError::NotStored { .. }))));
        assert!(matches!(poll(store.list("t", None, 1)), Poll::Ready(Err(LoadError::Unavailable { .. }))));
        assert!(matches!(poll(store.next_epoch()), Poll::Ready(Err(LoadError::Unavailable { .. }))));
        store.set_standing(Fault::None);
        assert_eq!(version(&store), 0);
        assert_eq!(store.loads_begun(), 3);
    }
}

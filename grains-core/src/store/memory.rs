//! The store in memory: what a node uses unless told otherwise, and what tests start from.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    id::{FencingToken, GrainId, Version},
    store::{CommitError, LoadError, Store, Stored, WriteSet},
    switches::{Mechanism, on},
    world::BoxFuture,
};

/// A store that keeps everything in memory, until its last clone is dropped.
///
/// Use it for tests, for development, and for state that may end with the process. Clones share their contents, so a
/// node can be stopped and started again over the same store. It answers at the first poll and never fails but by the
/// rules of [`Store`]; it has no limit of its own, because what it holds is what the grains have written.
///
/// ```
/// # use grains_core as grains;
/// use grains::{
///     FencingToken, GrainId, Version,
///     store::{Store, Write, WriteSet, memory::MemoryStore},
/// };
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemoryStore::default();
/// let cart = GrainId::new("cart", "ann");
/// store
///     .commit(WriteSet {
///         grain: cart.clone(),
///         token: FencingToken { epoch: store.next_epoch().await?, counter: 1 },
///         writes: vec![Write { name: "items".into(), expected: Version(0), value: Some(b"apples".to_vec()) }],
///     })
///     .await?;
/// let items = store.clone().load(&cart, "items").await?.ok_or("nothing stored")?;
/// assert_eq!((items.version, items.value), (Version(1), Some(b"apples".to_vec())));
/// # Ok(())
/// # }
/// # let ended = std::pin::pin!(example()).poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
/// # assert!(matches!(ended, std::task::Poll::Ready(Ok(()))));
/// ```
#[derive(Clone, Default)]
pub struct MemoryStore {
    contents: Arc<Mutex<Contents>>,
}

#[derive(Default)]
struct Contents {
    types: BTreeMap<&'static str, BTreeMap<Box<str>, Record>>,
    epoch: u64,
}

/// All that is kept of one grain.
struct Record {
    /// The largest token that has written.
    newest: FencingToken,
    states: BTreeMap<String, Stored>,
}

impl MemoryStore {
    fn contents(&self) -> MutexGuard<'_, Contents> {
        // Whoever panicked here had not begun to change anything: a commit checks first and then only moves values.
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    fn load<'a>(&'a self, grain: &'a GrainId, name: &'a str) -> BoxFuture<'a, Result<Option<Stored>, LoadError>> {
        Box::pin(async move { Ok(self.contents().record(grain).and_then(|record| record.states.get(name).cloned())) })
    }

    fn commit(&self, writes: WriteSet) -> BoxFuture<'_, Result<(), CommitError>> {
        Box::pin(async move { self.contents().commit(writes) })
    }

    fn list<'a>(
        &'a self,
        grain_type: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<String>, LoadError>> {
        Box::pin(async move { Ok(self.contents().list(grain_type, after, limit)) })
    }

    fn next_epoch(&self) -> BoxFuture<'_, Result<u64, LoadError>> {
        Box::pin(async move {
            let mut contents = self.contents();
            contents.epoch += 1;
            Ok(contents.epoch)
        })
    }
}

impl Contents {
    fn record(&self, grain: &GrainId) -> Option<&Record> {
        self.types.get(grain.grain_type())?.get(grain.key())
    }

    fn commit(&mut self, set: WriteSet) -> Result<(), CommitError> {
        self.check(&set)?;
        let grains = self.types.entry(set.grain.grain_type()).or_default();
        let record = grains
            .entry(set.grain.key().into())
            .or_insert_with(|| Record { newest: set.token, states: BTreeMap::new() });
        record.newest = record.newest.max(set.token);
        for write in set.writes {
            record.states.insert(write.name, Stored { version: write.expected.next(), value: write.value });
        }
        Ok(())
    }

    fn check(&self, set: &WriteSet) -> Result<(), CommitError> {
        let record = self.record(&set.grain);
        if let Some(record) = record
            && record.newest > set.token
            && on(Mechanism::TokenIsChecked)
        {
            return Err(CommitError::Fenced { ours: set.token, newest: record.newest });
        }
        for write in &set.writes {
            let stored = record.and_then(|record| record.states.get(&write.name));
            let found = stored.map_or(Version(0), |stored| stored.version);
            if found != write.expected && on(Mechanism::VersionIsChecked) {
                return Err(CommitError::Conflict { name: write.name.clone(), expected: write.expected, found });
            }
        }
        Ok(())
    }

    fn list(&self, grain_type: &str, after: Option<&str>, limit: usize) -> Vec<String> {
        let Some(grains) = self.types.get(grain_type) else { return Vec::new() };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        grains
            .range::<str, _>((from, Bound::Unbounded))
            .filter(|(_, record)| record.states.values().any(|state| state.value.is_some()))
            .take(limit)
            .map(|(key, _)| key.to_string())
            .collect()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grains: usize = self.contents().types.values().map(BTreeMap::len).sum();
        f.debug_struct("MemoryStore").field("grains", &grains).finish()
    }
}

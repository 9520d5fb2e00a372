//! A store in memory that tells one lie.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use grains_core::{
    FencingToken, GrainId, Version,
    store::{CommitError, LoadError, Store, Stored, Write, WriteSet},
    world::BoxFuture,
};
use grains_runtime::store::MemoryStore;

/// What a store does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    Nothing,
    NeverAnswers,
    VersionsStandStill,
    NoConflicts,
    LargeTokensSkipVersions,
    NoFence,
    FencePerState,
    ConflictBeforeFence,
    EqualTokensRefused,
    RefusalsFence,
    CounterBeforeEpoch,
    WriteByWrite,
    RemovalsForget,
    EmptyIsRemoved,
    LongIsCut,
    NulEndsAKey,
    ListUnsorted,
    ListFromAfter,
    ListByPrefix,
    ListWithRemoved,
    PagesWithHoles,
    EpochsStartAgain,
    OneAtATime,
    CheckThenWrite,
    HalfWhenDropped,
    AgainWhenDropped,
    FencesAreForgotten,
    LastIsLost,
    LastIsHalf,
    RefusedIsStored,
    OutageHidden,
}

/// A store in memory that tells one lie.
pub(crate) struct Liar {
    lie: Lie,
    inner: MemoryStore,
    /// What was stored, in order: from it the store is opened again.
    log: Mutex<Vec<WriteSet>>,
    fences: Mutex<BTreeMap<(GrainId, String), FencingToken>>,
    written: Mutex<BTreeSet<GrainId>>,
    busy: AtomicUsize,
    epoch: AtomicU64,
    pub(crate) outage: Arc<AtomicBool>,
}

impl Liar {
    pub(crate) fn new(lie: Lie) -> Self {
        Self {
            lie,
            inner: MemoryStore::default(),
            log: Mutex::default(),
            fences: Mutex::default(),
            written: Mutex::default(),
            busy: AtomicUsize::new(0),
            epoch: AtomicU64::new(0),
            outage: Arc::default(),
        }
    }

    /// What is there after the process has ended.
    pub(crate) async fn opened_again(&self) -> Self {
        let again = Self::new(self.lie);
        let mut log = self.log.lock().unwrap().clone();
        if self.lie == Lie::LastIsLost {
            log.pop();
        }
        if self.lie == Lie::LastIsHalf
            && let Some(last) = log.last_mut()
        {
            last.writes.truncate(1);
        }
        for mut set in log {
            if self.lie == Lie::FencesAreForgotten {
                set.token = FencingToken { epoch: 0, counter: 0 };
            }
            again.commit(set).await.unwrap();
        }
        let last_epoch = if self.lie == Lie::EpochsStartAgain { 0 } else { self.epoch.load(Ordering::Relaxed) };
        for _ in 0..last_epoch {
            again.next_epoch().await.unwrap();
        }
        again
    }

    async fn put(&self, set: WriteSet) -> Result<(), CommitError> {
        self.inner.commit(set.clone()).await?;
        self.written.lock().unwrap().insert(set.grain.clone());
        self.log.lock().unwrap().push(set);
        Ok(())
    }

    async fn found(&self, grain: &GrainId, name: &str) -> Option<Stored> {
        self.inner.load(grain, name).await.unwrap()
    }

    /// Makes every write name the version that is there.
    async fn agree(&self, set: &mut WriteSet) {
        for write in &mut set.writes {
            write.expected = self.found(&set.grain, &write.name).await.map_or(Version(0), |stored| stored.version);
        }
    }

    async fn conflict(&self, set: &WriteSet) -> Result<(), CommitError> {
        for write in &set.writes {
            let found = self.found(&set.grain, &write.name).await.map_or(Version(0), |stored| stored.version);
            if found != write.expected {
                return Err(CommitError::Conflict { name: write.name.clone(), expected: write.expected, found });
            }
        }
        Ok(())
    }

    /// A fence of its own under `name`, beside that of the inner store, which is then passed.
    fn own_fence(&self, set: &mut WriteSet, name: &str) -> Result<(), CommitError> {
        let ours = std::mem::replace(&mut set.token, ALL_POWERFUL);
        let mut fences = self.fences.lock().unwrap();
        let newest = fences.entry((set.grain.clone(), name.to_owned())).or_insert(ours);
        let newer = match self.lie {
            Lie::CounterBeforeEpoch => (newest.counter, newest.epoch) > (ours.counter, ours.epoch),
            _ => *newest > ours,
        };
        if newer {
            return Err(CommitError::Fenced { ours, newest: *newest });
        }
        *newest = ours;
        Ok(())
    }

    async fn lie(&self, mut set: WriteSet) -> Result<(), CommitError> {
        match self.lie {
            Lie::NeverAnswers => std::future::pending().await,
            Lie::NoConflicts => self.agree(&mut set).await,
            Lie::LargeTokensSkipVersions if set.token.epoch > 8 => self.agree(&mut set).await,
            Lie::NoFence => set.token = ALL_POWERFUL,
            Lie::FencePerState => {
                let name = set.writes[0].name.clone();
                self.own_fence(&mut set, &name)?;
            }
            Lie::RefusalsFence | Lie::CounterBeforeEpoch => self.own_fence(&mut set, "")?,
            Lie::ConflictBeforeFence => self.conflict(&set).await?,
            Lie::EqualTokensRefused => {
                let known = self.fences.lock().unwrap().insert((set.grain.clone(), String::new()), set.token);
                if known == Some(set.token) {
                    return Err(CommitError::Fenced { ours: set.token, newest: set.token });
                }
            }
            Lie::WriteByWrite => {
                for write in &set.writes {
                    self.put(of_one(&set, write.clone())).await?;
                }
                return Ok(());
            }
            Lie::RemovalsForget => {
                for write in &mut set.writes {
                    if let Some(Stored { version, value: None }) = self.found(&set.grain, &write.name).await
                        && write.expected == Version(0)
                    {
                        write.expected = version;
                    }
                }
            }
            Lie::EmptyIsRemoved => {
                set.writes.iter_mut().for_each(|w| w.value = w.value.take().filter(|v| !v.is_empty()))
            }
            Lie::LongIsCut => set.writes.iter_mut().flat_map(|w| &mut w.value).for_each(|v| v.truncate(512 * 1024)),
            Lie::NulEndsAKey => set.grain = cut(&set.grain),
            Lie::OneAtATime => {
                let others = self.busy.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                self.busy.fetch_sub(1, Ordering::Relaxed);
                if others > 0 {
                    return Err(CommitError::NotStored { why: "busy".into() });
                }
            }
            Lie::CheckThenWrite => {
                self.conflict(&set).await?;
                tokio::task::yield_now().await;
                self.agree(&mut set).await;
            }
            Lie::HalfWhenDropped if set.writes.len() > 1 => {
                let first = set.writes.remove(0);
                self.put(of_one(&set, first)).await?;
                tokio::task::yield_now().await;
            }
            Lie::AgainWhenDropped => {
                let again = Again { liar: self, set: Some(set.clone()) };
                self.put(set).await?;
                tokio::task::yield_now().await;
                again.forget();
                return Ok(());
            }
            Lie::OutageHidden if self.outage.load(Ordering::Relaxed) => return Ok(()),
            _ => {}
        }
        if self.outage.load(Ordering::Relaxed) {
            if self.lie == Lie::RefusedIsStored {
                self.put(set).await?;
            }
            return Err(CommitError::NotStored { why: "outage".into() });
        }
        self.put(set).await
    }
}

const ALL_POWERFUL: FencingToken = FencingToken { epoch: u64::MAX, counter: u64::MAX };

fn of_one(set: &WriteSet, write: Write) -> WriteSet {
    WriteSet { grain: set.grain.clone(), token: set.token, writes: vec![write] }
}

fn cut(grain: &GrainId) -> GrainId {
    GrainId::new(grain.grain_type(), grain.key().split('\0').next().unwrap())
}

/// Writes once more when its commit is dropped.
struct Again<'l> {
    liar: &'l Liar,
    set: Option<WriteSet>,
}

impl Again<'_> {
    fn forget(mut self) {
        self.set = None;
    }
}

impl Drop for Again<'_> {
    fn drop(&mut self) {
        let Some(mut set) = self.set.take() else { return };
        for write in &mut set.writes {
            write.expected = write.expected.next();
        }
        let mut put = Box::pin(self.liar.put(set));
        let _ = put.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
    }
}

impl Store for Liar {
    fn load<'a>(&'a self, grain: &'a GrainId, name: &'a str) -> BoxFuture<'a, Result<Option<Stored>, LoadError>> {
        Box::pin(async move {
            let grain = if self.lie == Lie::NulEndsAKey { cut(grain) } else { grain.clone() };
            let stored = self.inner.load(&grain, name).await?;
            Ok(match self.lie {
                Lie::RemovalsForget => stored.filter(|stored| stored.value.is_some()),
                Lie::VersionsStandStill => stored.map(|stored| Stored { version: Version(1), ..stored }),
                _ => stored,
            })
        })
    }

    fn commit(&self, set: WriteSet) -> BoxFuture<'_, Result<(), CommitError>> {
        Box::pin(self.lie(set))
    }

    fn list<'a>(
        &'a self,
        grain_type: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<String>, LoadError>> {
        Box::pin(async move {
            let written = self.written.lock().unwrap().clone();
            let beyond = |grain: &&GrainId| after.is_none_or(|after| grain.key() > after);
            let keys = |grains: Vec<&GrainId>| grains.iter().map(|grain| grain.key().to_owned()).collect();
            let mut listed = self.inner.list(grain_type, after, limit).await?;
            match self.lie {
                Lie::ListUnsorted => listed.reverse(),
                Lie::ListFromAfter => listed.splice(0..0, after.map(str::to_owned)).for_each(drop),
                Lie::ListByPrefix => {
                    let of_type = written.iter().filter(|grain| grain.grain_type().starts_with(grain_type));
                    listed = keys(of_type.filter(beyond).take(limit).collect());
                }
                Lie::ListWithRemoved => {
                    let of_type = written.iter().filter(|grain| grain.grain_type() == grain_type);
                    listed = keys(of_type.filter(beyond).take(limit).collect());
                }
                Lie::PagesWithHoles => {
                    let of_type = written.iter().filter(|grain| grain.grain_type() == grain_type);
                    let page: Vec<String> = keys(of_type.filter(beyond).take(limit).collect());
                    listed.retain(|key| page.contains(key));
                }
                _ => {}
            }
            Ok(listed)
        })
    }

    fn next_epoch(&self) -> BoxFuture<'_, Result<u64, LoadError>> {
        Box::pin(async move {
            let epoch = self.inner.next_epoch().await?;
            self.epoch.store(epoch, Ordering::Relaxed);
            Ok(epoch)
        })
    }
}

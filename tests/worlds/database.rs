//! A database beside the cluster, as grains meet it: it takes its time, what is on its way to it arrives whatever becomes of
//! whoever sent it, perhaps seconds later, and it checks versions and tokens. It outlives every node.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use grains::{
    FencingToken, GrainId,
    sim::{Machine, Sim},
    store::{CommitError, LoadError, MemoryStore, Store, Stored, WriteSet},
    world::{BoxFuture, World},
};

use crate::facts::{facts, habits, lock};

/// How long a write is on its way that had bad luck: longer than a lease.
const STUCK_MAX: Duration = Duration::from_secs(8);

#[derive(Clone)]
pub(crate) struct Database {
    sim: Sim,
    machine: Machine,
    inner: Arc<MemoryStore>,
    /// The largest token that has written to each grain.
    written: Arc<std::sync::Mutex<BTreeMap<GrainId, FencingToken>>>,
}

impl Database {
    pub(crate) fn new(sim: &Sim) -> Self {
        let (machine, inner, written) = (sim.machine("database"), Arc::default(), Arc::default());
        Self { sim: sim.clone(), machine, inner, written }
    }

    /// The database as the node on `machine` reaches it.
    pub(crate) fn of(&self, machine: &Machine) -> impl Store + use<> {
        Client { database: self.clone(), world: machine.world() }
    }

    fn delay(&self) -> Duration {
        self.sim.between(Duration::from_micros(200), Duration::from_millis(4))
    }

    /// A write that has arrived.
    async fn write(&self, writes: WriteSet) -> Result<(), CommitError> {
        let (grain, token) = (writes.grain.clone(), writes.token);
        self.inner.commit(writes).await?;
        let newest = *lock(&self.written)
            .entry(grain.clone())
            .and_modify(|newest| *newest = token.max(*newest))
            .or_insert(token);
        facts().wrote(&grain, token, newest);
        Ok(())
    }
}

struct Client {
    database: Database,
    world: World,
}

impl Client {
    async fn trip(&self) {
        let clock = &self.world.clock;
        clock.sleep_until(clock.now() + self.database.delay()).await;
    }
}

impl Store for Client {
    fn load<'a>(&'a self, grain: &'a GrainId, name: &'a str) -> BoxFuture<'a, Result<Option<Stored>, LoadError>> {
        Box::pin(async move {
            self.trip().await;
            let stored = self.database.inner.load(grain, name).await;
            self.trip().await;
            stored
        })
    }

    fn commit(&self, writes: WriteSet) -> BoxFuture<'_, Result<(), CommitError>> {
        let Database { sim, machine, .. } = &self.database;
        let way = if facts().happens(habits().stuck_chance) {
            sim.between(Duration::ZERO, STUCK_MAX)
        } else {
            self.database.delay()
        };
        let (arriving, on) = (self.database.clone(), sim.clone());
        let arrived = machine.spawn(async move {
            on.sleep(way).await;
            arriving.write(writes).await
        });
        Box::pin(async move {
            let committed = arrived.await.expect("the database is always up");
            self.trip().await;
            committed
        })
    }

    fn list<'a>(
        &'a self,
        grain_type: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<String>, LoadError>> {
        self.database.inner.list(grain_type, after, limit)
    }

    fn next_epoch(&self) -> BoxFuture<'_, Result<u64, LoadError>> {
        self.database.inner.next_epoch()
    }
}

//! A database beside the cluster, as grains meet it: it takes its time, its answers can be lost with whoever asked, and it
//! checks versions and tokens. It outlives every node.

use std::{sync::Arc, time::Duration};

use grains::{
    GrainId,
    sim::{Machine, Sim},
    store::{CommitError, LoadError, MemoryStore, Store, Stored, WriteSet},
    world::{BoxFuture, World},
};

#[derive(Clone)]
pub(crate) struct Database {
    sim: Sim,
    inner: Arc<MemoryStore>,
}

impl Database {
    pub(crate) fn new(sim: &Sim) -> Self {
        Self { sim: sim.clone(), inner: Arc::default() }
    }

    /// The database as the node on `machine` reaches it.
    pub(crate) fn of(&self, machine: &Machine) -> impl Store + use<> {
        Client { database: self.clone(), world: machine.world() }
    }

    fn delay(&self) -> Duration {
        self.sim.between(Duration::from_micros(200), Duration::from_millis(4))
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
        Box::pin(async move {
            self.trip().await;
            let committed = self.database.inner.commit(writes).await;
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

//! Our stores, put to the kit.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use grains_core::world::World;
use grains_runtime::{
    store::{
        Fault, FaultyStore, MemoryStore, RedbStore,
        conformance::{End, EndOutage, Harness, check},
    },
    world::crash_disk::{CrashDisk, Left},
};

use crate::world::{Folder, RealDisk, world_with};

struct Memory(World);

impl Harness for Memory {
    type Store = MemoryStore;
    fn world(&self) -> &World {
        &self.0
    }
    async fn open(&self) -> Arc<MemoryStore> {
        Arc::default()
    }
    async fn reopen(&self, store: Arc<MemoryStore>, end: End) -> Option<Arc<MemoryStore>> {
        // What it holds is as old as its oldest clone, and no older than the process.
        (end == End::Closed).then_some(store)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_store_in_memory_keeps_the_rules() {
    check(&Memory(world_with(Arc::new(RealDisk)))).await;
}

/// A store over another that is reached by wire, so to speak: it can be cut off, and what it stands on survives.
struct Faulty(World);

impl Harness for Faulty {
    type Store = FaultyStore<MemoryStore>;
    fn world(&self) -> &World {
        &self.0
    }
    async fn open(&self) -> Arc<Self::Store> {
        Arc::new(FaultyStore::new(MemoryStore::default()))
    }
    async fn reopen(&self, store: Arc<Self::Store>, _: End) -> Option<Arc<Self::Store>> {
        Some(Arc::new(FaultyStore::new(store.inner().clone())))
    }
    fn begin_outage(&self, store: &Self::Store) -> Option<EndOutage> {
        store.script_commits([Fault::HideAnswer, Fault::HideRefusal]);
        store.set_standing(Fault::Refuse);
        let store = store.clone();
        Some(Box::new(move || store.set_standing(Fault::None)))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_that_fails_by_the_rules_keeps_them() {
    check(&Faulty(world_with(Arc::new(RealDisk)))).await;
}

struct OnFile {
    world: World,
    folder: Folder,
    opened: AtomicUsize,
    paths: Mutex<Vec<(usize, std::path::PathBuf)>>,
}

impl OnFile {
    fn new() -> Self {
        let world = world_with(Arc::new(RealDisk));
        Self { world, folder: Folder::new(), opened: AtomicUsize::new(0), paths: Mutex::default() }
    }

    fn remember(&self, store: RedbStore, path: std::path::PathBuf) -> Arc<RedbStore> {
        let store = Arc::new(store);
        self.paths.lock().unwrap().push((Arc::as_ptr(&store).addr(), path));
        store
    }
}

impl Harness for OnFile {
    type Store = RedbStore;
    fn world(&self) -> &World {
        &self.world
    }
    async fn open(&self) -> Arc<RedbStore> {
        let path = self.folder.file(format!("{}.redb", self.opened.fetch_add(1, Ordering::Relaxed)));
        self.remember(RedbStore::open(&self.world, &path).unwrap(), path)
    }
    async fn reopen(&self, store: Arc<RedbStore>, _: End) -> Option<Arc<RedbStore>> {
        // A process cannot kill itself and go on; the disk with a power switch does that part.
        let here = Arc::as_ptr(&store).addr();
        store.close().await;
        let path = self.paths.lock().unwrap().iter().rev().find(|(at, _)| *at == here).unwrap().1.clone();
        Some(self.remember(RedbStore::open(&self.world, &path).unwrap(), path))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redb_on_a_real_file_keeps_the_rules() {
    check(&OnFile::new()).await;
}

struct OnCrashDisk {
    world: World,
    disks: Mutex<Vec<(usize, CrashDisk)>>,
}

impl OnCrashDisk {
    fn disk_of(&self, store: &RedbStore) -> CrashDisk {
        let here = std::ptr::from_ref(store).addr();
        self.disks.lock().unwrap().iter().rev().find(|(at, _)| *at == here).unwrap().1.clone()
    }

    fn open_on(&self, disk: CrashDisk) -> Arc<RedbStore> {
        let world = world_with(Arc::new(disk.clone()));
        let store = Arc::new(RedbStore::open(&world, "store.redb".as_ref()).unwrap());
        self.disks.lock().unwrap().push((Arc::as_ptr(&store).addr(), disk));
        store
    }
}

impl Harness for OnCrashDisk {
    type Store = RedbStore;
    fn world(&self) -> &World {
        &self.world
    }
    async fn open(&self) -> Arc<RedbStore> {
        self.open_on(CrashDisk::default())
    }
    async fn reopen(&self, store: Arc<RedbStore>, end: End) -> Option<Arc<RedbStore>> {
        let disk = self.disk_of(&store);
        match end {
            End::Closed => {
                store.close().await;
                Some(self.open_on(disk))
            }
            End::Killed => {
                disk.cut_now();
                Some(self.open_on(disk.after_crash(Left::Some(7))))
            }
        }
    }
    fn begin_outage(&self, store: &RedbStore) -> Option<EndOutage> {
        let disk = self.disk_of(store);
        disk.fail();
        Some(Box::new(move || disk.work()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn redb_on_a_disk_that_fails_keeps_the_rules() {
    check(&OnCrashDisk { world: world_with(Arc::new(RealDisk)), disks: Mutex::default() }).await;
}

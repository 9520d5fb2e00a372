//! The kit that any store is put to.

use grains_core::world::World;
use grains_runtime::store::conformance::{self, End, EndOutage, Harness};

use super::*;

/// Each store is the first of three nodes.
struct Three {
    world: World,
    running: Mutex<Vec<Running>>,
}

struct Running {
    first: Arc<ReplicatedStore>,
    places: Vec<Place>,
    others: Vec<ReplicatedStore>,
}

impl Three {
    fn keep(&self, places: Vec<Place>, stores: Vec<ReplicatedStore>) -> Arc<ReplicatedStore> {
        let mut stores = stores.into_iter();
        let first = Arc::new(stores.next().unwrap());
        self.running.lock().unwrap().push(Running { first: first.clone(), places, others: stores.collect() });
        first
    }
}

impl Harness for Three {
    type Store = ReplicatedStore;

    fn world(&self) -> &World {
        &self.world
    }

    async fn open(&self) -> Arc<ReplicatedStore> {
        // An outage is waited out again and again.
        let patience = Duration::from_secs(2);
        let (_, places, stores) = three_of(|place| Place { patience, ..place }).await;
        self.keep(places, stores)
    }

    async fn reopen(&self, store: Arc<ReplicatedStore>, end: End) -> Option<Arc<ReplicatedStore>> {
        let found = {
            let mut running = self.running.lock().unwrap();
            let at = running.iter().position(|one| Arc::ptr_eq(&one.first.shared, &store.shared)).unwrap();
            running.remove(at)
        };
        let mut places = Vec::new();
        let mut ended = vec![(*found.first).clone()];
        ended.extend(found.others);
        for (place, store) in found.places.into_iter().zip(ended) {
            places.push(match end {
                End::Killed => place.kill(store).await,
                End::Closed => {
                    store.close().await;
                    place
                }
            });
        }
        let mut stores = Vec::new();
        for place in &places {
            stores.push(place.start().await);
        }
        Some(self.keep(places, stores))
    }

    fn begin_outage(&self, store: &ReplicatedStore) -> Option<EndOutage> {
        let running = self.running.lock().unwrap();
        let running = running.iter().find(|one| Arc::ptr_eq(&one.first.shared, &store.shared)).unwrap();
        let wires = running.places[0].wires.clone();
        let all = ["a", "b", "c"];
        let pairs = all.iter().flat_map(|from| all.iter().map(move |to| ((*from).to_owned(), (*to).to_owned())));
        wires.0.lock().unwrap().cut.extend(pairs);
        Some(Box::new(move || wires.0.lock().unwrap().cut.clear()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_a_store() {
    let world = grains_runtime::world::tokio_world().unwrap();
    conformance::check(&Three { world, running: Mutex::default() }).await;
}

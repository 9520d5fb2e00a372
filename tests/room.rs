//! A node with more grains than it has room for: which activations stay, which go, and which calls are refused.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use grains::{CallError, GrainOptions, NodeConfig, Outcome, prelude::*};
use tokio::sync::Semaphore;

/// What the grains of one test do, by the first part of their keys.
struct Scene {
    gate: Semaphore,
    /// How often each was activated.
    begun: Mutex<BTreeMap<String, u32>>,
    /// Why each ended.
    ended: Mutex<Vec<(String, DeactivationReason)>>,
    alive: AtomicUsize,
    most_alive: AtomicUsize,
}

static SCENES: Mutex<BTreeMap<String, Arc<Scene>>> = Mutex::new(BTreeMap::new());

fn scene(key: &str) -> Arc<Scene> {
    let new = || {
        let (alive, most_alive) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (begun, ended) = (Mutex::default(), Mutex::default());
        Arc::new(Scene { gate: Semaphore::new(0), begun, ended, alive, most_alive })
    };
    let name = key.split(':').next().unwrap();
    SCENES.lock().unwrap().entry(name.to_owned()).or_insert_with(new).clone()
}

/// Those whose keys begin so and that ended for this reason.
fn ended(beginning: &str, why: DeactivationReason) -> usize {
    let scene = scene(beginning);
    let ended = scene.ended.lock().unwrap();
    ended.iter().filter(|(key, reason)| key.starts_with(beginning) && *reason == why).count()
}

#[rpc_trait]
pub trait Guest {
    async fn knock(&self) -> Result<()>;
    /// Is busy until the gate opens.
    async fn hold(&mut self) -> Result<()>;
}

#[grain(Guest)]
pub struct GuestGrain {
    ctx: Ctx<Self>,
    scene: Arc<Scene>,
}

impl Lifecycle for GuestGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        let scene = scene(&ctx.key());
        *scene.begun.lock().unwrap().entry(ctx.key()).or_default() += 1;
        let alive = scene.alive.fetch_add(1, SeqCst) + 1;
        scene.most_alive.fetch_max(alive, SeqCst);
        Ok(Self { ctx, scene })
    }

    async fn deactivate(&mut self, reason: DeactivationReason) -> Result<()> {
        if self.ctx.key().starts_with("slow") {
            self.ctx.sleep(Duration::from_millis(50)).await;
        }
        self.scene.ended.lock().unwrap().push((self.ctx.key(), reason));
        Ok(())
    }
}

impl Drop for GuestGrain {
    fn drop(&mut self) {
        self.scene.alive.fetch_sub(1, SeqCst);
    }
}

impl Guest for GuestGrain {
    async fn knock(&self) -> Result<()> {
        Ok(())
    }
    async fn hold(&mut self) -> Result<()> {
        self.scene.gate.acquire().await.map_err(Error::from)?.forget();
        Ok(())
    }
}

/// Always there.
#[rpc_trait]
pub trait Resident {
    async fn knock(&mut self) -> Result<u64>;
}

#[grain(Resident)]
pub struct ResidentGrain {
    ctx: Ctx<Self>,
    knocks: u64,
}

impl Lifecycle for ResidentGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        Ok(Self { ctx, knocks: 0 })
    }

    async fn deactivate(&mut self, reason: DeactivationReason) -> Result<()> {
        let key = self.ctx.key();
        scene(&key).ended.lock().unwrap().push((key, reason));
        Ok(())
    }
}

impl Resident for ResidentGrain {
    async fn knock(&mut self) -> Result<u64> {
        self.knocks += 1;
        Ok(self.knocks)
    }
}

#[rpc_trait(key = ())]
pub trait Warden {
    async fn rounds(&mut self) -> Result<u64>;
}

#[grain(Warden, default)]
#[derive(Default)]
pub struct WardenGrain(u64);

impl Warden for WardenGrain {
    async fn rounds(&mut self) -> Result<u64> {
        self.0 += 1;
        Ok(self.0)
    }
}

async fn node_with(change: impl FnOnce(&mut NodeConfig)) -> Node {
    Node::builder().host::<GuestGrain>().configure(change).start().await.unwrap()
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Calls so many grains, one after the other.
async fn knock(node: &Node, scene: &str, grains: usize) {
    let (node, scene) = (node.clone(), scene.to_owned());
    let knocking = tokio::spawn(async move {
        for n in 0..grains {
            node.get::<GuestRef>(format!("{scene}:{n}")).knock().await.unwrap();
        }
    });
    knocking.await.unwrap();
}

async fn ten_thousand_grains(name: &str) {
    let node = node_with(|config| config.activations_max = 100).await;
    knock(&node, name, 10_000).await;
    until("room", || node.activations()["guest"] <= 100).await;
    let most_alive = scene(name).most_alive.load(SeqCst);
    assert!((100..=164).contains(&most_alive), "{most_alive} at a time");
    let made_room = ended(name, DeactivationReason::MadeRoom);
    assert!(made_room >= 9_900, "{made_room} went to make room");
    assert!(node.activations()["guest"] > 50, "no more went than had to: {}", node.activations()["guest"]);
    assert_eq!(node.stop().await.dropped, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_grains_go_through_room_for_a_hundred_and_none_is_refused() {
    ten_thousand_grains("many").await;
}

#[tokio::test]
async fn so_they_do_on_a_single_thread() {
    ten_thousand_grains("many, one thread").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_all_are_busy_calls_that_need_another_one_are_refused_and_do_not_run() {
    let node = node_with(|config| config.activations_max = 1).await;
    let held: Vec<_> = (0..65).map(|n| tokio::spawn(node.get::<GuestRef>(format!("busy:{n}")).hold())).collect();
    until("all to be busy", || scene("busy").alive.load(SeqCst) == 65).await;
    let late: GuestRef = node.get("busy:late");
    let error = late.knock().await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotExecuted);
    assert!(matches!(&error, CallError::Overloaded { limit, .. } if &**limit == "activations_max = 1"), "{error}");
    assert!(!scene("busy").begun.lock().unwrap().contains_key("busy:late"));
    // Those that are there can be called, and wait as ever.
    let queued = tokio::spawn(node.get::<GuestRef>("busy:7").knock());
    scene("busy").gate.add_permits(65);
    assert!(join_all(held).await.into_iter().all(|held| held.unwrap().is_ok()));
    queued.await.unwrap().unwrap();
    until("room", || node.activations()["guest"] <= 1).await;
    late.knock().await.unwrap();
    assert!(ended("busy", DeactivationReason::MadeRoom) >= 64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_active_is_never_idle_and_makes_no_room() {
    let short = GrainOptions::new().idle_timeout(Duration::from_millis(20));
    let kept = GrainOptions::new().idle_timeout(Duration::from_millis(20)).keep_active();
    let builder = Node::builder().host_with::<GuestGrain>(short).host_with::<ResidentGrain>(kept);
    let builder = builder.singleton::<WardenGrain>().configure(|config| config.activations_max = 30);
    let node = builder.start().await.unwrap();
    for n in 0..20 {
        node.get::<ResidentRef>(format!("kept:{n}")).knock().await.unwrap();
    }
    node.get::<WardenRef>(()).rounds().await.unwrap();
    knock(&node, "guests of the kept", 1_000).await;
    until("the guests to be idle", || node.activations()["guest"] == 0).await;
    assert_eq!((node.activations()["resident"], ended("kept", DeactivationReason::Idle)), (20, 0));
    for n in 0..20 {
        assert_eq!(node.get::<ResidentRef>(format!("kept:{n}")).knock().await.unwrap(), 2, "it was there all the time");
    }
    assert_eq!(node.get::<WardenRef>(()).rounds().await.unwrap(), 2);
    assert_eq!(node.stop().await.dropped, 0);
    assert_eq!(ended("kept", DeactivationReason::Stopping), 20, "a stop ends them");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_go_than_have_to_however_long_they_take_for_it() {
    let node = node_with(|config| config.activations_max = 100).await;
    knock(&node, "slow", 110).await;
    until("room", || node.activations()["guest"] <= 100).await;
    // Also those that have been told to go, and have not gone yet.
    assert_eq!(node.stop().await.dropped, 0);
    let went = ended("slow", DeactivationReason::MadeRoom);
    assert!((10..=25).contains(&went), "{went} went, to have room for ten");
}

#[cfg(feature = "sim")]
#[test]
fn what_was_used_last_stays_and_a_run_repeats_itself() {
    use grains::sim::{self, Sim};

    async fn world(sim: Sim) {
        let machine = sim.machine("a");
        let name = "used";
        SCENES.lock().unwrap().remove(name); // that of another run
        let world = machine.world();
        let living = machine.spawn(async move {
            let (clock, builder) = (world.clock.clone(), Node::builder().world(world).host::<GuestGrain>());
            let node = builder.configure(|config| config.activations_max = 100).start().await.unwrap();
            for round in 0..120 {
                for n in 0..40 {
                    node.get::<GuestRef>(format!("{name}:often {n}")).knock().await.unwrap();
                }
                for n in 0..10 {
                    node.get::<GuestRef>(format!("{name}:once {round} {n}")).knock().await.unwrap();
                }
                clock.sleep_until(clock.now() + Duration::from_millis(500)).await;
            }
            let scene = scene(name);
            let often =
                scene.begun.lock().unwrap().iter().filter(|(key, _)| key.contains("often")).map(|(_, n)| *n).max();
            assert_eq!(often, Some(1), "what is used all the time stays");
            assert!(ended(name, DeactivationReason::MadeRoom) >= 1_140);
            node.stop().await;
        });
        living.await.expect("it is up");
    }
    sim::replays(5, world);
}

#[cfg(feature = "sim")]
#[test]
fn among_equals_the_same_ones_go_in_every_run() {
    use grains::sim::{self, Sim};

    static RUNS: Mutex<Vec<Vec<(String, DeactivationReason)>>> = Mutex::new(Vec::new());

    async fn world(sim: Sim) {
        let machine = sim.machine("a");
        SCENES.lock().unwrap().remove("equals"); // that of another run
        let world = machine.world();
        let living = machine.spawn(async move {
            let builder = Node::builder().world(world).host::<GuestGrain>();
            let node = builder.configure(|config| config.activations_max = 2_000).start().await.unwrap();
            for n in 0..2_600 {
                node.get::<GuestRef>(format!("equals:{n}")).knock().await.unwrap();
            }
            let ended = scene("equals").ended.lock().unwrap().clone();
            assert!(ended.len() >= 400, "{} have gone", ended.len());
            RUNS.lock().unwrap().push(ended);
        });
        living.await.expect("it is up");
    }
    sim::replays(6, world);
    let runs = RUNS.lock().unwrap();
    assert!(runs.len() == 2 && runs[0] == runs[1], "in the same order, too");
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl std::task::Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// Whoever makes room ends with its node, and lets nobody go on any more.
#[tokio::test]
async fn a_call_that_waits_for_room_hears_of_the_end_of_its_node() {
    let node =
        Node::builder().host::<GuestGrain>().configure(|config| config.activations_max = 1).start().await.unwrap();
    let wakes = Arc::new(Wakes::default());
    let waker = wakes.clone().into();
    // In one go: nothing else runs on this thread, so no room is made.
    let waits = (0..200).find_map(|n| {
        let mut call = node.get::<GuestRef>(format!("ends:{n}")).knock();
        let polled = std::pin::Pin::new(&mut call).poll(&mut std::task::Context::from_waker(&waker));
        polled.is_pending().then_some(call)
    });
    let waits = waits.expect("after some it is said to wait for room");
    assert_eq!(wakes.0.load(SeqCst), 0);
    drop(node);
    assert_eq!(wakes.0.load(SeqCst), 1, "it looks again");
    let answer = waits.await;
    assert!(matches!(answer, Err(CallError::Stopped { outcome: Outcome::NotExecuted })), "{answer:?}");
}

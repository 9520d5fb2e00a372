//! Grains with workers: here on one node, how calls are spread, and how workers begin and end.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

#[cfg(feature = "cluster")]
mod cluster;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use grains::{CallError, GrainOptions, NodeConfig, Outcome, StateError, prelude::*};
use tokio::sync::Semaphore;

/// What happens to the workers of one test, by the key of its grain.
struct Scene {
    /// Opens for those that hold.
    gate: Semaphore,
    both: tokio::sync::Barrier,
    inside: AtomicUsize,
    most_inside: AtomicUsize,
    ended: Mutex<Vec<String>>,
}

static SCENES: Mutex<BTreeMap<String, Arc<Scene>>> = Mutex::new(BTreeMap::new());

fn scene(key: &str) -> Arc<Scene> {
    let new = || {
        let (inside, most_inside) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Scene {
            gate: Semaphore::new(0),
            both: tokio::sync::Barrier::new(2),
            inside,
            most_inside,
            ended: Mutex::default(),
        })
    };
    SCENES.lock().unwrap().entry(key.to_owned()).or_insert_with(new).clone()
}

#[rpc_trait]
pub trait Press {
    /// Which worker answers.
    async fn who(&mut self) -> Result<String>;
    /// Holds its worker until the gate opens; gives which it was.
    async fn hold(&mut self) -> Result<String>;
    /// The same, and then panics.
    async fn hold_and_panic(&mut self) -> Result<()>;
    /// Waits until another worker is asked the same.
    async fn meet(&mut self) -> Result<()>;
    /// How many calls this worker has had of this method.
    async fn nth(&mut self) -> Result<u64>;
    /// Asks its own grain who it is, so many times over.
    async fn nest(&mut self, depth: u32) -> Result<Vec<String>>;
    /// Tries to have a state.
    async fn remember(&mut self) -> Result<String>;
    /// Ticks that it had so far, once it has had one.
    async fn ticks(&mut self) -> Result<u64>;
    /// Numbers from a task of the worker.
    async fn count(&self, n: u64) -> Result<Streaming<u64>>;
    /// Asks for its end.
    async fn go(&mut self) -> Result<String>;
}

#[grain(Press, workers = 3)]
pub struct PressGrain {
    ctx: Ctx<Self>,
    scene: Arc<Scene>,
    calls: u64,
    ticked: u64,
}

struct Inside(Arc<Scene>);

impl Inside {
    fn new(scene: &Arc<Scene>) -> Self {
        let now = scene.inside.fetch_add(1, SeqCst) + 1;
        scene.most_inside.fetch_max(now, SeqCst);
        Self(scene.clone())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, SeqCst);
    }
}

impl Lifecycle for PressGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        if ctx.key().starts_with("refuses") {
            ctx.sleep(Duration::from_millis(5)).await;
            return Err(Error::new("not today"));
        }
        if ctx.key() == "ticks" {
            ctx.every(Duration::from_millis(1), Self::tick)?; // a tick that waits counts as a call that does
        }
        Ok(Self { scene: scene(&ctx.key()), ctx, calls: 0, ticked: 0 })
    }

    async fn deactivate(&mut self, reason: DeactivationReason) -> Result<()> {
        self.scene.ended.lock().unwrap().push(format!("{reason:?}"));
        Ok(())
    }
}

impl PressGrain {
    async fn tick(&mut self) -> Result<()> {
        self.ticked += 1;
        Ok(())
    }
}

impl Press for PressGrain {
    async fn who(&mut self) -> Result<String> {
        Ok(self.ctx.activation().to_string())
    }
    async fn hold(&mut self) -> Result<String> {
        let inside = Inside::new(&self.scene);
        self.scene.gate.acquire().await.map_err(Error::from)?.forget();
        drop(inside);
        self.who().await
    }
    async fn hold_and_panic(&mut self) -> Result<()> {
        self.hold().await?;
        panic!("as asked");
    }
    async fn meet(&mut self) -> Result<()> {
        self.scene.both.wait().await;
        Ok(())
    }
    async fn nth(&mut self) -> Result<u64> {
        self.calls += 1;
        Ok(self.calls)
    }
    async fn nest(&mut self, depth: u32) -> Result<Vec<String>> {
        let mut workers = match depth {
            0 => Vec::new(),
            _ => {
                self.ctx.sleep(Duration::from_millis(1)).await;
                self.ctx.me::<PressRef>().nest(depth - 1).await?
            }
        };
        workers.push(self.who().await?);
        Ok(workers)
    }
    async fn remember(&mut self) -> Result<String> {
        let state: Result<State<u64>, StateError> = self.ctx.state("sum").await;
        Ok(state.map(|_| String::new()).unwrap_or_else(|error| error.to_string()))
    }
    async fn ticks(&mut self) -> Result<u64> {
        Ok(self.ticked)
    }
    async fn count(&self, n: u64) -> Result<Streaming<u64>> {
        let (sink, stream) = Streaming::channel(4);
        self.ctx.spawn(async move {
            for item in 0..n {
                if sink.send(item).await.is_err() {
                    return;
                }
            }
            sink.finish();
        })?;
        Ok(stream)
    }
    async fn go(&mut self) -> Result<String> {
        self.ctx.deactivate_on_idle();
        self.who().await
    }
}

async fn node() -> Node {
    node_with(|_| {}).await
}

async fn node_with(change: impl FnOnce(&mut NodeConfig)) -> Node {
    Node::builder().host::<PressGrain>().configure(change).start().await.unwrap()
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Calls of `hold` that were made, of which as many as there are workers run.
async fn holding(node: &Node, key: &str, calls: usize) -> Vec<tokio::task::JoinHandle<Result<String, CallError>>> {
    let press: PressRef = node.get(key);
    let held: Vec<_> = (0..calls).map(|_| tokio::spawn(press.hold())).collect();
    until("the turns to begin", || scene(key).inside.load(SeqCst) == calls.min(3)).await;
    held
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn as_many_calls_overlap_as_there_are_workers_and_not_one_more() {
    let node = node().await;
    let held = holding(&node, "overlap", 20).await;
    until("the others to wait", || node.waiting_calls() == 17).await;
    assert_eq!(node.activations()["press"], 3);
    scene("overlap").gate.add_permits(20);
    let workers: Vec<_> = join_all(held).await.into_iter().map(|worker| worker.unwrap().unwrap()).collect();
    assert_eq!(BTreeSet::from_iter(&workers).len(), 3);
    assert_eq!(scene("overlap").most_inside.load(SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_that_wait_are_spread_over_the_workers() {
    let node = node().await;
    let held = holding(&node, "spread", 12).await;
    until("the others to wait", || node.waiting_calls() == 9).await;
    scene("spread").gate.add_permits(12);
    let mut served = BTreeMap::new();
    for worker in join_all(held).await {
        *served.entry(worker.unwrap().unwrap()).or_insert(0) += 1;
    }
    assert_eq!(served.into_values().collect::<Vec<_>>(), [4, 4, 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_worker_is_enough_for_calls_that_come_one_after_the_other() {
    let node = node().await;
    let press: PressRef = node.get("one");
    for n in 1..=100 {
        assert_eq!(press.nth().await.unwrap(), n, "always the same worker");
    }
    assert_eq!(node.activations()["press"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_worker_is_preferred_to_one_that_is_busy() {
    let node = node().await;
    let held = holding(&node, "idle first", 3).await;
    scene("idle first").gate.add_permits(1);
    until("one to end", || scene("idle first").inside.load(SeqCst) == 2).await;
    let press: PressRef = node.get("idle first");
    for _ in 0..50 {
        // It would wait for ever elsewhere.
        press.who().timeout(Duration::from_secs(5)).await.unwrap();
    }
    scene("idle first").gate.add_permits(2);
    join_all(held).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_callers_at_once_get_a_worker_each() {
    let node = node().await;
    let press: PressRef = node.get("meets");
    let start = Arc::new(tokio::sync::Barrier::new(2));
    let callers = (0..2).map(|_| {
        let (press, start) = (press.clone(), start.clone());
        tokio::spawn(async move {
            for _ in 0..20_000 {
                start.wait().await;
                press.meet().timeout(Duration::from_secs(10)).await.unwrap();
            }
        })
    });
    join_all(callers).await.into_iter().for_each(|caller| caller.unwrap());
    assert!(node.activations()["press"] <= 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_key_has_workers_of_its_own() {
    let node = node().await;
    let (one, other) = (holding(&node, "key one", 3).await, holding(&node, "key other", 3).await);
    assert_eq!(node.activations()["press"], 6);
    for (key, held) in [("key one", one), ("key other", other)] {
        scene(key).gate.add_permits(3);
        assert!(join_all(held).await.into_iter().all(|held| held.unwrap().is_ok()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_panics_harms_no_other() {
    let node = node().await;
    let press: PressRef = node.get("panics");
    let panics = tokio::spawn(press.hold_and_panic());
    until("it to begin", || scene("panics").inside.load(SeqCst) == 1).await;
    let held: Vec<_> = (0..2).map(|_| tokio::spawn(press.hold())).collect();
    until("all to begin", || scene("panics").inside.load(SeqCst) == 3).await;
    let queued: Vec<_> = (0..9).map(|_| tokio::spawn(press.who())).collect();
    until("the others to wait", || node.waiting_calls() == 9).await;
    scene("panics").gate.add_permits(3);
    assert!(matches!(panics.await.unwrap(), Err(CallError::Panicked { .. })));
    assert!(join_all(held).await.into_iter().all(|held| held.unwrap().is_ok()));
    assert!(join_all(queued).await.into_iter().all(|queued| queued.unwrap().is_ok()), "what waited for it, too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_of_a_worker_to_its_own_grain_goes_to_another_one_as_long_as_there_is_one() {
    let node = node().await;
    let press: PressRef = node.get("nests");
    let workers = press.nest(2).await.unwrap();
    assert_eq!(BTreeSet::from_iter(workers).len(), 3);
    let error = press.nest(3).await.unwrap_err();
    assert!(error.to_string().contains("call cycle"), "{error}");
    // The others are held by somebody else: they are waited for, rather than to fail for a cycle there is not.
    let press: PressRef = node.get("nests beside");
    let held = holding(&node, "nests beside", 3).await;
    scene("nests beside").gate.add_permits(1);
    until("the first one to end", || scene("nests beside").inside.load(SeqCst) == 2).await;
    let nests = tokio::spawn(press.nest(1));
    until("it to wait", || node.waiting_calls() == 1).await;
    scene("nests beside").gate.add_permits(2);
    assert!(join_all(held).await.into_iter().all(|held| held.unwrap().is_ok()));
    assert_eq!(BTreeSet::from_iter(nests.await.unwrap().unwrap()).len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_has_no_state_and_is_told_why() {
    let node = node().await;
    let why = node.get::<PressRef>("stateless").remember().await.unwrap();
    assert_eq!(
        why,
        "grain type \"press\" is stateless, because it has workers: drop `workers` from its `#[grain(..)]`, or keep state `sum` in another grain"
    );
    // In unit tests, too.
    let detached = Ctx::<PressGrain>::detached("alone");
    assert!(matches!(detached.state::<u64>("sum").await, Err(StateError::Stateless { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timers_tasks_streams_and_one_way_calls_are_as_elsewhere() {
    let node = node().await;
    let press: PressRef = node.get("ticks");
    press.nth().send().unwrap();
    until("the one-way call", || node.activations()["press"] == 1).await;
    let begun = Instant::now();
    while press.ticks().await.unwrap() < 3 {
        assert!(begun.elapsed() < Duration::from_secs(20), "no ticks");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut items = press.count(100).await.unwrap();
    for n in 0..100 {
        assert_eq!(items.next().await.unwrap().unwrap(), n);
    }
    assert!(items.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_cannot_be_activated_is_told_to_its_callers_and_leaves_nothing_behind() {
    let node = node().await;
    let press: PressRef = node.get("refuses");
    for refused in join_all((0..20).map(|_| tokio::spawn(press.who()))).await {
        let error = refused.unwrap().unwrap_err();
        assert_eq!(error.outcome(), Outcome::NotExecuted);
        assert!(error.to_string().contains("not today"), "{error}");
    }
    assert_eq!(node.activations()["press"], 0);
    assert_eq!(node.stop().await.dropped, 0, "the catalog is empty");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_go_when_they_are_idle_each_for_itself() {
    let options = GrainOptions::new().idle_timeout(Duration::from_millis(40));
    let node = Node::builder().host_with::<PressGrain>(options).start().await.unwrap();
    let held = holding(&node, "idle", 3).await;
    scene("idle").gate.add_permits(2);
    until("the idle ones to go", || node.activations()["press"] == 1).await;
    scene("idle").gate.add_permits(1);
    join_all(held).await;
    let press: PressRef = node.get("idle");
    press.nth().await.unwrap();
    until("the last one to go", || node.activations()["press"] == 0).await;
    assert_eq!(*scene("idle").ended.lock().unwrap(), ["Idle"; 3]);
    assert_eq!(press.nth().await.unwrap(), 1, "another one");
    press.go().await.unwrap();
    until("it to go, as asked", || scene("idle").ended.lock().unwrap().last().unwrap() == "Requested").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_lets_workers_end_and_drops_what_does_not() {
    let node = node_with(|config| config.stop_timeout = Duration::from_millis(500)).await;
    let held = holding(&node, "stop", 3).await;
    scene("stop").gate.add_permits(2);
    until("two to end", || scene("stop").inside.load(SeqCst) == 1).await;
    assert_eq!(node.stop().await.dropped, 1);
    let cut: Vec<_> = join_all(held).await.into_iter().filter_map(|held| held.unwrap().err()).collect();
    assert_eq!(cut.iter().map(CallError::outcome).collect::<Vec<_>>(), [Outcome::Unknown]);
    assert_eq!(*scene("stop").ended.lock().unwrap(), ["Stopping"; 2]);
    assert_eq!(node.activations()["press"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_count_as_activations_and_calls_wait_where_no_more_may_be_made() {
    // With the 64 that there may be above it.
    let node = node_with(|config| config.activations_max = 1).await;
    let crowd: Vec<_> = (0..63).map(|n| tokio::spawn(node.get::<PressRef>(format!("crowd {n}")).hold())).collect();
    until("a crowd", || (0..63).all(|n| scene(&format!("crowd {n}")).inside.load(SeqCst) == 1)).await;
    let press: PressRef = node.get("few");
    let held: Vec<_> = (0..5).map(|_| tokio::spawn(press.hold())).collect();
    until("all to be there", || node.waiting_calls() == 3).await;
    assert_eq!((node.activations()["press"], scene("few").inside.load(SeqCst)), (65, 2));
    let error = node.get::<PressRef>("one too many").who().await.unwrap_err();
    assert!(matches!(error, CallError::Overloaded { .. }), "{error}");
    scene("few").gate.add_permits(5);
    assert!(join_all(held).await.into_iter().all(|held| held.unwrap().is_ok()));
    (0..63).for_each(|n| scene(&format!("crowd {n}")).gate.add_permits(1));
    join_all(crowd).await;
    // Idle, they make room for others.
    until("room", || node.activations()["press"] <= 1).await;
    let other: PressRef = node.get("few others");
    let held: Vec<_> = (0..2).map(|_| tokio::spawn(other.hold())).collect();
    until("two again", || scene("few others").inside.load(SeqCst) == 2).await;
    scene("few others").gate.add_permits(2);
    join_all(held).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_call_is_lost_while_workers_come_and_go() {
    let options = GrainOptions::new().idle_timeout(Duration::from_millis(1));
    let node = Node::builder().host_with::<PressGrain>(options).start().await.unwrap();
    let until = Instant::now() + Duration::from_secs(2);
    let callers = (0..8_u64).map(|who| {
        let press: PressRef = node.get(format!("race {}", who % 2));
        tokio::spawn(async move {
            let mut calls = 0;
            while Instant::now() < until {
                calls += 1;
                match calls % 5 {
                    0 => drop(press.go().await.unwrap()),
                    1 => press.nth().send().unwrap(),
                    _ => drop(press.nth().await.unwrap()),
                }
                if calls % 97 == who {
                    tokio::time::sleep(Duration::from_millis(2)).await; // long enough to be idle
                }
            }
            calls
        })
    });
    let calls: u64 = join_all(callers).await.into_iter().map(|calls| calls.unwrap()).sum();
    assert!(calls > 1000, "the race was one: {calls}");
    assert_eq!(node.stop().await.dropped, 0);
    assert_eq!(node.activations()["press"], 0);
}

#[rpc_trait(key = ())]
pub trait Lone {
    async fn look(&self) -> Result<()>;
}

#[grain(Lone, workers = 1, default)]
#[derive(Default)]
pub struct LoneGrain;

impl Lone for LoneGrain {
    async fn look(&self) -> Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn what_means_nothing_for_workers_is_refused_at_the_start() {
    let why = Node::builder().singleton::<LoneGrain>().start().await.unwrap_err().to_string();
    assert!(why.contains("\"lone\" has workers") && why.contains("`NodeBuilder::singleton`"), "{why}");
    assert!(why.contains("drop `workers` from the `#[grain(..)]` of `workers::LoneGrain`"), "{why}");
    let options = GrainOptions::new().store("memory".into());
    let why = Node::builder().host_with::<LoneGrain>(options).start().await.unwrap_err().to_string();
    assert!(why.contains("`GrainOptions::store`"), "{why}");
    #[cfg(feature = "cluster")]
    {
        let random = GrainOptions::new().placement(grains::cluster::Strategy::Random);
        let why = Node::builder().host_with::<LoneGrain>(random).start().await.unwrap_err().to_string();
        assert!(why.contains("`GrainOptions::placement`"), "{why}");
        let role = GrainOptions::new().role("web");
        let why = Node::builder().host_with::<LoneGrain>(role).start().await.unwrap_err().to_string();
        assert!(why.contains("`GrainOptions::role`"), "{why}");
    }
    let node = Node::builder().host::<LoneGrain>().start().await.unwrap();
    node.get::<LoneRef>(()).look().await.unwrap();
}

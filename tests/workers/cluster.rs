//! Grains with workers in a cluster of three nodes over real sockets, of which two host them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::future::join_all;
use grains::{CallError, ClusterConfig, Outcome, prelude::*};
use tokio::sync::Semaphore;

/// What the workers of one test do, by the key of their grain.
struct Scene {
    /// Opens for those that hold.
    gate: Semaphore,
    /// The nodes of those that hold, by the epoch of their workers.
    inside: Mutex<BTreeMap<u64, usize>>,
    /// How often each call ran.
    ran: Mutex<BTreeMap<u64, u32>>,
}

static SCENES: Mutex<BTreeMap<String, Arc<Scene>>> = Mutex::new(BTreeMap::new());

fn scene(key: &str) -> Arc<Scene> {
    let new = || Arc::new(Scene { gate: Semaphore::new(0), inside: Mutex::default(), ran: Mutex::default() });
    SCENES.lock().unwrap().entry(key.to_owned()).or_insert_with(new).clone()
}

/// How many hold.
fn inside(key: &str) -> usize {
    scene(key).inside.lock().unwrap().values().sum()
}

#[rpc_trait]
pub(crate) trait Mill {
    /// Which node it is on: the number of its incarnation.
    async fn place(&mut self) -> Result<u64>;
    /// The same, after a while, and notes the call.
    async fn grind(&mut self, call: u64) -> Result<u64>;
    /// The same, once the gate is open.
    async fn hold(&mut self) -> Result<u64>;
}

#[grain(Mill, workers = 2)]
pub(crate) struct MillGrain {
    ctx: Ctx<Self>,
}

impl Lifecycle for MillGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        Ok(Self { ctx })
    }
}

impl Mill for MillGrain {
    async fn place(&mut self) -> Result<u64> {
        Ok(self.ctx.activation().epoch)
    }
    async fn grind(&mut self, call: u64) -> Result<u64> {
        *scene(&self.ctx.key()).ran.lock().unwrap().entry(call).or_default() += 1;
        self.ctx.sleep(Duration::from_millis(1)).await;
        self.place().await
    }
    async fn hold(&mut self) -> Result<u64> {
        let (scene, place) = (scene(&self.ctx.key()), self.place().await?);
        *scene.inside.lock().unwrap().entry(place).or_default() += 1;
        let opened = scene.gate.acquire().await.map(|permit| permit.forget());
        *scene.inside.lock().unwrap().entry(place).or_default() -= 1;
        opened?;
        Ok(place)
    }
}

async fn start(name: &str, listen: &str, list: &[String], hosts: bool) -> Node {
    let config = ClusterConfig::new("mills").listen(listen).join(list.to_vec());
    let builder = Node::builder().name(name).cluster(config);
    let builder = if hosts { builder.host::<MillGrain>() } else { builder };
    builder.start().await.unwrap()
}

fn free(n: usize) -> Vec<String> {
    let held: Vec<_> = (0..n).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    held.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect()
}

/// Nodes a and b, which host workers, and c, which does not; all know of all.
async fn three() -> [Node; 3] {
    let list = free(3);
    let starting = ["a", "b", "c"].into_iter().zip(&list).map(|(name, at)| start(name, at, &list, name != "c"));
    let nodes: [Node; 3] = join_all(starting).await.try_into().unwrap();
    until("all to know all", || nodes.iter().all(|node| node.status().members.len() == 3)).await;
    nodes
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{what} did not happen"));
}

fn place(node: &Node) -> u64 {
    node.status().incarnation
}

fn living(node: &Node) -> usize {
    node.activations().get("mill").copied().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_stay_on_a_node_that_has_workers_and_are_spread_from_one_that_has_not() {
    let [a, b, c] = three().await;
    for (node, other) in [(&a, &b), (&b, &a)] {
        let before = living(other);
        for key in 0..20 {
            assert_eq!(node.get::<MillRef>(format!("at home {key}")).place().await.unwrap(), place(node));
        }
        assert_eq!(living(other), before, "the other one was not asked");
    }
    let mill: MillRef = c.get("spread");
    let mut places = BTreeMap::new();
    for _ in 0..20 {
        *places.entry(mill.place().await.unwrap()).or_insert(0) += 1;
    }
    assert_eq!(places, BTreeMap::from([(place(&a), 10), (place(&b), 10)]));
    // As many at a time as both nodes have.
    let held: Vec<_> = (0..12).map(|_| tokio::spawn(mill.hold())).collect();
    until("four to begin", || inside("spread") == 4).await;
    until("the others to wait", || a.waiting_calls() + b.waiting_calls() == 8).await;
    assert_eq!(*scene("spread").inside.lock().unwrap(), BTreeMap::from([(place(&a), 2), (place(&b), 2)]));
    scene("spread").gate.add_permits(12);
    assert!(join_all(held).await.into_iter().all(|held| held.unwrap().is_ok()));
    join_all([&a, &b, &c].map(Node::stop)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_hosts_it_a_call_fails_as_elsewhere() {
    let list = free(1);
    let c = start("c", &list[0], &[], false).await;
    let error = c.get::<MillRef>("nowhere").place().await.unwrap_err();
    assert!(matches!(&error, CallError::NotHosted { grain_type } if &**grain_type == "mill"), "{error}");
    c.stop().await;
}

/// The calls of one loop, and what became of them.
type Caller = tokio::task::JoinHandle<Vec<(u64, Result<u64, CallError>)>>;

/// Calls from `node`, in so many loops, until `done`. Gives each call's answer.
fn traffic(node: &Node, key: &str, done: &Arc<AtomicBool>, count: &Arc<AtomicUsize>) -> Vec<Caller> {
    let callers = (0..8_u64).map(|who| {
        let (mill, done, count): (MillRef, _, _) = (node.get(key), done.clone(), count.clone());
        tokio::spawn(async move {
            let mut answers = Vec::new();
            while !done.load(SeqCst) {
                let call = who << 32 | answers.len() as u64;
                answers.push((call, mill.grind(call).await));
                count.fetch_add(1, SeqCst);
            }
            answers
        })
    });
    callers.collect()
}

/// All answers, after each was held against how often its call ran.
async fn judged(key: &str, callers: Vec<Caller>) -> Vec<Result<u64, CallError>> {
    let answers: Vec<_> = join_all(callers).await.into_iter().flat_map(|answers| answers.unwrap()).collect();
    let scene = scene(key);
    let ran = scene.ran.lock().unwrap();
    let times = |call: &u64| ran.get(call).copied().unwrap_or(0);
    for (call, answer) in &answers {
        match answer {
            Ok(_) => assert_eq!(times(call), 1),
            Err(error) => assert!(times(call) <= 1, "{error}"),
        }
    }
    answers.into_iter().map(|(_, answer)| answer).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_leaves_fails_no_call() {
    let [a, b, c] = three().await;
    let (done, count) = <(Arc<AtomicBool>, Arc<AtomicUsize>)>::default();
    let callers = traffic(&c, "leaves", &done, &count);
    until("some calls", || count.load(SeqCst) > 200).await;
    let (was, stays) = (place(&a), place(&b));
    assert_eq!(a.stop().await.dropped, 0);
    let then = count.load(SeqCst);
    until("more calls", || count.load(SeqCst) > then + 200).await;
    done.store(true, SeqCst);
    let answers = judged("leaves", callers).await;
    let places: Vec<_> = answers.into_iter().map(|answer| answer.unwrap()).collect();
    assert!(places.contains(&was) && places.iter().all(|place| [was, stays].contains(place)));
    join_all([&b, &c].map(Node::stop)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_wait_at_a_host_that_leaves_run_on_another_one() {
    let [a, b, c] = three().await;
    // Both workers of a are busy; behind them wait calls of its own and of c.
    let held: Vec<_> = (0..2).map(|_| tokio::spawn(a.get::<MillRef>("waits").hold())).collect();
    until("both to begin", || inside("waits") == 2).await;
    let own: Vec<_> = (0..4).map(|_| tokio::spawn(a.get::<MillRef>("waits").place())).collect();
    until("its own to wait", || a.waiting_calls() == 4).await;
    let others: Vec<_> = (0..8).map(|_| tokio::spawn(c.get::<MillRef>("waits").place())).collect();
    until("those of c to wait", || a.waiting_calls() == 8).await;
    let (was, stays) = (place(&a), place(&b));
    let stopping = tokio::spawn({
        let a = a.clone();
        async move { a.stop().await }
    });
    // New calls go to the other one at once.
    let leaving = || b.status().members.iter().any(|member| member.name == "a" && member.state == "leaving");
    until("it to leave", leaving).await;
    for _ in 0..10 {
        let place = c.get::<MillRef>("new").place().await.unwrap();
        assert_eq!(place, stays);
    }
    assert!(!stopping.is_finished(), "turns that have begun run to their end");
    scene("waits").gate.add_permits(2);
    for held in join_all(held).await {
        assert_eq!(held.unwrap().unwrap(), was);
    }
    for place in join_all(own).await {
        assert_eq!(place.unwrap().unwrap(), stays, "what waited there runs where the grain lives on");
    }
    let places: Vec<_> = join_all(others).await.into_iter().map(|place| place.unwrap().unwrap()).collect();
    assert!(places.iter().all(|place| *place == stays), "{places:?} and not {was}");
    assert_eq!(stopping.await.unwrap().dropped, 0);
    join_all([&b, &c].map(Node::stop)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_dies_loses_no_call_that_had_not_begun() {
    let [a, b, c] = three().await;
    let (done, count) = <(Arc<AtomicBool>, Arc<AtomicUsize>)>::default();
    let callers = traffic(&c, "dies", &done, &count);
    until("some calls", || count.load(SeqCst) > 200).await;
    let stays = place(&b);
    drop(a); // as if killed
    let then = count.load(SeqCst);
    until("more calls, before and after it is a member no more", || count.load(SeqCst) > then + 200).await;
    until("it to be removed", || b.status().members.len() == 2).await;
    let then = count.load(SeqCst);
    until("more calls", || count.load(SeqCst) > then + 200).await;
    done.store(true, SeqCst);
    let answers = judged("dies", callers).await;
    let failed: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(failed.iter().all(|error| error.outcome() == Outcome::Unknown), "{failed:?}");
    // Those that were with it, one for each caller, and perhaps one more that was sent before its connection broke.
    assert!(failed.len() <= 16, "{} calls: {failed:?}", failed.len());
    assert!(answers.iter().rev().take(50).all(|answer| answer.as_ref().is_ok_and(|place| *place == stays)));
    join_all([&b, &c].map(Node::stop)).await;
}

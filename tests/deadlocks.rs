//! Calls of several chains that wait for each other: one of them fails within a second, and says with whom.
#![cfg(feature = "cluster")]
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use grains::{ClusterConfig, GrainOptions, Outcome, cluster::Strategy, prelude::*};
use tokio::sync::Barrier;

type Answer<T> = Result<T, CallError<String>>;

#[rpc_trait]
pub trait Fork {
    /// Has its turn, meets the turns of others that have theirs, and only then takes the others along the path.
    async fn hold(&mut self, meeting: String, path: Vec<String>) -> Answer<()>;
    /// The same beside others.
    async fn hold_shared(&self, meeting: String, path: Vec<String>) -> Answer<()>;
    /// Takes the others along the path.
    async fn take(&mut self, path: Vec<String>) -> Answer<()>;
    /// Takes its time.
    async fn nap(&mut self, ms: u64) -> Answer<()>;
    /// Blocks its thread, then takes the others along the path.
    async fn block(&mut self, ms: u64, path: Vec<String>) -> Answer<()>;
    /// Takes the others along the path, gives up after a while, and keeps its turn.
    async fn give_up(&mut self, path: Vec<String>, keeps_ms: u64) -> Answer<()>;
    /// Calls a slow one, one after the other.
    async fn wait_for(&mut self, slow: String) -> Answer<()>;
    /// Has its turn, meets the turns of others that have theirs, and only then calls the desk.
    async fn ask_desk(&mut self, meeting: String, desk: String) -> Answer<()>;
    /// On which node it is.
    async fn place(&self) -> Answer<String>;
}

#[rpc_trait]
pub trait Desk {
    /// Has its turn, meets the turns of others that have theirs, and only then takes the fork.
    async fn hold(&mut self, meeting: String, fork: String) -> Answer<()>;
    /// Takes no time.
    async fn stamp(&mut self) -> Answer<()>;
}

#[grain(Desk, workers = 2)]
pub struct DeskGrain {
    ctx: Ctx<Self>,
}

impl Lifecycle for DeskGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        Ok(Self { ctx })
    }
}

impl Desk for DeskGrain {
    async fn hold(&mut self, meeting: String, fork: String) -> Answer<()> {
        meet(&meeting).await;
        inner(self.ctx.get::<ForkRef>(fork).take(Vec::new()).await)
    }
    async fn stamp(&mut self) -> Answer<()> {
        Ok(())
    }
}

#[grain(Fork)]
pub struct ForkGrain {
    ctx: Ctx<Self>,
}

impl Lifecycle for ForkGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        // `shy-b` calls `b` before it lives.
        if let Some(other) = ctx.key().strip_prefix("shy-") {
            let other: ForkRef = ctx.get(other.to_owned());
            meet("shy").await;
            other.take(Vec::new()).await.map_err(Error::new)?;
        }
        Ok(Self { ctx })
    }
}

/// Where the turns of a test meet: it has given the place to so many.
fn meeting(name: &str, of: usize) {
    MEETINGS.lock().unwrap().insert(name.to_owned(), Arc::new(Barrier::new(of)));
}

async fn meet(name: &str) {
    let barrier = MEETINGS.lock().unwrap().get(name).cloned();
    barrier.expect("the test has said how many meet").wait().await;
}

static MEETINGS: Mutex<BTreeMap<String, Arc<Barrier>>> = Mutex::new(BTreeMap::new());

impl ForkGrain {
    async fn go_on(&self, mut path: Vec<String>) -> Answer<()> {
        if path.is_empty() {
            return Ok(());
        }
        let next: ForkRef = self.ctx.get(path.remove(0));
        inner(next.take(path).await)
    }
}

/// What the innermost call of a chain came to.
fn inner<T>(answer: Result<T, CallError<CallError<String>>>) -> Answer<T> {
    answer.map_err(|error| match error {
        CallError::Grain(error) => error,
        delivery => delivery.map_grain(|_| unreachable!("taken above")),
    })
}

impl Fork for ForkGrain {
    async fn hold(&mut self, meeting: String, path: Vec<String>) -> Answer<()> {
        meet(&meeting).await;
        self.go_on(path).await
    }
    async fn hold_shared(&self, meeting: String, path: Vec<String>) -> Answer<()> {
        meet(&meeting).await;
        self.go_on(path).await
    }
    async fn take(&mut self, path: Vec<String>) -> Answer<()> {
        self.go_on(path).await
    }
    async fn nap(&mut self, ms: u64) -> Answer<()> {
        self.ctx.sleep(Duration::from_millis(ms)).await;
        Ok(())
    }
    async fn block(&mut self, ms: u64, path: Vec<String>) -> Answer<()> {
        std::thread::sleep(Duration::from_millis(ms));
        self.go_on(path).await
    }
    async fn give_up(&mut self, path: Vec<String>, keeps_ms: u64) -> Answer<()> {
        let gives_up = tokio::time::timeout(Duration::from_millis(200), self.go_on(path)).await;
        assert!(gives_up.is_err(), "it waits");
        self.nap(keeps_ms).await
    }
    async fn wait_for(&mut self, slow: String) -> Answer<()> {
        inner(self.ctx.get::<ForkRef>(slow).nap(50).await)
    }
    async fn ask_desk(&mut self, meeting: String, desk: String) -> Answer<()> {
        meet(&meeting).await;
        inner(self.ctx.get::<DeskRef>(desk).stamp().await)
    }
    async fn place(&self) -> Answer<String> {
        Ok(self.ctx.activation().to_string())
    }
}

async fn alone() -> Node {
    Node::builder().host::<ForkGrain>().host::<DeskGrain>().start().await.unwrap()
}

fn path(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

/// The cycle that the only failure among these tells.
fn the_cycle(answers: Vec<Result<(), CallError<CallError<String>>>>) -> Vec<String> {
    let mut failures: Vec<_> = answers.into_iter().filter_map(|answer| inner(answer).err()).collect();
    assert_eq!(failures.len(), 1, "one is broken, the others go on: {failures:?}");
    let failure = failures.remove(0);
    assert_eq!(failure.outcome(), Outcome::NotExecuted);
    match failure {
        CallError::Deadlock { cycle } => cycle,
        other => panic!("expected a deadlock, got {other:?}"),
    }
}

/// The same, from wherever it begins.
fn ring(cycle: &[String]) -> Vec<&str> {
    let (last, turns) = cycle.split_last().unwrap();
    assert_eq!(last.split('.').next(), turns[0].split('.').next(), "it ends where it began: {cycle:?}");
    let first = turns.iter().enumerate().min_by_key(|(_, turn)| turn.as_str()).unwrap().0;
    turns[first..].iter().chain(&turns[..first]).map(String::as_str).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_chains_that_wait_for_each_other_are_told_apart() {
    let node = alone().await;
    let (a, b): (ForkRef, ForkRef) = (node.get("a"), node.get("b"));
    meeting("two", 2);
    let both = [a.hold("two".into(), path(&["b"])), b.hold("two".into(), path(&["a"]))];
    let cycle = the_cycle(join_all(both).await);
    assert_eq!(ring(&cycle), ["fork/a.hold", "fork/b.hold"]);
    assert!(cycle[2].ends_with(".take"), "{cycle:?}");
    a.take(path(&["b"])).await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ring_of_chains_names_every_grain_in_it() {
    let node = alone().await;
    meeting("ring", 4);
    let chains = (0..4).map(|n| {
        let next = format!("{}", (n + 1) % 4);
        let between = format!("between-{n}");
        node.get::<ForkRef>(n.to_string()).hold("ring".into(), vec![between, next])
    });
    let cycle = the_cycle(join_all(chains).await);
    let wanted: Vec<_> = (0..4).flat_map(|n| [format!("fork/{n}.hold"), format!("fork/between-{n}.take")]).collect();
    assert_eq!(ring(&cycle), wanted);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_wait_for_each_others_writer_are_a_cycle() {
    let node = alone().await;
    let (a, b): (ForkRef, ForkRef) = (node.get("ra"), node.get("rb"));
    meeting("readers", 3);
    let both = [
        a.hold_shared("readers".into(), path(&["rb"])),
        a.hold_shared("readers".into(), Vec::new()),
        b.hold_shared("readers".into(), path(&["ra"])),
    ];
    let cycle = the_cycle(join_all(both).await);
    assert_eq!(ring(&cycle), ["fork/ra.hold_shared", "fork/rb.hold_shared"]);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_activation_that_is_being_made_can_be_part_of_a_cycle() {
    let node = alone().await;
    meeting("shy", 2);
    let (shy, b): (ForkRef, ForkRef) = (node.get("shy-b"), node.get("b"));
    let (first, second) = tokio::join!(shy.take(Vec::new()), b.hold("shy".into(), path(&["shy-b"])));
    // Either the call to the one that is being made is broken, or that one's, which then cannot be made.
    let texts = [format!("{first:?}"), format!("{second:?}")];
    assert!(texts.iter().any(|text| text.contains("call cycle") || text.contains("Deadlock")), "{texts:?}");
    assert!(texts.iter().any(|text| text.contains("fork/shy-b.activate")), "{texts:?}");
    b.take(Vec::new()).await.unwrap();
    node.stop().await;
}

/// While several exclusive turns are handed over together, those that have not begun are in no queue; they are put back when one
/// of them has to wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_was_handed_over_and_put_back_can_be_part_of_a_cycle() {
    let node = alone().await;
    let (a, b): (ForkRef, ForkRef) = (node.get("back-a"), node.get("back-b"));
    meeting("before", 2);
    meeting("b", 2);
    let mut before = a.hold("before".into(), Vec::new());
    assert!(futures_util::poll!(&mut before).is_pending(), "it has its turn");
    let mut blocks = a.block(300, path(&["back-b"]));
    assert!(futures_util::poll!(&mut blocks).is_pending(), "it waits");
    let held = tokio::spawn(b.hold("b".into(), path(&["back-a"])).into_future());
    meet("b").await;
    until_waiting(&node, 2).await;
    // Both get their turns now. The first blocks for some rounds of whoever looks, and then waits for `b`, which waits for the other.
    meet("before").await;
    before.await.unwrap();
    let both = async { tokio::join!(blocks, async { held.await.unwrap() }) };
    let (blocks, held) = tokio::time::timeout(Duration::from_secs(5), both).await.expect("it is found");
    let cycle = the_cycle(vec![blocks, held]);
    assert_eq!(ring(&cycle), ["fork/back-a.block", "fork/back-b.hold"]);
    node.stop().await;
}

async fn until_waiting(node: &Node, calls: usize) {
    while node.waiting_calls() != calls {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_only_wait_long_are_left_alone() {
    let node = alone().await;
    // Forty chains wait up to two seconds for one grain, and others for them.
    let chains = (0..40).map(|n| node.get::<ForkRef>(format!("c{n}")).wait_for("slow".into()));
    let behind = (0..40).map(|n| node.get::<ForkRef>(format!("d{n}")).take(vec![format!("c{n}")]));
    let (chains, behind) = tokio::join!(join_all(chains), join_all(behind));
    for answer in chains.into_iter().chain(behind) {
        answer.unwrap();
    }
    node.stop().await;
}

/// Two workers each hold a turn and wait for a fork, whose turns wait for the workers.
async fn both_workers_wait(desk: [DeskRef; 2], forks: [ForkRef; 2], name: &str, key: &str) {
    meeting(name, 4);
    let held = [desk[0].hold(name.into(), "left".into()), desk[1].hold(name.into(), "right".into())];
    let asked = forks.map(|fork| fork.ask_desk(name.into(), key.into()).into_future());
    let (held, asked) = futures_util::join!(join_all(held), join_all(asked));
    let failures: Vec<_> = held.into_iter().chain(asked).filter_map(|answer| inner(answer).err()).collect();
    // Who waits for which worker is theirs to say: one ring of four, or two of two.
    assert!((1..=2).contains(&failures.len()), "{failures:?}");
    for failure in failures {
        assert_eq!(failure.outcome(), Outcome::NotExecuted);
        let CallError::Deadlock { cycle } = failure else { panic!("expected a deadlock, got {failure:?}") };
        let ring = ring(&cycle);
        let of_desk = ring.iter().filter(|turn| **turn == format!("desk/{key}.hold")).count();
        let of_forks = ring.iter().filter(|turn| matches!(**turn, "fork/left.ask_desk" | "fork/right.ask_desk"));
        assert!(of_desk == of_forks.count() && of_desk * 2 == ring.len(), "{cycle:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chains_that_wait_for_each_other_by_way_of_workers_are_a_cycle() {
    let node = alone().await;
    let (desk, left, right) = (node.get::<DeskRef>("a"), node.get("left"), node.get("right"));
    both_workers_wait([desk.clone(), desk.clone()], [left, right], "workers", "a").await;
    // With a worker that is free nobody waits.
    meeting("a free one", 2);
    let (there, back) = (desk.hold("a free one".into(), "left".into()), node.get::<ForkRef>("left"));
    let (held, asked) = futures_util::join!(there, back.ask_desk("a free one".into(), "a".into()));
    held.unwrap();
    asked.unwrap();
    node.stop().await;
}

/// Addresses that were free a moment ago.
fn free(n: usize) -> Vec<String> {
    let held: Vec<_> = (0..n).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    held.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect()
}

async fn cluster(names: &[&str]) -> Vec<Node> {
    let list = free(names.len());
    let start = async |name: &str, listen: &str| {
        let config = ClusterConfig::new("deadlocks").listen(listen).join(list.clone());
        let near = GrainOptions::new().placement(Strategy::PreferLocal);
        let builder = Node::builder().name(name).cluster(config).host_with::<ForkGrain>(near);
        builder.start().await.unwrap()
    };
    join_all(names.iter().zip(&list).map(|(name, at)| start(name, at))).await
}

/// The turn of `x` has given up waiting for `y`, which still waits for `z`, which waits for `x`: that ends by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_on_another_node_that_has_given_up_is_part_of_no_cycle() {
    let nodes = cluster(&["x", "y", "w"]).await;
    let (x, y, z): (ForkRef, ForkRef, ForkRef) = (nodes[0].get("x"), nodes[1].get("y"), nodes[1].get("z"));
    let places = [x.place().await.unwrap(), y.place().await.unwrap(), z.place().await.unwrap()];
    println!("{places:?}");
    meeting("given up", 2);
    let z = tokio::spawn(z.hold("given up".into(), path(&["x"])).into_future());
    let x = tokio::spawn(x.give_up(path(&["y", "z"]), 2_000).into_future());
    until_waiting(&nodes[1], 1).await;
    meet("given up").await;
    x.await.unwrap().unwrap();
    z.await.unwrap().unwrap();
    join_all(nodes.iter().map(Node::stop)).await;
}

/// The desk is served on one node, the forks are on the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ring_over_workers_of_another_node_is_found() {
    let list = free(2);
    let config = |listen: &str| ClusterConfig::new("deadlocks").listen(listen).join(list.clone());
    let near = || GrainOptions::new().placement(Strategy::PreferLocal);
    let desks = Node::builder().name("x").cluster(config(&list[0])).host::<DeskGrain>().host_with::<ForkGrain>(near());
    let forks = Node::builder().name("y").cluster(config(&list[1])).host_with::<ForkGrain>(near());
    let (x, y) = futures_util::join!(desks.start(), forks.start());
    let (x, y) = (x.unwrap(), y.unwrap());
    let forks: [ForkRef; 2] = [y.get("left"), y.get("right")];
    for fork in &forks {
        fork.place().await.unwrap();
    }
    assert_eq!(y.activations().get("fork"), Some(&2), "it has both");
    both_workers_wait([x.get("b"), y.get("b")], forks, "workers of x", "b").await;
    join_all([x.stop(), y.stop()]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ring_over_three_nodes_is_found() {
    let nodes = cluster(&["x", "y", "z"]).await;
    for round in 0..3 {
        let key = |n: usize| format!("{round}-{}", n % 3);
        let mut places = Vec::new();
        for (n, node) in nodes.iter().enumerate() {
            places.push(node.get::<ForkRef>(key(n)).place().await.unwrap());
        }
        meeting(&format!("three-{round}"), 3);
        let begun = std::time::Instant::now();
        // Each is called from a node where it is not.
        let chains = (0..3).map(|n| {
            let from: ForkRef = nodes[(n + 2) % 3].get(key(n));
            from.hold(format!("three-{round}"), vec![key(n + 1)])
        });
        let cycle = the_cycle(join_all(chains).await);
        println!("found in {:?}", begun.elapsed());
        let wanted: Vec<_> = (0..3).map(|n| format!("fork/{}.hold", key(n))).collect();
        assert_eq!(ring(&cycle), wanted);
    }
    assert!(nodes.iter().all(|node| node.activations()["fork"] == 3), "each node has its own");
    join_all(nodes.iter().map(Node::stop)).await;
}

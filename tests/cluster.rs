//! What callers notice of a cluster that is well: three nodes in one process, over real sockets.
#![cfg(feature = "cluster")]
#![allow(missing_docs, reason = "the interfaces of a test")]

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::join_all;
use grains::{ClusterConfig, GrainOptions, cluster::Strategy, prelude::*};

#[rpc_trait]
pub trait Tally {
    /// Adds, and says which activation did.
    async fn add(&mut self, n: u64) -> Result<(String, u64)>;
    /// Has another one add, and waits for it.
    async fn add_to(&mut self, other: TallyRef, n: u64) -> Result<u64>;
    /// The numbers up to `n`, and then the end.
    async fn count(&self, n: u64) -> Result<Streaming<u64>>;
    /// Items without end.
    async fn endless(&self) -> Result<Streaming<u64>>;
}

#[grain(Tally)]
pub struct TallyGrain {
    ctx: Ctx<Self>,
    sum: u64,
}

impl Lifecycle for TallyGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        Ok(Self { ctx, sum: 0 })
    }
}

impl Tally for TallyGrain {
    async fn add(&mut self, n: u64) -> Result<(String, u64)> {
        self.sum += n;
        Ok((self.ctx.activation().to_string(), self.sum))
    }

    async fn add_to(&mut self, other: TallyRef, n: u64) -> Result<u64> {
        Ok(other.add(n).await?.1)
    }

    async fn count(&self, n: u64) -> Result<Streaming<u64>> {
        let (sink, stream) = Streaming::channel(8);
        self.ctx.spawn(async move {
            for item in 1..=n {
                if sink.send(item).await.is_err() {
                    return;
                }
            }
            sink.finish();
        })?;
        Ok(stream)
    }

    async fn endless(&self) -> Result<Streaming<u64>> {
        self.count(u64::MAX).await
    }
}

/// Lives where its first caller is.
#[rpc_trait]
pub trait Near {
    async fn node(&self) -> Result<String>;
    /// Takes its time.
    async fn nap(&self, ms: u64) -> Result<()>;
    /// Answers with what panics when it is dropped here.
    async fn armed(&self) -> Result<Armed>;
    /// Takes what panics when it is dropped before it is disarmed.
    async fn disarm(&mut self, armed: Arming) -> Result<()>;
    /// Has `other` call this one back, which fails as a cycle.
    async fn disarm_by(&mut self, other: NearRef) -> Result<()>;
    /// Has `other` disarm something.
    async fn have_disarmed(&self, other: NearRef) -> Result<()>;
}

/// It panics when it is dropped, but not where it has come to.
#[derive(serde::Serialize, serde::Deserialize)]
pub struct Armed {
    #[serde(skip)]
    here: bool,
}

impl Drop for Armed {
    fn drop(&mut self) {
        assert!(!self.here, "an answer that panics when it is dropped");
    }
}

/// It is armed where it comes to.
#[derive(serde::Serialize, serde::Deserialize)]
pub struct Arming {
    #[serde(skip, default = "yes")]
    here: bool,
}

fn yes() -> bool {
    true
}

impl Drop for Arming {
    fn drop(&mut self) {
        assert!(!self.here, "arguments that panic when they are dropped");
    }
}

#[grain(Near)]
pub struct NearGrain {
    ctx: Ctx<Self>,
}

impl Lifecycle for NearGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        Ok(Self { ctx })
    }
}

impl Near for NearGrain {
    async fn node(&self) -> Result<String> {
        Ok(self.ctx.activation().to_string())
    }

    async fn nap(&self, ms: u64) -> Result<()> {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        Ok(())
    }

    async fn armed(&self) -> Result<Armed> {
        Ok(Armed { here: true })
    }

    async fn disarm(&mut self, mut armed: Arming) -> Result<()> {
        armed.here = false;
        Ok(())
    }

    async fn disarm_by(&mut self, other: NearRef) -> Result<()> {
        let me = self.ctx.me();
        Ok(other.have_disarmed(me).await?)
    }

    async fn have_disarmed(&self, other: NearRef) -> Result<()> {
        Ok(other.disarm(Arming { here: false }).await?)
    }
}

#[rpc_trait(key = ())]
pub trait Single {
    async fn token(&self) -> Result<u64>;
}

#[grain(Single)]
pub struct SingleGrain {
    ctx: Ctx<Self>,
}

impl Lifecycle for SingleGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        Ok(Self { ctx })
    }
}

impl Single for SingleGrain {
    async fn token(&self) -> Result<u64> {
        Ok(self.ctx.activation().epoch)
    }
}

async fn start(name: &str, listen: &str, list: &[String]) -> Node {
    let config = ClusterConfig::new("test").listen(listen).join(list.to_vec());
    let near = GrainOptions::new().placement(Strategy::PreferLocal);
    let builder = Node::builder().name(name).cluster(config).host::<TallyGrain>().host_with::<NearGrain>(near);
    builder.singleton::<SingleGrain>().start().await.expect("it starts")
}

/// Addresses that were free a moment ago.
fn free(n: usize) -> Vec<String> {
    let held: Vec<_> = (0..n).map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free")).collect();
    held.iter().map(|listener| listener.local_addr().expect("it listens").to_string()).collect()
}

async fn three() -> Vec<Node> {
    let list = free(3);
    join_all(["a", "b", "c"].into_iter().zip(&list).map(|(name, at)| start(name, at, &list))).await
}

/// Asks again until there is an answer, but not for ever.
async fn until<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), asking).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

async fn stop(nodes: Vec<Node>) {
    join_all(nodes.iter().map(Node::stop)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_nobody_to_join_is_a_cluster_at_once() {
    let node = start("a", "127.0.0.1:0", &[]).await;
    let tally: TallyRef = node.get("x");
    assert_eq!(tally.add(2).await.unwrap().1, 2);
    let status = node.status();
    assert_eq!((status.members.len(), status.leader.as_deref(), status.ready), (1, Some("a"), true));
    assert!(node.leader().mine().is_some());
    assert_eq!(node.stop().await.dropped, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_too_many_activations_makes_room_and_tells_the_owners() {
    let config = ClusterConfig::new("small").listen("127.0.0.1:0");
    let builder = Node::builder().cluster(config).host::<TallyGrain>();
    let node = builder.configure(|config| config.activations_max = 100).start().await.unwrap();
    let caller = node.clone();
    let called = tokio::spawn(async move {
        let mut begun = 0;
        for key in (0..1_000_u32).chain(0..1_000) {
            let sum = caller.get::<TallyRef>(key.to_string()).add(1).await.unwrap().1;
            begun += usize::from(sum == 1);
        }
        begun
    });
    let begun = called.await.unwrap();
    assert!(begun >= 1_800, "{begun} of 2,000: those before had gone, with what they remembered");
    until("room", async || (node.status().activations["tally"] <= 100).then_some(())).await;
    assert_eq!(node.stop().await.dropped, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grain_is_one_wherever_it_is_called_from() {
    let nodes = three().await;
    for key in 0..30_u32 {
        let mut activations = BTreeSet::new();
        for (n, node) in nodes.iter().enumerate() {
            let tally: TallyRef = node.get(key.to_string());
            let (activation, sum) = tally.add(1).await.unwrap();
            activations.insert(activation);
            assert_eq!(sum, n as u64 + 1);
        }
        assert_eq!(activations.len(), 1, "grain {key} has lived more than once");
    }
    let living: Vec<usize> = nodes.iter().map(|node| node.status().activations["tally"]).collect();
    assert_eq!(living.iter().sum::<usize>(), 30);
    assert!(living.iter().all(|living| *living > 0), "they are spread: {living:?}");
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_cycle_across_nodes_fails_at_once_and_names_itself() {
    let nodes = three().await;
    // Chains over grains on different nodes work, and one that comes back to its beginning does not wait for its deadline.
    let far = |key: u32| -> TallyRef { nodes[1].get(key.to_string()) };
    let first: TallyRef = nodes[0].get("first");
    for key in 0..10 {
        first.add_to(far(key), 1).await.unwrap();
    }
    let begun = std::time::Instant::now();
    let error = first.add_to(first.clone(), 1).await.unwrap_err();
    assert!(error.to_string().contains("call cycle") && error.to_string().contains("tally/first"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5), "it waited");
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_cross_nodes() {
    let nodes = three().await;
    for (n, node) in nodes.iter().enumerate() {
        for key in 0..6_u32 {
            let tally: TallyRef = node.get(key.to_string());
            let mut items = tally.count(1000).await.unwrap();
            let mut sum = 0;
            while let Some(item) = items.next().await {
                sum += item.unwrap();
            }
            assert_eq!(sum, 500_500, "from node {n}, grain {key}");
        }
    }
    // A node that goes ends what it sent, with an error: its readers know that there was more.
    let readers: Vec<_> = (0..12_u32).map(|key| nodes[0].get::<TallyRef>(key.to_string())).collect();
    let mut streams = Vec::new();
    for reader in &readers {
        streams.push(reader.endless().await.unwrap());
    }
    let before: usize = nodes[2].status().activations["tally"];
    assert!(before > 0, "node c has some of them");
    nodes[2].stop().await;
    let mut ended = 0;
    for stream in &mut streams {
        let until = std::time::Instant::now() + Duration::from_secs(5);
        while std::time::Instant::now() < until {
            match tokio::time::timeout(Duration::from_millis(50), stream.next()).await {
                Ok(Some(Err(error))) if error.is_terminal() => {
                    ended += 1;
                    break;
                }
                Ok(Some(_)) if ended > 0 => break,
                Ok(None) => panic!("it ended as if that was all"),
                _ => {}
            }
        }
    }
    assert!(ended > 0, "nobody noticed");
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_and_a_singleton_move_on_when_their_node_leaves() {
    let mut nodes = three().await;
    let status = nodes[0].status();
    let holder = status.singletons["single"].clone();
    let tokens = join_all(nodes.iter().map(|node| async { node.get::<SingleRef>(()).token().await.unwrap() })).await;
    assert_eq!(BTreeSet::from_iter(tokens.clone()).len(), 1, "one singleton: {tokens:?}");
    let leaders = nodes.iter().filter(|node| node.leader().mine().is_some()).count();
    assert_eq!(leaders, 1);

    let place = nodes.iter().position(|node| node.name() == holder).unwrap();
    let left = nodes.remove(place);
    assert_eq!(left.stop().await.dropped, 0);
    let token = nodes[0].get::<SingleRef>(()).token().retry(20).await.unwrap();
    assert!(token > tokens[0], "tokens grow: {token} after {}", tokens[0]);
    // By now it lives elsewhere, called or not.
    let living: usize = nodes.iter().map(|node| node.status().activations["single"]).sum();
    assert_eq!(living, 1);
    let mut leadership = nodes[0].leader();
    while leadership.current().is_none_or(|leader| leader.name.as_str() == holder) {
        leadership.changed().await;
    }
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_majority_says_so_to_callers_and_in_its_status() {
    let mut nodes = three().await;
    until("all vote", async || (nodes[0].status().voters.len() == 3).then_some(())).await;
    assert_eq!(nodes[0].status().waiting_for, None);
    // Without a word to anybody.
    nodes.truncate(1);
    let tally: TallyRef = nodes[0].get("x");
    let cause = "a majority of its voters has to live, which are at 127.0.0.1:";
    let names_it = async || nodes[0].status().waiting_for.filter(|what| what.contains(cause));
    until("the status names the cause", names_it).await;
    let error = tally.add(1).timeout(Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(error, CallError::NotReady { .. }) && error.to_string().contains(cause), "{error}");
    // Dropped: it has nobody to hand over to.
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn placement_is_honoured_whoever_calls_first() {
    let nodes = three().await;
    for (n, node) in nodes.iter().enumerate() {
        for key in 0..10 {
            node.get::<NearRef>(format!("{n}-{key}")).node().await.unwrap();
        }
        assert_eq!(node.status().activations["near"], 10, "on node {n}");
    }
    // And found from elsewhere.
    let here = nodes[0].get::<NearRef>("0-1").node().await.unwrap();
    assert_eq!(nodes[2].get::<NearRef>("0-1").node().await.unwrap(), here);
    stop(nodes).await;
}

/// Half of the calls that may be under way is room for one node: others are called while that one answers nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_does_not_answer_leaves_room_for_calls_to_the_others() {
    let list = free(3);
    let begin = async |name: &str, listen: &str| {
        let mut config = ClusterConfig::new("room").listen(listen).join(list.clone());
        config.calls_max = 8;
        let near = GrainOptions::new().placement(Strategy::PreferLocal);
        Node::builder().name(name).cluster(config).host_with::<NearGrain>(near).start().await.unwrap()
    };
    let nodes = join_all([("a", &list[0]), ("b", &list[1]), ("c", &list[2])].map(|(name, at)| begin(name, at))).await;
    nodes[1].get::<NearRef>("busy").node().await.unwrap();
    let there = nodes[2].get::<NearRef>("well").node().await.unwrap();
    let (busy, well): (NearRef, NearRef) = (nodes[0].get("busy"), nodes[0].get("well"));
    assert_eq!((busy.nap(0).await, well.node().await.unwrap()), (Ok(()), there.clone()));
    let naps: Vec<_> = (0..4).map(|_| tokio::spawn(busy.nap(60_000).into_future())).collect();
    let refused = until("the fifth call is refused", async || {
        let fifth = busy.nap(60_000).timeout(Duration::from_millis(100)).await;
        fifth.err().filter(|why| matches!(why, CallError::Overloaded { .. }))
    });
    let refused = refused.await;
    assert!(refused.to_string().contains("limit of 4"), "{refused}");
    assert_eq!(well.node().await.unwrap(), there);
    naps.iter().for_each(tokio::task::JoinHandle::abort);
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_way_calls_cross_nodes() {
    let nodes = three().await;
    for key in 0..10_u32 {
        nodes[0].get::<TallyRef>(key.to_string()).add(1).send().unwrap();
    }
    for key in 0..10_u32 {
        let tally: TallyRef = nodes[1].get(key.to_string());
        let mut sum = 0;
        for _ in 0..200 {
            sum = tally.add(0).await.unwrap().1;
            if sum == 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(sum, 1, "grain {key}");
    }
    stop(nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_and_arguments_that_panic_when_they_are_dropped_harm_no_other_call() {
    let nodes = three().await;
    let here: NearRef = nodes[0].get("0-1");
    here.node().await.unwrap();
    let there: NearRef = nodes[1].get("0-1");
    there.node().await.unwrap();
    let naps = tokio::spawn(there.nap(300).into_future());
    for _ in 0..3 {
        assert!(!there.armed().await.unwrap().here, "it has come from there");
    }
    // The call that comes back is refused, and what it brings is dropped.
    let back: NearRef = nodes[1].get("1-1");
    back.node().await.unwrap();
    let cycle = here.disarm_by(back).await.unwrap_err().to_string();
    assert!(cycle.contains("call cycle: near/0-1.disarm_by -> near/1-1.have_disarmed -> near/0-1.disarm"), "{cycle}");
    there.disarm(Arming { here: false }).await.unwrap();
    naps.await.unwrap().expect("its connection is whole");
    stop(nodes).await;
}

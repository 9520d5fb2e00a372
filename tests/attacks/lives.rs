//! Lives that begin and end at bad moments.
use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use crate::started;
use grains::{
    CallError, GrainOptions,
    prelude::*,
    store::{CommitError, MemoryStore, Store, Write, WriteSet},
};

static EVENTS: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());
fn happened(key: &str, what: &str) {
    EVENTS.lock().unwrap().push((key.into(), what.into()));
}
fn events(key: &str) -> Vec<String> {
    EVENTS.lock().unwrap().iter().filter(|e| e.0 == key).map(|e| e.1.clone()).collect()
}

#[rpc_trait]
pub trait Life {
    async fn who(&self) -> Result<String>;
    async fn add(&mut self) -> Result<u64>;
    async fn go(&mut self) -> Result<()>;
    async fn panic(&mut self) -> Result<()>;
    async fn nap(&mut self, ms: u64) -> Result<()>;
    async fn befriend(&mut self, friend: LifeRef) -> Result<()>;
    async fn ask_friend(&self) -> Result<String>;
    async fn tell(&mut self, friend: LifeRef) -> Result<()>;
    async fn tokio_nap(&self) -> Result<()>;
}
#[grain(Life)]
pub struct LifeGrain {
    ctx: Ctx<Self>,
    key: String,
    n: State<u64>,
    friend: State<Option<LifeRef>>,
}
impl Lifecycle for LifeGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        let key = ctx.key();
        happened(&key, "activate");
        if key.starts_with("ticks") {
            ctx.every(Duration::from_millis(5), Self::tick)?;
        }
        let mut n: State<u64> = ctx.state("n").await?;
        if key.starts_with("commits early") {
            let mut draft = n.edit();
            *draft += 1;
            draft.commit().await?;
        }
        if key.starts_with("drops a commit") && events(&key).len() == 1 {
            let mut draft = n.edit();
            *draft += 1;
            let mut commit = Box::pin(draft.commit());
            std::future::poll_fn(|cx| {
                let _ = commit.as_mut().poll(cx);
                std::task::Poll::Ready(())
            })
            .await;
            drop(commit);
        }
        Ok(Self { key, n, friend: ctx.state("friend").await?, ctx })
    }
    async fn deactivate(&mut self, _: DeactivationReason) -> Result<()> {
        happened(&self.key, "deactivate");
        if self.key.starts_with("ticks") {
            self.ctx.sleep(Duration::from_millis(30)).await;
        }
        if self.key.starts_with("saves") {
            let mut draft = self.n.edit();
            *draft += 1;
            draft.commit().await?;
        }
        Ok(())
    }
}
impl Drop for LifeGrain {
    fn drop(&mut self) {
        happened(&self.key, "dropped");
    }
}
impl LifeGrain {
    async fn tick(&mut self) -> Result<()> {
        Ok(())
    }
}
impl Life for LifeGrain {
    async fn who(&self) -> Result<String> {
        Ok(self.ctx.activation().to_string())
    }
    async fn add(&mut self) -> Result<u64> {
        Ok(0)
    }
    async fn go(&mut self) -> Result<()> {
        self.ctx.deactivate_on_idle();
        Ok(())
    }
    async fn panic(&mut self) -> Result<()> {
        panic!("as asked")
    }
    async fn nap(&mut self, ms: u64) -> Result<()> {
        self.ctx.sleep(Duration::from_millis(ms)).await;
        Ok(())
    }
    async fn befriend(&mut self, friend: LifeRef) -> Result<()> {
        let mut draft = self.friend.edit();
        *draft = Some(friend);
        Ok(draft.commit().await?)
    }
    async fn ask_friend(&self) -> Result<String> {
        Ok(self.friend.as_ref().unwrap().who().await?)
    }
    async fn tell(&mut self, friend: LifeRef) -> Result<()> {
        Ok(friend.tokio_nap().send()?)
    }
    async fn tokio_nap(&self) -> Result<()> {
        happened(&self.key, &format!("runs in {}", std::thread::current().name().unwrap_or("?")));
        Ok(())
    }
}

async fn node_with(store: impl Store) -> Node {
    Node::builder()
        .host::<LifeGrain>()
        .store(store)
        .configure(|c| {
            c.deactivate_timeout = Duration::from_secs(3);
            c.activate_timeout = Duration::from_secs(3);
        })
        .start()
        .await
        .unwrap()
}
async fn node() -> Node {
    node_with(MemoryStore::default()).await
}
async fn someone_else_writes(store: &MemoryStore, node: &Node, key: &str) {
    let id = {
        use grains_core::Interface;
        node.get::<LifeRef>(key).as_raw().id().clone()
    };
    let version = store.load(&id, "n").await.unwrap().map_or(Default::default(), |s| s.version);
    let token = grains_core::FencingToken { epoch: 1, counter: 0 };
    store
        .commit(WriteSet {
            grain: id,
            token,
            writes: vec![Write { name: "n".into(), expected: version, value: Some(vec![7]) }],
        })
        .await
        .unwrap();
}

/// The end of a life is a task that was not polled yet when the node stops.
#[tokio::test]
async fn a_stop_right_after_a_panic_fails_what_waits_and_drops_the_instance() {
    let node = node().await;
    let a: LifeRef = node.get("stop after panic");
    a.who().await.unwrap();
    let panicked = a.panic().await;
    assert!(matches!(panicked, Err(CallError::Panicked { .. })));
    let waiting = started(a.add().timeout(Duration::from_secs(2))).await;
    drop(node);
    let answer = waiting.await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(
        matches!(answer, Err(CallError::Stopped { .. } | CallError::Lost { .. })),
        "{answer:?} {:?}",
        events("stop after panic")
    );
    assert!(events("stop after panic").contains(&"dropped".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grain_with_ticks_and_a_slow_deactivate_stops() {
    let node = node().await;
    let a: LifeRef = node.get("ticks: stop");
    a.who().await.unwrap();
    let begun = Instant::now();
    let stopped = node.stop().await;
    assert!(
        stopped.dropped == 0 && begun.elapsed() < Duration::from_secs(2),
        "{stopped:?} after {:?}; lives: {}",
        begun.elapsed(),
        events("ticks: stop").iter().filter(|e| *e == "activate").count()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grain_with_ticks_and_a_slow_deactivate_is_not_activated_again_by_its_own_tick() {
    let node = node().await;
    let a: LifeRef = node.get("ticks: go");
    a.go().await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(events("ticks: go"), ["activate", "deactivate", "dropped"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_in_deactivate_does_not_hang_until_deactivate_timeout() {
    let store = MemoryStore::default();
    let node = node_with(store.clone()).await;
    let a: LifeRef = node.get("saves");
    a.who().await.unwrap();
    someone_else_writes(&store, &node, "saves").await;
    let begun = Instant::now();
    a.go().await.unwrap();
    a.who().await.unwrap();
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "the next call waited {:?} for a commit that had failed at once",
        begun.elapsed()
    );
}

/// A store whose commits always conflict.
struct Conflicts(MemoryStore);
impl Store for Conflicts {
    fn load<'a>(
        &'a self,
        g: &'a grains_core::GrainId,
        n: &'a str,
    ) -> grains_core::world::BoxFuture<'a, Result<Option<grains::store::Stored>, grains::store::LoadError>> {
        self.0.load(g, n)
    }
    fn commit(&self, w: WriteSet) -> grains_core::world::BoxFuture<'_, Result<(), CommitError>> {
        if w.grain.key().starts_with("drops a commit") {
            return Box::pin(std::future::pending());
        }
        Box::pin(async move { Err(CommitError::Unknown { why: "test".into() }) })
    }
    fn list<'a>(
        &'a self,
        t: &'a str,
        a: Option<&'a str>,
        l: usize,
    ) -> grains_core::world::BoxFuture<'a, Result<Vec<String>, grains::store::LoadError>> {
        self.0.list(t, a, l)
    }
    fn next_epoch(&self) -> grains_core::world::BoxFuture<'_, Result<u64, grains::store::LoadError>> {
        self.0.next_epoch()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_commit_in_activate_fails_the_activation_at_once() {
    let node = node_with(Conflicts(MemoryStore::default())).await;
    let begun = Instant::now();
    let answer = node.get::<LifeRef>("commits early").who().await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{answer:?} after {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_activation_that_lost_its_state_is_not_opened() {
    let node = node_with(Conflicts(MemoryStore::default())).await;
    let answer = node.get::<LifeRef>("drops a commit").who().await;
    assert!(
        answer.is_ok() || matches!(answer, Err(CallError::NotActivated { .. })),
        "{answer:?}: said to have perhaps run, but it never did"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reference_in_a_state_can_be_called_after_it_was_loaded() {
    let node = node().await;
    let a: LifeRef = node.get("a");
    a.befriend(node.get("b")).await.unwrap();
    a.ask_friend().await.unwrap();
    a.go().await.unwrap();
    let answer = a.ask_friend().await;
    assert!(answer.is_ok(), "{answer:?}");
}

fn within(what: &str, limit: Duration, f: impl FnOnce() + Send + 'static) {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        f();
        sender.send(()).ok();
    });
    if receiver.recv_timeout(limit) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
        panic!("{what} hangs");
    }
}

#[test]
fn a_call_after_the_nodes_runtime_has_ended_fails() {
    let home = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let node = home.block_on(node());
    let node = std::mem::ManuallyDrop::new(node); // its drop hangs too
    let a: LifeRef = node.get("orphaned");
    home.block_on(a.who()).unwrap();
    drop(home);
    within("a call", Duration::from_secs(5), move || {
        let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answer = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            other.block_on(a.add().timeout(Duration::from_millis(200)))
        }));
        eprintln!("answer: {answer:?}");
    });
}

#[test]
fn a_one_way_call_after_the_nodes_runtime_has_ended_returns() {
    let home = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let node = home.block_on(node());
    let node = std::mem::ManuallyDrop::new(node); // its drop hangs too
    let a: LifeRef = node.get("orphaned");
    home.block_on(a.who()).unwrap();
    drop(home);
    within("`send`", Duration::from_secs(5), move || eprintln!("{:?}", a.add().send()));
}

#[test]
fn the_end_of_the_runtime_does_not_hang_while_a_node_lives() {
    let home = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let node = home.block_on(node());
    let node = std::mem::ManuallyDrop::new(node);
    let a: LifeRef = node.get("busy at exit");
    let calls = home.block_on(async {
        let nap = started(a.nap(60_000)).await;
        (nap, started(a.add()).await)
    });
    within("dropping the runtime", Duration::from_secs(5), move || drop(home));
    drop(calls);
}

/// A one-way call from a served turn of node 1 to a grain of node 2 on another runtime.
#[test]
fn a_turn_runs_on_its_own_nodes_runtime() {
    let rt = |name: &str| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name(name).enable_all().build().unwrap()
    };
    let (one, two) = (rt("one"), rt("two"));
    let (n1, n2) = (one.block_on(node()), two.block_on(node()));
    let (a, b): (LifeRef, LifeRef) = (n1.get("rt a"), n2.get("rt b"));
    two.block_on(b.who()).unwrap();
    one.block_on(async move {
        let slow = started(a.nap(20)).await;
        let tell = started(a.tell(b)).await; // will be served
        slow.await.unwrap();
        tell.await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    });
    assert!(events("rt b").contains(&"runs in two".into()), "{:?}", events("rt b"));
    drop((n1, n2));
}

#[rpc_trait]
pub trait Eager {
    async fn hi(&mut self) -> Result<u64>;
    async fn go(&mut self) -> Result<()>;
}
#[grain(Eager)]
pub struct EagerGrain {
    ctx: Ctx<Self>,
}
static EAGER: AtomicBool = AtomicBool::new(false);
impl Lifecycle for EagerGrain {
    #[allow(clippy::manual_async_fn)]
    fn activate(ctx: Ctx<Self>) -> impl Future<Output = Result<Self>> + Send {
        if ctx.key() == "eager activate" {
            panic!("eager");
        }
        async move { Ok(Self { ctx }) }
    }
    fn deactivate(&mut self, _: DeactivationReason) -> impl Future<Output = Result<()>> + Send {
        if self.ctx.key().starts_with("eager deactivate") {
            EAGER.store(true, SeqCst);
            panic!("eager");
        }
        std::future::ready(Ok(()))
    }
}
impl Eager for EagerGrain {
    async fn hi(&mut self) -> Result<u64> {
        Ok(1)
    }
    async fn go(&mut self) -> Result<()> {
        self.ctx.deactivate_on_idle();
        Ok(())
    }
}

/// A deactivate that is not an `async fn` panics in its first lines.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deactivate_that_panics_before_its_future_does_not_end_the_scan() {
    let idle = GrainOptions::new().idle_timeout(Duration::from_millis(20));
    let node = Node::builder().host_with::<EagerGrain>(idle).start().await.unwrap();
    node.get::<EagerRef>("eager deactivate").hi().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(EAGER.load(SeqCst));
    node.get::<EagerRef>("ordinary").hi().await.unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(node.activations()["eager"], 0, "idle activations still go");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deactivate_that_panics_before_its_future_does_not_change_the_answer() {
    let node = Node::builder().host::<EagerGrain>().start().await.unwrap();
    let answer = node.get::<EagerRef>("eager deactivate 2").go().await;
    assert!(answer.is_ok(), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_activate_that_panics_before_its_future_is_a_failed_activation() {
    let node = Node::builder().host::<EagerGrain>().start().await.unwrap();
    let answer = tokio::spawn(node.get::<EagerRef>("eager activate").hi()).await;
    assert!(matches!(answer, Ok(Err(CallError::NotActivated { .. }))), "{answer:?}");
}

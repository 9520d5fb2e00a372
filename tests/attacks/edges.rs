//! Edges of lives and outcomes: deadlines, encodings, tasks, stops.
use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use crate::started;
use grains::{CallError, Outcome, prelude::*};
use serde::{Deserialize, Serialize};

#[derive(Deserialize, Debug)]
pub struct Bomb {
    drop: bool,
    serialize: bool,
}
impl Serialize for Bomb {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if self.serialize {
            panic!("user Serialize panicked");
        }
        (self.drop, self.serialize).serialize(s)
    }
}
impl Drop for Bomb {
    fn drop(&mut self) {
        if self.drop && !std::thread::panicking() {
            panic!("user Drop panicked");
        }
    }
}

#[rpc_trait]
pub trait More {
    async fn nap(&mut self, ms: u64) -> Result<()>;
    async fn add(&mut self) -> Result<u64>;
    async fn get(&self) -> Result<u64>;
    async fn put_shared(&self, bomb: Bomb) -> Result<()>;
    async fn make(&mut self) -> Result<Bomb>;
    async fn tell_and_make(&mut self, other: String) -> Result<Bomb>;
    async fn ask(&self, other: String) -> Result<u64>;
    async fn spawn_busy(&mut self, ms: u64) -> Result<()>;
    async fn go(&mut self) -> Result<()>;
    async fn spawn_guard(&mut self) -> Result<()>;
    async fn block_then_wait(&mut self, ms: u64) -> Result<()>;
}
#[grain(More)]
pub struct MoreGrain {
    ctx: Ctx<Self>,
    n: u64,
}
static BUSY: AtomicBool = AtomicBool::new(false);
static OVERLAP: AtomicBool = AtomicBool::new(false);
static STOPPED: AtomicBool = AtomicBool::new(false);
static BEGUN: AtomicBool = AtomicBool::new(false);
static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

impl Lifecycle for MoreGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        if ctx.key() == "busy task" && BUSY.load(SeqCst) {
            OVERLAP.store(true, SeqCst);
        }
        if ctx.key() == "fails after a while" {
            tokio::time::sleep(Duration::from_millis(20)).await;
            return Err(Error::new("it cannot"));
        }
        if ctx.key() == "asks while it begins" {
            ctx.get::<MoreRef>("slow").nap(100).await?;
        }
        Ok(Self { ctx, n: 0 })
    }
}
struct Guard(Ctx<MoreGrain>);
impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.0.spawn(async {}));
    }
}

impl More for MoreGrain {
    async fn nap(&mut self, ms: u64) -> Result<()> {
        self.ctx.sleep(Duration::from_millis(ms)).await;
        Ok(())
    }
    async fn add(&mut self) -> Result<u64> {
        self.n += 1;
        Ok(self.n)
    }
    async fn get(&self) -> Result<u64> {
        Ok(self.n)
    }
    async fn put_shared(&self, mut bomb: Bomb) -> Result<()> {
        bomb.drop = false;
        Ok(())
    }
    async fn make(&mut self) -> Result<Bomb> {
        Ok(Bomb { drop: false, serialize: true })
    }
    async fn tell_and_make(&mut self, other: String) -> Result<Bomb> {
        self.ctx.get::<MoreRef>(other).add().send()?;
        Ok(Bomb { drop: true, serialize: false })
    }
    async fn ask(&self, other: String) -> Result<u64> {
        Ok(self.ctx.get::<MoreRef>(other).get().await?)
    }
    async fn spawn_busy(&mut self, ms: u64) -> Result<()> {
        self.ctx.spawn(async move {
            BUSY.store(true, SeqCst);
            std::thread::sleep(Duration::from_millis(ms));
            BUSY.store(false, SeqCst);
        })?;
        Ok(())
    }
    async fn go(&mut self) -> Result<()> {
        self.ctx.deactivate_on_idle();
        Ok(())
    }
    async fn spawn_guard(&mut self) -> Result<()> {
        BEGUN.store(true, SeqCst);
        while !STOPPED.load(SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let guard = Guard(self.ctx.clone());
        let spawned = self.ctx.spawn(async move {
            let _guard = guard;
            std::future::pending().await
        });
        SEEN.lock().unwrap().push(format!("{spawned:?}"));
        Ok(())
    }
    async fn block_then_wait(&mut self, ms: u64) -> Result<()> {
        std::thread::sleep(Duration::from_millis(ms));
        self.ctx.sleep(Duration::from_secs(60)).await;
        Ok(())
    }
}
async fn node_with(change: impl FnOnce(&mut grains::NodeConfig)) -> Node {
    Node::builder().host::<MoreGrain>().configure(change).start().await.unwrap()
}
async fn node() -> Node {
    node_with(|_| {}).await
}
const S2: Duration = Duration::from_secs(2);

/// A late shared call whose argument panics when dropped takes the readers handed over with it along.
#[tokio::test]
async fn a_late_call_with_a_panicking_drop_does_not_take_others_along() {
    let node = node().await;
    let a: MoreRef = node.get("a");
    a.add().await.unwrap();
    let slow = started(a.nap(20)).await;
    let bomb = started(a.put_shared(Bomb { drop: true, serialize: false }).timeout(Duration::from_millis(5))).await;
    let behind = started(a.get()).await;
    std::thread::sleep(Duration::from_millis(40)); // now late, and nobody has polled it: it is not withdrawn
    slow.await.unwrap();
    let behind = behind.await;
    drop(bomb);
    assert!(behind.is_ok(), "{behind:?}");
}

/// Their arguments panic when they are dropped, one after the other, while those around them are told why they did not run.
#[tokio::test]
async fn panicking_drops_of_calls_that_waited_for_a_failed_activation_take_no_others_along() {
    let node = node().await;
    let a: MoreRef = node.get("fails after a while");
    let bomb = || a.put_shared(Bomb { drop: true, serialize: false });
    let first = started(a.get()).await;
    let bombs = [started(bomb()).await, started(bomb()).await];
    let last = started(a.get()).await;
    for answer in [first.await, last.await] {
        assert!(matches!(answer, Err(CallError::NotActivated { .. })), "{answer:?}");
    }
    for bomb in bombs {
        let answer = bomb.await;
        assert!(matches!(answer, Err(CallError::NotActivated { .. })), "{answer:?}");
    }
    assert_eq!(node.activations()["more"], 0);
}

/// Across grains.
#[tokio::test]
async fn a_panicking_drop_of_an_answer_does_not_lose_another_grains_call() {
    let node = node().await;
    let (a, c): (MoreRef, MoreRef) = (node.get("a"), node.get("c"));
    assert_eq!(c.add().await.unwrap(), 1);
    let slow = started(a.nap(5)).await;
    a.tell_and_make("c".into()).send().unwrap();
    slow.await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(c.add().await.unwrap(), 3, "c got the one-way call and is in its first life");
}

#[tokio::test]
async fn a_panicking_serialize_of_a_first_one_way_call_does_not_wedge_the_grain() {
    let node = node_with(|c| c.encode_local_calls = true).await;
    let a: MoreRef = node.get("a");
    let call = a.put_shared(Bomb { drop: false, serialize: true });
    let sent = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| call.send()));
    let answer = a.add().timeout(S2).await;
    assert!(answer.is_ok(), "sent {sent:?}; later {answer:?}");
}

/// Encode mode; an answer that panics while it is encoded.
#[tokio::test]
async fn a_panicking_serialize_of_an_answer_is_a_codec_error() {
    let node = node_with(|c| c.encode_local_calls = true).await;
    let a: MoreRef = node.get("a");
    let inline = tokio::spawn(a.make()).await;
    let slow = started(a.nap(5)).await;
    let queued = started(a.make()).await;
    slow.await.unwrap();
    let queued = queued.await;
    assert!(
        inline.is_ok() && matches!(queued, Err(CallError::Codec { outcome: Outcome::Executed, .. })),
        "{inline:?} {queued:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_deadline_of_the_first_caller_does_not_fail_the_activation_for_others() {
    let node = node().await;
    let first = tokio::spawn(
        node.get::<MoreRef>("asker").ask("asks while it begins".into()).timeout(Duration::from_millis(30)),
    );
    tokio::time::sleep(Duration::from_millis(5)).await;
    let second = node.get::<MoreRef>("asks while it begins").get().await;
    drop(first.await);
    assert!(second.is_ok(), "{second:?}: this caller had 30 s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_of_an_ended_life_does_not_run_beside_the_next_life() {
    let node = node().await;
    let a: MoreRef = node.get("busy task");
    a.spawn_busy(200).await.unwrap();
    while !BUSY.load(SeqCst) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    a.go().await.unwrap();
    a.add().await.unwrap();
    assert!(!OVERLAP.load(SeqCst), "`activate` ran beside a task of the life before");
}

#[test]
fn a_task_refused_by_a_stopped_node_is_dropped_outside_of_locks() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let node = runtime.block_on(node());
    let call = runtime.spawn(node.get::<MoreRef>("guard").spawn_guard());
    while !BEGUN.load(SeqCst) {
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(node);
    STOPPED.store(true, SeqCst);
    let begun = Instant::now();
    while SEEN.lock().unwrap().is_empty() {
        if begun.elapsed() > Duration::from_secs(3) {
            std::mem::forget(runtime);
            panic!("ctx.spawn hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(call);
}

/// Low
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeout_counts_from_the_call() {
    let node = node().await;
    let a: MoreRef = node.get("a");
    a.add().await.unwrap();
    let begun = Instant::now();
    let answer = a.block_then_wait(300).timeout(Duration::from_millis(200)).await;
    assert!(begun.elapsed() < Duration::from_millis(450), "{answer:?} after {:?}", begun.elapsed());
}

//! Turns, queues, panics and chains under attack.
use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use crate::started;
use grains::{CallError, GrainOptions, Outcome, prelude::*};
use serde::{Deserialize, Serialize};

/// Panics when dropped, if armed.
#[derive(Serialize, Deserialize, Debug)]
pub struct Bomb(bool);
impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0 && !std::thread::panicking() {
            panic!("user Drop panicked");
        }
    }
}

#[rpc_trait]
pub trait Probe {
    async fn nap(&mut self, ms: u64) -> Result<()>;
    async fn nap_shared(&self, ms: u64) -> Result<()>;
    async fn put(&mut self, bomb: Bomb) -> Result<()>;
    async fn add(&mut self) -> Result<u64>;
    async fn get(&self) -> Result<u64>;
    async fn note(&self, n: u64) -> Result<()>;
    async fn notes(&self) -> Result<Vec<u64>>;
    async fn pending(&self) -> Result<()>;
    async fn sleep_then_add(&mut self, ms: u64, other: String) -> Result<u64>;
    async fn sleep_then_get(&mut self, ms: u64, other: String) -> Result<u64>;
    /// polls a call to other.sleep_then_add(me) once, moves it to a task, ends.
    async fn hand_off(&mut self, other: String, ms: u64) -> Result<()>;
    async fn hand_off_shared(&self, other: String, ms: u64) -> Result<()>;
    async fn look(&self, path: Vec<String>) -> Result<u64>;
    async fn send_then_block(&mut self, other: String, ms: u64) -> Result<()>;
    async fn give_up_on(&mut self, other: String) -> Result<()>;
    async fn nap_then_add(&mut self, ms: u64, other: String) -> Result<u64>;
    async fn send_then_ask_blocking(&mut self, other: String) -> Result<String>;
}

#[grain(Probe)]
pub struct ProbeGrain {
    ctx: Ctx<Self>,
    n: u64,
    notes: Mutex<Vec<u64>>,
}

static ACT: Mutex<Vec<String>> = Mutex::new(Vec::new());

impl Lifecycle for ProbeGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        let key = ctx.key();
        if let Some(rest) = key.strip_prefix("calls back:") {
            ctx.sleep(Duration::from_millis(60)).await;
            let got = ctx.get::<ProbeRef>(rest).add().await;
            ACT.lock().unwrap().push(format!("{got:?}"));
            got?;
        }
        if key == "one shot" {
            ctx.deactivate_on_idle();
        }
        Ok(Self { ctx, n: 0, notes: Mutex::default() })
    }
}

static STARTED: AtomicUsize = AtomicUsize::new(0);

impl Probe for ProbeGrain {
    async fn nap(&mut self, ms: u64) -> Result<()> {
        self.ctx.sleep(Duration::from_millis(ms)).await;
        Ok(())
    }
    async fn nap_shared(&self, ms: u64) -> Result<()> {
        self.ctx.sleep(Duration::from_millis(ms)).await;
        Ok(())
    }
    async fn put(&mut self, mut bomb: Bomb) -> Result<()> {
        bomb.0 = false;
        self.n += 1;
        Ok(())
    }
    async fn add(&mut self) -> Result<u64> {
        self.n += 1;
        Ok(self.n)
    }
    async fn get(&self) -> Result<u64> {
        Ok(self.n)
    }
    async fn note(&self, n: u64) -> Result<()> {
        self.notes.lock().unwrap().push(n);
        Ok(())
    }
    async fn notes(&self) -> Result<Vec<u64>> {
        Ok(self.notes.lock().unwrap().clone())
    }
    async fn pending(&self) -> Result<()> {
        STARTED.fetch_add(1, SeqCst);
        std::future::pending().await
    }
    async fn sleep_then_add(&mut self, ms: u64, other: String) -> Result<u64> {
        self.ctx.sleep(Duration::from_millis(ms)).await;
        Ok(self.ctx.get::<ProbeRef>(other).add().await?)
    }
    async fn sleep_then_get(&mut self, ms: u64, other: String) -> Result<u64> {
        self.ctx.sleep(Duration::from_millis(ms)).await;
        Ok(self.ctx.get::<ProbeRef>(other).get().await?)
    }
    async fn hand_off(&mut self, other: String, ms: u64) -> Result<()> {
        let mut call = self.ctx.get::<ProbeRef>(other).sleep_then_add(ms, self.ctx.key());
        std::future::poll_fn(|cx| {
            assert!(std::pin::Pin::new(&mut call).poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        self.ctx.spawn(async move {
            let got = call.await;
            ACT.lock().unwrap().push(format!("handed {got:?}"));
        })?;
        Ok(())
    }
    async fn hand_off_shared(&self, other: String, ms: u64) -> Result<()> {
        let mut call = self.ctx.get::<ProbeRef>(other).sleep_then_get(ms, self.ctx.key());
        std::future::poll_fn(|cx| {
            assert!(std::pin::Pin::new(&mut call).poll(cx).is_pending());
            std::task::Poll::Ready(())
        })
        .await;
        self.ctx.spawn(async move {
            let got = call.await;
            ACT.lock().unwrap().push(format!("shared {got:?}"));
        })?;
        Ok(())
    }
    async fn look(&self, mut path: Vec<String>) -> Result<u64> {
        if path.is_empty() {
            return Ok(1);
        }
        let next = path.pop().unwrap();
        Ok(1 + self.ctx.get::<ProbeRef>(next).look(path).await?)
    }
    async fn send_then_block(&mut self, other: String, ms: u64) -> Result<()> {
        self.ctx.get::<ProbeRef>(other).pending().send()?;
        tokio::task::block_in_place(|| std::thread::sleep(Duration::from_millis(ms)));
        Ok(())
    }
    async fn give_up_on(&mut self, other: String) -> Result<()> {
        let answer = self.ctx.get::<ProbeRef>(other).get().timeout(Duration::from_millis(10)).await;
        assert!(matches!(answer, Err(CallError::Timeout { .. })), "{answer:?}");
        Ok(())
    }
    async fn nap_then_add(&mut self, ms: u64, other: String) -> Result<u64> {
        self.ctx.sleep(Duration::from_millis(ms)).await;
        let got = self.ctx.get::<ProbeRef>(other).add().await;
        ACT.lock().unwrap().push(format!("late {got:?}"));
        Ok(got?)
    }
    async fn send_then_ask_blocking(&mut self, other: String) -> Result<String> {
        let other: ProbeRef = self.ctx.get(other);
        other.add().send()?;
        let got = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(other.get().timeout(Duration::from_secs(2)))
        });
        Ok(format!("{got:?}"))
    }
}

async fn node() -> Node {
    Node::builder().host::<ProbeGrain>().start().await.unwrap()
}

const S2: Duration = Duration::from_secs(2);
async fn nap(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panicking_drop_of_a_withdrawn_argument_does_not_wedge_the_grain() {
    let node = node().await;
    let a: ProbeRef = node.get("a");
    let slow = started(a.nap(30)).await;
    let bomb = started(a.put(Bomb(true))).await;
    let behind = started(a.add().timeout(S2)).await;
    drop(bomb);
    let slow = slow.await;
    let behind = behind.await;
    let next = a.get().timeout(S2).await;
    assert!(slow.is_ok() && behind.is_ok() && next.is_ok(), "\nslow: {slow:?}\nbehind: {behind:?}\nnext: {next:?}");
}

/// Two other grains' granted calls sit behind a call whose late argument panics in Drop.
#[tokio::test]
async fn a_panicking_drop_does_not_lose_calls_of_other_grains() {
    let node = node().await;
    let (a, hub): (ProbeRef, ProbeRef) = (node.get("a"), node.get("hub"));
    a.add().await.unwrap();
    hub.add().await.unwrap();
    // a: a nap ends, its successor is late and has a bomb; behind it are good calls
    let slow = started(a.nap(40)).await;
    let bomb = started(a.put(Bomb(true)).timeout(Duration::from_millis(30))).await;
    let behind = started(a.add().timeout(S2)).await;
    std::thread::sleep(Duration::from_millis(60)); // both the deadline and the nap are over, nobody has looked yet
    let (slow, bomb, behind) = tokio::join!(slow, bomb, behind);
    assert!(slow.is_ok());
    assert_eq!(bomb.unwrap_err().outcome(), Outcome::NotExecuted);
    let next = a.add().timeout(S2).await;
    assert!(behind.is_ok(), "behind: {behind:?} next: {next:?}");
    assert_eq!(next.unwrap(), 3, "same life");
}

#[tokio::test]
async fn a_shared_one_way_call_runs_before_a_later_shared_call_of_the_same_sender() {
    let node = node().await;
    let a: ProbeRef = node.get("a");
    a.get().await.unwrap();
    a.note(1).send().unwrap();
    assert_eq!(a.notes().await.unwrap(), [1], "calls of one sender to one grain arrive in the order they were sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_gave_up_does_not_hold_up_readers() {
    let node = node().await;
    let a: ProbeRef = node.get("a");
    let long = started(a.nap_shared(1500)).await;
    let gave_up = a.add().timeout(Duration::from_millis(10)).await.unwrap_err();
    assert_eq!(gave_up.outcome(), Outcome::NotExecuted);
    let begun = Instant::now();
    let read = a.get().timeout(Duration::from_secs(5)).await;
    assert!(
        begun.elapsed() < Duration::from_millis(500),
        "{read:?} after {:?}: nobody waits to write",
        begun.elapsed()
    );
    long.await.unwrap();
}

#[tokio::test]
async fn deactivate_on_idle_in_activate_counts() {
    let node = node().await;
    node.get::<ProbeRef>("one shot").add().await.unwrap();
    nap(50).await;
    assert_eq!(node.activations()["probe"], 0);
}

/// Turn of `a` is long over; b calls back; a is busy with something else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_that_has_ended_is_no_part_of_a_cycle() {
    let node = node().await;
    let a: ProbeRef = node.get("end-a");
    a.hand_off("end-b".into(), 40).await.unwrap();
    a.nap(100).await.unwrap(); // another turn, independent of b
    nap(50).await;
    let seen: Vec<_> = ACT.lock().unwrap().iter().filter(|s| s.starts_with("handed")).cloned().collect();
    assert!(seen.iter().all(|s| s.contains("Ok")), "{seen:?}");
}

/// Same with shared turns: "Lost".
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_turn_that_has_ended_lends_nothing() {
    let node = node().await;
    let a: ProbeRef = node.get("sh-a");
    a.hand_off_shared("sh-b".into(), 40).await.unwrap();
    a.nap(100).await.unwrap();
    nap(50).await;
    let seen: Vec<_> = ACT.lock().unwrap().iter().filter(|s| s.starts_with("shared")).cloned().collect();
    assert!(seen.iter().all(|s| s.contains("Ok")), "{seen:?}");
}

/// The first caller gave up on an activation; the activation calls it back while it is busy otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_gave_up_on_an_activation_is_no_part_of_a_cycle() {
    let node = node().await;
    let a: ProbeRef = node.get("caller");
    let a1 = started(a.give_up_on("calls back:caller".into())).await;
    a1.await.unwrap(); // that turn is over
    a.nap(150).await.unwrap(); // a is busy for another caller when the activation calls it
    nap(50).await;
    let seen: Vec<_> = ACT
        .lock()
        .unwrap()
        .iter()
        .filter(|s| !s.contains("handed") && !s.starts_with("shared") && !s.starts_with("late"))
        .cloned()
        .collect();
    assert!(seen.iter().all(|s| s.contains("Ok")), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_made_after_the_chains_deadline_does_not_run() {
    let node = node().await;
    let (a, b): (ProbeRef, ProbeRef) = (node.get("late-a"), node.get("late-b"));
    b.add().await.unwrap();
    a.nap_then_add(50, "late-b".into()).timeout(Duration::from_millis(10)).await.unwrap_err();
    nap(100).await;
    let seen: Vec<_> = ACT.lock().unwrap().iter().filter(|s| s.starts_with("late")).cloned().collect();
    assert_eq!(b.get().await.unwrap(), 1, "the deadline had passed 40 ms before the call was made: {seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shared_one_way_calls_are_bounded() {
    let node = Node::builder().host_with::<ProbeGrain>(GrainOptions::new().mailbox_len_max(10)).start().await.unwrap();
    let a: ProbeRef = node.get("a");
    a.get().await.unwrap();
    let refused = (0..100_000).find(|_| a.pending().send().is_err());
    nap(200).await;
    assert!(
        refused.is_some(),
        "100,000 shared turns were begun on one grain with mailbox_len_max = 10; {} run",
        STARTED.load(SeqCst)
    );
}

/// A granted call of an unrelated grain must not wait for a turn that blocks in place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_one_way_call_does_not_wait_for_its_senders_thread() {
    let node = node().await;
    let (a, b): (ProbeRef, ProbeRef) = (node.get("a"), node.get("b"));
    b.add().await.unwrap();
    let inline = tokio::spawn(a.send_then_ask_blocking("b".into())).await.unwrap().unwrap();
    // the same, but served from the queue
    let slow = started(a.nap(20)).await;
    let asked = tokio::spawn(a.send_then_ask_blocking("b".into()));
    slow.await.unwrap();
    let served = asked.await.unwrap().unwrap();
    assert!(served.contains("Ok"), "inline: {inline}; served: {served}");
}

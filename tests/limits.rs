//! Overload: what waits on a node is bounded, over a limit callers are told at once, and other grains are left alone.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use grains::{CallError, NodeConfig, Outcome, prelude::*};
use tokio::sync::Semaphore;

#[rpc_trait]
pub trait Gate {
    /// Runs until the gate of the test opens.
    async fn hold(&mut self) -> Result<()>;
    /// Counts.
    async fn pass(&mut self) -> Result<()>;
    /// Counts, and takes a text along.
    async fn carry(&mut self, load: String) -> Result<()>;
    /// Takes a while, of the thread.
    async fn work(&mut self, micros: u64) -> Result<()>;
    /// Panics after others had a chance to run.
    async fn panic(&mut self) -> Result<()>;
    /// How many have passed.
    async fn passed(&self) -> Result<u64>;
}

#[grain(Gate)]
pub struct GateGrain {
    opens: Arc<Semaphore>,
    passed: u64,
}

impl Lifecycle for GateGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        Ok(Self { opens: opens(&ctx.key()), passed: 0 })
    }
}

/// What opens the gate of this key. Tests run beside each other: each has keys of its own.
fn opens(key: &str) -> Arc<Semaphore> {
    static GATES: Mutex<BTreeMap<String, Arc<Semaphore>>> = Mutex::new(BTreeMap::new());
    let mut gates = GATES.lock().unwrap();
    gates.entry(key.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(0))).clone()
}

impl Gate for GateGrain {
    async fn hold(&mut self) -> Result<()> {
        self.opens.acquire().await.unwrap().forget();
        Ok(())
    }
    async fn pass(&mut self) -> Result<()> {
        self.passed += 1;
        Ok(())
    }
    async fn carry(&mut self, load: String) -> Result<()> {
        self.passed += u64::from(!load.is_empty());
        Ok(())
    }
    async fn work(&mut self, micros: u64) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_micros(micros) {
            std::hint::spin_loop();
        }
        self.passed += 1;
        Ok(())
    }
    async fn panic(&mut self) -> Result<()> {
        tokio::task::yield_now().await;
        panic!("as asked");
    }
    async fn passed(&self) -> Result<u64> {
        Ok(self.passed)
    }
}

async fn node_with(change: impl FnOnce(&mut NodeConfig)) -> Node {
    Node::builder().host::<GateGrain>().configure(change).start().await.unwrap()
}

/// Polls `call` once: it has to wait.
async fn started<F: Future + Unpin>(mut call: F) -> F {
    std::future::poll_fn(|cx| {
        assert!(std::pin::Pin::new(&mut call).poll(cx).is_pending(), "the call has to wait");
        std::task::Poll::Ready(())
    })
    .await;
    call
}

fn refused_by(error: &CallError, limit: &str) {
    assert!(matches!(error, CallError::Overloaded { limit: reached, .. } if **reached == *limit), "{error}");
    assert_eq!(error.outcome(), Outcome::NotExecuted);
}

#[tokio::test]
async fn all_mailboxes_of_a_node_together_have_a_limit_in_calls() {
    let node = node_with(|config| config.waiting_calls_max = 4).await;
    let (one, two, idle): (GateRef, GateRef, GateRef) = (node.get("one"), node.get("two"), node.get("idle"));
    let (holds_one, holds_two) = (started(one.hold()).await, started(two.hold()).await);
    let waiting = [started(one.pass()).await, started(one.pass()).await, started(two.pass()).await];
    two.pass().send().unwrap();
    assert_eq!(node.waiting_calls(), 4);
    for full in [&one, &two] {
        refused_by(&full.pass().await.unwrap_err(), "waiting_calls_max = 4");
        refused_by(&full.pass().send().unwrap_err().widen(), "waiting_calls_max = 4");
    }
    idle.pass().await.unwrap(); // it does not wait

    opens("one").add_permits(1);
    opens("two").add_permits(1);
    holds_one.await.unwrap();
    holds_two.await.unwrap();
    for call in waiting {
        call.await.unwrap();
    }
    // Those that were refused did not run.
    assert_eq!((one.passed().await.unwrap(), two.passed().await.unwrap()), (2, 2));
    assert_eq!((node.waiting_calls(), node.waiting_bytes()), (0, 0));
    node.stop().await;
}

#[tokio::test]
async fn what_waiting_calls_hold_has_a_limit_in_bytes() {
    let node = node_with(|config| config.waiting_bytes_max = 1_000_000).await;
    let gate: GateRef = node.get("bytes");
    let holds = started(gate.hold()).await;
    let load = || "x".repeat(120_000);
    for _ in 0..8 {
        gate.carry(load()).send().unwrap();
    }
    assert!(node.waiting_bytes() > 960_000, "{}", node.waiting_bytes());
    refused_by(&gate.carry(load()).send().unwrap_err().widen(), "waiting_bytes_max = 1000000");
    refused_by(&gate.carry(load()).await.unwrap_err(), "waiting_bytes_max = 1000000");
    let small = started(gate.carry("x".to_owned())).await;

    opens("bytes").add_permits(1);
    holds.await.unwrap();
    small.await.unwrap();
    assert_eq!(gate.passed().await.unwrap(), 9);
    assert_eq!((node.waiting_calls(), node.waiting_bytes()), (0, 0));
    node.stop().await;
}

/// An idle grain has its turn at once, but a one-way call to it begins on a task: until then it waits as any other.
#[tokio::test]
async fn calls_on_their_way_to_idle_grains_count_as_well() {
    let node = node_with(|config| (config.waiting_calls_max, config.waiting_bytes_max) = (6, 1_000_000)).await;
    let gates: Vec<GateRef> = (0..20).map(|n| node.get(format!("idle {n}"))).collect();
    for gate in &gates {
        gate.pass().await.unwrap();
    }
    // Nothing runs before this test waits for something.
    let sent: Vec<_> = gates.iter().map(|gate| gate.pass().send()).collect();
    assert_eq!((node.waiting_calls(), sent.iter().filter(|sent| sent.is_ok()).count()), (6, 6));
    refused_by(&sent[6].clone().unwrap_err().widen(), "waiting_calls_max = 6");
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!((node.waiting_calls(), node.waiting_bytes()), (0, 0));

    let load = || "x".repeat(300_000);
    let sent: Vec<_> = gates.iter().map(|gate| gate.carry(load()).send()).collect();
    assert_eq!((node.waiting_calls(), sent.iter().filter(|sent| sent.is_ok()).count()), (3, 3));
    refused_by(&sent[3].clone().unwrap_err().widen(), "waiting_bytes_max = 1000000");
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!((node.waiting_calls(), node.waiting_bytes()), (0, 0));
    let mut passed = 0;
    for gate in &gates {
        passed += gate.passed().await.unwrap();
    }
    assert_eq!(passed, 20 + 6 + 3, "those that were refused did not run");
    node.stop().await;
}

#[tokio::test]
async fn a_call_that_is_taken_back_leaves_the_queue_with_what_it_holds() {
    let node = node_with(|_| {}).await;
    let gate: GateRef = node.get("back");
    let holds = started(gate.hold()).await;
    let first = started(gate.pass()).await;
    let mut loads = Vec::new();
    for _ in 0..10 {
        loads.push(started(gate.carry("x".repeat(50_000))).await);
    }
    let last = started(gate.pass()).await;
    assert!((node.waiting_calls(), node.waiting_bytes() > 500_000) == (12, true));
    drop(loads);
    assert!((node.waiting_calls(), node.waiting_bytes() < 50_000) == (2, true), "{}", node.waiting_bytes());
    opens("back").add_permits(1);
    holds.await.unwrap();
    first.await.unwrap();
    last.await.unwrap();
    assert_eq!(gate.passed().await.unwrap(), 2);
    node.stop().await;
}

#[tokio::test]
async fn limits_over_what_a_node_can_count_are_refused() {
    let start = Node::builder().host::<GateGrain>().configure(|config| config.waiting_calls_max = usize::MAX).start();
    let refused = start.await.unwrap_err().to_string();
    assert_eq!(refused, format!("`waiting_calls_max` is {}: it is 10000000 at most", usize::MAX));
}

fn overload_seconds() -> u64 {
    std::env::var("GRAINS_OVERLOAD_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(2)
}

fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

/// Calls a grain again and again; each has a second.
async fn calls_of(gate: &GateRef, seconds: f64) -> Vec<Duration> {
    let mut times = Vec::new();
    let begun = Instant::now();
    while begun.elapsed().as_secs_f64() < seconds {
        let sent = Instant::now();
        gate.pass().timeout(Duration::from_secs(1)).await.unwrap();
        times.push(sent.elapsed());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    times
}

/// Ten times as many one-way calls as a grain can run, each with a text, for as long as `GRAINS_OVERLOAD_SECONDS` says (a
/// minute by hand).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grain_that_is_overloaded_ten_times_refuses_and_others_go_on() {
    const WORK_MICROS: u64 = 200;
    const BYTES_MAX: usize = 4_000_000;
    let node = node_with(|config| config.waiting_bytes_max = BYTES_MAX).await;
    let (hot, other): (GateRef, GateRef) = (node.get("hot"), node.get("other"));
    let alone = calls_of(&other, 0.5).await;

    let over = Arc::new(AtomicBool::new(false));
    let counts = Arc::new([AtomicU64::new(0), AtomicU64::new(0)]);
    let most = Arc::new(Mutex::new(0));
    let load = tokio::spawn({
        let (node, over, counts, most) = (node.clone(), over.clone(), counts.clone(), most.clone());
        async move {
            let mut beat = tokio::time::interval(Duration::from_millis(2));
            while !over.load(SeqCst) {
                beat.tick().await;
                for _ in 0..10 * 2_000 / WORK_MICROS {
                    let sent = match hot.work(WORK_MICROS).send() {
                        Ok(()) => hot.carry("x".repeat(2_000)).send(),
                        refused => refused,
                    };
                    counts[usize::from(sent.is_err())].fetch_add(1, SeqCst);
                    if let Err(error) = sent {
                        assert_eq!(error.outcome(), Outcome::NotExecuted, "{error}");
                        assert!(matches!(error, CallError::Overloaded { .. }), "{error}");
                    }
                    let mut most = most.lock().unwrap();
                    *most = node.waiting_bytes().max(*most);
                }
            }
        }
    });
    let beside = calls_of(&other, overload_seconds() as f64).await;
    over.store(true, SeqCst);
    load.await.unwrap();

    let [taken, refused] = [counts[0].load(SeqCst), counts[1].load(SeqCst)];
    let most = *most.lock().unwrap();
    println!(
        "{taken} taken, {refused} refused, {most} bytes waited at most; p99 of another grain {:?}, alone {:?}",
        p99(beside),
        p99(alone)
    );
    assert!(refused > taken, "that was no overload: {taken} taken, {refused} refused");
    assert!((1..=BYTES_MAX).contains(&most), "{most}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenth_of_ten_thousand_grains_panics_and_the_rest_is_unharmed() {
    const GRAINS: u64 = 10_000;
    let node = node_with(|_| {}).await;
    let tasks: Vec<_> = (0..GRAINS)
        .map(|n| {
            let gate: GateRef = node.get(n.to_string());
            tokio::spawn(async move {
                gate.pass().await.unwrap();
                if n % 10 == 0 {
                    let (panics, waits) = (started(gate.panic()).await, started(gate.pass()).await);
                    assert!(matches!(panics.await, Err(CallError::Panicked { .. })));
                    waits.await.unwrap(); // in the next life
                } else {
                    gate.pass().await.unwrap();
                }
                gate.passed().await.unwrap()
            })
        })
        .collect();
    let mut passed = 0;
    for (n, task) in tasks.into_iter().enumerate() {
        let count = task.await.unwrap();
        assert_eq!(count, if n % 10 == 0 { 1 } else { 2 }, "grain {n}");
        passed += count;
    }
    assert_eq!(passed, GRAINS * 2 - GRAINS / 10);
    assert_eq!(node.activations()["gate"], GRAINS as usize);
    node.stop().await;
}

//! Turns: what runs when, beside what, and what a caller can and cannot do to it.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use grains::{CallError, Outcome, prelude::*};

/// A grain with turns of every sort.
#[rpc_trait]
pub trait Desk {
    /// Adds at once.
    async fn add(&mut self, n: u64) -> Result<u64>;
    /// The sum.
    async fn sum(&self) -> Result<u64>;
    /// Adds `n` before and after `ms` milliseconds.
    async fn add_slowly(&mut self, n: u64, ms: u64) -> Result<u64>;
    /// Reads for `ms` milliseconds.
    async fn read_slowly(&self, ms: u64) -> Result<u64>;
    /// Reads on the CPU until somebody else reads too.
    async fn meet(&self) -> Result<bool>;
    /// Appends to the log.
    async fn log(&mut self, n: u32) -> Result<()>;
    /// Appends to the log, after a moment in which others run.
    async fn log_later(&mut self, n: u32) -> Result<()>;
    /// Takes the log.
    async fn take_log(&mut self) -> Result<Vec<u32>>;
    /// Panics at once, or after a wait.
    async fn panic(&mut self, wait: bool) -> Result<()>;
    /// Panics while reading.
    async fn panic_reading(&self, ms: u64) -> Result<()>;
    /// Fails.
    async fn fail(&self) -> Result<()>;
}

#[grain(Desk, default)]
#[derive(Default)]
pub struct DeskGrain {
    sum: u64,
    log: Vec<u32>,
    meeting: AtomicU64,
}

impl Desk for DeskGrain {
    async fn add(&mut self, n: u64) -> Result<u64> {
        self.sum += n;
        Ok(self.sum)
    }
    async fn sum(&self) -> Result<u64> {
        Ok(self.sum)
    }
    async fn add_slowly(&mut self, n: u64, ms: u64) -> Result<u64> {
        self.sum += n;
        tokio::time::sleep(Duration::from_millis(ms)).await;
        self.sum += n;
        Ok(self.sum)
    }
    async fn read_slowly(&self, ms: u64) -> Result<u64> {
        let before = self.sum;
        tokio::time::sleep(Duration::from_millis(ms)).await;
        assert_eq!(self.sum, before, "no exclusive turn ran beside this one");
        Ok(self.sum)
    }
    async fn meet(&self) -> Result<bool> {
        self.meeting.fetch_add(1, SeqCst);
        let begun = Instant::now();
        while self.meeting.load(SeqCst) < 2 {
            if begun.elapsed() > Duration::from_secs(10) {
                return Ok(false);
            }
            std::hint::spin_loop();
        }
        Ok(true)
    }
    async fn log(&mut self, n: u32) -> Result<()> {
        self.log.push(n);
        Ok(())
    }
    async fn log_later(&mut self, n: u32) -> Result<()> {
        tokio::task::yield_now().await;
        self.log.push(n);
        Ok(())
    }
    async fn take_log(&mut self) -> Result<Vec<u32>> {
        Ok(std::mem::take(&mut self.log))
    }
    async fn panic(&mut self, wait: bool) -> Result<()> {
        if wait {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("as asked");
    }
    async fn panic_reading(&self, ms: u64) -> Result<()> {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        panic!("as asked");
    }
    async fn fail(&self) -> Result<()> {
        Err(Error::new("no"))
    }
}

async fn node() -> Node {
    Node::builder().host::<DeskGrain>().start().await.unwrap()
}

/// Polls `call` once and gives it back.
async fn started<F: Future + Unpin>(mut call: F) -> F {
    std::future::poll_fn(|cx| {
        let polled = std::pin::Pin::new(&mut call).poll(cx);
        assert!(polled.is_pending(), "the call has to wait");
        std::task::Poll::Ready(())
    })
    .await;
    call
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_answers() {
    let node = node().await;
    let desk: DeskRef = node.get("a");
    assert_eq!(desk.add(2).await.unwrap(), 2);
    assert_eq!(desk.add(3).await.unwrap(), 5);
    assert_eq!(desk.sum().await.unwrap(), 5);
    assert_eq!(node.get::<DeskRef>("b").sum().await.unwrap(), 0, "another key is another grain");
    assert_eq!(node.activations()["desk"], 2);
}

#[tokio::test]
async fn nothing_happens_before_the_first_poll() {
    let node = node().await;
    let desk: DeskRef = node.get("a");
    drop(desk.add(1));
    assert_eq!(node.activations()["desk"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grains_own_error_is_told_from_delivery() {
    let node = node().await;
    let error = node.get::<DeskRef>("a").fail().await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Executed);
    assert_eq!(error, CallError::Grain(Error::new("no")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_select_that_stops_polling_does_not_stall_the_grain() {
    let node = node().await;
    let desk: DeskRef = node.get("a");
    let mut slow = std::pin::pin!(desk.add_slowly(1, 10));
    tokio::select! {
        biased;
        _ = &mut slow => panic!("too early"),
        () = tokio::time::sleep(Duration::from_millis(1)) => {}
    }
    // `slow` is still alive here and nobody polls it.
    let sum = desk.sum().timeout(Duration::from_secs(10)).await.unwrap();
    assert_eq!(sum, 2, "the turn ran to its end");
    assert_eq!(slow.await.unwrap(), 2, "and its answer was kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_caller_does_not_cut_a_turn() {
    let node = node().await;
    let desk: DeskRef = node.get("a");
    drop(started(desk.add_slowly(1, 10)).await);
    assert_eq!(desk.sum().await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_dropped_while_queued_never_runs() {
    let node = node().await;
    let desk: DeskRef = node.get("a");
    let slow = started(desk.add_slowly(1, 20)).await;
    let queued = started(desk.add(100)).await;
    drop(queued);
    slow.await.unwrap();
    assert_eq!(desk.sum().await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_queued_exclusive_calls_run_in_order() {
    let node = node().await;
    let desk: DeskRef = node.get("a");
    let slow = started(desk.add_slowly(1, 20)).await;
    let mut calls = Vec::new();
    for n in 0..1000 {
        calls.push(started(desk.log(n)).await);
    }
    slow.await.unwrap();
    for call in calls {
        call.await.unwrap();
    }
    let log = desk.take_log().await.unwrap();
    assert_eq!(log, (0..1000).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn turns_that_wait_keep_their_place_among_those_handed_over_with_them() {
    let node = node().await;
    let desk: DeskRef = node.get("d");
    for round in 0..200 {
        desk.add_slowly(0, 1).send().unwrap();
        for n in 0..100_u32 {
            // Different ones wait in each round, and always the last of those that are handed over together.
            match (n + round) % 7 == 0 || n == 63 {
                true => desk.log_later(n).send().unwrap(),
                false => desk.log(n).send().unwrap(),
            }
        }
        assert_eq!(desk.take_log().await.unwrap(), (0..100).collect::<Vec<_>>(), "round {round}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_way_calls_run_in_order_and_before_later_calls() {
    let node = node().await;
    let desk: DeskRef = node.get("a");
    for round in 0..20 {
        for n in 0..100 {
            desk.log(n).send().unwrap();
        }
        assert_eq!(desk.take_log().await.unwrap(), (0..100).collect::<Vec<_>>(), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_mailbox_refuses_at_once_and_nothing_runs() {
    let node =
        Node::builder().host_with::<DeskGrain>(grains::GrainOptions::new().mailbox_len_max(10)).start().await.unwrap();
    let desk: DeskRef = node.get("a");
    let slow = started(desk.add_slowly(1, 50)).await;
    let mut waiting = Vec::new();
    for _ in 0..10 {
        waiting.push(started(desk.add(1)).await);
    }
    let error = desk.add(1).await.unwrap_err();
    assert!(matches!(&error, CallError::Overloaded { limit, .. } if &**limit == "mailbox_len_max = 10"), "{error}");
    assert_eq!(error.outcome(), Outcome::NotExecuted);
    assert!(matches!(desk.add(1).send(), Err(CallError::Overloaded { .. })));

    // Calls that were taken back make room.
    waiting.pop();
    waiting.push(started(desk.add(1)).await);
    slow.await.unwrap();
    for call in waiting {
        call.await.unwrap();
    }
    assert_eq!(desk.sum().await.unwrap(), 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_is_not_starved_by_readers() {
    let node = node().await;
    let desk: DeskRef = node.get("a");
    let stop = Arc::new(AtomicBool::new(false));
    let reads: Arc<[AtomicU64; 8]> = Arc::default();
    let readers: Vec<_> = (0..8)
        .map(|reader| {
            let (desk, stop, reads) = (desk.clone(), stop.clone(), reads.clone());
            tokio::spawn(async move {
                while !stop.load(SeqCst) {
                    desk.read_slowly(2).await.unwrap();
                    reads[reader].fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    let mut writes = 0;
    let begun = Instant::now();
    while writes < 50 || reads.iter().any(|reads| reads.load(SeqCst) < 3) {
        assert!(begun.elapsed() < Duration::from_secs(20), "readers are not starved by writers either: {reads:?}");
        writes += 1;
        let sum = desk.add(1).timeout(Duration::from_secs(10)).await.expect("a writer gets its turn");
        assert_eq!(sum, writes);
    }
    stop.store(true, SeqCst);
    for reader in readers {
        reader.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shared_turns_overlap_on_two_threads() {
    let node = node().await;
    let desk: DeskRef = node.get("a");
    // Alive before: who waits for an activation is woken by the thread that did it, and a thread that spins keeps whom it
    // has woken to itself.
    desk.add(0).await.unwrap();
    let (one, two) = (desk.clone(), desk.clone());
    let one = tokio::spawn(async move { one.meet().await.unwrap() });
    let two = tokio::spawn(async move { two.meet().await.unwrap() });
    assert!(one.await.unwrap() && two.await.unwrap(), "each saw the other");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_is_caught_and_the_next_call_starts_afresh() {
    let node = node().await;
    let desk: DeskRef = node.get("a");
    for wait in [false, true] {
        desk.add(7).await.unwrap();
        let error = desk.panic(wait).await.unwrap_err();
        let CallError::Panicked { grain, method, message } = &error else { panic!("{error}") };
        assert_eq!((&**grain, &**method, &**message), ("desk/a", "panic", "as asked"));
        assert_eq!(error.outcome(), Outcome::Executed);
        assert_eq!(desk.sum().await.unwrap(), 0, "a fresh activation");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_does_not_cut_other_shared_turns_and_keeps_the_queue() {
    let node = node().await;
    let desk: DeskRef = node.get("a");
    desk.add(3).await.unwrap();
    let reading = started(desk.read_slowly(40)).await;
    let panicking = started(desk.panic_reading(5)).await;
    let queued = started(desk.add(1)).await;
    assert!(matches!(panicking.await, Err(CallError::Panicked { .. })));
    assert_eq!(reading.await.unwrap(), 3, "it ran to its end on the old instance");
    assert_eq!(queued.await.unwrap(), 1, "the queued call ran on a fresh one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_callers_lose_nothing() {
    let node = node().await;
    let tasks: Vec<_> = (0..16_u64)
        .map(|task| {
            let desk: DeskRef = node.get(["a", "b"][task as usize % 2]);
            tokio::spawn(async move {
                for n in 0..2000_u64 {
                    let reads = (task + n).is_multiple_of(7);
                    let _sum = if reads { desk.sum().await.unwrap() } else { desk.add(1).await.unwrap() };
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let expected = |half: u64| {
        let of = |task: u64| (0..2000_u64).filter(|n| !(task + n).is_multiple_of(7)).count() as u64;
        (0..16_u64).filter(|task| task % 2 == half).map(of).sum::<u64>()
    };
    assert_eq!(node.get::<DeskRef>("a").sum().await.unwrap(), expected(0));
    assert_eq!(node.get::<DeskRef>("b").sum().await.unwrap(), expected(1));
    assert_eq!(node.waiting_calls(), 0);
}

/// Whoever calls from wherever: a plain thread, another runtime, `block_on` of the same one.
#[test]
fn calls_from_outside_the_nodes_runtime_work_and_run_inside_it() {
    let home = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let node = home.block_on(node());
    let desk: DeskRef = node.get("a");
    let other = tokio::runtime::Builder::new_current_thread().build().unwrap(); // no timer of its own
    let sum = other.block_on(desk.add_slowly(1, 5)).unwrap();
    assert_eq!(sum, 2, "the turn's timer belongs to the node's runtime");
    drop(other);
    assert_eq!(home.block_on(desk.add(1)).unwrap(), 3);
    let stopped = home.block_on(node.stop());
    assert_eq!(stopped.dropped, 0);
}

//! How much memory calls ask for: nothing if they do not wait, their replies if they do, and the queue of a busy grain takes them as
//! they are. Alone in its process, because it counts what the whole process allocates.
#![cfg(feature = "runtime")]
#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    task::{Context, Poll, Waker},
    time::Duration,
};

use grains::prelude::*;
use tokio::sync::Semaphore;

/// The system's allocator, counting.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every method is that of the system's allocator; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        BYTES.fetch_add(layout.size(), Relaxed);
        // SAFETY: the caller keeps the promises of `alloc`, which are the same there.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        BYTES.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above; `at` came from the system's allocator.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        BYTES.fetch_add(bytes, Relaxed);
        BYTES.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above; `at` came from the system's allocator.
        unsafe { System.realloc(at, layout, bytes) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[rpc_trait]
pub trait Counter {
    /// Adds and answers the sum.
    async fn add(&mut self, n: u64) -> Result<u64>;
    /// Adds the length of a text.
    async fn measure(&mut self, text: [u64; 16]) -> Result<u64>;
    /// Runs until the gate opens.
    async fn hold(&mut self) -> Result<()>;
}

#[grain(Counter, default)]
#[derive(Default)]
pub struct CounterGrain {
    sum: u64,
}

static GATE: Semaphore = Semaphore::const_new(0);

impl Counter for CounterGrain {
    async fn add(&mut self, n: u64) -> Result<u64> {
        self.sum += n;
        Ok(self.sum)
    }
    async fn measure(&mut self, text: [u64; 16]) -> Result<u64> {
        self.sum += text.len() as u64;
        Ok(self.sum)
    }
    async fn hold(&mut self) -> Result<()> {
        GATE.acquire().await.unwrap().forget();
        Ok(())
    }
}

/// Fewer than a mailbox holds.
const CALLS: u64 = 1000;

/// Lets a turn hold the grain while `calls` are made, and waits until all have run.
async fn behind_a_turn(counter: &CounterRef, calls: impl FnOnce()) {
    let holding = tokio::spawn({
        let counter = counter.clone();
        async move { counter.hold().await.unwrap() }
    });
    tokio::task::yield_now().await;
    calls();
    GATE.add_permits(1);
    holding.await.unwrap();
    counter.add(0).await.unwrap();
}

fn poll<F: Future + Unpin>(call: &mut F) -> Poll<F::Output> {
    Pin::new(call).poll(&mut Context::from_waker(Waker::noop()))
}

/// Calls that wait for their turns, all made before the first has one, and answered then.
async fn waiting<M, F>(counter: &CounterRef, call: M) -> u64
where
    M: Fn() -> F,
    F: Future<Output = Result<u64, CallError<Error>>> + Unpin,
{
    let mut calls: Vec<_> = (0..CALLS).map(|_| call()).collect();
    let before = ALLOCATIONS.load(Relaxed);
    behind_a_turn(counter, || calls.iter_mut().for_each(|call| assert!(poll(call).is_pending()))).await;
    for call in &mut calls {
        assert!(matches!(poll(call), Poll::Ready(Ok(_))));
    }
    ALLOCATIONS.load(Relaxed) - before
}

/// Single allocations of something else: the queue as it grows, tasks, the lists of those who wait.
const BESIDE: u64 = CALLS / 10;

#[tokio::test]
async fn a_call_allocates_its_reply_if_it_waits_and_nothing_else() {
    // Activations are looked at twice a second.
    let idle = |config: &mut grains::NodeConfig| config.idle_timeout = Duration::from_secs(4);
    let node = Node::builder().host::<CounterGrain>().configure(idle).start().await.unwrap();
    let bytes = BYTES.load(Relaxed);
    let counter: CounterRef = node.get("one");
    // What is made once.
    for _ in 0..3 {
        counter.add(1).await.unwrap();
        waiting(&counter, || counter.add(1)).await;
        waiting(&counter, || counter.measure([0; 16])).await;
    }

    let before = ALLOCATIONS.load(Relaxed);
    for _ in 0..CALLS {
        counter.add(1).await.unwrap();
    }
    let at_once = ALLOCATIONS.load(Relaxed) - before;
    assert!(at_once < BESIDE, "{at_once} allocations for {CALLS} calls that did not wait");

    let before = ALLOCATIONS.load(Relaxed);
    behind_a_turn(&counter, || (0..CALLS).for_each(|_| counter.add(1).send().unwrap())).await;
    let one_way = ALLOCATIONS.load(Relaxed) - before;
    assert!(one_way < BESIDE, "{one_way} allocations for {CALLS} one-way calls that waited");

    let waited = waiting(&counter, || counter.add(1)).await;
    assert!(waited < CALLS + BESIDE, "{waited} allocations for {CALLS} calls that waited");
    let large = waiting(&counter, || counter.measure([0; 16])).await;
    assert!(large < 2 * CALLS + BESIDE, "{large} allocations for {CALLS} calls that waited with 128 bytes");

    // A thousand places of a queue are more than that.
    let mut more = usize::MAX;
    // Well before it goes itself.
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        more = BYTES.load(Relaxed).saturating_sub(bytes);
        if more < 100_000 {
            break;
        }
    }
    assert!(more < 100_000, "a grain that nobody calls any more keeps {more} bytes");
    node.stop().await;
}

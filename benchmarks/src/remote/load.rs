//! Calls with an answer, so many under way at a time: each is a task that makes one after the other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use super::{Remote, payload, server::Server};
use crate::{
    allocations::Count,
    case::{Case, Measured, Work},
    child::Size,
    machine,
};

pub(super) async fn measure<S: Remote>(work: Work, mut server: Server, size: Size) -> Vec<Measured> {
    let callees = S::connect(server.address.clone()).await;
    assert_eq!(callees.len(), super::CALLEES);
    let under_way = match work {
        Work::Remote1 => 1,
        Work::Remote64 | Work::Remote64Mtls => 64,
        _ => 512,
    };
    let [short, long] = size.pick([200, 800], [10, 10]).map(Duration::from_millis);
    // All callees live, and the first calls are not like the later ones.
    calls::<S>(&callees, 64, short).await;
    calls::<S>(&callees, under_way, short).await;

    let cpu_before = machine::cpu_time() + server.used().cpu;
    let done = calls::<S>(&callees, under_way, long).await;
    let cpu = machine::cpu_time() + server.used().cpu - cpu_before;

    let (counting, _) = (Count::begin(), server.count());
    let counted = calls::<S>(&callees, under_way, short).await;
    let allocations = counting.end() + server.used().allocations;
    let allocs = Some(allocations as f64 / counted.count as f64);

    let value = |case, value| Measured { case, value, allocs };
    match work {
        Work::Remote1 => vec![value(Case::Remote1, done.median.as_nanos() as f64 / 1e3)],
        Work::Remote64 => vec![
            value(Case::Remote64, done.rate),
            value(Case::RemoteCpu, cpu.as_nanos() as f64 / 1e3 / done.count as f64),
        ],
        Work::Remote64Mtls => vec![value(Case::Remote64Mtls, done.rate)],
        _ => vec![value(Case::Remote512, done.rate)],
    }
}

/// What was done in a pass.
struct Done {
    count: u64,
    /// Calls a second.
    rate: f64,
    /// How long a call took, if there was one under way.
    median: Duration,
}

/// Calls for so long. Only a lone caller looks at the clock for every call.
async fn calls<S: Remote>(callees: &[S::Callee], under_way: usize, long: Duration) -> Done {
    let stop = Arc::new(AtomicBool::new(false));
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for n in 0..under_way {
        let (callee, stop) = (callees[n % callees.len()].clone(), stop.clone());
        match under_way {
            1 => callers.spawn(timed::<S>(callee, stop)),
            _ => callers.spawn(counted::<S>(callee, stop)),
        };
    }
    tokio::time::sleep(long).await;
    stop.store(true, Relaxed);
    let (mut count, mut times) = (0, Vec::new());
    while let Some(ended) = callers.join_next().await {
        let (calls, took) = ended.expect("callers go on to their end");
        count += calls;
        times.extend(took);
    }
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    times.sort();
    Done { count, rate, median: times.get(times.len() / 2).copied().unwrap_or_default() }
}

async fn counted<S: Remote>(callee: S::Callee, stop: Arc<AtomicBool>) -> (u64, Vec<Duration>) {
    let (text, mut count) = (payload(), 0);
    while !stop.load(Relaxed) {
        let answer = S::echo(&callee, text.clone()).await;
        assert!(answer == text, "another text came back: {answer}");
        count += 1;
    }
    (count, Vec::new())
}

async fn timed<S: Remote>(callee: S::Callee, stop: Arc<AtomicBool>) -> (u64, Vec<Duration>) {
    let (text, mut took) = (payload(), Vec::with_capacity(1 << 16));
    while !stop.load(Relaxed) {
        let begun = Instant::now();
        let answer = S::echo(&callee, text.clone()).await;
        assert!(answer == text, "another text came back: {answer}");
        took.push(begun.elapsed());
    }
    (took.len() as u64, took)
}

//! Activations: how long one takes from a key to the first answer, and what it takes in memory when it is idle.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{Local, Place};
use crate::{
    allocations::Count,
    case::{Case, Measured},
    child::Size,
    machine,
};

pub(super) async fn of_200k<S: Local>(subject: &Arc<S>, size: Size) -> Vec<Measured> {
    let Some(done) = activations(subject, 0, size.pick(200_000, 2_000)).await else { return Vec::new() };
    let few = size.pick(10_000, 100);
    let counting = Count::begin();
    if activations(subject, 1 << 32, few).await.is_none() {
        return Vec::new();
    }
    let allocs = Some(counting.end() as f64 / few as f64);
    vec![
        Measured { case: Case::ColdActivation, value: done.nanos, allocs },
        Measured { case: Case::IdleBytes200k, value: done.bytes, allocs },
    ]
}

pub(super) async fn of_1m<S: Local>(subject: &Arc<S>, size: Size) -> Vec<Measured> {
    let Some(done) = activations(subject, 0, size.pick(1_000_000, 4_000)).await else { return Vec::new() };
    vec![Measured { case: Case::IdleBytes1m, value: done.bytes, allocs: None }]
}

/// Each.
struct Done {
    nanos: f64,
    bytes: f64,
}

/// Below this the machine begins to swap or kill: nobody's memory is worth that.
const AVAILABLE_BYTES_MIN: u64 = 1 << 30;

/// Activates so many, one after the other, by a first call each; `None` if the machine has too little memory for it.
///
/// The bytes are resident memory, so they include the sum itself (8 bytes) and, for grains, the key (8 bytes); but not the
/// list of what is kept.
async fn activations<S: Local>(subject: &Arc<S>, first_key: u64, count: usize) -> Option<Done> {
    let warm = S::keep(subject.callee(u64::MAX - first_key, Place(0)).await);
    let before = machine::resident_bytes();
    let (done, kept) = oneshot::channel();
    let caller = subject.clone();
    subject.spawn(Place(0), async move {
        done.send(one_by_one(&*caller, first_key, count).await).ok();
    });
    let (took, kept) = kept.await.expect("the caller goes on to its end")?;
    // What ends by itself, such as buffers of tasks that have become idle, has ended.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let list = (count * size_of::<S::Kept>()) as u64;
    let bytes = machine::resident_bytes().saturating_sub(before + list);
    // The heap of what comes next would begin with what they leave.
    std::mem::forget((warm, kept));
    Some(Done { nanos: took.as_nanos() as f64 / count as f64, bytes: bytes as f64 / count as f64 })
}

async fn one_by_one<S: Local>(subject: &S, first_key: u64, count: usize) -> Option<(Duration, Vec<S::Kept>)> {
    let mut kept = Vec::with_capacity(count);
    let begun = Instant::now();
    for n in 0..count {
        let callee = subject.callee(first_key + n as u64, Place(0)).await;
        assert_eq!(S::call(&callee, 1).await, 1, "it has just begun to live");
        kept.push(S::keep(callee));
        if n % 50_000 == 0 && machine::available_bytes() < AVAILABLE_BYTES_MIN {
            eprintln!("too little memory after {n} of {count}");
            return None;
        }
    }
    Some((begun.elapsed(), kept))
}

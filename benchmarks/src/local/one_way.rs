//! One-way calls of one sender to one callee, as fast as they go, until the last one has run.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{Local, Place};
use crate::{
    allocations::Count,
    case::{Case, Measured},
    child::Size,
};

pub(super) async fn measure<S: Local>(subject: &S, size: Size) -> Vec<Measured> {
    // Not on the sender's thread, where threads are bound: nothing would run before all are sent.
    let callee = subject.callee(0, Place(1)).await;
    let few = size.pick(100_000, 1_000);
    let many = size.pick(5_000_000, 10_000);
    sends(subject, &callee, few).await;
    let value = sends(subject, &callee, many).await.as_nanos() as f64 / many as f64;
    let counting = Count::begin();
    sends(subject, &callee, few).await;
    let allocs = Some(counting.end() as f64 / few as f64);
    vec![Measured { case: Case::OneWay, value, allocs }]
}

/// The last one is a call with an answer, which comes after all others: it says that every one has run.
async fn sends<S: Local>(subject: &S, callee: &S::Callee, count: u64) -> Duration {
    let before = S::call(callee, 0).await;
    let (done, took) = oneshot::channel();
    let sender = callee.clone();
    subject.spawn(Place(0), async move {
        let begun = Instant::now();
        for _ in 0..count {
            S::send(&sender, 1).await;
        }
        let after = S::call(&sender, 0).await;
        done.send((begun.elapsed(), after)).ok();
    });
    let (took, after) = took.await.expect("the sender goes on to its end");
    assert_eq!(after - before, count, "one-way calls were lost");
    took
}

//! Calls with an answer: how long one takes, or how long each takes among many, and what it allocates.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::{Local, Place};
use crate::{
    allocations::Count,
    case::{Case, Measured},
    child::Size,
};

const CALLERS: usize = 64;
/// How long the pass is that is timed: many times what a scheduler gives to others in one go.
const PASS: Duration = Duration::from_millis(300);
const PASS_QUICK: Duration = Duration::from_millis(5);

/// The caller is a task on a worker. Its callee is a task on the same workers, or runs in the caller's own if that is how
/// the subject does it.
pub(super) async fn in_sequence<S: Local>(subject: &S, size: Size) -> Vec<Measured> {
    let callee = subject.callee(0, Place(0)).await;
    measure(subject, Case::CallSeq, vec![(Place(0), callee)], size).await
}

pub(super) async fn each_its_own<S: Local>(subject: &S, size: Size) -> Vec<Measured> {
    let mut callers = Vec::new();
    for n in 0..CALLERS {
        callers.push((Place(n), subject.callee(n as u64, Place(n)).await));
    }
    measure(subject, Case::Call64x64, callers, size).await
}

pub(super) async fn all_to_one<S: Local>(subject: &S, size: Size) -> Vec<Measured> {
    let callee = subject.callee(0, Place(0)).await;
    let callers = (0..CALLERS).map(|n| (Place(n), callee.clone())).collect();
    measure(subject, Case::Call64x1, callers, size).await
}

/// Callers, each with its place and whom it calls.
type Callers<S> = Vec<(Place, <S as Local>::Callee)>;

async fn measure<S: Local>(subject: &S, case: Case, callers: Callers<S>, size: Size) -> Vec<Measured> {
    let count = callers.len() as u64;
    let warm_up = 20_000 / count;
    let mut made = warm_up;
    let mut took = calls(subject, &callers, warm_up).await;
    // Twice, because the first calls are not like the later ones.
    for pass in [PASS / 10, PASS].map(|pass| size.pick(pass, PASS_QUICK)) {
        let each = (pass.as_secs_f64() / took.as_secs_f64() * made as f64) as u64;
        made = each.clamp(warm_up, 100_000_000);
        took = calls(subject, &callers, made).await;
    }
    let value = took.as_nanos() as f64 / (count * made) as f64;
    // Long enough that all callers are under way at the same time, as before.
    let counted = (made / 4).max(warm_up);
    let counting = Count::begin();
    calls(subject, &callers, counted).await;
    let allocs = Some(counting.end() as f64 / (count * counted) as f64);
    vec![Measured { case, value, allocs }]
}

/// How long it takes until each caller has made `each` calls. Checks that every call has run once.
async fn calls<S: Local>(subject: &S, callers: &Callers<S>, each: u64) -> Duration {
    let before = sum::<S>(callers).await;
    let begun = Instant::now();
    let (done, mut all) = mpsc::channel::<()>(1);
    for (place, callee) in callers {
        let (callee, done) = (callee.clone(), done.clone());
        subject.spawn(*place, async move {
            for _ in 0..each {
                black_box(S::call(&callee, black_box(1)).await);
            }
            drop(done);
        });
    }
    drop(done);
    assert!(all.recv().await.is_none());
    let took = begun.elapsed();
    // Of one callee for all callers, the sum is taken as often as there are callers.
    let after = sum::<S>(callers).await;
    let ran = after - before;
    let calls = each * callers.len() as u64;
    assert!(ran == calls || ran == calls * callers.len() as u64, "{ran} of {calls} calls ran");
    took
}

async fn sum<S: Local>(callers: &Callers<S>) -> u64 {
    let mut sum = 0;
    for (_, callee) in callers {
        sum += S::call(callee, 0).await;
    }
    sum
}

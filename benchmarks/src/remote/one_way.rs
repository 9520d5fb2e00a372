//! One-way calls of one sender to all callees in turn. After some for each, the callees are asked how many have run: that
//! bounds what is under way, as queues are bounded, and shows that none was lost.

use std::time::{Duration, Instant};

use tokio::{task::JoinSet, time::timeout};

use super::{RemoteOneWay, payload, server::Server};
use crate::{
    allocations::Count,
    case::{Case, Measured},
    child::Size,
};

/// How many each callee gets before it is asked: a fraction of what may wait for a grain.
const EACH: u64 = 128;

/// What has not run by then is lost.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn measure<S: RemoteOneWay>(mut server: Server, size: Size) -> Vec<Measured> {
    let callees = S::connect(server.address.clone()).await;
    let [few, many] = size.pick([5, 25], [1, 2]);
    bursts::<S>(&callees, few).await;
    let begun = Instant::now();
    let sent = bursts::<S>(&callees, many).await;
    let value = begun.elapsed().as_nanos() as f64 / sent as f64;
    let (counting, _) = (Count::begin(), server.count());
    let counted = bursts::<S>(&callees, few).await;
    let allocations = counting.end() + server.used().allocations;
    vec![Measured { case: Case::RemoteOneWay, value, allocs: Some(allocations as f64 / counted as f64) }]
}

/// Sends in a task, as callers do, and answers how many one-way calls were made.
async fn bursts<S: RemoteOneWay>(callees: &[S::Callee], count: u64) -> u64 {
    let callees = callees.to_vec();
    let sender = tokio::spawn(async move {
        for _ in 0..count {
            burst::<S>(&callees).await;
        }
        count * EACH * callees.len() as u64
    });
    sender.await.expect("the sender goes on to its end")
}

async fn burst<S: RemoteOneWay>(callees: &[S::Callee]) {
    let text = payload();
    for _ in 0..EACH {
        for callee in callees {
            S::note(callee, text.clone()).await;
        }
    }
    let mut asking = JoinSet::new();
    for callee in callees.iter().cloned() {
        asking.spawn(timeout(PATIENCE, all_noted::<S>(callee)));
    }
    while let Some(asked) = asking.join_next().await {
        asked.expect("they answer").expect("one-way calls were lost");
    }
}

/// Asks once where calls keep their order. Where they do not, the question may come before the last of them.
async fn all_noted<S: RemoteOneWay>(callee: S::Callee) {
    let mut noted = 0;
    while noted < EACH {
        noted += S::noted(&callee).await;
    }
    assert_eq!(noted, EACH, "one-way calls ran twice");
}

//! Steady calls from inside a node, to random keys, wherever these live.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use grains::{CallError, prelude::*};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    probe::{HOME, ProbeRef, Seen},
    record::Called,
};

/// A pause after each call of a worker: enough calls to notice a gap of some milliseconds, not so many that tests wait for
/// the machine.
const PAUSE: Duration = Duration::from_millis(10);

/// A number for a call that no other call of any process has.
pub fn next_call() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    (u64::from(std::process::id()) << 32) | NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Adds one call to a grain, and writes down what came of it.
pub async fn add(node: &Node, key: &str, timeout: Duration) -> Result<Seen, CallError> {
    let probe: ProbeRef = node.get(key);
    let clock = &node.world().clock;
    let begun = clock.now().as_nanos();
    let answer = probe.add(next_call()).timeout(timeout).await;
    let home = HOME.get().expect("a node process");
    home.record.call(&Called {
        begun,
        ended: clock.now().as_nanos(),
        key: key.to_owned(),
        from: home.node.clone(),
        answer: match &answer {
            Ok(seen) => Ok(seen.activation.clone()),
            Err(error) => Err((format!("{:?}", error.outcome()), error.to_string())),
        },
    });
    answer
}

/// An answer as the tests read it.
pub fn told(key: &str, answer: Result<Seen, CallError>) -> Value {
    match answer {
        Ok(seen) => json!({"key": key, "activation": seen.activation, "node": seen.node, "counter": seen.counter}),
        Err(error) => {
            json!({"key": key, "error": error.to_string(), "outcome": format!("{:?}", error.outcome())})
        }
    }
}

/// The calls under way.
#[derive(Default)]
pub struct Traffic {
    workers: JoinSet<()>,
    tally: Arc<Tally>,
}

#[derive(Default)]
struct Tally {
    over: AtomicBool,
    calls: AtomicU64,
    failed: Mutex<Vec<Value>>,
}

/// More failures than anybody reads.
const FAILED_MAX: usize = 200;

impl Traffic {
    /// Begins to call `prefix0` to `prefix<keys - 1>`.
    pub fn begin(&mut self, node: &Node, prefix: &str, keys: u64, workers: usize) {
        for _ in 0..workers {
            let (node, prefix, tally) = (node.clone(), prefix.to_owned(), self.tally.clone());
            self.workers.spawn(async move {
                while !tally.over.load(Ordering::Relaxed) {
                    let key = format!("{prefix}{}", node.world().random.next_u64() % keys);
                    let answer = add(&node, &key, Duration::from_secs(20)).await;
                    tally.calls.fetch_add(1, Ordering::Relaxed);
                    if let failed @ Err(_) = answer {
                        let mut all = tally.failed.lock().unwrap();
                        if all.len() < FAILED_MAX {
                            all.push(told(&key, failed));
                        }
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
    }

    /// How many calls have ended so far.
    pub fn so_far(&self) -> Value {
        json!({"calls": self.tally.calls.load(Ordering::Relaxed)})
    }

    /// Makes no new calls, and waits for those under way.
    pub async fn end(mut self) -> Value {
        self.tally.over.store(true, Ordering::Relaxed);
        while self.workers.join_next().await.is_some() {}
        let failed = std::mem::take(&mut *self.tally.failed.lock().unwrap());
        json!({"calls": self.tally.calls.load(Ordering::Relaxed), "failed": failed})
    }
}

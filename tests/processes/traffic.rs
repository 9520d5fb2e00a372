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
    probe::{HOME, LedgerRef, ProbeRef, Seen, ledger},
    record::{Asked, Fact, Told, now},
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
    let (probe, call) = (node.get::<ProbeRef>(key), next_call());
    recorded(key, Asked::Count, call, timeout, async { probe.add(call).timeout(timeout).await }).await
}

/// Has a grain take its time.
pub async fn slow(node: &Node, key: &str, ms: u64, step_ms: u64, timeout: Duration) -> Result<Seen, CallError> {
    let probe: ProbeRef = node.get(key);
    let call = async { probe.slow(ms, step_ms).timeout(timeout).await };
    recorded(key, Asked::Slow, next_call(), timeout, call).await
}

/// Adds one to a ledger.
pub async fn enter(node: &Node, key: &str, timeout: Duration) -> Result<Seen, CallError> {
    let (entered, call) = (node.get::<LedgerRef>(key), next_call());
    let enters = async { entered.enter(call).timeout(timeout).await };
    recorded(&ledger(key), Asked::Enter, call, timeout, enters).await
}

/// Asks a ledger until it answers.
pub async fn sum(node: &Node, key: &str, timeout: Duration) -> Result<Seen, CallError> {
    let asked: LedgerRef = node.get(key);
    let sum = async { asked.sum().timeout(timeout).retry(50).await };
    recorded(&ledger(key), Asked::Sum, next_call(), timeout, sum).await
}

async fn recorded(
    key: &str,
    what: Asked,
    number: u64,
    timeout: Duration,
    call: impl Future<Output = Result<Seen, CallError>>,
) -> Result<Seen, CallError> {
    let record = &HOME.get().expect("a node process").record;
    let limit_ms = u64::try_from(timeout.as_millis()).expect("a timeout");
    record.write(&Fact::Asks { at: now(), number, key: key.to_owned(), what, limit_ms });
    let answer = call.await;
    let told = match &answer {
        Ok(Seen { activation, counter, .. }) => Told::Answered { by: activation.clone(), value: *counter },
        Err(error) => Told::from(error),
    };
    record.write(&Fact::Told { at: now(), number, answer: told });
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

/// How many grains of each sort a chapter of the campaign has.
pub const COUNTED: u64 = 40;
pub const SLOW: u64 = 30;
pub const LEDGERS: u64 = 12;

/// How many slow turns a node waits for: whoever is frozen is in the middle of more of them than it has threads, so that some are
/// polled after it has gone on.
const SLOW_AT_ONCE: usize = 4;

/// How long the calls of a campaign wait: longer than any recovery, so that what fails earlier was told to; or hardly at all.
const LIMIT: Duration = Duration::from_secs(12);
const SHORT_LIMIT: Duration = Duration::from_millis(700);
const HARDLY: Duration = Duration::from_millis(30);

/// More failures than anybody reads.
const FAILED_MAX: usize = 200;

impl Traffic {
    /// Begins to call `prefix0` to `prefix<keys - 1>`.
    pub fn begin(&mut self, node: &Node, prefix: &str, keys: u64, workers: usize) {
        for _ in 0..workers {
            let call = |node: Node, key: String| async move { add(&node, &key, Duration::from_secs(20)).await };
            self.work(node, prefix, keys, PAUSE, call);
        }
    }

    /// Begins to do everything at once to grains whose keys begin with `prefix`: some worker counts, some takes its time, some
    /// keeps a ledger.
    pub fn begin_everything(&mut self, node: &Node, prefix: &str) {
        // The last of them waits for nobody: so there is always somebody who calls what lives here, however far away others are.
        for (limit, pause_ms) in [(LIMIT, 60), (SHORT_LIMIT, 60), (HARDLY, 25)] {
            let pause = Duration::from_millis(pause_ms);
            self.work(node, &format!("{prefix}k"), COUNTED, pause, move |node: Node, key| async move {
                add(&node, &key, limit).await
            });
        }
        for _ in 0..SLOW_AT_ONCE {
            self.work(node, &format!("{prefix}s"), SLOW, Duration::from_millis(5), |node: Node, key| async move {
                let ms = 100 + node.world().random.next_u64() % 2_000;
                slow(&node, &key, ms, 40, LIMIT).await
            });
        }
        self.work(
            node,
            &format!("{prefix}l"),
            LEDGERS,
            Duration::from_millis(60),
            |node: Node, key: String| async move {
                match node.world().random.next_u64() % 4 {
                    0 => sum(&node, &key, LIMIT).await,
                    _ => enter(&node, &key, LIMIT).await,
                }
            },
        );
    }

    /// A worker that calls one of `keys` grains after the other.
    fn work<F>(
        &mut self,
        node: &Node,
        prefix: &str,
        keys: u64,
        pause: Duration,
        call: impl Fn(Node, String) -> F + Send + 'static,
    ) where
        F: Future<Output = Result<Seen, CallError>> + Send,
    {
        let (node, prefix, tally) = (node.clone(), prefix.to_owned(), self.tally.clone());
        self.workers.spawn(async move {
            while !tally.over.load(Ordering::Relaxed) {
                let key = format!("{prefix}{}", node.world().random.next_u64() % keys);
                let answer = call(node.clone(), key.clone()).await;
                tally.calls.fetch_add(1, Ordering::Relaxed);
                if let failed @ Err(_) = answer {
                    let mut all = tally.failed.lock().unwrap();
                    if all.len() < FAILED_MAX {
                        all.push(told(&key, failed));
                    }
                }
                tokio::time::sleep(pause).await;
            }
        });
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

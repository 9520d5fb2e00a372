//! A node as a process: it reads commands, one a line, and answers each with a line of JSON. It ends gently when asked by
//! SIGTERM or `stop`, hard at the second SIGTERM, and at once when the test is gone.

use std::{
    env,
    io::Write as _,
    path::PathBuf,
    process::exit,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use grains::{CallError, ClusterConfig, prelude::*};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{
    runtime::Handle,
    signal::unix::{SignalKind, signal},
};

use crate::{
    probe::{HOME, Home, LedgerGrain, LedgerRef, OnlyGrain, OnlyRef, ProbeGrain, ProbeRef, Seen},
    record::Record,
    traffic::{Traffic, add, told},
};

/// What a node is told when it is started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Orders {
    pub name: String,
    pub cluster: String,
    pub listen: String,
    pub join: Vec<String>,
    pub data_dir: Option<PathBuf>,
    /// Whether the cluster keeps the states of grains itself.
    pub keeps_states: bool,
    /// Where its record goes.
    pub records: PathBuf,
    pub join_timeout_ms: u64,
    /// How long a voter may be away before another gets its seat.
    pub voter_replace_after_ms: u64,
    pub stop_timeout_ms: u64,
    /// The folder of its certificate, if it has one.
    pub certificates: Option<PathBuf>,
}

/// Where a process finds its [`Orders`].
pub const ORDERS: &str = "GRAINS_TEST_NODE";

/// Begins each line that is meant for the test: the harness of tests prints others.
pub const MARK: char = '@';

/// Not a test: what a node process runs.
#[test]
fn node_process() {
    let Ok(orders) = env::var(ORDERS) else { return };
    let orders: Orders = serde_json::from_str(&orders).unwrap();
    let level = match env::var("GRAINS_TEST_LOG").as_deref() {
        Ok("debug") => tracing::Level::DEBUG,
        _ => tracing::Level::INFO,
    };
    tracing_subscriber::fmt().with_max_level(level).with_ansi(false).with_writer(std::io::stderr).init();
    exit(main(orders));
}

/// As programs of users have it, but for what it is told.
fn main(orders: Orders) -> i32 {
    grains::__private::run_main(Some(2), run(orders))
}

fn say(line: &Value) {
    let line = format!("\n{MARK}{line}\n");
    let mut out = std::io::stdout().lock();
    // The test is gone: so is this process, soon.
    drop(out.write_all(line.as_bytes()).and_then(|()| out.flush()));
}

async fn run(orders: Orders) -> i32 {
    let record = Record::new(&orders.records, &orders.name);
    HOME.set(Home { node: orders.name.clone(), record }).ok().expect("one node in a process");
    let mut config = ClusterConfig::new(orders.cluster).listen(orders.listen).join(orders.join);
    config.join_timeout = Duration::from_millis(orders.join_timeout_ms);
    config.voter_replace_after = Duration::from_millis(orders.voter_replace_after_ms);
    #[cfg(feature = "tls")]
    if let Some(folder) = orders.certificates {
        config = config.tls_folder(folder);
    }
    let mut builder = Node::builder().name(orders.name).cluster(config).host::<ProbeGrain>().singleton::<OnlyGrain>();
    if orders.keeps_states {
        builder = builder.host::<LedgerGrain>();
    }
    let stop_timeout = Duration::from_millis(orders.stop_timeout_ms);
    builder = builder.configure(|config| config.stop_timeout = stop_timeout);
    if let Some(folder) = orders.data_dir {
        builder = builder.data_dir(folder);
    }
    let mut terminated = signal(SignalKind::terminate()).unwrap();
    let node = match builder.start().await {
        Ok(node) => node,
        Err(error) => {
            eprintln!("cannot start: {error}");
            return 1;
        }
    };
    say(&json!({"ready": node.address()}));
    tokio::spawn(watch_leadership(node.clone()));
    let program = Arc::new(Program { node: node.clone(), traffic: Mutex::default(), stop: Arc::default() });
    let (reads, runtime) = (program.clone(), Handle::current());
    std::thread::spawn(move || read(&reads, &runtime));
    tokio::select! {
        _ = terminated.recv() => {}
        () = program.stop.notified() => {}
    }
    tokio::spawn(async move {
        terminated.recv().await;
        exit(3);
    });
    let stopped = node.stop().await;
    let traffic = std::mem::take(&mut *program.traffic.lock().unwrap());
    say(&json!({"stopped": stopped.dropped, "traffic": traffic.end().await}));
    if stopped.dropped == 0 { 0 } else { 2 }
}

/// Writes down each time this node believes that it leads.
async fn watch_leadership(node: Node) {
    let leadership = node.leader();
    let record = &HOME.get().expect("a node process").record;
    loop {
        if let Some(term) = leadership.mine() {
            let now = node.world().clock.now().as_nanos();
            record.turn(now, "the-leadership", &term.to_string(), "leads");
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

struct Program {
    node: Node,
    traffic: Mutex<Traffic>,
    stop: Arc<tokio::sync::Notify>,
}

fn read(program: &Arc<Program>, runtime: &Handle) {
    for line in std::io::stdin().lines().map_while(std::io::Result::ok) {
        let program = program.clone();
        let answered = runtime.spawn(async move {
            let (number, command) = line.split_once(' ').expect("a number and a command");
            let number: u64 = number.parse().expect("a number");
            say(&json!({"number": number, "answer": program.answer(command).await}));
        });
        // Or the test would wait for an answer that does not come.
        runtime.spawn(async move {
            if answered.await.is_err() {
                exit(5);
            }
        });
    }
    exit(4); // the test is gone
}

/// How long calls wait that a test makes by name.
const CALL_MAX: Duration = Duration::from_secs(30);

impl Program {
    async fn answer(&self, command: &str) -> Value {
        let words: Vec<&str> = command.split(' ').collect();
        let node = &self.node;
        match words[..] {
            // One call.
            ["call", key] => told(key, add(node, key, CALL_MAX).await),
            // Many callers of one grain at once.
            ["burst", key, callers] => {
                let calls = (0..number(callers)).map(|_| async { told(key, add(node, key, CALL_MAX).await) });
                join_all(calls).await.into()
            }
            // One call of each of many grains at once.
            ["many", prefix, keys] => {
                let call = |key: String| {
                    let node = node.clone();
                    async move { add(&node, &key, CALL_MAX).await }
                };
                of_each(prefix, keys, call).await
            }
            // The same without counting.
            ["who", prefix, keys] => {
                of_each(prefix, keys, |key| node.get::<ProbeRef>(key).who().timeout(CALL_MAX)).await
            }
            // Calls each of many grains until it answers.
            ["sweep", prefix, keys, limit_ms] => self.sweep(prefix, number(keys), number(limit_ms)).await,
            // A turn of so many milliseconds that is polled every so many.
            ["slow", key, ms, step_ms] => {
                let probe: ProbeRef = node.get(key);
                told(key, probe.slow(number(ms), number(step_ms)).timeout(CALL_MAX).await)
            }
            // A turn that never gives its thread back.
            ["block", key] => told(key, node.get::<ProbeRef>(key).block().timeout(CALL_MAX).await),
            // Adds one to each of many ledgers, so many times. What was acknowledged, by key.
            ["enter", prefix, keys, times] => {
                let times = number(times);
                of_ledgers(node, prefix, keys, move |ledger| async move {
                    let mut acknowledged = 0;
                    for _ in 0..times {
                        acknowledged += u64::from(ledger.enter().timeout(CALL_MAX).await.is_ok());
                    }
                    acknowledged
                })
                .await
            }
            // What stands in each of many ledgers, by key.
            ["ledgers", prefix, keys] => {
                of_ledgers(node, prefix, keys, |ledger| async move {
                    ledger.sum().timeout(CALL_MAX).retry(50).await.expect("a ledger answers")
                })
                .await
            }
            ["only"] => told("the-singleton", node.get::<OnlyRef>(()).home().timeout(CALL_MAX).await),
            ["status"] => serde_json::to_value(node.status()).unwrap(),
            ["traffic", prefix, keys, workers] => {
                self.traffic.lock().unwrap().begin(node, prefix, number(keys), number(workers) as usize);
                Value::Null
            }
            ["so-far"] => self.traffic.lock().unwrap().so_far(),
            ["settle"] => {
                let traffic = std::mem::take(&mut *self.traffic.lock().unwrap());
                traffic.end().await
            }
            ["stop"] => {
                self.stop.notify_one();
                Value::Null
            }
            _ => panic!("no command: {command:?}"),
        }
    }

    /// Which grains did not answer in time, and why not; and how long the last one took.
    async fn sweep(&self, prefix: &str, keys: u64, limit_ms: u64) -> Value {
        let until = tokio::time::Instant::now() + Duration::from_millis(limit_ms);
        let each = (0..keys).map(|key| async move {
            let key = format!("{prefix}{key}");
            loop {
                let left = until.saturating_duration_since(tokio::time::Instant::now());
                match add(&self.node, &key, left).await {
                    Ok(_) => return None,
                    Err(_) if !left.is_zero() => tokio::time::sleep(Duration::from_millis(20)).await,
                    failed => return Some(told(&key, failed)),
                }
            }
        });
        let silent: Vec<Value> = join_all(each).await.into_iter().flatten().collect();
        silent.into()
    }
}

async fn of_each<F>(prefix: &str, keys: &str, call: impl Fn(String) -> F) -> Value
where
    F: Future<Output = Result<Seen, CallError>>,
{
    let calls = (0..number(keys)).map(|key| {
        let key = format!("{prefix}{key}");
        let call = call(key.clone());
        async move { told(&key, call.await) }
    });
    join_all(calls).await.into()
}

async fn of_ledgers<F>(node: &Node, prefix: &str, keys: &str, ask: impl Fn(LedgerRef) -> F) -> Value
where
    F: Future<Output = u64>,
{
    let asked = (0..number(keys)).map(|key| {
        let key = format!("{prefix}{key}");
        let answer = ask(node.get(key.as_str()));
        async move { (key, Value::from(answer.await)) }
    });
    Value::Object(join_all(asked).await.into_iter().collect())
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or_else(|_| panic!("{word:?} is no number"))
}

//! A node as a process: it reads commands, one a line, and answers each with a line of JSON. It ends gently when asked by
//! SIGTERM or `stop`, hard at the second SIGTERM, and at once when the test is gone.

use std::{
    env,
    io::Write as _,
    path::PathBuf,
    process::exit,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
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
    probe::{HOME, Home, LedgerGrain, OnlyGrain, OnlyRef, ProbeGrain, ProbeRef, Seen},
    record::{Fact, Record, now},
    traffic::{Traffic, add, enter, slow, sum, told},
};

/// What a node is told when it is started.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Orders {
    pub name: String,
    pub cluster: String,
    pub listen: String,
    /// Where others find it, if that is elsewhere.
    pub advertise: Option<String>,
    pub join: Vec<String>,
    pub voters: usize,
    /// A folder of certificates for development. Without it, connections are open to all.
    pub tls: Option<PathBuf>,
    /// Mechanisms of safety that it is to do without, by their names: `docs/SIMULATION.md`.
    pub lacks: Vec<String>,
    /// What is run around it, and the variables that it gets.
    pub within: Vec<String>,
    pub variables: Vec<(String, String)>,
    pub data_dir: Option<PathBuf>,
    /// Whether the cluster keeps the states of grains itself.
    pub keeps_states: bool,
    /// Where its record goes.
    pub records: PathBuf,
    pub join_timeout_ms: u64,
    /// How long a voter may be away before another gets its seat.
    pub voter_replace_after_ms: u64,
    pub stop_timeout_ms: u64,
    /// Whether it is to have a watchdog.
    pub death_certificates: bool,
    /// Whether the program does not begin as those that may have one.
    pub embedded: bool,
    /// The folder of its certificate, if it has one.
    pub certificates: Option<PathBuf>,
}

/// Where a process finds its [`Orders`].
pub const ORDERS: &str = "GRAINS_TEST_NODE";

/// With what this test binary is run as a node.
pub const NODE_PROCESS: [&str; 4] = ["--exact", "program::node_process", "--nocapture", "--test-threads=1"];

/// Begins each line that is meant for the test: the harness of tests prints others.
pub const MARK: char = '@';

/// Not a test: what a node process runs.
#[test]
fn node_process() {
    let Ok(orders) = env::var(ORDERS) else { return };
    let orders: Orders = serde_json::from_str(&orders).unwrap();
    if !orders.embedded {
        // Its watchdog gets here as it did.
        grains::__private::init_with_args(NODE_PROCESS.map(Into::into).to_vec());
    }
    let level = match env::var("GRAINS_TEST_LOG").as_deref() {
        Ok("debug") => tracing::Level::DEBUG,
        _ => tracing::Level::INFO,
    };
    tracing_subscriber::fmt().with_max_level(level).with_ansi(false).with_writer(std::io::stderr).init();
    exit(main(orders));
}

/// As programs of users have it, but for what it is told.
fn main(orders: Orders) -> i32 {
    match orders.embedded {
        false => grains::__private::run_main(Some(2), run(orders)),
        true => tokio::runtime::Runtime::new().unwrap().block_on(run(orders)),
    }
}

fn say(line: &Value) {
    let line = format!("\n{MARK}{line}\n");
    let mut out = std::io::stdout().lock();
    // The test is gone: so is this process, soon.
    drop(out.write_all(line.as_bytes()).and_then(|()| out.flush()));
}

async fn run(orders: Orders) -> i32 {
    lack(&orders.lacks);
    let record = Record::new(&orders.records, &orders.name);
    HOME.set(Home { node: orders.name.clone(), record }).ok().expect("one node in a process");
    let mut config = ClusterConfig::new(orders.cluster).listen(orders.listen).join(orders.join);
    config.advertise = orders.advertise;
    config.voters = orders.voters;
    // In network namespaces of their own nobody else is there.
    config.plaintext_on_any_network = orders.tls.is_none() && !orders.within.is_empty();
    if let Some(folder) = orders.tls {
        config = config.development_tls(folder);
    }
    config.join_timeout = Duration::from_millis(orders.join_timeout_ms);
    config.voter_replace_after = Duration::from_millis(orders.voter_replace_after_ms);
    config.death_certificates = orders.death_certificates;
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
    say(&json!({"ready": node.address(), "now": now()}));
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

/// Does without these mechanisms of safety from now on.
fn lack(names: &[String]) {
    #[cfg(feature = "switches")]
    {
        use grains::switches::{Mechanism, off_everywhere};
        let find = |name: &String| {
            let found = Mechanism::ALL.iter().find(|mechanism| mechanism.name() == name);
            *found.unwrap_or_else(|| panic!("there is no mechanism {name:?}"))
        };
        off_everywhere(&names.iter().map(find).collect::<Vec<_>>());
    }
    #[cfg(not(feature = "switches"))]
    assert!(names.is_empty(), "only the feature `switches` can switch off {names:?}");
}

/// Writes down again and again that this node leads, while it believes so.
async fn watch_leadership(node: Node) {
    let leadership = node.leader();
    let record = &HOME.get().expect("a node process").record;
    loop {
        // The earlier time counts: a process may be frozen in between.
        let at = now();
        if let Some(term) = leadership.mine() {
            record.write(&Fact::Leads { at, term });
        }
        tokio::time::sleep(LEADS_EVERY).await;
    }
}

/// Often enough to see leaders overlap by less than the margin of a lease, and few enough lines for half an hour.
const LEADS_EVERY: Duration = Duration::from_millis(4);

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
            // Calls each of these grains, given with an activation, until another activation of it answers. When that was.
            ["recover", limit_ms, ..] => self.recover(number(limit_ms), &words[2..]).await,
            // A turn of so many milliseconds that is polled every so many.
            ["slow", key, ms, step_ms] => told(key, slow(node, key, number(ms), number(step_ms), CALL_MAX).await),
            // A turn that never gives its thread back.
            ["block", key] => told(key, node.get::<ProbeRef>(key).block().timeout(CALL_MAX).await),
            // Adds one to each of many ledgers, so many times. What was acknowledged, by key.
            ["enter", prefix, keys, times] => {
                let times = number(times);
                of_ledgers(node, prefix, keys, move |node, key| async move {
                    let mut acknowledged = 0;
                    for _ in 0..times {
                        acknowledged += u64::from(enter(&node, &key, CALL_MAX).await.is_ok());
                    }
                    Some(acknowledged)
                })
                .await
            }
            // What stands in each of many ledgers, by key; null where there was no answer.
            ["ledgers", prefix, keys] => {
                of_ledgers(node, prefix, keys, |node, key| async move {
                    sum(&node, &key, CALL_MAX).await.ok().map(|seen| seen.counter)
                })
                .await
            }
            ["only"] => told("the-singleton", node.get::<OnlyRef>(()).home().timeout(CALL_MAX).await),
            ["status"] => serde_json::to_value(node.status()).unwrap(),
            ["traffic", prefix, keys, workers] => {
                self.traffic.lock().unwrap().begin(node, prefix, number(keys), number(workers) as usize);
                Value::Null
            }
            ["everything", prefix] => {
                self.traffic.lock().unwrap().begin_everything(node, prefix);
                Value::Null
            }
            // By the clock that people set.
            ["time-of-day"] => json!(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()),
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

impl Program {
    async fn recover(&self, limit_ms: u64, grains: &[&str]) -> Value {
        let until = tokio::time::Instant::now() + Duration::from_millis(limit_ms);
        let each = grains.iter().map(|grain| async move {
            let (key, old) = grain.split_once('=').expect("a key and an activation");
            while tokio::time::Instant::now() < until {
                match add(&self.node, key, RECOVERS_WITHIN).await {
                    Ok(seen) if seen.activation != old => return (key.to_owned(), json!(now())),
                    Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
            (key.to_owned(), Value::Null)
        });
        Value::Object(join_all(each).await.into_iter().collect())
    }
}

/// How long one try of a recovery waits. A call that is kept until the grain lives again is answered as soon as it does.
const RECOVERS_WITHIN: Duration = Duration::from_secs(4);

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

async fn of_ledgers<F>(node: &Node, prefix: &str, keys: &str, ask: impl Fn(Node, String) -> F) -> Value
where
    F: Future<Output = Option<u64>>,
{
    let asked = (0..number(keys)).map(|key| {
        let key = format!("{prefix}{key}");
        let answer = ask(node.clone(), key.clone());
        async move { (key, Value::from(answer.await)) }
    });
    Value::Object(join_all(asked).await.into_iter().collect())
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or_else(|_| panic!("{word:?} is no number"))
}

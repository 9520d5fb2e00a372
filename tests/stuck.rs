//! Turns that wait for too long, and turns that block their thread: who is told, and what becomes of them.
#![cfg(feature = "runtime")]
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, Once, mpsc},
    time::Duration,
};

use grains::{GrainOptions, NodeConfig, Outcome, prelude::*};
use tokio::sync::Notify;

/// A grain that gets stuck in every way.
#[rpc_trait]
pub trait Stuck {
    /// Waits until it is let go.
    async fn wait(&mut self) -> Result<()>;
    /// The same beside others.
    async fn wait_beside(&self) -> Result<()>;
    /// Has another one wait.
    async fn have(&mut self, other: String) -> Result<()>;
    /// Blocks its thread until it is let go, at once or after it has waited for a moment.
    async fn block(&mut self, later: bool) -> Result<()>;
    /// Has another one answer, and then blocks.
    async fn ask_and_block(&mut self, other: String) -> Result<()>;
    /// Blocks the thread of a task.
    async fn block_in_task(&mut self) -> Result<()>;
    /// Ticks, and gets stuck in that.
    async fn tick(&mut self) -> Result<()>;
    /// Which life this is.
    async fn life(&self) -> Result<String>;
}

#[grain(Stuck)]
pub struct StuckGrain {
    ctx: Ctx<Self>,
}

/// What lets a grain go, by its key.
#[derive(Default)]
struct Released {
    waits: BTreeMap<String, Arc<Notify>>,
    blocks: BTreeMap<String, mpsc::Sender<()>>,
    /// Grains that were deactivated, and turns that were dropped half-way.
    ends: Vec<String>,
}

static RELEASED: Mutex<Option<Released>> = Mutex::new(None);

fn released<R>(with: impl FnOnce(&mut Released) -> R) -> R {
    with(RELEASED.lock().unwrap().get_or_insert_default())
}

fn waits(key: &str) -> Arc<Notify> {
    released(|released| released.waits.entry(key.to_owned()).or_default().clone())
}

fn block(key: &str) {
    let (sender, receiver) = mpsc::channel();
    released(|released| drop(released.blocks.insert(key.to_owned(), sender)));
    // Not for ever: a test that fails must end.
    let _ended = receiver.recv_timeout(Duration::from_secs(30));
}

/// Lets a grain go that blocks its thread.
fn unblock(key: &str) {
    released(|released| drop(released.blocks.remove(key).expect("it blocks")));
}

fn ended(what: &str) -> bool {
    released(|released| released.ends.iter().any(|end| end == what))
}

/// Says that a turn was dropped before its end.
struct Cut(String);

impl Drop for Cut {
    fn drop(&mut self) {
        released(|released| released.ends.push(format!("{} was cut", self.0)));
    }
}

impl Lifecycle for StuckGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        if ctx.key().starts_with("activates") {
            block(&ctx.key());
        }
        Ok(Self { ctx })
    }
    async fn deactivate(&mut self, _: DeactivationReason) -> Result<()> {
        released(|released| released.ends.push(format!("{} was deactivated", self.ctx.key())));
        Ok(())
    }
}

impl StuckGrain {
    async fn on_tick(&mut self) -> Result<()> {
        let _cut = Cut(self.ctx.key());
        std::future::pending().await
    }
}

impl Stuck for StuckGrain {
    async fn wait(&mut self) -> Result<()> {
        self.wait_beside().await
    }
    async fn wait_beside(&self) -> Result<()> {
        let cut = Cut(self.ctx.key());
        waits(&self.ctx.key()).notified().await;
        std::mem::forget(cut);
        Ok(())
    }
    async fn have(&mut self, other: String) -> Result<()> {
        Ok(self.ctx.get::<StuckRef>(other).wait().await?)
    }
    async fn block(&mut self, later: bool) -> Result<()> {
        if later {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        block(&self.ctx.key());
        Ok(())
    }
    async fn ask_and_block(&mut self, other: String) -> Result<()> {
        self.ctx.get::<StuckRef>(other).life().await?;
        block(&self.ctx.key());
        Ok(())
    }
    async fn block_in_task(&mut self) -> Result<()> {
        let key = self.ctx.key();
        Ok(self.ctx.spawn(async move { block(&key) })?)
    }
    async fn tick(&mut self) -> Result<()> {
        Ok(self.ctx.every(Duration::from_millis(5), Self::on_tick)?)
    }
    async fn life(&self) -> Result<String> {
        Ok(self.ctx.activation().to_string())
    }
}

/// All that this process logs, for people.
static LOGGED: Mutex<String> = Mutex::new(String::new());

struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOGGED.lock().unwrap().push_str(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines of the log with all of these words.
fn logged(words: &[&str]) -> Vec<String> {
    let log = LOGGED.lock().unwrap();
    log.lines().filter(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned).collect()
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let look = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let looked = tokio::time::timeout(Duration::from_secs(20), look).await;
    looked.unwrap_or_else(|_| panic!("never: {what}; logged:\n{}", LOGGED.lock().unwrap()));
}

/// As often as a test is sure that something would have happened by now, were it to happen.
const LONG: Duration = Duration::from_millis(300);

const BLOCKS: &str = "a turn blocks its thread";
const LET_GO: &str = "has let it go";
const SLOW: &str = "a turn waits for long";

async fn node(configure: impl FnOnce(&mut NodeConfig)) -> Node {
    node_with(GrainOptions::new(), configure).await
}

async fn node_with(options: GrainOptions, configure: impl FnOnce(&mut NodeConfig)) -> Node {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let log = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_ansi(false);
        log.with_writer(|| Log).init();
    });
    Node::builder().host_with::<StuckGrain>(options).configure(configure).start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_that_waits_for_long_is_named_once_with_who_called_it() {
    let node = node(|config| config.slow_turn = Duration::from_millis(40)).await;
    let first: StuckRef = node.get("slow-first");
    let having = tokio::spawn(async move { first.have("slow-last".into()).await });
    let of_last = || logged(&[SLOW, "grain=stuck/slow-last", "method=\"wait\""]);
    until("it is named", || !of_last().is_empty()).await;
    assert!(of_last()[0].contains("called_by=\"stuck/slow-first.have\""), "{:?}", of_last());
    let of_first = || logged(&[SLOW, "grain=stuck/slow-first"]);
    until("so is its caller", || !of_first().is_empty()).await;
    assert!(of_first()[0].contains("called_by=\"no grain\""), "{:?}", of_first());
    tokio::time::sleep(LONG).await;
    assert_eq!(of_last().len(), 1, "once");
    waits("slow-last").notify_one();
    having.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn none_is_named_when_that_is_off_or_nothing_is_slow() {
    let off = node(|config| config.slow_turn = Duration::ZERO).await;
    let quick = node(|config| config.slow_turn = Duration::from_millis(40)).await;
    let waiting: StuckRef = off.get("off-slow");
    let waiting = tokio::spawn(async move { waiting.wait().await });
    let answers: StuckRef = quick.get("off-quick");
    for _ in 0..20 {
        let call = tokio::spawn(answers.wait());
        tokio::time::sleep(LONG / 20).await;
        waits("off-quick").notify_one();
        call.await.unwrap().unwrap();
    }
    assert_eq!(logged(&[SLOW, "stuck/off-"]), [] as [&str; 0]);
    waits("off-slow").notify_one();
    waiting.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_that_waits_beyond_its_limit_is_cut_and_those_behind_it_go_on() {
    let options = GrainOptions::new().abandon_after(Duration::from_millis(60));
    let node = node_with(options, |_| {}).await;
    let stuck: StuckRef = node.get("cut");
    let life = stuck.life().await.unwrap();
    let hangs = tokio::spawn(stuck.wait());
    until("it has its turn", || released(|released| released.waits.contains_key("cut"))).await;
    let behind = stuck.life().await.unwrap();
    let lost = hangs.await.unwrap().unwrap_err();
    assert!(matches!(lost, CallError::Lost { .. }), "{lost}");
    assert!(lost.to_string().contains("`wait` waited longer than abandon_after = 60ms"), "{lost}");
    assert_eq!(lost.outcome(), Outcome::Unknown);
    assert_ne!(behind, life, "a new life");
    assert!(ended("cut was cut") && !ended("cut was deactivated"));
    // One that queued, and one beside others.
    let hangs = [tokio::spawn(stuck.wait()), tokio::spawn(stuck.wait())];
    for hangs in hangs {
        assert!(matches!(hangs.await.unwrap(), Err(CallError::Lost { .. })));
    }
    assert!(matches!(stuck.wait_beside().await, Err(CallError::Lost { .. })));
    // A tick, too.
    stuck.tick().await.unwrap();
    let ticks = stuck.life().await.unwrap();
    until("the tick was cut", || !logged(&["stuck/cut", "method=\"tick\"", "abandon_after"]).is_empty()).await;
    assert_ne!(stuck.life().await.unwrap(), ticks);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_that_ends_within_its_limit_is_not_cut() {
    let node = node_with(GrainOptions::new().abandon_after(Duration::from_secs(20)), |_| {}).await;
    let stuck: StuckRef = node.get("within");
    let life = stuck.life().await.unwrap();
    let waits_a_little = tokio::spawn(stuck.wait());
    tokio::time::sleep(Duration::from_millis(20)).await;
    waits("within").notify_one();
    waits_a_little.await.unwrap().unwrap();
    assert_eq!(stuck.life().await.unwrap(), life);
}

#[tokio::test]
async fn a_limit_of_zero_is_refused() {
    let options = GrainOptions::new().abandon_after(Duration::ZERO);
    let error = Node::builder().host_with::<StuckGrain>(options).start().await.unwrap_err().to_string();
    assert!(error.contains("`grain.stuck.abandon_after` is zero"), "{error}");
}

/// Whoever blocks is named, with how it looks in the log, and again when it has let its thread go.
async fn is_named_while_it_blocks(key: &str, what: &str) {
    let turn = format!("turn=\"stuck/{key}.{what}\"");
    until(&format!("{turn} is named"), || !logged(&[BLOCKS, &turn, "spawn_blocking"]).is_empty()).await;
    tokio::time::sleep(LONG).await;
    assert_eq!(logged(&[BLOCKS, &turn]).len(), 1, "once");
    assert_eq!(logged(&[LET_GO, &turn]), [] as [&str; 0]);
    unblock(key);
    until(&format!("{turn} has ended"), || logged(&[LET_GO, &turn]).len() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_turn_that_blocks_its_thread_is_named_and_so_is_its_end() {
    let node = node(|config| config.blocked_turn = Duration::from_millis(60)).await;
    let stuck = |key: &str| node.get::<StuckRef>(key);
    stuck("other").life().await.unwrap();
    // In its first poll, under its caller; later; behind a turn that ran inside it; before it lives; in a task.
    let call = tokio::spawn(stuck("at-once").block(false));
    is_named_while_it_blocks("at-once", "block").await;
    call.await.unwrap().unwrap();
    let call = tokio::spawn(stuck("later").block(true));
    is_named_while_it_blocks("later", "block").await;
    call.await.unwrap().unwrap();
    let call = tokio::spawn(stuck("outer").ask_and_block("other".into()));
    is_named_while_it_blocks("outer", "ask_and_block").await;
    call.await.unwrap().unwrap();
    let call = tokio::spawn(stuck("activates").life());
    is_named_while_it_blocks("activates", "activate").await;
    call.await.unwrap().unwrap();
    stuck("tasks").block_in_task().await.unwrap();
    is_named_while_it_blocks("tasks", "task").await;
    assert_eq!(logged(&[BLOCKS, "stuck/other"]), [] as [&str; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn nobody_is_named_for_blocking_when_that_is_off_or_who_waits() {
    let off = node(|config| config.blocked_turn = Duration::ZERO).await;
    let on = node(|config| config.blocked_turn = Duration::from_millis(60)).await;
    let blocks = tokio::spawn(off.get::<StuckRef>("off-blocks").block(false));
    let waiting = tokio::spawn(on.get::<StuckRef>("off-waits").wait());
    tokio::time::sleep(LONG).await;
    assert_eq!(logged(&[BLOCKS, "stuck/off-"]), [] as [&str; 0]);
    unblock("off-blocks");
    waits("off-waits").notify_one();
    blocks.await.unwrap().unwrap();
    waiting.await.unwrap().unwrap();
}

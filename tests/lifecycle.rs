//! Lives of activations: how they begin and end, and what happens to calls meanwhile.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use grains::{CallError, GrainOptions, Outcome, prelude::*};

/// What the lives of grains did, by key.
static EVENTS: Mutex<BTreeMap<String, Vec<String>>> = Mutex::new(BTreeMap::new());

fn happened(key: &str, what: impl Into<String>) {
    EVENTS.lock().unwrap().entry(key.to_owned()).or_default().push(what.into());
}

fn events(key: &str) -> Vec<String> {
    EVENTS.lock().unwrap().get(key).cloned().unwrap_or_default()
}

/// A grain whose key says how it behaves.
#[rpc_trait]
pub trait Fickle {
    /// Which activation answers.
    async fn who(&mut self) -> Result<String>;
    /// The same, beside others.
    async fn who_shared(&self) -> Result<String>;
    /// Sleeps.
    async fn nap(&mut self, ms: u64) -> Result<()>;
    /// Holds its turn until the gate opens.
    async fn hold(&mut self) -> Result<()>;
    /// Asks for the end of this activation.
    async fn go(&mut self) -> Result<String>;
    /// Panics.
    async fn panic(&mut self) -> Result<()>;
    /// Blocks its thread.
    async fn block(&mut self, ms: u64) -> Result<()>;
    /// Calls another grain after a nap.
    async fn nap_then_ask(&mut self, ms: u64, other: String) -> Result<String>;
}

#[grain(Fickle)]
pub struct FickleGrain {
    ctx: Ctx<Self>,
    key: String,
}

static GATE: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(0);
static REFUSALS: AtomicU64 = AtomicU64::new(0);

impl Lifecycle for FickleGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        let key = ctx.key();
        happened(&key, "activate");
        let behaviour = key.split(':').next().unwrap_or_default().to_owned();
        match &*behaviour {
            "refuses" => return Err(Error::new("not today")),
            "refuses slowly" => {
                ctx.sleep(Duration::from_millis(10)).await;
                return Err(Error::new("not today"));
            }
            "refuses twice" if REFUSALS.fetch_add(1, SeqCst) < 2 => return Err(Error::new("not yet")),
            "panics" => panic!("in activate"),
            "slow" => ctx.sleep(Duration::from_millis(30)).await,
            "never" => std::future::pending().await,
            _ => {}
        }
        Ok(Self { ctx, key })
    }

    async fn deactivate(&mut self, reason: DeactivationReason) -> Result<()> {
        happened(&self.key, format!("{reason:?}"));
        match self.key.split(':').next().unwrap_or_default() {
            "slow end" => self.ctx.sleep(Duration::from_millis(30)).await,
            "endless end" => std::future::pending().await,
            "bad end" => panic!("in deactivate"),
            "refusing end" => return Err(Error::new("no")),
            _ => {}
        }
        happened(&self.key, "ended");
        Ok(())
    }
}

impl Drop for FickleGrain {
    fn drop(&mut self) {
        happened(&self.key, "dropped");
    }
}

impl Fickle for FickleGrain {
    async fn who(&mut self) -> Result<String> {
        Ok(self.ctx.activation().to_string())
    }
    async fn who_shared(&self) -> Result<String> {
        Ok(self.ctx.activation().to_string())
    }
    async fn nap(&mut self, ms: u64) -> Result<()> {
        self.ctx.sleep(Duration::from_millis(ms)).await;
        happened(&self.key, "napped");
        Ok(())
    }
    async fn hold(&mut self) -> Result<()> {
        drop(GATE.acquire().await);
        happened(&self.key, "held");
        Ok(())
    }
    async fn go(&mut self) -> Result<String> {
        self.ctx.deactivate_on_idle();
        self.who().await
    }
    async fn panic(&mut self) -> Result<()> {
        panic!("as asked");
    }
    async fn block(&mut self, ms: u64) -> Result<()> {
        std::thread::sleep(Duration::from_millis(ms)); // what a careless user does; the test is about the node
        Ok(())
    }
    async fn nap_then_ask(&mut self, ms: u64, other: String) -> Result<String> {
        self.ctx.sleep(Duration::from_millis(ms)).await;
        Ok(self.ctx.get::<FickleRef>(other).who().await?)
    }
}

/// Polls `call` once and gives it back.
async fn started<F: Future + Unpin>(mut call: F) -> F {
    std::future::poll_fn(|cx| {
        assert!(std::pin::Pin::new(&mut call).poll(cx).is_pending(), "the call has to wait");
        std::task::Poll::Ready(())
    })
    .await;
    call
}

async fn node() -> Node {
    node_with(|_| {}).await
}

async fn node_with(change: impl FnOnce(&mut grains::NodeConfig)) -> Node {
    Node::builder().host::<FickleGrain>().configure(change).start().await.unwrap()
}

/// Waits until `done`, which must become true by itself.
async fn until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_activation_is_told_to_every_caller_and_leaves_nothing_behind() {
    let node = node().await;
    for key in ["refuses", "refuses slowly"] {
        let grain: FickleRef = node.get(key);
        let calls: Vec<_> = (0..20).map(|_| tokio::spawn(grain.who())).collect();
        for call in calls {
            let error = call.await.unwrap().unwrap_err();
            assert_eq!(error.outcome(), Outcome::NotExecuted);
            let CallError::NotActivated { grain, error } = error else { panic!("{error:?}") };
            assert_eq!((&*grain, error.message()), (&*format!("fickle/{key}"), "not today"));
        }
        assert_eq!(node.activations()["fickle"], 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_passes_a_failure_that_goes_away() {
    let node = node().await;
    let grain: FickleRef = node.get("refuses twice");
    let answer = grain.who().retry(5).await;
    assert!(answer.is_ok(), "{answer:?}");
    assert_eq!(events("refuses twice"), ["activate", "activate", "activate"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_repeats_nothing_that_ran() {
    let node = node().await;
    let grain: FickleRef = node.get("panics when asked");
    assert!(matches!(grain.panic().retry(5).await, Err(CallError::Panicked { .. })));
    until("the drop", || events("panics when asked").len() == 2).await;
    assert_eq!(events("panics when asked"), ["activate", "dropped"], "one life, one panic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_activate_is_a_failed_activation() {
    let node = node().await;
    let error = node.get::<FickleRef>("panics").who().await.unwrap_err();
    assert!(error.to_string().contains("`activate` panicked: in activate"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_wait_for_a_slow_activation_and_share_it() {
    let node = node().await;
    let grain: FickleRef = node.get("slow");
    let calls: Vec<_> = (0..20).map(|_| tokio::spawn(grain.who())).collect();
    let mut seen = BTreeSet::new();
    for call in calls {
        seen.insert(call.await.unwrap().unwrap());
    }
    assert_eq!(seen.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_activation_is_bounded() {
    let node = node_with(|config| config.activate_timeout = Duration::from_millis(20)).await;
    let error = node.get::<FickleRef>("never").who().await.unwrap_err();
    assert!(error.to_string().contains("activate_timeout = 20ms"), "{error}");
    assert_eq!(node.activations()["fickle"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_first_caller_does_not_cut_the_activation() {
    let node = node().await;
    let grain: FickleRef = node.get("slow:dropped");
    let dropped = grain.who().timeout(Duration::from_millis(5)).await;
    assert!(matches!(dropped, Err(CallError::Timeout { outcome: Outcome::NotExecuted, .. })), "{dropped:?}");
    grain.who().await.unwrap();
    assert_eq!(events("slow:dropped"), ["activate"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deactivate_on_idle_answers_first_and_the_next_call_finds_a_new_activation() {
    let node = node().await;
    let grain: FickleRef = node.get("goes");
    let first = grain.go().await.unwrap();
    let second = grain.who().await.unwrap();
    assert_ne!(first, second);
    assert_eq!(events("goes"), ["activate", "Requested", "ended", "dropped", "activate"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_calls_are_served_before_an_activation_goes() {
    let node = node().await;
    let grain: FickleRef = node.get("goes late");
    let napping = started(grain.nap(20)).await;
    let going = started(grain.go()).await;
    let asking = started(grain.who()).await;
    napping.await.unwrap();
    assert_eq!(going.await.unwrap(), asking.await.unwrap(), "what waited was served by the same life");
    until("the end", || events("goes late").contains(&"dropped".to_owned())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_during_deactivate_wait_for_the_next_life() {
    let node = node().await;
    let grain: FickleRef = node.get("slow end");
    let first = grain.go().await.unwrap();
    until("deactivate", || events("slow end").contains(&"Requested".to_owned())).await;
    let second = grain.who().await.unwrap();
    assert_ne!(first, second);
    let expected = ["activate", "Requested", "ended", "dropped", "activate"];
    assert_eq!(events("slow end"), expected, "the old life ended before the new one began");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_deactivate_stops_nothing() {
    let node = node_with(|config| config.deactivate_timeout = Duration::from_millis(20)).await;
    for key in ["endless end", "bad end", "refusing end"] {
        let grain: FickleRef = node.get(key);
        let first = grain.go().await.unwrap();
        assert_ne!(first, grain.who().await.unwrap());
        assert!(events(key).contains(&"dropped".to_owned()), "{key}: {:?}", events(key));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_activations_go_by_their_types_own_time() {
    let node = Node::builder()
        .host_with::<FickleGrain>(GrainOptions::new().idle_timeout(Duration::from_millis(40)))
        .start()
        .await
        .unwrap();
    let (idle, busy): (FickleRef, FickleRef) = (node.get("idle"), node.get("busy"));
    let first = idle.who().await.unwrap();
    let begun = busy.who().await.unwrap();
    let since = Instant::now();
    while since.elapsed() < Duration::from_millis(200) {
        assert_eq!(busy.who_shared().await.unwrap(), begun, "calls keep an activation");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(events("idle"), ["activate", "Idle", "ended", "dropped"]);
    assert_ne!(idle.who().await.unwrap(), first);
    until("everything to be idle", || node.activations()["fickle"] == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_turn_is_not_idle() {
    let node = Node::builder()
        .host_with::<FickleGrain>(GrainOptions::new().idle_timeout(Duration::from_millis(10)))
        .start()
        .await
        .unwrap();
    node.get::<FickleRef>("napper").nap(100).await.unwrap();
    let life: Vec<_> = events("napper").into_iter().take(2).collect();
    assert_eq!(life, ["activate", "napped"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_lets_turns_end_deactivates_and_refuses_newcomers() {
    let node = node().await;
    let grain: FickleRef = node.get("stopping");
    let holding = tokio::spawn(grain.hold());
    let chain = tokio::spawn(node.get::<FickleRef>("stopping:chain").nap_then_ask(20, "stopping:late".into()));
    until("both turns", || events("stopping:chain") == ["activate"] && events("stopping") == ["activate"]).await;
    let stopping = tokio::spawn({
        let node = node.clone();
        async move { node.stop().await }
    });
    let newcomer = until_refused(&node).await;
    assert_eq!(newcomer.outcome(), Outcome::NotExecuted);
    assert!(!stopping.is_finished(), "a turn still runs");
    GATE.add_permits(1);
    holding.await.unwrap().unwrap();
    assert!(chain.await.unwrap().is_ok(), "a turn that runs may still call, also grains that were not active");
    assert_eq!(stopping.await.unwrap().dropped, 0);
    assert_eq!(events("stopping"), ["activate", "held", "Stopping", "ended", "dropped"]);
    assert_eq!(events("stopping:late"), ["activate", "Stopping", "ended", "dropped"]);
    assert!(matches!(grain.who().await, Err(CallError::Stopped { outcome: Outcome::NotExecuted })));
    assert_eq!(node.stop().await.dropped, 0, "stopping again is harmless");
}

async fn until_refused(node: &Node) -> CallError {
    let begun = Instant::now();
    loop {
        match node.get::<FickleRef>("stopping:newcomer").who().await {
            Err(error) => return error,
            Ok(_) => assert!(begun.elapsed() < Duration::from_secs(10), "a stopping node refuses calls from outside"),
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn stop_is_bounded_and_drops_what_does_not_end() {
    let node = node_with(|config| config.stop_timeout = Duration::from_millis(50)).await;
    let sleeper = tokio::spawn(node.get::<FickleRef>("sleeps on").nap(60_000));
    let blocker = tokio::spawn(node.get::<FickleRef>("blocks").block(300));
    until("both turns", || events("sleeps on") == ["activate"] && events("blocks") == ["activate"]).await;
    // It may have been activated by now and not have begun to sleep.
    while node.get::<FickleRef>("sleeps on").who().timeout(Duration::from_millis(5)).await.is_ok() {}
    let queued = tokio::spawn(node.get::<FickleRef>("sleeps on").who());
    let begun = Instant::now();
    let stopped = node.stop().await;
    assert_eq!(stopped.dropped, 2);
    assert!(begun.elapsed() < Duration::from_secs(5), "a blocked thread does not hold up the stop");
    let cut = sleeper.await.unwrap().unwrap_err();
    assert_eq!(cut.outcome(), Outcome::Unknown, "{cut}");
    assert!(queued.await.unwrap().is_err());
    drop(blocker.await.unwrap());
    until("both instances to be dropped", || {
        ["sleeps on", "blocks"].iter().all(|key| events(key).contains(&"dropped".to_owned()))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_last_handle_stops_the_node_hard_and_frees_it() {
    let node = node().await;
    let grain: FickleRef = node.get("orphan");
    grain.who().await.unwrap();
    drop(node);
    assert!(matches!(grain.who().await, Err(CallError::Stopped { .. })));
    assert_eq!(events("orphan"), ["activate", "dropped"], "no `deactivate`: as if killed");
}

#[tokio::test]
async fn a_node_with_nothing_but_defaults_starts() {
    let node = Node::builder().start().await.unwrap();
    let error = node.get::<FickleRef>("x").who().await.unwrap_err();
    assert!(matches!(&error, CallError::NotHosted { grain_type } if &**grain_type == "fickle"), "{error}");
    assert!(error.to_string().contains(".host::<..>()"), "{error}");
}

#[tokio::test]
async fn hosting_a_grain_type_twice_is_refused_by_name() {
    let error = Node::builder().host::<FickleGrain>().host::<FickleGrain>().start().await.unwrap_err();
    assert!(error.to_string().contains("\"fickle\" is hosted twice"), "{error}");
}

#[tokio::test]
async fn a_limit_of_zero_is_refused_by_name() {
    let error = Node::builder().configure(|config| config.mailbox_len_max = 0).start().await.unwrap_err();
    assert!(error.to_string().contains("`mailbox_len_max` is zero"), "{error}");
    let options = GrainOptions::new().idle_timeout(Duration::ZERO);
    let error = Node::builder().host_with::<FickleGrain>(options).start().await.unwrap_err();
    assert!(error.to_string().contains("`grain.fickle.idle_timeout` is zero"), "{error}");
}

#[tokio::test]
async fn what_is_given_and_says_nothing_is_refused_by_name() {
    let error = Node::builder().name("").start().await.unwrap_err();
    assert!(error.to_string().contains("`name` is empty"), "{error}");
    #[cfg(feature = "redb")]
    {
        let error = Node::builder().data_dir("").start().await.unwrap_err();
        assert!(error.to_string().contains("`data_dir` is empty"), "{error}");
        assert!(!std::path::Path::new("grains.redb").exists());
    }
}

#[tokio::test]
async fn a_node_with_too_many_activations_ends_those_that_are_not_used() {
    let node = node_with(|config| config.activations_max = 2).await;
    for key in ["full:1", "full:2", "full:3"] {
        node.get::<FickleRef>(key).who().await.unwrap();
    }
    until("room", || node.activations()["fickle"] <= 2).await;
    let ended = ["full:1", "full:2", "full:3"].map(|key| events(key).contains(&"MadeRoom".to_owned()));
    assert!(ended.contains(&true), "{ended:?}");
}

#[tokio::test]
async fn a_key_over_its_limit_is_refused() {
    let node = node().await;
    let error = node.get::<FickleRef>("x".repeat(2000)).who().await.unwrap_err();
    assert!(error.to_string().contains("the limit is 1024"), "{error}");
    assert_eq!(error.outcome(), Outcome::NotExecuted);
}

/// Checks that it is alone and alive.
#[rpc_trait(key = u64)]
pub trait Racer {
    /// Counts a call of caller `who` with number `n`, which must come in order; asks to go now and then.
    async fn run(&mut self, who: usize, n: u64, go: bool) -> Result<()>;
    /// Looks whether this instance is alive.
    async fn look(&self) -> Result<()>;
}

/// One slot per key: who lives there, and the last number of each caller.
static TRACK: [AtomicBool; 8] = [const { AtomicBool::new(false) }; 8];
static LAST: Mutex<BTreeMap<(usize, usize), u64>> = Mutex::new(BTreeMap::new());

#[grain(Racer)]
pub struct RacerGrain {
    ctx: Ctx<Self>,
    track: usize,
    dead: bool,
}

impl Lifecycle for RacerGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        let track = ctx.key() as usize;
        assert!(!TRACK[track].swap(true, SeqCst), "two instances of one grain");
        if ctx.random_u64().is_multiple_of(4) {
            tokio::task::yield_now().await;
        }
        Ok(Self { ctx, track, dead: false })
    }
    async fn deactivate(&mut self, _: DeactivationReason) -> Result<()> {
        assert!(!std::mem::replace(&mut self.dead, true), "deactivated twice");
        if self.ctx.random_u64().is_multiple_of(4) {
            tokio::task::yield_now().await;
        }
        assert!(TRACK[self.track].swap(false, SeqCst), "this instance was not the living one");
        Ok(())
    }
}

impl Racer for RacerGrain {
    async fn run(&mut self, who: usize, n: u64, go: bool) -> Result<()> {
        assert!(!self.dead && TRACK[self.track].load(SeqCst), "a call saw a dead instance");
        let last = LAST.lock().unwrap().insert((self.track, who), n).unwrap_or(0);
        assert_eq!(last + 1, n, "calls of one caller come in order, none twice and none lost");
        if go {
            self.ctx.deactivate_on_idle();
        }
        if self.ctx.random_u64().is_multiple_of(16) {
            tokio::task::yield_now().await;
        }
        Ok(())
    }
    async fn look(&self) -> Result<()> {
        assert!(!self.dead && TRACK[self.track].load(SeqCst), "a call saw a dead instance");
        Ok(())
    }
}

fn race_seconds() -> u64 {
    std::env::var("GRAINS_RACE_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(3)
}

/// `GRAINS_RACE_SECONDS` sets how long (3 unless set; `tests/run` races for 5).
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_racing_with_deactivation_are_never_lost_and_never_see_a_dead_instance() {
    let idle = GrainOptions::new().idle_timeout(Duration::from_millis(1));
    let node = Node::builder().host_with::<RacerGrain>(idle).start().await.unwrap();
    let until = Instant::now() + Duration::from_secs(race_seconds());
    let lives = Arc::new(AtomicU64::new(0));
    let callers: Vec<_> = (0..16_usize)
        .map(|who| {
            let (node, lives) = (node.clone(), lives.clone());
            tokio::spawn(async move {
                let mut n = [0_u64; 8];
                let mut round = who as u64;
                while Instant::now() < until {
                    round += 1;
                    let track = (round % 8) as usize;
                    let racer: RacerRef = node.get(track as u64);
                    n[track] += 1;
                    let go = round.is_multiple_of(5);
                    lives.fetch_add(u64::from(go), SeqCst);
                    if round.is_multiple_of(11) {
                        racer.run(who, n[track], go).send().unwrap();
                    } else {
                        racer.run(who, n[track], go).await.unwrap();
                    }
                    if round.is_multiple_of(3) {
                        racer.look().await.unwrap();
                    }
                    if round.is_multiple_of(97) {
                        tokio::time::sleep(Duration::from_millis(2)).await; // long enough to be idle
                    }
                }
                n
            })
        })
        .collect();
    let mut sent = BTreeMap::new();
    for (who, caller) in callers.into_iter().enumerate() {
        for (track, n) in caller.await.unwrap().into_iter().enumerate() {
            sent.insert((track, who), n);
        }
    }
    assert_eq!(node.stop().await.dropped, 0);
    sent.retain(|_, n| *n > 0);
    assert_eq!(*LAST.lock().unwrap(), sent, "every call ran, one-way ones too");
    assert!(lives.load(SeqCst) > 100, "the race was one");
}

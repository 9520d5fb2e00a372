//! Chains of calls: deadlines and request context go down them, cycles are found, depth is no problem.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::time::Duration;

use grains::{CallError, Outcome, RequestContext, prelude::*};

/// A grain that passes calls on along a path of keys.
#[rpc_trait]
pub trait Relay {
    /// Calls `visit` of the first key with the rest of the path; answers how many were visited.
    async fn visit(&mut self, path: Vec<String>) -> Result<u64, CallError<String>>;
    /// The same with shared turns.
    async fn look(&self, path: Vec<String>) -> Result<u64, CallError<String>>;
    /// Looks at the path, after `ms` milliseconds.
    async fn look_later(&self, ms: u64, path: Vec<String>) -> Result<u64, CallError<String>>;
    /// Calls itself one-way and answers.
    async fn note_to_self(&mut self) -> Result<(), CallError<String>>;
    /// Counts.
    async fn note(&mut self) -> Result<u64, CallError<String>>;
    /// Starts a call to `other` that comes back here, drops it after 5 ms, and ends after 30 ms.
    async fn change_of_mind(&mut self, other: String) -> Result<(), CallError<String>>;
    /// Sleeps and then asks `other` to note.
    async fn sleep_then_note(&mut self, ms: u64, other: String) -> Result<u64, CallError<String>>;
    /// Starts a task that makes a note here, and answers without it.
    async fn spawn_note(&mut self) -> Result<(), CallError<String>>;
    /// The time left to this turn's caller in milliseconds, at the end of the path.
    async fn time_left(&self, path: Vec<String>) -> Result<u64, CallError<String>>;
    /// The tenant in the request context, at the end of the path, and in a task there.
    async fn tenant(&self, path: Vec<String>) -> Result<(String, String), CallError<String>>;
}

#[grain(Relay)]
pub struct RelayGrain {
    ctx: Ctx<Self>,
    notes: u64,
}

impl Lifecycle for RelayGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        if ctx.key() == "calls itself in activate" {
            ctx.me::<RelayRef>().look(vec![]).await?;
        }
        Ok(Self { ctx, notes: 0 })
    }
}

type Answer<T> = Result<T, CallError<String>>;

/// A nested error keeps what it says about the world.
fn inner<T>(answer: Result<T, CallError<CallError<String>>>) -> Answer<T> {
    answer.map_err(|error| match error {
        CallError::Grain(error) => error,
        other => other.map_grain(|_| String::new()),
    })
}

impl RelayGrain {
    fn next(&self, mut path: Vec<String>) -> Option<(RelayRef, Vec<String>)> {
        if path.is_empty() {
            return None;
        }
        let first = path.remove(0);
        Some((self.ctx.get(first), path))
    }
}

impl Relay for RelayGrain {
    async fn visit(&mut self, path: Vec<String>) -> Answer<u64> {
        match self.next(path) {
            None => Ok(1),
            Some((next, rest)) => Ok(1 + inner(next.visit(rest).await)?),
        }
    }
    async fn look(&self, path: Vec<String>) -> Answer<u64> {
        match self.next(path) {
            None => Ok(1),
            Some((next, rest)) => Ok(1 + inner(next.look(rest).await)?),
        }
    }
    async fn look_later(&self, ms: u64, path: Vec<String>) -> Answer<u64> {
        self.ctx.sleep(Duration::from_millis(ms)).await;
        self.look(path).await
    }
    async fn note_to_self(&mut self) -> Answer<()> {
        self.ctx.me::<RelayRef>().note().send().map_err(|failure| failure.widen())
    }
    async fn note(&mut self) -> Answer<u64> {
        self.notes += 1;
        Ok(self.notes)
    }
    async fn change_of_mind(&mut self, other: String) -> Answer<()> {
        let me = self.ctx.key();
        let call = self.ctx.get::<RelayRef>(other).sleep_then_note(15, me).timeout(Duration::from_secs(5));
        tokio::select! {
            biased;
            answer = call => panic!("too early: {answer:?}"),
            () = self.ctx.sleep(Duration::from_millis(5)) => {}
        }
        self.ctx.sleep(Duration::from_millis(25)).await;
        Ok(())
    }
    async fn sleep_then_note(&mut self, ms: u64, other: String) -> Answer<u64> {
        self.ctx.sleep(Duration::from_millis(ms)).await;
        let noted = inner(self.ctx.get::<RelayRef>(other).note().await);
        if noted.is_ok() {
            self.notes += 100;
        }
        noted
    }
    async fn spawn_note(&mut self) -> Answer<()> {
        let me: RelayRef = self.ctx.me();
        self.ctx
            .spawn(async move {
                me.note().await.expect("a task may call its own grain");
            })
            .expect("there is room for a task");
        Ok(())
    }
    async fn time_left(&self, path: Vec<String>) -> Answer<u64> {
        match self.next(path) {
            None => Ok(self.ctx.time_left().expect("somebody waits").as_millis() as u64),
            Some((next, rest)) => {
                self.ctx.sleep(Duration::from_millis(20)).await;
                inner(next.time_left(rest).await)
            }
        }
    }
    async fn tenant(&self, path: Vec<String>) -> Answer<(String, String)> {
        if let Some((next, rest)) = self.next(path) {
            self.ctx.sleep(Duration::from_millis(1)).await;
            return inner(next.tenant(rest).await);
        }
        let here = self.ctx.request().get("tenant").unwrap_or("none").to_owned();
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let ctx = self.ctx.clone();
        let task = async move {
            sender.send(ctx.request().get("tenant").unwrap_or("none").to_owned()).expect("it is waited for");
        };
        self.ctx.spawn(task).expect("there is room for a task");
        Ok((here, receiver.await.expect("the task runs")))
    }
}

async fn node() -> Node {
    Node::builder().host::<RelayGrain>().start().await.unwrap()
}

fn path(keys: &[&str]) -> Vec<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

fn cycle<T: std::fmt::Debug>(answer: Result<T, CallError<CallError<String>>>) -> Vec<String> {
    match inner(answer) {
        Err(CallError::Deadlock { cycle }) => cycle,
        other => panic!("expected a deadlock, got {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cycle_of_exclusive_turns_fails_at_once_and_is_named() {
    let node = node().await;
    let a: RelayRef = node.get("a");
    assert_eq!(cycle(a.visit(path(&["a"])).await), ["relay/a.visit", "relay/a.visit"]);
    let found = cycle(a.visit(path(&["b", "c", "a"])).await);
    assert_eq!(found, ["relay/a.visit", "relay/b.visit", "relay/c.visit", "relay/a.visit"]);
    assert_eq!(a.visit(path(&["b"])).await.unwrap(), 2, "and nothing is stuck afterwards");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_is_not_executed() {
    let node = node().await;
    let answer = node.get::<RelayRef>("a").visit(path(&["a"])).await;
    assert_eq!(inner(answer).unwrap_err().outcome(), Outcome::NotExecuted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn activate_that_calls_itself_is_a_cycle() {
    let node = node().await;
    let error = node.get::<RelayRef>("calls itself in activate").note().await.unwrap_err();
    let CallError::NotActivated { error, .. } = error else { panic!("{error:?}") };
    assert!(error.message().contains(".activate -> relay/calls itself in activate.look"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shared_turns_may_come_back() {
    let node = node().await;
    let a: RelayRef = node.get("a");
    assert_eq!(a.look(path(&["b", "a", "b", "a"])).await.unwrap(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_call_back_passes_a_writer_that_waits() {
    let node = node().await;
    let a: RelayRef = node.get("a");
    let looking = tokio::spawn({
        let a = a.clone();
        async move { a.look_later(20, path(&["b", "a"])).await }
    });
    tokio::time::sleep(Duration::from_millis(5)).await;
    let writing = tokio::spawn({
        let a = a.clone();
        async move { a.note().await }
    });
    assert_eq!(looking.await.unwrap().unwrap(), 3);
    assert_eq!(writing.await.unwrap().unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_nobody_waits_for_is_no_cycle() {
    let node = node().await;
    let a: RelayRef = node.get("a");
    a.change_of_mind("b".into()).await.unwrap();
    // b went on without a, waited for a's turn to end, and then had its call: no false alarm.
    let noted = node.get::<RelayRef>("b").note().timeout(Duration::from_secs(10)).await.unwrap();
    assert_eq!(noted, 101, "b's own call to a was answered");
    assert_eq!(a.note().await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_way_calls_and_tasks_may_go_to_their_own_grain() {
    let node = node().await;
    let a: RelayRef = node.get("a");
    a.note_to_self().await.unwrap();
    assert_eq!(a.note().await.unwrap(), 2, "the one-way call ran first");
    a.spawn_note().await.unwrap();
    while a.note().await.unwrap() % 2 == 1 {
        tokio::task::yield_now().await; // odd until the task's own note has run
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_of_ten_thousand_grains_needs_no_deep_stack() {
    let node = node().await;
    let keys: Vec<String> = (0..10_000).map(|n| n.to_string()).collect();
    assert_eq!(node.get::<RelayRef>("start").visit(keys).await.unwrap(), 10_001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_is_inherited_and_only_shrinks() {
    let node = node().await;
    let a: RelayRef = node.get("a");
    let left = a.time_left(path(&["b", "c"])).timeout(Duration::from_secs(2)).await.unwrap();
    assert!(left <= 2000 - 40, "two hops of 20 ms are gone, {left} ms are left");
    let left = a.time_left(vec![]).await.unwrap();
    assert!(left > 20_000, "the default is 30 s, {left} ms are left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_in_time_says_whether_the_call_ran() {
    let node = node().await;
    let a: RelayRef = node.get("a");
    let short = Duration::from_millis(10);
    let running = a.look_later(60_000, vec![]).timeout(short).await.unwrap_err();
    assert!(
        matches!(running, CallError::Timeout { outcome: Outcome::Unknown, after, .. } if after == short),
        "{running:?}"
    );
    let queued = a.note().timeout(short).await.unwrap_err();
    assert!(matches!(queued, CallError::Timeout { outcome: Outcome::NotExecuted, .. }), "{queued:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_deadline_passed_in_the_queue_never_runs() {
    let node = node().await;
    let a: RelayRef = node.get("a");
    let busy = tokio::spawn({
        let a = a.clone();
        async move { a.look_later(60, vec![]).await }
    });
    tokio::time::sleep(Duration::from_millis(5)).await;
    let late = a.note().timeout(Duration::from_millis(10)).await.unwrap_err();
    assert_eq!(late.outcome(), Outcome::NotExecuted);
    busy.await.unwrap().unwrap();
    assert_eq!(a.note().await.unwrap(), 1, "the late call did not count");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_one_way_call_whose_time_is_over_never_runs() {
    let node = node().await;
    let a: RelayRef = node.get("a");
    let busy = tokio::spawn(a.look_later(60, vec![]));
    tokio::time::sleep(Duration::from_millis(5)).await;
    a.note().timeout(Duration::from_millis(10)).send().unwrap();
    a.note().timeout(Duration::from_secs(10)).send().unwrap();
    busy.await.unwrap().unwrap();
    assert_eq!(a.note().await.unwrap(), 2, "only the one that had time left counted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_request_context_follows_the_chain_and_its_tasks() {
    let node = node().await;
    let a: RelayRef = node.get("a");
    let request = RequestContext::new().with("tenant", "acme").unwrap();
    let seen = a.tenant(path(&["b", "c"])).context(request).await.unwrap();
    assert_eq!(seen, ("acme".to_owned(), "acme".to_owned()));
    let unset = a.tenant(path(&["b"])).await.unwrap();
    assert_eq!(unset, ("none".to_owned(), "none".to_owned()));
}

/// A grain that takes its time to activate, and then asks its caller.
#[rpc_trait]
pub trait Nosy {
    /// Answers.
    async fn here(&self) -> Result<()>;
    /// Calls another `here`, gives up after 5 ms, and sleeps for 40.
    async fn give_up_on(&mut self, other: String) -> Result<()>;
}

#[grain(Nosy)]
pub struct NosyGrain {
    ctx: Ctx<Self>,
}

static ASKED_BACK: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

impl Lifecycle for NosyGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        if ctx.key() == "asks back" {
            ctx.sleep(Duration::from_millis(20)).await;
            ASKED_BACK.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            ctx.get::<NosyRef>("gives up").here().await?;
        }
        Ok(Self { ctx })
    }
}

impl Nosy for NosyGrain {
    async fn here(&self) -> Result<()> {
        Ok(())
    }
    async fn give_up_on(&mut self, other: String) -> Result<()> {
        let gave_up = self.ctx.get::<NosyRef>(other).here().timeout(Duration::from_millis(5)).await;
        assert_eq!(gave_up.unwrap_err().outcome(), Outcome::NotExecuted);
        self.ctx.sleep(Duration::from_millis(40)).await;
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_activation_outlives_the_patience_of_its_first_caller() {
    let node = Node::builder().host::<NosyGrain>().start().await.unwrap();
    let impatient = node.get::<NosyRef>("gives up").give_up_on("asks back".into()).timeout(Duration::from_millis(15));
    assert!(matches!(impatient.await, Err(CallError::Timeout { .. })));
    // `activate` asked back while its first caller was still busy, but no longer waiting: no cycle, and no short deadline.
    node.get::<NosyRef>("asks back").here().await.unwrap();
    assert_eq!(ASKED_BACK.load(std::sync::atomic::Ordering::SeqCst), 1, "it is the same activation that went on");
}

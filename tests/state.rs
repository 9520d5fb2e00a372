//! State in a node: what a commit promises, and what becomes of a turn when it cannot be kept.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::{sync::Arc, time::Duration};

use grains::{
    CallError, Outcome, commit,
    prelude::*,
    store::{CommitError, MemoryStore, STATE_BYTES_MAX, Store, Write, WriteSet},
};
use grains_runtime::store::{Fault, FaultyStore};

/// An account.
#[rpc_trait]
pub trait Account {
    /// Adds and commits.
    async fn pay_in(&mut self, amount: u64) -> Result<u64, CommitError>;
    /// Sets and commits: twice is as good as once.
    #[rpc(idempotent)]
    async fn set(&mut self, amount: u64) -> Result<u64, CommitError>;
    /// Moves between the two states of this grain, together.
    async fn set_aside(&mut self, amount: u64) -> Result<(), CommitError>;
    /// Changes a draft and drops it.
    async fn dream(&mut self, amount: u64) -> Result<u64, CommitError>;
    /// Commits a note of so many bytes.
    async fn note(&mut self, bytes: usize) -> Result<(), CommitError>;
    /// Commits, but stops waiting for it at once.
    async fn pay_in_hastily(&mut self, amount: u64) -> Result<u64, CommitError>;
    /// Commits both states, one of them twice.
    async fn stutter(&mut self) -> Result<(), CommitError>;
    /// Gives the savings to a task, which adds to them and leaves how that ended in `ENTRUSTED`.
    async fn entrust(&mut self, amount: u64) -> Result<(), CommitError>;
    /// Balance, savings, and the version of the balance.
    async fn show(&self) -> Result<(u64, u64, u64), CommitError>;
    /// Which life answers.
    async fn life(&self) -> Result<String, CommitError>;
}

static ENTRUSTED: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());

#[grain(Account)]
pub struct AccountGrain {
    ctx: Ctx<Self>,
    balance: State<u64>,
    savings: State<u64>,
    note: State<String>,
}

impl Lifecycle for AccountGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        let (balance, savings) = (ctx.state("balance").await?, ctx.state("savings").await?);
        Ok(Self { balance, savings, note: ctx.state("note").await?, ctx })
    }
}

impl Account for AccountGrain {
    async fn pay_in(&mut self, amount: u64) -> Result<u64, CommitError> {
        let mut balance = self.balance.edit();
        *balance += amount;
        balance.commit().await?;
        Ok(*self.balance)
    }
    async fn set(&mut self, amount: u64) -> Result<u64, CommitError> {
        let mut balance = self.balance.edit();
        *balance = amount;
        balance.commit().await?;
        Ok(*self.balance)
    }
    async fn set_aside(&mut self, amount: u64) -> Result<(), CommitError> {
        let (mut balance, mut savings) = (self.balance.edit(), self.savings.edit());
        *balance -= amount;
        *savings += amount;
        commit((balance, savings)).await
    }
    async fn dream(&mut self, amount: u64) -> Result<u64, CommitError> {
        let mut balance = self.balance.edit();
        *balance += amount;
        drop(balance);
        Ok(*self.balance)
    }
    async fn note(&mut self, bytes: usize) -> Result<(), CommitError> {
        let mut note = self.note.edit();
        *note = "x".repeat(bytes);
        note.commit().await
    }
    async fn pay_in_hastily(&mut self, amount: u64) -> Result<u64, CommitError> {
        let mut balance = self.balance.edit();
        *balance += amount;
        tokio::select! {
            biased;
            done = balance.commit() => done?,
            () = std::future::ready(()) => {}
        }
        Ok(*self.balance)
    }
    async fn stutter(&mut self) -> Result<(), CommitError> {
        let (mut a, mut b) = (self.balance.edit(), self.savings.edit());
        (*a, *b) = (1, 1);
        let Err(error) = commit((a, b)).await else { return Ok(()) };
        Err(error)
    }
    async fn entrust(&mut self, amount: u64) -> Result<(), CommitError> {
        let mut savings = std::mem::replace(&mut self.savings, State::in_memory(0));
        let task = async move {
            let mut more = savings.edit();
            *more += amount;
            let ended = format!("{:?}", more.commit().await);
            ENTRUSTED.lock().unwrap().push(ended);
        };
        self.ctx.spawn(task).expect("there is room for a task");
        Ok(())
    }
    async fn show(&self) -> Result<(u64, u64, u64), CommitError> {
        Ok((*self.balance, *self.savings, self.balance.version().0))
    }
    async fn life(&self) -> Result<String, CommitError> {
        Ok(self.ctx.activation().to_string())
    }
}

async fn node(store: impl Store) -> Node {
    let quickly = |config: &mut grains::NodeConfig| config.store_timeout = Duration::from_millis(50);
    Node::builder().host::<AccountGrain>().store(store).configure(quickly).start().await.unwrap()
}

#[tokio::test]
async fn what_was_committed_survives_the_activation_and_the_node() {
    let store = MemoryStore::default();
    let first = node(store.clone()).await;
    let account: AccountRef = first.get("ann");
    account.pay_in(10).await.unwrap();
    account.pay_in(5).await.unwrap();
    account.set_aside(4).await.unwrap();
    assert_eq!(account.show().await.unwrap(), (11, 4, 3));
    first.stop().await;
    let second = node(store).await;
    assert_eq!(second.get::<AccountRef>("ann").show().await.unwrap(), (11, 4, 3));
    assert_eq!(second.get::<AccountRef>("bob").show().await.unwrap(), (0, 0, 0));
}

#[tokio::test]
async fn a_dropped_draft_changes_nothing() {
    let node = node(MemoryStore::default()).await;
    let account: AccountRef = node.get("ann");
    assert_eq!(account.dream(1000).await.unwrap(), 0);
    assert_eq!(account.show().await.unwrap(), (0, 0, 0));
}

#[tokio::test]
async fn a_state_over_its_limit_is_refused_and_memory_stays() {
    let node = node(MemoryStore::default()).await;
    let account: AccountRef = node.get("ann");
    account.note(1000).await.unwrap();
    let life = account.life().await.unwrap();
    let error = account.note(STATE_BYTES_MAX).await.unwrap_err();
    assert!(matches!(&error, CallError::Grain(CommitError::TooLarge { name, .. }) if name == "note"), "{error}");
    account.note(2000).await.unwrap();
    assert_eq!(account.life().await.unwrap(), life, "the activation goes on");
}

#[tokio::test]
async fn somebody_elses_write_ends_the_turn_and_the_next_call_reads_the_truth() {
    let store = MemoryStore::default();
    let node = node(store.clone()).await;
    let account: AccountRef = node.get("ann");
    account.pay_in(1).await.unwrap();
    let stored = store.load(account_id(), "balance").await.unwrap().unwrap();
    let life = account.life().await.unwrap();

    // The same token writes behind the activation's back.
    let token = {
        let (epoch, counter) = life.split_once('.').unwrap();
        grains::FencingToken { epoch: epoch.parse().unwrap(), counter: counter.parse().unwrap() }
    };
    let theirs = Write { name: "balance".into(), expected: stored.version, value: Some(vec![100]) };
    store.commit(WriteSet { grain: account_id().clone(), token, writes: vec![theirs] }).await.unwrap();

    let error = account.pay_in(1).await.unwrap_err();
    assert!(matches!(&error, CallError::Lost { why, .. } if why.contains("somebody else has written")), "{error}");
    assert_eq!(error.outcome(), Outcome::Unknown);
    assert_eq!(account.pay_in(1).await.unwrap(), 101);
    assert_ne!(account.life().await.unwrap(), life);
}

fn account_id() -> &'static grains::GrainId {
    static ID: std::sync::OnceLock<grains::GrainId> = std::sync::OnceLock::new();
    ID.get_or_init(|| grains::GrainId::new("account", "ann"))
}

#[tokio::test]
async fn a_newer_activation_fences_the_older_one() {
    let store = MemoryStore::default();
    let (old, new) = (node(store.clone()).await, node(store).await);
    let (before, after): (AccountRef, AccountRef) = (old.get("ann"), new.get("ann"));
    before.pay_in(1).await.unwrap();
    assert_eq!(after.pay_in(1).await.unwrap(), 2, "the newer one read what the older one had written");
    let error = before.pay_in(1).await.unwrap_err();
    assert!(matches!(&error, CallError::Lost { why, .. } if why.contains("fenced")), "{error}");
    let again = before.pay_in(1).await;
    assert!(again.is_err(), "a later life on the older node still has an older epoch: {again:?}");
    assert_eq!(after.show().await.unwrap(), (2, 0, 2));
}

#[tokio::test]
async fn an_unknown_outcome_is_repeated_only_for_idempotent_methods() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let node = node(Slow { store: MemoryStore::default(), gate: gate.clone() }).await;
    let account: AccountRef = node.get("ann");
    let error = account.pay_in(1).retry(3).await.unwrap_err();
    assert!(matches!(error, CallError::Lost { .. }), "{error}");
    let setting = tokio::spawn(account.set(7).retry(3));
    tokio::time::sleep(Duration::from_millis(60)).await; // the first try, or more, is unknown by now
    gate.add_permits(10);
    assert_eq!(setting.await.unwrap().unwrap(), 7);
}

#[tokio::test]
async fn tries_that_did_not_run_do_not_hide_one_that_did() {
    let store = FaultyStore::new(MemoryStore::default());
    let node = node(store.clone()).await;
    let account: AccountRef = node.get("ann");
    assert_eq!(account.set(1).await.unwrap(), 1);
    // Stored, but nobody says so; and then the grain does not come back.
    store.script_commits([Fault::HideAnswer]);
    store.script_loads([Fault::Refuse; 3]);
    let error = account.set(2).retry(3).await.unwrap_err();
    assert!(matches!(error, CallError::Lost { .. }) && error.outcome() == Outcome::Unknown, "{error}");
    assert_eq!(store.loads_begun(), 3 + 3, "every try was made");
    assert_eq!(account.show().await.unwrap().0, 2, "it did run");

    // The same when time runs out before the tries do.
    store.script_commits([Fault::HideAnswer]);
    store.set_standing(Fault::Refuse);
    let error = account.set(3).timeout(Duration::from_millis(100)).retry(u32::MAX).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    // And nothing is made worse: without such a try it is as before.
    let error = account.set(4).timeout(Duration::from_millis(50)).retry(u32::MAX).await.unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotExecuted, "{error}");
}

/// A store that takes its time for one state.
struct Slow {
    store: MemoryStore,
    gate: Arc<tokio::sync::Semaphore>,
}

impl Store for Slow {
    fn load<'a>(
        &'a self,
        grain: &'a grains::GrainId,
        name: &'a str,
    ) -> grains::world::BoxFuture<'a, Result<Option<grains::store::Stored>, grains::store::LoadError>> {
        self.store.load(grain, name)
    }
    fn commit(&self, writes: WriteSet) -> grains::world::BoxFuture<'_, Result<(), CommitError>> {
        Box::pin(async move {
            self.gate.acquire().await.unwrap().forget();
            self.store.commit(writes).await
        })
    }
    fn list<'a>(
        &'a self,
        grain_type: &'a str,
        after: Option<&'a str>,
        limit: usize,
    ) -> grains::world::BoxFuture<'a, Result<Vec<String>, grains::store::LoadError>> {
        self.store.list(grain_type, after, limit)
    }
    fn next_epoch(&self) -> grains::world::BoxFuture<'_, Result<u64, grains::store::LoadError>> {
        self.store.next_epoch()
    }
}

#[tokio::test]
async fn a_store_that_does_not_answer_costs_the_activation_not_the_truth() {
    let gate = Arc::new(tokio::sync::Semaphore::new(1));
    let node = node(Slow { store: MemoryStore::default(), gate: gate.clone() }).await;
    let account: AccountRef = node.get("ann");
    account.pay_in(1).await.unwrap();
    let error = account.pay_in(1).await.unwrap_err();
    assert!(matches!(&error, CallError::Lost { why, .. } if why.contains("no answer in time")), "{error}");
    gate.add_permits(10);
    assert_eq!(account.pay_in(1).await.unwrap(), 2, "the next life read what was stored");
}

#[tokio::test]
async fn a_commit_dropped_before_its_answer_ends_the_turn() {
    let gate = Arc::new(tokio::sync::Semaphore::new(1));
    let node = node(Slow { store: MemoryStore::default(), gate: gate.clone() }).await;
    let account: AccountRef = node.get("ann");
    account.pay_in(1).await.unwrap();
    let error = account.pay_in_hastily(1).await.unwrap_err();
    assert!(
        matches!(&error, CallError::Lost { why, .. } if why.contains("dropped before the store had answered")),
        "{error}"
    );
    gate.add_permits(10);
    assert_eq!(account.pay_in(1).await.unwrap(), 2);
}

#[tokio::test]
async fn a_task_that_loses_the_state_is_told_and_ends_the_activation() {
    let store = MemoryStore::default();
    let node = node(store.clone()).await;
    let account: AccountRef = node.get("ann");
    let life = account.life().await.unwrap();
    let newer = grains::FencingToken { epoch: u64::MAX, counter: 0 };
    store.commit(WriteSet { grain: account_id().clone(), token: newer, writes: vec![] }).await.unwrap();
    account.entrust(1).await.unwrap();
    while ENTRUSTED.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(ENTRUSTED.lock().unwrap()[0].contains("Fenced"), "nobody ends a task for it: it is told");
    assert_ne!(account.life().await.unwrap(), life);
}

#[tokio::test]
async fn a_turn_waits_for_its_commit_and_so_does_its_caller() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let store = MemoryStore::default();
    let node = node(Slow { store: store.clone(), gate: gate.clone() }).await;
    let account: AccountRef = node.get("ann");
    let mut paying = Box::pin(account.pay_in(7));
    let early = tokio::time::timeout(Duration::from_millis(10), &mut paying).await;
    assert!(early.is_err(), "no answer before the store has it");
    assert_eq!(store.load(account_id(), "balance").await.unwrap(), None);
    gate.add_permits(1);
    assert_eq!(paying.await.unwrap(), 7);
    assert_eq!(store.load(account_id(), "balance").await.unwrap().unwrap().version.0, 1);
}

#[tokio::test]
async fn a_grain_is_tested_without_a_node() {
    let ctx = Ctx::<AccountGrain>::detached("ann");
    let mut account = AccountGrain::activate(ctx.clone()).await.unwrap();
    account.pay_in(3).await.unwrap();
    account.set_aside(1).await.unwrap();
    assert_eq!(account.show().await.unwrap(), (2, 1, 2));
    let again = AccountGrain::activate(ctx).await.unwrap();
    assert_eq!(again.show().await.unwrap(), (2, 1, 2), "the detached store keeps it");

    let in_memory = |value| State::in_memory(value);
    let ctx = Ctx::detached("bob");
    let mut bob =
        AccountGrain { ctx, balance: in_memory(5), savings: in_memory(0), note: State::in_memory(String::new()) };
    assert_eq!(bob.pay_in(1).await.unwrap(), 6);
}

//! Nothing is left behind: no node, no grain, no timer.
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::started;
use grains::{
    CallError,
    prelude::*,
    store::{CommitError, LoadError, MemoryStore, Store, Stored, WriteSet},
};
use grains_core::{GrainId, world::BoxFuture};

/// A store that is dropped with its node, and with it the token.
struct Token {
    store: MemoryStore,
    _token: Arc<()>,
}

impl Store for Token {
    fn load<'a>(&'a self, g: &'a GrainId, n: &'a str) -> BoxFuture<'a, Result<Option<Stored>, LoadError>> {
        self.store.load(g, n)
    }
    fn commit(&self, w: WriteSet) -> BoxFuture<'_, Result<(), CommitError>> {
        self.store.commit(w)
    }
    fn list<'a>(&'a self, t: &'a str, a: Option<&'a str>, l: usize) -> BoxFuture<'a, Result<Vec<String>, LoadError>> {
        self.store.list(t, a, l)
    }
    fn next_epoch(&self) -> BoxFuture<'_, Result<u64, LoadError>> {
        self.store.next_epoch()
    }
}
static ACTIVATED: Mutex<Vec<String>> = Mutex::new(Vec::new());

#[rpc_trait]
pub trait Last {
    async fn add(&mut self) -> Result<u64>;
    async fn nap(&mut self, ms: u64) -> Result<()>;
    async fn panic(&mut self) -> Result<()>;
    async fn timers(&mut self) -> Result<()>;
    async fn ring(&mut self) -> Result<()>;
    async fn go(&mut self) -> Result<()>;
}
#[grain(Last)]
pub struct LastGrain {
    ctx: Ctx<Self>,
    n: State<u64>,
}
impl Lifecycle for LastGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        ACTIVATED.lock().unwrap().push(format!("activate {}", ctx.key()));
        if ctx.key() == "rings" {
            ctx.call_every("r", Duration::from_millis(5), ctx.me::<LastRef>().ring())?;
        }
        Ok(Self { n: ctx.state("n").await?, ctx })
    }
    async fn deactivate(&mut self, _: DeactivationReason) -> Result<()> {
        if self.ctx.key() == "rings" {
            self.ctx.sleep(Duration::from_millis(30)).await;
        }
        Ok(())
    }
}
impl LastGrain {
    async fn tick(&mut self) -> Result<()> {
        Ok(())
    }
}
impl Last for LastGrain {
    async fn add(&mut self) -> Result<u64> {
        let mut n = self.n.edit();
        *n += 1;
        n.commit().await?;
        Ok(*self.n)
    }
    async fn nap(&mut self, ms: u64) -> Result<()> {
        self.ctx.sleep(Duration::from_millis(ms)).await;
        Ok(())
    }
    async fn panic(&mut self) -> Result<()> {
        panic!("as asked")
    }
    async fn timers(&mut self) -> Result<()> {
        self.ctx.every(Duration::from_millis(3), Self::tick)?;
        self.ctx.call_every("t", Duration::from_millis(3), self.ctx.me::<LastRef>().ring())?;
        let me: LastRef = self.ctx.me();
        Ok(self.ctx.spawn(async move {
            loop {
                if me.ring().await.is_err() {
                    std::future::pending::<()>().await
                }
                tokio::task::yield_now().await
            }
        })?)
    }
    async fn ring(&mut self) -> Result<()> {
        Ok(())
    }
    async fn go(&mut self) -> Result<()> {
        self.ctx.deactivate_on_idle();
        Ok(())
    }
}
async fn node(token: &Arc<()>) -> Node {
    Node::builder()
        .host::<LastGrain>()
        .store(Token { store: MemoryStore::default(), _token: token.clone() })
        .start()
        .await
        .unwrap()
}
async fn freed(token: &Arc<()>) -> bool {
    for _ in 0..200 {
        if Arc::strong_count(token) == 1 {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_node_is_freed() {
    for hard in [false, true] {
        let token = Arc::new(());
        let node = node(&token).await;
        for key in ["a", "b", "c"] {
            let grain: LastRef = node.get(key);
            grain.add().await.unwrap();
            grain.timers().await.unwrap();
        }
        let nap = if hard { Some(started(node.get::<LastRef>("d").nap(60_000)).await) } else { None };
        tokio::time::sleep(Duration::from_millis(30)).await;
        if !hard {
            assert_eq!(node.stop().await.dropped, 0);
        }
        drop(node);
        if let Some(nap) = nap {
            assert!(nap.await.is_err());
        }
        assert!(freed(&token).await, "hard: {hard}");
    }
}

#[tokio::test]
async fn a_node_stopped_right_after_a_panic_is_freed() {
    let token = Arc::new(());
    let node = node(&token).await;
    assert!(matches!(node.get::<LastRef>("p").panic().await, Err(CallError::Panicked { .. })));
    drop(node);
    assert!(freed(&token).await, "the node, its store and the instance leak");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grain_with_a_stored_timer_and_a_slow_deactivate_is_not_revived_by_it() {
    let token = Arc::new(());
    let node = node(&token).await;
    node.get::<LastRef>("rings").go().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let lives = ACTIVATED.lock().unwrap().iter().filter(|e| *e == "activate rings").count();
    assert_eq!(lives, 1);
}

/// The node's runtime ends while another runtime's caller waits in a mailbox.
#[test]
fn a_caller_elsewhere_is_told_when_the_nodes_runtime_ends() {
    let home = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let token = Arc::new(());
    let node = home.block_on(node(&token));
    let a: LastRef = node.get("a");
    let nap = home.block_on(started(a.nap(60_000)));
    let caller = std::thread::spawn(move || {
        let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        other.block_on(a.add().timeout(Duration::from_secs(3)))
    });
    std::thread::sleep(Duration::from_millis(100));
    drop(home);
    let answer = caller.join();
    assert!(matches!(&answer, Ok(Err(_))), "{answer:?}");
    drop((nap, node));
}

//! Attacks that never succeeded, kept to stay so.
use crate::started;
use grains::{CallError, Outcome, prelude::*};
use std::time::Duration;
#[rpc_trait]
pub trait Fine {
    async fn nap(&mut self, ms: u64) -> Result<()>;
    async fn add(&mut self) -> Result<u64>;
    async fn end_and_spawn(&mut self) -> Result<()>;
}
#[grain(Fine)]
pub struct FineGrain {
    ctx: Ctx<Self>,
    n: u64,
}
impl Lifecycle for FineGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        Ok(Self { ctx, n: 0 })
    }
}
struct OnDrop(Ctx<FineGrain>);
impl Drop for OnDrop {
    fn drop(&mut self) {
        assert!(self.0.spawn(async {}).is_err());
        let _ = self.0.me::<FineRef>().add().send();
    }
}
impl Fine for FineGrain {
    async fn nap(&mut self, ms: u64) -> Result<()> {
        self.ctx.sleep(Duration::from_millis(ms)).await;
        Ok(())
    }
    async fn add(&mut self) -> Result<u64> {
        self.n += 1;
        Ok(self.n)
    }
    async fn end_and_spawn(&mut self) -> Result<()> {
        let guard = OnDrop(self.ctx.clone());
        self.ctx.spawn(async move {
            let _g = guard;
            std::future::pending::<()>().await
        })?;
        self.ctx.deactivate_on_idle();
        Ok(())
    }
}
async fn node() -> Node {
    Node::builder().host::<FineGrain>().start().await.unwrap()
}

#[tokio::test]
async fn timeouts_of_max_and_zero() {
    let node = node().await;
    let a: FineRef = node.get("a");
    let nap = started(a.nap(20).timeout(Duration::MAX)).await;
    let queued = started(a.add().timeout(Duration::MAX)).await;
    let zero = a.add().timeout(Duration::ZERO).await.unwrap_err();
    assert!(matches!(zero, CallError::Timeout { outcome: Outcome::NotExecuted, .. }), "{zero:?}");
    nap.await.unwrap();
    assert_eq!(queued.await.unwrap(), 1);
    assert_eq!(a.add().timeout(Duration::MAX).retry(3).await.unwrap(), 2);
    let zero = a.add().timeout(Duration::ZERO).await.unwrap_err();
    assert_eq!(zero.outcome(), Outcome::NotExecuted, "no time is no time, on an idle grain too");
}

#[tokio::test]
async fn forgotten_calls_stall_nothing() {
    let node = node().await;
    let a: FineRef = node.get("a");
    std::mem::forget(started(a.nap(10)).await);
    std::mem::forget(started(a.add()).await);
    assert_eq!(a.add().timeout(Duration::from_secs(2)).await.unwrap(), 2);
    assert_eq!(node.stop().await.dropped, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guard_in_a_task_may_use_the_context_at_the_end_of_a_life() {
    let node = node().await;
    let a: FineRef = node.get("a");
    a.end_and_spawn().await.unwrap();
    assert!(a.add().timeout(Duration::from_secs(2)).await.is_ok());
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(a.add().timeout(Duration::from_secs(2)).await.is_ok());
}

#[tokio::test]
async fn a_caller_aborted_at_any_moment_leaves_nothing() {
    let node = node().await;
    let a: FineRef = node.get("a");
    for ms in 0..20 {
        let task = tokio::spawn(a.nap(5));
        tokio::time::sleep(Duration::from_millis(ms / 4)).await;
        task.abort();
    }
    assert!(a.add().timeout(Duration::from_secs(2)).await.is_ok());
    assert_eq!(node.waiting_calls(), 0);
}

//! What a turn sees of a caller that goes away: on its node, down a chain of calls, and on another node.
#![cfg(feature = "runtime")]
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::{
    future::{pending, poll_fn},
    sync::Mutex,
    task::Poll,
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use grains::prelude::*;

/// A grain with turns that wait for their caller to go away. What becomes of them is told to everybody by [`seen`].
#[rpc_trait]
pub trait Vigil {
    /// Waits for it, alone.
    async fn hold(&mut self, tag: String) -> Result<()>;
    /// The same beside others.
    async fn hold_beside(&self, tag: String) -> Result<()>;
    /// Waits first, and then for it.
    async fn hold_later(&mut self, tag: String, ms: u64) -> Result<()>;
    /// Waits for it among other futures, which are polled when they are woken only.
    async fn hold_among(&mut self, tag: String) -> Result<()>;
    /// Waits for it for so long.
    async fn hold_for(&mut self, tag: String, ms: u64) -> Result<()>;
    /// Has the others hold, each by the one before, and the last one itself.
    async fn hold_by(&mut self, tag: String, others: Vec<String>) -> Result<()>;
    /// Has another one hold for as long as that, after a moment.
    async fn hold_other(&mut self, tag: String, other: String, ms: u64) -> Result<()>;
    /// Says that it has run.
    async fn run(&mut self, tag: String) -> Result<()>;
    /// The same beside others.
    async fn run_beside(&self, tag: String) -> Result<()>;
    /// Ticks once, and what becomes of that.
    async fn tick(&mut self, tag: String) -> Result<()>;
}

#[grain(Vigil)]
pub struct VigilGrain {
    ctx: Ctx<Self>,
    tag: String,
}

static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn see(what: String) {
    SEEN.lock().unwrap().push(what);
}

fn is_seen(what: &str) -> bool {
    SEEN.lock().unwrap().iter().any(|seen| seen == what)
}

/// Waits until something is seen, which is certain to come.
async fn seen(what: &str) {
    let look = async {
        while !is_seen(what) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), look).await.unwrap_or_else(|_| panic!("never seen: {what}"));
}

impl Lifecycle for VigilGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        if ctx.key().starts_with("asks while it activates") {
            let mut polls = 0;
            let counted = poll_fn(|_| {
                polls += 1;
                Poll::<()>::Pending
            });
            tokio::select! {
                () = counted => {}
                () = ctx.cancelled() => see(format!("{}: cancelled", ctx.key())),
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
            see(format!("{}: {}", ctx.key(), if polls < 100 { "slept" } else { "spun" }));
        }
        Ok(Self { ctx, tag: String::new() })
    }
}

impl VigilGrain {
    async fn wait(&self, tag: &str) {
        see(format!("{tag}: holds"));
        self.ctx.cancelled().await;
        see(format!("{tag}: cancelled"));
    }

    async fn on_tick(&mut self) -> Result<()> {
        if !self.tag.is_empty() {
            let tag = std::mem::take(&mut self.tag);
            self.hold_for(tag, 50).await?;
        }
        Ok(())
    }
}

impl Vigil for VigilGrain {
    async fn hold(&mut self, tag: String) -> Result<()> {
        self.wait(&tag).await;
        Ok(())
    }
    async fn hold_beside(&self, tag: String) -> Result<()> {
        self.wait(&tag).await;
        Ok(())
    }
    async fn hold_later(&mut self, tag: String, ms: u64) -> Result<()> {
        see(format!("{tag}: begins"));
        tokio::time::sleep(Duration::from_millis(ms)).await;
        self.wait(&tag).await;
        Ok(())
    }
    async fn hold_among(&mut self, tag: String) -> Result<()> {
        let mut all = FuturesUnordered::new();
        for n in 0..3 {
            let cancelled = self.ctx.cancelled();
            all.push(async move {
                if n == 1 {
                    pending::<()>().await;
                }
                cancelled.await;
                n
            });
        }
        see(format!("{tag}: holds"));
        let both = (all.next().await, all.next().await);
        assert!(matches!(both, (Some(0), Some(2)) | (Some(2), Some(0))), "{both:?}");
        see(format!("{tag}: cancelled"));
        Ok(())
    }
    async fn hold_for(&mut self, tag: String, ms: u64) -> Result<()> {
        tokio::select! {
            () = self.ctx.cancelled() => see(format!("{tag}: cancelled")),
            () = tokio::time::sleep(Duration::from_millis(ms)) => see(format!("{tag}: slept")),
        }
        Ok(())
    }
    async fn hold_by(&mut self, tag: String, mut others: Vec<String>) -> Result<()> {
        let Some(other) = others.pop() else { return self.hold(tag).await };
        let other: VigilRef = self.ctx.get(other);
        tokio::select! {
            held = other.hold_by(tag.clone(), others) => held?,
            () = self.ctx.cancelled() => see(format!("{tag}: {} stops", self.ctx.key())),
        }
        Ok(())
    }
    async fn hold_other(&mut self, tag: String, other: String, ms: u64) -> Result<()> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let other: VigilRef = self.ctx.get(other);
        let failed = other.hold(tag.clone()).timeout(Duration::from_millis(ms)).await.is_err();
        see(format!("{tag}: failed: {failed}"));
        Ok(())
    }
    async fn run(&mut self, tag: String) -> Result<()> {
        see(format!("{tag}: ran"));
        Ok(())
    }
    async fn run_beside(&self, tag: String) -> Result<()> {
        see(format!("{tag}: ran"));
        Ok(())
    }
    async fn tick(&mut self, tag: String) -> Result<()> {
        self.tag = tag;
        self.ctx.every(Duration::from_millis(5), Self::on_tick)?;
        Ok(())
    }
}

async fn node() -> Node {
    Node::builder().host::<VigilGrain>().start().await.unwrap()
}

/// Polls `call` once and gives it back.
async fn started<F: Future + Unpin>(mut call: F) -> F {
    poll_fn(|cx| {
        assert!(std::pin::Pin::new(&mut call).poll(cx).is_pending(), "the call has to wait");
        Poll::Ready(())
    })
    .await;
    call
}

/// Polls calls once and gives those back that have to wait, as most do.
#[cfg(feature = "cluster")]
async fn started_all<F: Future + Unpin>(mut calls: Vec<F>) -> Vec<F> {
    poll_fn(|cx| {
        calls.retain_mut(|call| std::pin::Pin::new(call).poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    calls
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_sees_that_its_caller_has_dropped_the_call() {
    let node = node().await;
    let vigil: VigilRef = node.get("drop");
    // The first one comes with the activation, by the mailbox; the second one begins under its caller.
    for tag in ["drop 1", "drop 2"] {
        let call = started(vigil.hold(tag.into())).await;
        seen(&format!("{tag}: holds")).await;
        // It waits by now, most likely; it must see it in any case.
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(!is_seen(&format!("{tag}: cancelled")));
        drop(call);
        seen(&format!("{tag}: cancelled")).await;
    }
    // Dropped before it asked.
    let call = started(vigil.hold_later("drop 3".into(), 30)).await;
    seen("drop 3: begins").await;
    drop(call);
    seen("drop 3: cancelled").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_turn_sees_the_deadline_of_its_caller_also_when_that_is_not_polled() {
    let node = node().await;
    let vigil: VigilRef = node.get("deadline");
    let error = vigil.hold("deadline 1".into()).timeout(Duration::from_millis(30)).await.unwrap_err();
    assert!(matches!(error, CallError::Timeout { .. }), "{error}");
    seen("deadline 1: cancelled").await;
    let kept = started(vigil.hold("deadline 2".into()).timeout(Duration::from_millis(30))).await;
    seen("deadline 2: cancelled").await;
    drop(kept);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_sees_it_to_its_end() {
    let node = node().await;
    let call = started(node.get::<VigilRef>("a").hold_by("chain".into(), vec!["c".into(), "b".into()])).await;
    seen("chain: holds").await;
    drop(call);
    for what in ["chain: a stops", "chain: b stops", "chain: cancelled"] {
        seen(what).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_inside_a_turn_has_a_caller_of_its_own() {
    let node = node().await;
    // It is polled for the first time inside a turn that nobody waits for.
    let vigil: VigilRef = node.get("outer");
    node.get::<VigilRef>("inner").run("inner".into()).await.unwrap();
    vigil.hold_other("inside".into(), "inner".into(), 30).send().unwrap();
    seen("inside: cancelled").await;
    seen("inside: failed: true").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_polled_only_when_woken_sees_it() {
    let node = node().await;
    let vigil: VigilRef = node.get("among");
    for tag in ["among 1", "among 2"] {
        let call = started(vigil.hold_among(tag.into())).await;
        seen(&format!("{tag}: holds")).await;
        // It is a task by now, and has been polled.
        tokio::time::sleep(Duration::from_millis(5)).await;
        drop(call);
        seen(&format!("{tag}: cancelled")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nobody_waits_it_never_ends() {
    let node = node().await;
    let vigil: VigilRef = node.get("asks while it activates");
    vigil.run("one-way".into()).await.unwrap();
    seen("asks while it activates: slept").await;
    // It begins before the deadline also on a busy machine, and is there long after it.
    vigil.hold_for("one-way".into(), 1000).timeout(Duration::from_millis(700)).send().unwrap();
    seen("one-way: slept").await;
    vigil.tick("tick".into()).await.unwrap();
    seen("tick: slept").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waits_and_is_dropped_never_runs() {
    let node = node().await;
    let vigil: VigilRef = node.get("queue");
    let holding = started(vigil.hold_beside("queue".into())).await;
    seen("queue: holds").await;
    let queued = started(vigil.run("queued".into())).await;
    let behind = started(vigil.run_beside("behind".into())).await;
    drop(queued);
    behind.await.unwrap();
    drop(holding);
    seen("queue: cancelled").await;
    vigil.run("queue ends".into()).await.unwrap();
    assert!(!is_seen("queued: ran"));
}

#[tokio::test]
async fn a_unit_test_cancels_by_its_context() {
    let ctx = Ctx::detached("unit");
    let mut vigil = VigilGrain::activate(ctx.clone()).await.unwrap();
    let mut held = Box::pin(vigil.hold("unit".into()));
    held = started(held).await;
    ctx.test().cancel();
    held.await.unwrap();
    assert!(is_seen("unit: cancelled"));
}

#[cfg(feature = "cluster")]
mod between_nodes {
    use futures_util::future::join_all;
    use grains::{ClusterConfig, GrainOptions, Outcome, cluster::Strategy};

    use super::*;

    async fn start(name: &str, listen: &str, list: &[String]) -> Node {
        let config = ClusterConfig::new("cancelled").listen(listen).join(list.to_vec());
        let near = GrainOptions::new().placement(Strategy::PreferLocal);
        let builder = Node::builder().name(name).cluster(config).host_with::<VigilGrain>(near);
        builder.start().await.expect("it starts")
    }

    /// Some nodes over real sockets, and a grain that lives on the last of them.
    async fn nodes(names: &[&str], key: &str) -> (Vec<Node>, VigilRef) {
        let held: Vec<_> = names.iter().map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let list: Vec<_> = held.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect();
        drop(held);
        let nodes = join_all(names.iter().zip(&list).map(|(name, at)| start(name, at, &list))).await;
        let there: VigilRef = nodes.last().unwrap().get(key);
        there.run(format!("{key} there")).await.unwrap();
        assert_eq!(nodes.last().unwrap().activations()["vigil"], 1);
        (nodes, there)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_turn_sees_that_its_caller_elsewhere_has_dropped_the_call() {
        let (nodes, _) = nodes(&["a", "b"], "far").await;
        let far: VigilRef = nodes[0].get("far");
        let call = started(far.hold("far 1".into())).await;
        seen("far 1: holds").await;
        drop(call);
        seen("far 1: cancelled").await;
        // Dropped before it asked.
        let call = started(far.hold_later("far 2".into(), 200)).await;
        seen("far 2: begins").await;
        drop(call);
        seen("far 2: cancelled").await;
        // And at the deadline.
        let error = far.hold("far 3".into()).timeout(Duration::from_millis(100)).await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
        seen("far 3: cancelled").await;
        // A chain over both nodes.
        let call = started(nodes[1].get::<VigilRef>("start").hold_by("far 4".into(), vec!["far".into(), "mid".into()]));
        let call = call.await;
        seen("far 4: holds").await;
        drop(call);
        seen("far 4: cancelled").await;
        join_all(nodes.iter().map(Node::stop)).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_call_from_elsewhere_that_waits_and_is_dropped_lets_those_behind_it_go_on() {
        let (nodes, there) = nodes(&["a", "b"], "far queue").await;
        let holding = started(there.hold_beside("far queue".into())).await;
        seen("far queue: holds").await;
        let far: VigilRef = nodes[0].get("far queue");
        let queued = started(far.run("far queued".into())).await;
        while nodes[1].waiting_calls() == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let behind = started(there.run_beside("far behind".into())).await;
        assert!(!is_seen("far behind: ran"));
        drop(queued);
        behind.await.expect("while the first turn still holds");
        assert!(!is_seen("far queue: cancelled"));
        drop(holding);
        seen("far queue: cancelled").await;
        there.run("far queue ends".into()).await.unwrap();
        assert!(!is_seen("far queued: ran"), "it was dropped");
        join_all(nodes.iter().map(Node::stop)).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_turn_sees_that_the_node_of_its_caller_has_died() {
        let (mut nodes, _) = nodes(&["a", "b", "c"], "killed").await;
        let far: VigilRef = nodes[0].get("killed");
        let call = started(far.hold("killed".into())).await;
        seen("killed: holds").await;
        assert!(!is_seen("killed: cancelled"));
        // As if killed: its connections end, and its calls with them.
        drop(nodes.remove(0));
        seen("killed: cancelled").await;
        drop(call);
        join_all(nodes.iter().map(Node::stop)).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn calls_that_are_dropped_at_any_time_harm_nobody() {
        let (nodes, _) = nodes(&["a", "b"], "noise").await;
        let far: VigilRef = nodes[0].get("noise");
        for round in 0..200_u64 {
            let mut calls: Vec<_> =
                (0..5).map(|n| far.hold_for(format!("noise {round}"), 1 + (round + n) % 3)).collect();
            calls = started_all(calls).await;
            tokio::time::sleep(Duration::from_micros(round * 37 % 3000)).await;
            let kept = calls.pop().expect("some had to wait");
            drop(calls);
            kept.await.expect("the one that was kept is answered");
        }
        join_all(nodes.iter().map(Node::stop)).await;
    }
}

#[cfg(feature = "sim")]
mod simulated {
    use grains::{ClusterConfig, GrainOptions, cluster::Strategy, sim};

    use super::*;

    /// By the end of its connection, long before the cluster has agreed that it is gone.
    #[test]
    fn a_turn_sees_at_once_that_the_process_of_its_caller_is_gone() {
        let report = sim::run(1, async |sim| {
            let list = ["127.0.0.1:7101", "127.0.0.2:7101", "127.0.0.3:7101"];
            let machines = ["a", "b", "c"].map(|name| sim.machine(name));
            let starting = [0, 1, 2].map(|n| {
                let near = GrainOptions::new().placement(Strategy::PreferLocal);
                let builder = Node::builder()
                    .name(machines[n].name())
                    .world(machines[n].world())
                    .cluster(ClusterConfig::new("simulated").listen(list[n]).join(list))
                    .host_with::<VigilGrain>(near);
                machines[n].spawn(async move { builder.start().await.unwrap() })
            });
            let mut nodes = Vec::new();
            for node in starting {
                nodes.push(node.await.unwrap());
            }
            nodes[2].get::<VigilRef>("sim").run("sim there".into()).await.unwrap();
            let far: VigilRef = nodes[0].get("sim");
            let call = machines[0].spawn(async move { far.hold("sim".into()).await });
            while !is_seen("sim: holds") {
                sim.sleep(Duration::from_millis(5)).await;
            }
            sim.sleep(Duration::from_millis(100)).await;
            assert!(!is_seen("sim: cancelled"));
            let members = || nodes[2].status().members.len();
            machines[0].crash();
            while !is_seen("sim: cancelled") {
                sim.sleep(Duration::from_millis(5)).await;
                assert_eq!(members(), 3, "the connection tells it first");
            }
            drop(call);
        });
        assert!(report.sim_time < Duration::from_secs(60), "{report:?}");
    }
}

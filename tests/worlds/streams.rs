//! Directed scenarios of what goes on between two nodes, streams and answers, while one of the two connections between them
//! breaks or has no room.

use std::{
    cell::Cell,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use grains::{CallError, Node, Outcome, StreamError, prelude::*, sim::Sim};

use crate::{run, scenarios::Scene, simulated};

/// Answers that go on, or are long in coming, or large.
#[rpc_trait]
pub(crate) trait Source {
    async fn touch(&self) -> Result<()>;
    async fn hold(&self, ms: u64) -> Result<()>;
    async fn large(&self, bytes: u64) -> Result<String>;
    /// Panics, and says that much.
    async fn panic(&self, bytes: u64) -> Result<()>;
    /// Nothing, until nobody reads it any more.
    async fn quiet(&self) -> Result<Streaming<u64>>;
    async fn items(&self, items: u64, bytes: u64) -> Result<Streaming<String>>;
    /// The numbers from 0, one at a time.
    async fn ticks(&self, items: u64, every_ms: u64) -> Result<Streaming<u64>>;
}

#[grain(Source)]
pub(crate) struct SourceGrain {
    ctx: Ctx<Self>,
}

thread_local! {
    /// How many quiet streams are no longer read. A simulation has one thread.
    static CLOSED: Cell<usize> = const { Cell::new(0) };
}

impl Lifecycle for SourceGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        Ok(Self { ctx })
    }
}

impl Source for SourceGrain {
    async fn touch(&self) -> Result<()> {
        Ok(())
    }

    async fn hold(&self, ms: u64) -> Result<()> {
        self.ctx.sleep(Duration::from_millis(ms)).await;
        Ok(())
    }

    async fn large(&self, bytes: u64) -> Result<String> {
        Ok("x".repeat(bytes as usize))
    }

    async fn panic(&self, bytes: u64) -> Result<()> {
        panic!("{}", "x".repeat(bytes as usize))
    }

    async fn quiet(&self) -> Result<Streaming<u64>> {
        let (sink, stream) = Streaming::channel(8);
        self.ctx.spawn(async move {
            sink.closed().await;
            CLOSED.set(CLOSED.get() + 1);
        })?;
        Ok(stream)
    }

    async fn items(&self, items: u64, bytes: u64) -> Result<Streaming<String>> {
        let (sink, stream) = Streaming::channel(4);
        self.ctx.spawn(async move {
            for _ in 0..items {
                if sink.send("x".repeat(bytes as usize)).await.is_err() {
                    return;
                }
            }
            sink.finish();
        })?;
        Ok(stream)
    }

    async fn ticks(&self, items: u64, every_ms: u64) -> Result<Streaming<u64>> {
        let (sink, stream) = Streaming::channel(4);
        let ctx = self.ctx.clone();
        self.ctx.spawn(async move {
            for n in 0..items {
                if sink.send(n).await.is_err() {
                    return;
                }
                ctx.sleep(Duration::from_millis(every_ms)).await;
            }
            sink.finish();
        })?;
        Ok(stream)
    }
}

/// A caller, and a node that hosts what it calls.
struct Two {
    scene: Scene,
    nodes: Vec<Node>,
    host: usize,
    /// A grain that lives there.
    key: String,
}

const CALLER: usize = 0;

impl Two {
    async fn new(sim: &Sim) -> Self {
        CLOSED.set(0);
        let scene = Scene::new(sim, 3);
        let nodes = scene.three().await;
        let sources = |node: &Node| node.activations().get("source").copied().unwrap_or(0);
        for key in 0.. {
            let (node, before) = (nodes[CALLER].clone(), nodes.iter().map(sources).collect::<Vec<_>>());
            let touch = async move { node.get::<SourceRef>(key.to_string()).touch().retry(20).await };
            scene.machines[CALLER].spawn(touch).await.expect("the machine is up").expect("it answers");
            if let Some(host) = (1..3).find(|n| sources(&nodes[*n]) > before[*n]) {
                return Self { scene, nodes, host, key: key.to_string() };
            }
        }
        unreachable!("some grain lives elsewhere")
    }

    fn source(&self) -> SourceRef {
        self.nodes[CALLER].get(self.key.as_str())
    }

    /// Asks for so many answers of so many bytes, all at once.
    fn large(&self, answers: usize, bytes: u64) -> Vec<Told<Result<(), CallError>>> {
        let ask = |source: SourceRef| async move { source.large(bytes).await.map(drop) };
        (0..answers).map(|_| self.there(ask(self.source()))).collect()
    }

    /// Runs on the caller's machine.
    fn there<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> Told<T> {
        let told = Told(Arc::default());
        let tell = told.clone();
        drop(self.scene.machines[CALLER].spawn(async move {
            let result = task.await;
            *tell.0.lock().expect("nothing panics while it is held") = Some(result);
        }));
        told
    }

    /// Breaks one of the two: that over which answers come, or that over which calls go.
    fn break_one(&self, sim: &Sim, which: Broken) {
        let (caller, host) = (&self.scene.machines[CALLER], &self.scene.machines[self.host]);
        match which {
            Broken::Answers => sim.net().break_dialled(host, caller),
            Broken::Calls => sim.net().break_dialled(caller, host),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Broken {
    Answers,
    Calls,
}

/// What a task came to.
struct Told<T>(Arc<Mutex<Option<T>>>);

impl<T> Clone for Told<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Told<T> {
    fn take(&self) -> Option<T> {
        self.0.lock().expect("nothing panics while it is held").take()
    }

    fn is_there(&self) -> bool {
        self.0.lock().expect("nothing panics while it is held").is_some()
    }
}

/// Much longer than a break takes to be noticed, and much shorter than any deadline or silence.
const AT_ONCE: Duration = Duration::from_millis(200);

#[test]
fn reader_and_source_hear_of_either_connection_that_breaks() {
    for which in [Broken::Answers, Broken::Calls] {
        run(1, async |sim| {
            let two = Two::new(&sim).await;
            let source = two.source();
            let reading = two.there(async move { source.quiet().await.expect("it answers").next().await });
            sim.sleep(AT_ONCE).await;
            assert!(!reading.is_there());
            two.break_one(&sim, which);
            sim.sleep(AT_ONCE).await;
            let end = reading.take();
            assert!(matches!(end, Some(Some(Err(StreamError::Disconnected { .. })))), "{which:?}: {end:?}");
            assert_eq!(CLOSED.get(), 1, "{which:?}");
        });
    }
}

#[test]
fn a_call_hears_at_once_that_its_answer_may_be_lost_and_the_next_one_is_answered() {
    for which in [Broken::Answers, Broken::Calls] {
        run(2, async |sim| {
            let two = Two::new(&sim).await;
            let source = two.source();
            let held = two.there(async move { source.hold(10_000).await });
            sim.sleep(AT_ONCE).await;
            two.break_one(&sim, which);
            sim.sleep(AT_ONCE).await;
            let error = held.take().expect("it hears at once").expect_err("nobody knows");
            assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
            let source = two.source();
            let next = two.there(async move { source.touch().await });
            sim.sleep(AT_ONCE * 10).await;
            next.take().expect("it is answered").expect("nothing is broken any more");
        });
    }
}

/// Calls are made all the time: before the caller hears of the break, between that and when its host hears of it, and after.
#[test]
fn no_call_around_a_break_waits_for_its_deadline_and_those_long_after_it_are_answered() {
    for (seed, which) in (3..7).flat_map(|seed| [(seed, Broken::Answers), (seed, Broken::Calls)]) {
        run(seed, async |sim| {
            sim.net().latency(Duration::from_millis(2)..=Duration::from_millis(9));
            let two = Two::new(&sim).await;
            let mut calls = Vec::new();
            for at in 0..120 {
                if at == 30 {
                    two.break_one(&sim, which);
                }
                let source = two.source();
                calls.push(two.there(async move { source.touch().timeout(Duration::from_secs(20)).await }));
                sim.sleep(Duration::from_millis(1)).await;
            }
            sim.sleep(AT_ONCE * 10).await;
            let mut unknown = 0;
            for (at, call) in calls.iter().enumerate() {
                match call.take() {
                    Some(Ok(())) => {}
                    Some(Err(error)) => {
                        assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
                        assert!((5..90).contains(&at), "seed {seed}, {which:?}: call {at} has nothing to do with it");
                        unknown += 1;
                    }
                    None => panic!("seed {seed}, {which:?}: call {at} waits for its deadline"),
                }
            }
            assert!(unknown < 60, "seed {seed}, {which:?}: {unknown} of 120");
        });
    }
}

#[test]
fn streams_of_large_items_wait_for_room_and_come_to_their_end() {
    const ITEMS: u64 = 14;
    run(8, async |sim| {
        let two = Two::new(&sim).await;
        let done = Arc::new(AtomicUsize::new(0));
        for _ in 0..2 {
            let (source, done) = (two.source(), done.clone());
            two.there(async move {
                let mut stream = source.items(ITEMS, 900_000).await.expect("it answers");
                for n in 0..ITEMS {
                    let item = stream.next().await;
                    assert!(matches!(item, Some(Ok(_))), "after {n}: {:?}", item.map(|item| item.err()));
                }
                assert!(stream.next().await.is_none());
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        two.scene.wait("both to end", || done.load(Ordering::SeqCst) == 2).await;
    });
}

#[test]
fn answers_that_find_no_room_wait_for_it() {
    run(9, async |sim| {
        let two = Two::new(&sim).await;
        let answers = two.large(30, 900_000);
        two.scene.wait("all answers", || answers.iter().all(Told::is_there)).await;
        answers.iter().for_each(|answer| answer.take().expect("it is there").expect("it is answered"));
    });
}

/// The streams together have credit for nearly all that may wait for the link, and their readers read on.
#[test]
fn a_large_answer_comes_through_beside_many_streams() {
    simulated().seed(10).window_bytes_max(64 * 1024).run(async |sim| {
        let two = Two::new(&sim).await;
        sim.net().latency(Duration::from_millis(20)..=Duration::from_millis(20));
        for _ in 0..100 {
            let source = two.source();
            two.there(async move {
                let mut stream = source.items(1_000_000, 2_400).await.expect("it answers");
                while let Some(item) = stream.next().await {
                    item.expect("nothing is broken");
                }
            });
        }
        sim.sleep(Duration::from_secs(5)).await;
        let answer = two.large(1, 3_900_000).remove(0);
        two.scene.wait("the answer", || answer.is_there()).await;
        answer.take().expect("it is there").expect("it is answered");
    });
}

/// As many as wait for one link, and some more: they must not fill the memory of the node that gives them.
#[test]
fn whoever_takes_too_few_answers_hears_that_its_connection_ends() {
    for (answers, ends) in [(30, false), (38, true)] {
        simulated().seed(11).window_bytes_max(4 * 1024).run(async |sim| {
            let two = Two::new(&sim).await;
            sim.net().latency(Duration::from_millis(5)..=Duration::from_millis(5));
            let answers = two.large(answers, 3_900_000);
            sim.sleep(Duration::from_secs(2)).await;
            let lost: Vec<_> = answers.iter().filter_map(Told::take).collect();
            assert_eq!(!lost.is_empty(), ends, "{lost:?}");
            for answer in lost {
                assert_eq!(answer.expect_err("it is too soon for one").outcome(), Outcome::Unknown);
            }
        });
    }
}

/// They take longer than members wait for the farewell of one that leaves.
#[test]
fn a_node_does_not_leave_before_its_answers_have_room() {
    simulated().seed(12).window_bytes_max(256 * 1024).run(async |sim| {
        let two = Two::new(&sim).await;
        sim.net().latency(Duration::from_millis(3)..=Duration::from_millis(3));
        let answers = two.large(20, 3_900_000);
        sim.sleep(Duration::from_millis(50)).await;
        let leaving = two.nodes[two.host].clone();
        let left = two.scene.machines[two.host].spawn(async move { leaving.stop().await });
        two.scene.wait("all answers", || answers.iter().all(Told::is_there)).await;
        answers.iter().for_each(|answer| answer.take().expect("it is there").expect("it is answered"));
        left.await.expect("it is up");
    });
}

/// All together they would not fit where small words have room.
#[test]
fn panics_with_much_to_say_end_no_connection() {
    run(13, async |sim| {
        let two = Two::new(&sim).await;
        let source = two.source();
        let held = two.there(async move { source.hold(2_000).await });
        sim.sleep(AT_ONCE).await;
        let panic = |n: usize| {
            let source: SourceRef = two.nodes[CALLER].get(format!("panics {n}"));
            two.there(async move { source.panic(3 << 20).await })
        };
        let panics: Vec<_> = (0..30).map(panic).collect();
        two.scene.wait("all to be told", || panics.iter().all(Told::is_there)).await;
        for told in panics {
            let told = told.take().expect("it is there");
            assert!(matches!(told, Err(CallError::Panicked { .. })), "{:?}", told.map_err(|error| error.outcome()));
        }
        two.scene.wait("the call", || held.is_there()).await;
        held.take().expect("it is there").expect("its connection has not ended");
    });
}

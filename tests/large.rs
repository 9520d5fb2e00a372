//! Large calls and answers between two nodes, over real sockets: they arrive whole and in order, and hold up no small ones.
#![cfg(feature = "cluster")]
#![allow(missing_docs, reason = "the interfaces of a test")]

use std::{
    future::poll_fn,
    sync::atomic::{AtomicUsize, Ordering},
    task::Poll,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use grains::{CallError, ClusterConfig, GrainOptions, Outcome, cluster::Strategy, prelude::*};
use serde::{Deserialize, Deserializer, Serialize};

#[rpc_trait]
pub trait Shelf {
    /// Puts a text, and says which one it was.
    async fn put(&mut self, n: u64, text: String) -> Result<u64>;
    /// What was put: which ones, and how long each is.
    async fn all(&self) -> Result<Vec<(u64, usize)>>;
    /// The text again.
    async fn echo(&self, text: String) -> Result<String>;
    /// Takes a text that is read slowly.
    async fn read(&mut self, text: Slow) -> Result<usize>;
    /// Keeps the text for as long as somebody waits for it.
    async fn hold(&self, text: String) -> Result<()>;
    /// Texts of these lengths, made of the number of each.
    async fn texts(&self, lengths: Vec<usize>) -> Result<Streaming<String>>;
}

/// Whoever believes that something else is read.
#[rpc_trait(grain_type = "shelf")]
pub trait Mistaken {
    async fn read(&mut self, numbers: Vec<u64>) -> Result<usize>;
}

/// Where it is decoded, that takes until somebody says so, or too long.
#[derive(Serialize)]
#[serde(transparent)]
pub struct Slow(String);

static DECODING: AtomicUsize = AtomicUsize::new(0);
static DECODED: AtomicUsize = AtomicUsize::new(0);

impl<'de> Deserialize<'de> for Slow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        DECODING.fetch_add(1, Ordering::SeqCst);
        let limit = Instant::now() + Duration::from_secs(8);
        while DECODED.load(Ordering::SeqCst) == 0 && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Self(text))
    }
}

#[grain(Shelf)]
pub struct ShelfGrain {
    ctx: Ctx<Self>,
    all: Vec<(u64, usize)>,
}

impl Lifecycle for ShelfGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        Ok(Self { ctx, all: Vec::new() })
    }
}

/// How many texts are held for somebody.
static HELD: AtomicUsize = AtomicUsize::new(0);

impl Shelf for ShelfGrain {
    async fn put(&mut self, n: u64, text: String) -> Result<u64> {
        self.all.push((n, text.len()));
        Ok(n)
    }

    async fn all(&self) -> Result<Vec<(u64, usize)>> {
        Ok(self.all.clone())
    }

    async fn echo(&self, text: String) -> Result<String> {
        Ok(text)
    }

    async fn read(&mut self, text: Slow) -> Result<usize> {
        Ok(text.0.len())
    }

    async fn hold(&self, text: String) -> Result<()> {
        HELD.fetch_add(1, Ordering::SeqCst);
        self.ctx.cancelled().await;
        drop(text);
        HELD.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }

    async fn texts(&self, lengths: Vec<usize>) -> Result<Streaming<String>> {
        let (sink, stream) = Streaming::channel(8);
        self.ctx.spawn(async move {
            for (n, length) in lengths.into_iter().enumerate() {
                if sink.send(text(n, length)).await.is_err() {
                    return;
                }
            }
            sink.finish();
        })?;
        Ok(stream)
    }
}

fn text(n: usize, length: usize) -> String {
    char::from(b'a' + (n % 26) as u8).to_string().repeat(length)
}

/// Two nodes, and a grain that lives on the first.
async fn two() -> (Node, Node) {
    let ports = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free"));
    let list = ports.map(|listener| listener.local_addr().expect("it listens").to_string());
    let start = async |name: &str, listen: &str| {
        let config = ClusterConfig::new("test").listen(listen).join(list.to_vec());
        let here = GrainOptions::new().placement(Strategy::PreferLocal);
        let builder = Node::builder().name(name).cluster(config).host_with::<ShelfGrain>(here);
        builder.start().await.expect("it starts")
    };
    tokio::join!(start("a", &list[0]), start("b", &list[1]))
}

/// The same grain, called from the other node: once here, to activate it, and once there, to find it.
async fn shelf(a: &Node, b: &Node, name: &str) -> ShelfRef {
    a.get::<ShelfRef>(name).echo(String::new()).await.expect("it activates");
    let there: ShelfRef = b.get(name);
    there.echo(String::new()).await.expect("it is found");
    there
}

const LENGTHS: [usize; 6] = [10, 3 << 20, 20, 200_000, 0, 131_050];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_one_caller_to_one_grain_arrive_in_order_however_large() {
    let (a, b) = two().await;
    let shelf = shelf(&a, &b, "x").await;
    let sizes: Vec<usize> = LENGTHS.iter().copied().cycle().take(24).collect();
    // All are sent before the first is answered: a call leaves when it is first polled.
    let calls = sizes.iter().enumerate().map(|(n, length)| shelf.put(n as u64, text(n, *length)).into_future());
    for (n, put) in join_all(calls).await.into_iter().enumerate() {
        assert_eq!(put.unwrap(), n as u64);
    }
    let all: Vec<_> = sizes.iter().enumerate().map(|(n, length)| (n as u64, *length)).collect();
    assert_eq!(shelf.all().await.unwrap(), all);
    tokio::join!(a.stop(), b.stop());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_and_items_of_streams_arrive_whole_and_in_order_however_large() {
    let (a, b) = two().await;
    let shelf = shelf(&a, &b, "x").await;
    for (n, length) in LENGTHS.into_iter().enumerate() {
        assert_eq!(shelf.echo(text(n, length)).await.unwrap(), text(n, length));
    }
    // An item of a stream has a limit of its own.
    let lengths: Vec<usize> = LENGTHS.iter().map(|length| (*length).min(1_000_000)).cycle().take(18).collect();
    let mut texts = shelf.texts(lengths.clone()).await.unwrap();
    for (n, length) in lengths.into_iter().enumerate() {
        assert_eq!(texts.next().await.expect("there is more").unwrap(), text(n, length), "{n}");
    }
    assert!(texts.next().await.is_none());
    let too_large = shelf.echo(text(0, 17 << 20)).await.unwrap_err();
    assert_eq!(too_large.outcome(), Outcome::NotExecuted, "{too_large}");
    assert!(too_large.to_string().contains("16777216 are taken"), "{too_large}");
    tokio::join!(a.stop(), b.stop());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_dropped_while_its_parts_leave_is_taken_back_behind_them() {
    let (a, b) = two().await;
    let (before, held) = (shelf(&a, &b, "before").await, shelf(&a, &b, "held").await);
    // They keep the next one from leaving for longer than it takes until somebody finds that it was dropped.
    let mut others: Vec<_> = (0..6).map(|n| Box::pin(before.put(n, text(0, 8 << 20)).into_future())).collect();
    let mut dropped = Box::pin(held.hold(text(1, 8 << 20)).into_future());
    poll_fn(|cx| {
        assert!(others.iter_mut().all(|call| call.as_mut().poll(cx).is_pending()));
        assert!(dropped.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    drop(dropped);
    for put in join_all(others).await {
        put.unwrap();
    }
    // Whatever is sent to that grain now comes behind it.
    held.echo(String::new()).await.unwrap();
    let limit = Instant::now() + Duration::from_secs(5);
    while HELD.load(Ordering::SeqCst) > 0 {
        assert!(Instant::now() < limit, "it is held for nobody");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    tokio::join!(a.stop(), b.stop());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn small_calls_are_read_while_the_arguments_of_a_large_one_are_decoded() {
    let (a, b) = two().await;
    let (small, slow) = (shelf(&a, &b, "small").await, shelf(&a, &b, "slow").await);
    small.put(2, String::new()).await.unwrap();
    let read = tokio::spawn(async move {
        let (first, behind) = tokio::join!(slow.read(Slow(text(0, 4 << 20))), slow.put(1, String::new()));
        (first.unwrap(), behind.unwrap(), slow.all().await.unwrap())
    });
    while DECODING.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // That of another grain cannot be decoded, which its grain outlives.
    let mistaken = b.get::<MistakenRef>("small").read(vec![7; 200_000]).await.unwrap_err();
    assert!(matches!(&mistaken, CallError::Codec { outcome: Outcome::NotExecuted, .. }), "{mistaken:?}");
    small.echo("x".to_owned()).timeout(Duration::from_secs(5)).await.unwrap();
    assert_eq!(small.all().await.unwrap(), [(2, 0)]);
    DECODED.store(1, Ordering::SeqCst);
    assert_eq!(read.await.unwrap(), (4 << 20, 1, vec![(1, 0)]));
    tokio::join!(a.stop(), b.stop());
}

/// 64 MB under way, there and back. How long small calls take meanwhile is printed, and measured on quiet machines.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_calls_go_on_while_large_ones_are_under_way() {
    const LARGE: usize = 16;
    let (a, b) = two().await;
    let rounds: usize = std::env::var("GRAINS_LARGE_ROUNDS").map_or(2, |rounds| rounds.parse().expect("a number"));
    let (small, under_way) = (shelf(&a, &b, "small").await, AtomicUsize::new(LARGE));
    let large = (0..LARGE).map(async |n| {
        let shelf = shelf(&a, &b, &format!("large {n}")).await;
        for _ in 0..rounds {
            let sent = text(n, 4 << 20);
            assert!(shelf.echo(sent.clone()).await.unwrap() == sent, "another text");
        }
        under_way.fetch_sub(1, Ordering::SeqCst);
    });
    let small = async {
        let mut took = Vec::new();
        while under_way.load(Ordering::SeqCst) > 0 {
            let begun = Instant::now();
            small.echo("x".repeat(64)).await.unwrap();
            took.push(begun.elapsed());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        took.sort_unstable();
        took
    };
    let (_, took) = tokio::join!(join_all(large), small);
    let at = |share: f64| took[(took.len() as f64 * share) as usize];
    println!("{} small calls, p50 {:?}, p99 {:?}, the longest {:?}", took.len(), at(0.5), at(0.99), at(0.999_999));
    // Behind all large ones there would be one for each round.
    assert!(took.len() > rounds, "{} small calls were answered meanwhile", took.len());
    tokio::join!(a.stop(), b.stop());
}

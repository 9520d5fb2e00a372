//! Streaming answers through a node: credit, typed ends, slow subscribers; also when every local call is encoded.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::time::Duration;

use grains::{StreamError, prelude::*};

/// A feed.
#[rpc_trait]
pub trait Feed {
    /// Every item from now on.
    async fn watch(&self) -> Result<Streaming<u64>>;
    /// Sends so many items to the watchers.
    async fn publish(&mut self, items: u64) -> Result<()>;
    /// Counts from 0 up to `items`, as fast as the caller reads; answers how far it got when asked.
    async fn count(&mut self, items: u64) -> Result<Streaming<u64>>;
    /// How many items `count` has sent.
    async fn sent(&self) -> Result<u64>;
    /// Ends this activation.
    async fn go(&mut self) -> Result<()>;
    /// Panics.
    async fn panic(&mut self) -> Result<()>;
}

#[grain(Feed)]
pub struct FeedGrain {
    ctx: Ctx<Self>,
    items: Fanout<u64>,
    next: u64,
    sent: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

impl Lifecycle for FeedGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        Ok(Self { ctx, items: Fanout::default(), next: 0, sent: Default::default() })
    }
}

impl Feed for FeedGrain {
    async fn watch(&self) -> Result<Streaming<u64>> {
        Ok(self.items.subscribe())
    }
    async fn publish(&mut self, items: u64) -> Result<()> {
        for _ in 0..items {
            self.items.send(self.next);
            self.next += 1;
        }
        Ok(())
    }
    async fn count(&mut self, items: u64) -> Result<Streaming<u64>> {
        let (sink, stream) = Streaming::channel(8);
        let sent = self.sent.clone();
        self.ctx.spawn(async move {
            for item in 0..items {
                if sink.send(item).await.is_err() {
                    return;
                }
                sent.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
            sink.finish();
        })?;
        Ok(stream)
    }
    async fn sent(&self) -> Result<u64> {
        Ok(self.sent.load(std::sync::atomic::Ordering::SeqCst))
    }
    async fn go(&mut self) -> Result<()> {
        self.ctx.deactivate_on_idle();
        Ok(())
    }
    async fn panic(&mut self) -> Result<()> {
        panic!("as asked");
    }
}

async fn nodes() -> [Node; 2] {
    let plain = Node::builder().host::<FeedGrain>().start().await.unwrap();
    let encoding = Node::builder().host::<FeedGrain>().configure(|config| config.encode_local_calls = true);
    [plain, encoding.start().await.unwrap()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_watcher_sees_every_item_in_order() {
    for node in nodes().await {
        let feed: FeedRef = node.get("a");
        let mut watchers = vec![feed.watch().await.unwrap(), feed.watch().await.unwrap()];
        feed.publish(100).await.unwrap();
        for watcher in &mut watchers {
            for expected in 0..100 {
                assert_eq!(watcher.next().await, Some(Ok(expected)));
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_watcher_is_told_what_it_missed_and_delays_nobody() {
    for node in nodes().await {
        let feed: FeedRef = node.get("a");
        let (mut slow, mut quick) = (feed.watch().await.unwrap(), feed.watch().await.unwrap());
        for round in 0..50 {
            feed.publish(100).await.unwrap();
            for item in 0..100 {
                assert_eq!(quick.next().await, Some(Ok(round * 100 + item)));
            }
        }
        let Some(Err(StreamError::Missed { items })) = slow.next().await else { panic!("it must be told") };
        for expected in items..5000 {
            assert_eq!(slow.next().await, Some(Ok(expected)), "after what was missed, nothing else is");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_goes_as_fast_as_it_is_read() {
    for node in nodes().await {
        let feed: FeedRef = node.get("a");
        let mut stream = feed.count(1000).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(feed.sent().await.unwrap() <= 8, "no more than its credit");
        for expected in 0..1000 {
            assert_eq!(stream.next().await, Some(Ok(expected)));
        }
        assert_eq!(stream.next().await, None, "it ended as its sender wanted");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_with_a_typed_error_when_its_activation_goes() {
    for node in nodes().await {
        for ending in ["go", "panic", "stop"] {
            let feed: FeedRef = node.get(ending);
            let mut watching = feed.watch().await.unwrap();
            let mut counting = feed.count(1_000_000).await.unwrap();
            feed.publish(1).await.unwrap();
            match ending {
                "go" => feed.go().await.unwrap(),
                "panic" => assert!(feed.panic().await.is_err()),
                _ => assert_eq!(node.stop().await.dropped, 0),
            }
            assert_eq!(watching.next().await, Some(Ok(0)), "what was sent before still arrives");
            assert_eq!(watching.next().await, Some(Err(StreamError::ActivationGone)));
            assert_eq!(watching.next().await, None);
            let end = loop {
                match counting.next().await {
                    Some(Ok(_)) => {}
                    end => break end,
                }
            };
            assert_eq!(end, Some(Err(StreamError::ActivationGone)), "after {ending}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_goes_stops_its_sender() {
    for node in nodes().await {
        let feed: FeedRef = node.get("a");
        drop(feed.count(1_000_000).await.unwrap());
        let sent = feed.sent().await.unwrap();
        assert!(sent <= 9, "{sent}");
    }
}

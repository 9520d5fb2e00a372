//! Streams between two members over a link in memory: everything arrives in order, and every end is told to both sides.

use std::{
    future::Future,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use grains_core::{
    Wire,
    codec::{decode, encode},
    stream::{Fanout, FanoutLimits, STREAM_CREDIT, StreamSink, Streaming, with_incoming, with_outgoing},
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::*;
use crate::{
    cluster::names::{Incarnation, NodeId},
    world::tokio_world,
};

mod faults;

const CALLEE: MemberId = MemberId { node: NodeId(1), incarnation: Incarnation(1) };
const CALLER: MemberId = MemberId { node: NodeId(2), incarnation: Incarnation(2) };

/// One end of the link. Frames cross it as bytes.
struct Link {
    me: MemberId,
    up: AtomicBool,
    room: tokio::sync::watch::Sender<bool>,
    frame_bytes_max: AtomicUsize,
    items: AtomicUsize,
    others: Mutex<Vec<StreamFrame>>,
    other_end: UnboundedSender<(MemberId, Vec<u8>)>,
}

impl Link {
    fn of(me: MemberId) -> u64 {
        me.node.0 + 10
    }

    fn send(&self, bytes: Vec<u8>) -> Result<(), LinkGone> {
        if !self.up.load(Ordering::SeqCst) {
            return Err(LinkGone);
        }
        match decode(&bytes).unwrap() {
            StreamFrame::Item { .. } => drop(self.items.fetch_add(1, Ordering::SeqCst)),
            other => self.others.lock().unwrap().push(other),
        }
        self.other_end.send((self.me, bytes)).map_err(|_| LinkGone)
    }
}

impl StreamLinks for Link {
    fn tell(&self, _: MemberId, frame: StreamFrame) {
        self.send(encode(&frame).unwrap()).ok();
    }
}

impl StreamLink for Link {
    fn id(&self) -> u64 {
        Self::of(self.me)
    }

    fn is_closed(&self) -> bool {
        !self.up.load(Ordering::SeqCst)
    }

    fn tell(&self, frame: &StreamFrame) -> Result<(), LinkGone> {
        self.send(encode(frame).unwrap())
    }

    fn poll_send(&self, cx: &mut Context<'_>, _: &mut Ticket, _: u64, frame: &[u8]) -> Poll<Result<(), NotSent>> {
        let mut room = self.room.subscribe();
        let mut wait = std::pin::pin!(async move { drop(room.wait_for(|room| *room).await) });
        if wait.as_mut().poll(cx).is_pending() {
            let waker = cx.waker().clone();
            let mut room = self.room.subscribe();
            tokio::spawn(async move {
                drop(room.wait_for(|room| *room).await);
                waker.wake();
            });
            return Poll::Pending;
        }
        let max = self.frame_bytes_max.load(Ordering::SeqCst);
        if frame.len() > max {
            return Poll::Ready(Err(NotSent::TooLarge(format!("more than {max} bytes"))));
        }
        Poll::Ready(self.send(frame.to_vec()).map_err(|LinkGone| NotSent::Gone))
    }
}

/// One member, its link and its tenure.
struct Side {
    streams: Arc<Streams>,
    tenure: Arc<Tenure>,
    link: Arc<Link>,
}

type Incoming = UnboundedReceiver<(MemberId, Vec<u8>)>;

impl Side {
    fn new(me: MemberId, other_end: UnboundedSender<(MemberId, Vec<u8>)>, limits: &StreamLimits) -> Self {
        let world = tokio_world().unwrap();
        let tenure = Tenure::endless(&world);
        let (items, others) = (AtomicUsize::new(0), Mutex::default());
        let (up, frame_bytes_max) = (AtomicBool::new(true), AtomicUsize::new(usize::MAX));
        let (room, _) = tokio::sync::watch::channel(true);
        let link = Arc::new(Link { me, up, room, frame_bytes_max, items, others, other_end });
        let streams = Arc::new(Streams::new(&world, tenure.clone(), link.clone(), limits.clone()));
        Self { streams, tenure, link }
    }

    fn items_sent(&self) -> usize {
        self.link.items.load(Ordering::SeqCst)
    }

    fn others_sent(&self) -> Vec<StreamFrame> {
        self.link.others.lock().unwrap().clone()
    }

    fn link(&self) -> Arc<dyn StreamLink> {
        self.link.clone()
    }

    async fn is_empty(&self) {
        until(|| self.streams.hub.table().is_empty()).await;
    }
}

/// Two members with limits, `callee` and `caller`, whose link runs.
fn pair_with(limits: &StreamLimits) -> (Side, Side) {
    let ((to_caller, at_caller), (to_callee, at_callee)) = (unbounded_channel(), unbounded_channel());
    let (callee, caller) = (Side::new(CALLEE, to_caller, limits), Side::new(CALLER, to_callee, limits));
    run(&callee, at_callee);
    run(&caller, at_caller);
    (callee, caller)
}

fn pair() -> (Side, Side) {
    pair_with(&StreamLimits::default())
}

fn run(side: &Side, mut incoming: Incoming) {
    let streams = Arc::downgrade(&side.streams);
    tokio::spawn(async move {
        while let Some((from, bytes)) = incoming.recv().await {
            let Some(streams) = streams.upgrade() else { return };
            streams.frame(from, decode(&bytes).unwrap());
        }
    });
}

/// Answers `call` with `stream`, as the routing of calls does.
fn answer<T: Wire>(callee: &Side, caller: &Side, call: u64, stream: Streaming<T>) -> Streaming<T> {
    let (bytes, exported) = with_outgoing(|| encode(&stream).unwrap());
    let (stream, imported) = with_incoming(|| decode(&bytes).unwrap());
    caller.streams.import(CALLEE, call, &caller.link(), Link::of(CALLEE), imported);
    callee.streams.export(CALLER, call, &callee.link(), Link::of(CALLER), exported);
    stream
}

fn open<T: Wire>(callee: &Side, caller: &Side, call: u64) -> (StreamSink<T>, Streaming<T>) {
    let (sink, stream) = Streaming::channel(STREAM_CREDIT);
    (sink, answer(callee, caller, call, stream))
}

/// Ten seconds are for ever.
async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("it takes for ever")
}

async fn until(is: impl Fn() -> bool) {
    soon(async {
        while !is() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn next<T>(stream: &mut Streaming<T>) -> Option<Result<T, StreamError>> {
    soon(stream.next()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_items_arrive_in_order() {
    const ITEMS: u64 = 100_000;
    let (callee, caller) = pair();
    let (sink, mut stream) = open(&callee, &caller, 1);
    tokio::spawn(async move {
        for n in 0..ITEMS {
            sink.send(n).await.unwrap();
        }
        sink.finish();
    });
    let read_all = async {
        for n in 0..ITEMS {
            assert_eq!(stream.next().await, Some(Ok(n)));
        }
    };
    tokio::time::timeout(Duration::from_secs(60), read_all).await.expect("an item or its credit was lost");
    assert_eq!(next(&mut stream).await, None);
    assert_eq!(callee.items_sent(), ITEMS as usize);
    callee.is_empty().await;
    caller.is_empty().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_has_no_more_than_its_credit_under_way() {
    const OWN_CREDIT: usize = 8;
    let (callee, caller) = pair();
    let (sink, stream) = Streaming::channel(OWN_CREDIT);
    let mut stream = answer(&callee, &caller, 1, stream);
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = sent.clone();
    tokio::spawn(async move {
        for n in 0..1000_usize {
            sink.send(n).await.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    until(|| sent.load(Ordering::SeqCst) == STREAM_CREDIT + OWN_CREDIT).await;
    for taken in 0..1000 {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert!(callee.items_sent() <= taken + STREAM_CREDIT, "{} under way", callee.items_sent() - taken);
        assert!(sent.load(Ordering::SeqCst) <= taken + STREAM_CREDIT + OWN_CREDIT);
        assert_eq!(next(&mut stream).await, Some(Ok(taken)));
    }
    assert_eq!(next(&mut stream).await, Some(Err(StreamError::ActivationGone)));
}

#[tokio::test]
async fn a_slow_reader_of_a_fanout_is_told_what_it_missed() {
    let (callee, caller) = pair();
    let fanout = Fanout::with_limits(FanoutLimits { backlog_len_max: 4, ..FanoutLimits::default() });
    let mut stream = answer(&callee, &caller, 1, fanout.subscribe());
    let (mut received, mut missed) = (0, 0);
    for n in 0..1000_u64 {
        fanout.send(n);
        if n % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    fanout.close();
    while let Some(item) = next(&mut stream).await {
        match item {
            Ok(n) => {
                assert_eq!(n, received + missed);
                received += 1;
            }
            Err(StreamError::Missed { items }) => missed += items,
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(received + missed, 1000);
    assert!(missed > 0);
}

#[tokio::test]
async fn a_reader_that_goes_stops_its_source() {
    let (callee, caller) = pair();
    let (quiet, quiet_stream) = open::<u8>(&callee, &caller, 1);
    let (busy, busy_stream) = open::<u8>(&callee, &caller, 2);
    let (other, mut other_stream) = open::<u8>(&callee, &caller, 3);
    (0..STREAM_CREDIT).for_each(|_| busy.try_send(1).unwrap());
    until(|| callee.items_sent() == STREAM_CREDIT).await;
    (0..STREAM_CREDIT).for_each(|_| busy.try_send(1).unwrap());
    drop((quiet_stream, busy_stream));
    soon(quiet.closed()).await;
    soon(busy.closed()).await;
    other.try_send(7).unwrap();
    assert_eq!(next(&mut other_stream).await, Some(Ok(7)));
    drop(other_stream);
    soon(other.closed()).await;
    callee.is_empty().await;
    caller.is_empty().await;
}

#[tokio::test]
async fn the_reader_is_told_how_the_stream_ended() {
    let (callee, caller) = pair();
    let error = grains_core::Error::new("disk full");
    type End = fn(StreamSink<u8>);
    let ends: [(End, _); 3] = [
        (drop, Some(Err(StreamError::ActivationGone))),
        (StreamSink::finish, None),
        (|sink| sink.fail(grains_core::Error::new("disk full")), Some(Err(StreamError::Failed(error)))),
    ];
    for (call, (end, told)) in (0..).zip(ends) {
        let (sink, mut stream) = open(&callee, &caller, call);
        sink.try_send(7).unwrap();
        end(sink);
        assert_eq!(next(&mut stream).await, Some(Ok(7)));
        assert_eq!(next(&mut stream).await, told);
        assert_eq!(next(&mut stream).await, None);
    }
    callee.is_empty().await;
    caller.is_empty().await;
    assert!(caller.others_sent().is_empty(), "nobody is told to stop what has ended");
}

//! Channels: credit holds, nothing is lost, every end is told.

use std::{pin::pin, thread};

use super::*;
use crate::stream::testing::{Wakes, block_on};

fn read(stream: &mut Streaming<u64>) -> Option<Result<u64, StreamError>> {
    block_on(stream.next())
}

#[test]
fn no_more_items_are_under_way_than_there_is_credit() {
    let (sink, mut stream) = Streaming::channel(3);
    (0..3).for_each(|n| sink.try_send(n).unwrap());
    assert_eq!(sink.try_send(3), Err(TrySendError::Full(3)));
    assert_eq!(read(&mut stream), Some(Ok(0)));
    sink.try_send(3).unwrap();
    assert_eq!(sink.try_send(4).unwrap_err().into_item(), 4);
}

#[test]
fn a_credit_of_zero_is_one() {
    let (sink, _stream) = Streaming::channel(0);
    sink.try_send(1).unwrap();
    assert_eq!(sink.try_send(2), Err(TrySendError::Full(2)));
}

#[test]
fn a_finished_stream_ends_after_its_last_item() {
    let (sink, mut stream) = Streaming::channel(4);
    sink.try_send(1).unwrap();
    sink.finish();
    assert_eq!((read(&mut stream), read(&mut stream), read(&mut stream)), (Some(Ok(1)), None, None));
}

#[test]
fn a_failed_stream_says_why_after_its_last_item() {
    let (sink, mut stream) = Streaming::channel(4);
    sink.try_send(1).unwrap();
    sink.fail(Error::new("disk full"));
    let failed = StreamError::Failed(Error::new("disk full"));
    assert_eq!((read(&mut stream), read(&mut stream), read(&mut stream)), (Some(Ok(1)), Some(Err(failed)), None));
}

#[test]
fn a_sink_dropped_without_an_end_means_that_the_activation_is_gone() {
    let (sink, mut stream) = Streaming::channel(4);
    let clone = sink.clone();
    drop(sink);
    clone.try_send(1).unwrap();
    drop(clone);
    let gone = StreamError::ActivationGone;
    assert_eq!((read(&mut stream), read(&mut stream), read(&mut stream)), (Some(Ok(1)), Some(Err(gone)), None));
}

#[test]
fn every_end_wakes_the_reader() {
    let ends: [fn(StreamSink<u64>); 3] = [StreamSink::finish, |sink| sink.fail(Error::new("no")), drop];
    for end in ends {
        let wakes = Wakes::new();
        let (sink, mut stream) = Streaming::channel(1);
        let mut next = pin!(stream.next());
        assert!(wakes.poll(next.as_mut()).is_pending());
        end(sink);
        assert_eq!(wakes.count(), 1);
        assert!(wakes.poll(next).is_ready());
    }
}

#[test]
fn one_clone_ends_the_stream_for_all() {
    let (sink, mut stream) = Streaming::channel(1);
    let other = sink.clone();
    other.try_send(1).unwrap();
    let wakes = Wakes::new();
    let mut waiting = pin!(other.send(2));
    assert!(wakes.poll(waiting.as_mut()).is_pending());
    sink.finish();
    assert_eq!(wakes.count(), 1);
    assert_eq!(block_on(waiting), Err(SendError(2)));
    assert_eq!(other.try_send(3), Err(TrySendError::Ended(3)));
    assert_eq!((read(&mut stream), read(&mut stream)), (Some(Ok(1)), None));
}

#[test]
fn a_reader_that_goes_gives_items_back_and_drops_what_it_had() {
    let (sink, stream) = Streaming::channel(1);
    let item = Arc::new(());
    sink.try_send(item.clone()).unwrap();
    let wakes = Wakes::new();
    let mut sending = pin!(sink.send(item.clone()));
    let mut closed = pin!(sink.closed());
    assert!(wakes.poll(sending.as_mut()).is_pending());
    assert!(wakes.poll(closed.as_mut()).is_pending());
    assert!(!sink.is_closed());
    drop(stream);
    assert_eq!(wakes.count(), 2);
    assert!(sink.is_closed());
    assert!(wakes.poll(closed.as_mut()).is_ready());
    assert!(block_on(sending).is_err());
    assert_eq!(Arc::strong_count(&item), 1);
}

#[test]
fn senders_are_served_in_the_order_they_came() {
    let (sink, mut stream) = Streaming::channel(1);
    sink.try_send(0).unwrap();
    let (a, b) = (Wakes::new(), Wakes::new());
    let mut first = pin!(sink.send(1));
    let mut second = pin!(sink.send(2));
    assert!(a.poll(first.as_mut()).is_pending());
    assert!(b.poll(second.as_mut()).is_pending());
    assert_eq!(read(&mut stream), Some(Ok(0)));
    assert_eq!((a.count(), b.count()), (1, 0));
    assert!(b.poll(second.as_mut()).is_pending(), "the credit is promised to the first");
    assert_eq!(sink.try_send(9), Err(TrySendError::Full(9)), "nobody overtakes it");
    assert!(a.poll(first.as_mut()).is_ready());
    assert_eq!((read(&mut stream), b.count()), (Some(Ok(1)), 1));
}

#[test]
fn a_cancelled_send_passes_its_credit_on() {
    let (sink, mut stream) = Streaming::channel(1);
    sink.try_send(0).unwrap();
    let wakes = Wakes::new();
    let mut called = Box::pin(sink.send(1));
    let mut waits = Box::pin(sink.send(2));
    let mut last = pin!(sink.send(3));
    assert!(wakes.poll(called.as_mut()).is_pending());
    assert!(wakes.poll(waits.as_mut()).is_pending());
    assert!(wakes.poll(last.as_mut()).is_pending());
    drop(waits);
    assert_eq!(read(&mut stream), Some(Ok(0)));
    assert_eq!(wakes.count(), 1);
    drop(called);
    assert_eq!(wakes.count(), 2);
    assert!(wakes.poll(last).is_ready());
    assert_eq!(read(&mut stream), Some(Ok(3)));
    sink.try_send(4).unwrap();
    assert_eq!(sink.try_send(5), Err(TrySendError::Full(5)), "no credit was lost or made");
}

#[test]
fn a_cancelled_next_loses_nothing() {
    let (sink, mut stream) = Streaming::channel(2);
    let wakes = Wakes::new();
    for n in 0..10 {
        let mut next = Box::pin(stream.next());
        assert!(wakes.poll(next.as_mut()).is_pending());
        sink.try_send(n).unwrap();
        drop(next);
        assert_eq!(read(&mut stream), Some(Ok(n)));
    }
    assert_eq!(wakes.count(), 10);
}

#[test]
fn no_waker_is_kept_for_what_is_gone() {
    let wakes = Wakes::new();
    let (sink, mut stream) = Streaming::<u64>::channel(1);
    assert!(wakes.poll(pin!(stream.next())).is_pending());
    drop(stream);
    assert!(wakes.poll(pin!(sink.closed())).is_ready());

    let (sink, _stream) = Streaming::channel(1);
    sink.try_send(0_u64).unwrap();
    assert!(wakes.poll(pin!(sink.send(1))).is_pending());
    assert!(wakes.poll(pin!(sink.closed())).is_pending());
    assert_eq!(Arc::strong_count(&wakes), 1);
}

#[test]
fn two_threads_lose_no_item_and_no_wake_up() {
    const ITEMS: u64 = 100_000;
    for credit in [1, 7, STREAM_CREDIT] {
        // Credit 1 costs two thread switches an item.
        let items = if credit == 1 { ITEMS / 10 } else { ITEMS };
        let (sink, mut stream) = Streaming::channel(credit);
        let sender = thread::spawn(move || {
            block_on(async {
                for n in 0..items {
                    sink.send(n).await.unwrap();
                }
                sink.finish();
            });
        });
        for n in 0..items {
            assert_eq!(read(&mut stream), Some(Ok(n)));
        }
        assert_eq!(read(&mut stream), None);
        sender.join().unwrap();
    }
}

#[test]
fn several_senders_each_keep_their_order() {
    const SENDERS: u64 = 3;
    const ITEMS: u64 = 20_000;
    let (sink, mut stream) = Streaming::channel(4);
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let sink = sink.clone();
            thread::spawn(move || {
                for n in 0..ITEMS {
                    let item = n * SENDERS + sender;
                    // A send that has to wait is cancelled once and made again.
                    if Wakes::new().poll(pin!(sink.send(item))).is_pending() {
                        block_on(sink.send(item)).unwrap();
                    }
                }
            })
        })
        .collect();
    drop(sink);
    let mut next = [0; SENDERS as usize];
    for _ in 0..SENDERS * ITEMS {
        let item = read(&mut stream).unwrap().unwrap();
        let (sender, n) = ((item % SENDERS) as usize, item / SENDERS);
        assert_eq!(next[sender], n);
        next[sender] += 1;
    }
    assert_eq!(read(&mut stream), Some(Err(StreamError::ActivationGone)));
    senders.into_iter().for_each(|sender| sender.join().unwrap());
}

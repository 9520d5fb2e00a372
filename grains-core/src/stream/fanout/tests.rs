//! Fanouts: everybody sees the same order, and is told exactly what was missed.

use std::{pin::pin, thread};

use super::*;
use crate::stream::testing::{Wakes, block_on};

fn small(backlog_len_max: usize) -> Fanout<u64> {
    Fanout::with_limits(FanoutLimits { backlog_len_max, subscribers_max: 2 })
}

fn read(stream: &mut Streaming<u64>) -> Option<Result<u64, StreamError>> {
    block_on(stream.next())
}

#[test]
fn every_subscriber_gets_every_item_sent_after_it_subscribed() {
    let fanout = Fanout::default();
    let mut early = fanout.subscribe();
    fanout.send(1);
    let mut late = fanout.subscribe();
    fanout.send(2);
    assert_eq!((read(&mut early), read(&mut early)), (Some(Ok(1)), Some(Ok(2))));
    assert_eq!(read(&mut late), Some(Ok(2)));
    assert!(Wakes::new().poll(pin!(late.next())).is_pending());
}

#[test]
fn a_slow_subscriber_is_told_what_it_missed_and_goes_on() {
    let fanout = small(3);
    let mut stream = fanout.subscribe();
    (0..10).for_each(|n| fanout.send(n));
    assert_eq!(read(&mut stream), Some(Err(StreamError::Missed { items: 7 })));
    assert_eq!((read(&mut stream), read(&mut stream)), (Some(Ok(7)), Some(Ok(8))));
    (10..13).for_each(|n| fanout.send(n));
    assert_eq!(read(&mut stream), Some(Err(StreamError::Missed { items: 1 })));
    assert_eq!(read(&mut stream), Some(Ok(10)));
}

#[test]
fn a_slow_subscriber_does_not_hold_up_the_others() {
    let fanout = small(2);
    let mut slow = fanout.subscribe();
    let mut fast = fanout.subscribe();
    for n in 0..1000 {
        fanout.send(n);
        assert_eq!(read(&mut fast), Some(Ok(n)));
    }
    assert_eq!(read(&mut slow), Some(Err(StreamError::Missed { items: 998 })));
}

#[test]
fn over_the_limit_a_subscription_fails_and_says_why() {
    let fanout = small(1);
    let streams = [fanout.subscribe(), fanout.subscribe()];
    assert_eq!(fanout.try_subscribe().unwrap_err(), FanoutFull { subscribers_max: 2 });
    let mut refused = fanout.subscribe();
    let Some(Err(StreamError::Failed(error))) = read(&mut refused) else { panic!("it was let in") };
    assert!(error.message().contains("subscribers_max = 2 reached"), "{error}");
    assert_eq!(read(&mut refused), None);
    drop(refused);
    assert_eq!(fanout.subscribers(), 2);
    drop(streams);
    assert_eq!(fanout.subscribers(), 0);
    assert!(fanout.try_subscribe().is_ok());
}

#[test]
fn a_backlog_of_zero_is_one() {
    let fanout = small(0);
    let mut stream = fanout.subscribe();
    fanout.send(1);
    assert_eq!(read(&mut stream), Some(Ok(1)));
}

#[test]
fn a_dropped_fanout_means_that_the_activation_is_gone() {
    let fanout = small(4);
    let mut stream = fanout.subscribe();
    let mut waits = fanout.subscribe();
    let wakes = Wakes::new();
    fanout.send(1);
    assert_eq!(read(&mut waits), Some(Ok(1)));
    let mut next = pin!(waits.next());
    assert!(wakes.poll(next.as_mut()).is_pending());
    drop(fanout);
    assert_eq!(wakes.count(), 1);
    assert_eq!(block_on(next), Some(Err(StreamError::ActivationGone)));
    let gone = StreamError::ActivationGone;
    assert_eq!((read(&mut stream), read(&mut stream), read(&mut stream)), (Some(Ok(1)), Some(Err(gone)), None));
}

#[test]
fn a_closed_fanout_ends_normally_and_stays_closed() {
    let fanout = small(4);
    let mut stream = fanout.subscribe();
    fanout.send(1);
    fanout.close();
    fanout.send(2);
    let mut late = fanout.subscribe();
    drop(fanout);
    assert_eq!((read(&mut stream), read(&mut stream)), (Some(Ok(1)), None));
    assert_eq!(read(&mut late), None);
}

#[test]
fn no_item_is_kept_without_subscribers() {
    let fanout = Fanout::default();
    let item = Arc::new(());
    fanout.send(item.clone());
    assert_eq!(Arc::strong_count(&item), 1);
    let stream = fanout.subscribe();
    fanout.send(item.clone());
    assert_eq!(Arc::strong_count(&item), 2);
    drop(stream);
    assert_eq!(Arc::strong_count(&item), 1);
}

#[test]
fn a_dropped_subscriber_leaves_no_waker_behind() {
    let fanout = small(4);
    let wakes = Wakes::new();
    let mut stream = fanout.subscribe();
    assert!(wakes.poll(pin!(stream.next())).is_pending());
    assert!(wakes.poll(pin!(stream.next())).is_pending());
    assert_eq!(Arc::strong_count(&wakes), 2);
    drop(stream);
    assert_eq!(Arc::strong_count(&wakes), 1);
    fanout.send(1);
    assert_eq!(wakes.count(), 0);
}

#[test]
fn an_item_whose_clone_panics_can_be_read_again() {
    #[derive(Debug)]
    struct Fragile(Arc<std::sync::atomic::AtomicBool>);
    impl Clone for Fragile {
        fn clone(&self) -> Self {
            assert!(self.0.swap(true, std::sync::atomic::Ordering::SeqCst), "the first clone fails");
            Self(self.0.clone())
        }
    }
    let fanout = Fanout::default();
    let mut stream = fanout.subscribe();
    fanout.send(Fragile(Arc::default()));
    let attempt = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| block_on(stream.next())));
    assert!(attempt.is_err());
    assert!(block_on(stream.next()).unwrap().is_ok());
}

#[test]
fn under_threads_received_and_missed_make_up_what_was_sent() {
    const ITEMS: u64 = 100_000;
    let fanout = Fanout::with_limits(FanoutLimits { backlog_len_max: 16, subscribers_max: 2 });
    let readers: Vec<_> = (0..2).map(|_| fanout.subscribe()).map(|s| thread::spawn(|| count(s))).collect();
    for n in 0..ITEMS {
        fanout.send(n);
        if n % 64 == 0 {
            thread::yield_now();
        }
    }
    fanout.close();
    for reader in readers {
        assert_eq!(reader.join().unwrap(), ITEMS);
    }
}

/// Reads to the end; every item has the number that follows from what came and was missed before.
fn count(mut stream: Streaming<u64>) -> u64 {
    let mut next = 0;
    while let Some(item) = read(&mut stream) {
        match item {
            Ok(n) => {
                assert_eq!(n, next);
                next += 1;
            }
            Err(StreamError::Missed { items }) => next += items,
            Err(error) => panic!("{error}"),
        }
    }
    next
}

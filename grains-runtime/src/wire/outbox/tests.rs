//! What is taken, what is not, and what is known to have left.

use std::sync::Arc;

use super::*;

fn outbox(bytes_max: usize) -> Outbox {
    Outbox::new(bytes_max, 100)
}

fn send(outbox: &Outbox, len: usize) -> Result<Sent, SendError> {
    outbox.send(1, |out| out.resize(out.len() + len, 7))
}

fn take(outbox: &Outbox, used: &mut Chunk) -> Poll<Option<Chunk>> {
    outbox.poll_take(&mut Context::from_waker(Waker::noop()), used)
}

fn taken(outbox: &Outbox) -> Chunk {
    match take(outbox, &mut Chunk::default()) {
        Poll::Ready(Some(chunk)) => chunk,
        other => panic!("{other:?}"),
    }
}

#[test]
fn frames_are_numbered_and_leave_together() {
    let outbox = outbox(1000);
    assert_eq!((send(&outbox, 10), send(&outbox, 20)), (Ok(Sent(1)), Ok(Sent(2))));
    let chunk = taken(&outbox);
    assert_eq!((chunk.bytes.len(), chunk.frames()), (15 + 25, 2));
    assert!(take(&outbox, &mut Chunk::default()).is_pending());
}

#[test]
fn waiting_bytes_have_a_limit_that_counts_those_being_written() {
    let outbox = outbox(105);
    assert_eq!(send(&outbox, 50), Ok(Sent(1)));
    assert_eq!(send(&outbox, 46), Err(SendError::Overloaded { limit: 105 }));
    assert_eq!(send(&outbox, 45), Ok(Sent(2)));
    let mut chunk = taken(&outbox);
    assert_eq!(chunk.bytes.len(), 105, "nothing of what was refused stands between");
    assert_eq!(send(&outbox, 0), Err(SendError::Overloaded { limit: 105 }));
    assert!(take(&outbox, &mut chunk).is_pending());
    assert_eq!(send(&outbox, 0), Ok(Sent(3)), "and the refused ones have no number");
}

#[test]
fn a_frame_of_the_largest_size_always_fits_alone() {
    let outbox = Outbox::new(10, 100);
    assert_eq!(send(&outbox, 100), Err(SendError::TooLarge { bytes: 101, max: 100 }));
    assert_eq!(send(&outbox, 99), Ok(Sent(1)));
}

#[test]
fn what_is_behind_the_last_byte_never_left() {
    for (reached, written) in [(0, 0), (14, 0), (15, 1), (39, 1), (40, 2)] {
        let outbox = outbox(1000);
        send(&outbox, 10).unwrap();
        send(&outbox, 20).unwrap();
        let chunk = taken(&outbox);
        send(&outbox, 5).unwrap();
        assert_eq!(outbox.written(), None);
        outbox.close();
        assert_eq!(outbox.written(), None, "the writer may still be at it");
        assert_eq!(send(&outbox, 5), Err(SendError::Closed));
        outbox.ended(&chunk, reached);
        assert_eq!(outbox.written(), Some(Sent(written)), "{reached} bytes");
    }
}

#[test]
fn what_was_never_taken_never_left() {
    let outbox = outbox(1000);
    send(&outbox, 10).unwrap();
    outbox.close();
    outbox.ended(&Chunk::default(), 0);
    assert_eq!(outbox.written(), Some(Sent(0)));
}

#[test]
fn what_was_written_before_may_have_arrived() {
    let outbox = outbox(1_000_000);
    send(&outbox, 10).unwrap();
    let mut chunk = taken(&outbox);
    assert!(take(&outbox, &mut chunk).is_pending());
    for _ in 0..1000 {
        send(&outbox, 90).unwrap();
    }
    let mut chunk = taken(&outbox);
    assert!(chunk.bytes.len() >= CHUNK_BYTES && chunk.frames() < 1000);
    let first = chunk.frames();
    let Poll::Ready(Some(second)) = take(&outbox, &mut chunk) else { panic!("there is more") };
    outbox.ended(&second, 0);
    assert_eq!(outbox.written(), Some(Sent(1 + first)));
    outbox.ended(&Chunk::default(), 0);
    assert_eq!(outbox.written(), Some(Sent(1 + first)), "the first word counts");
}

#[test]
fn a_panic_while_encoding_leaves_nothing_behind() {
    let outbox = Arc::new(outbox(1000));
    send(&outbox, 10).unwrap();
    let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        outbox.send(1, |out| {
            out.push(1);
            panic!("a value that cannot be encoded");
        })
    }));
    assert!(panics.is_err());
    assert_eq!(send(&outbox, 10), Ok(Sent(2)));
    assert_eq!(taken(&outbox).bytes.len(), 30);
}

#[test]
fn a_smaller_limit_of_the_other_side_is_kept() {
    let outbox = outbox(1000);
    send(&outbox, 49).unwrap();
    assert_eq!(outbox.limit_frames(50), Ok(()));
    assert_eq!(send(&outbox, 50), Err(SendError::TooLarge { bytes: 51, max: 50 }));
    assert_eq!(outbox.limit_frames(40), Err(50));
}

#[tokio::test]
async fn whoever_waits_for_room_gets_it_or_hears_of_the_end() {
    let outbox = Arc::new(outbox(105));
    send(&outbox, 99).unwrap();
    let spawn = || {
        let outbox = outbox.clone();
        tokio::spawn(async move { outbox.send_when_room(1, &[&[1; 50], &[2; 40]]).await })
    };
    let (first, second) = (spawn(), spawn());
    tokio::task::yield_now().await;
    let mut chunk = taken(&outbox);
    assert!(take(&outbox, &mut chunk).is_pending());
    while send(&outbox, 0) != Err(SendError::Overloaded { limit: 105 }) {
        tokio::task::yield_now().await;
    }
    outbox.close();
    let mut results = [first.await.unwrap(), second.await.unwrap()];
    results.sort_by_key(|result| result.is_err());
    assert!(results[0].is_ok() && results[1] == Err(SendError::Closed), "{results:?}");
}

struct Woken(AtomicBool);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn who_waits_for_room_is_woken_when_there_is_some_or_it_is_closed() {
    for closes in [false, true] {
        let outbox = outbox(210);
        (0..2).for_each(|_| assert!(send(&outbox, 99).is_ok()));
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        assert!(outbox.poll_send(&mut cx, true, 1, &[7; 50]).is_pending());
        assert_eq!(
            outbox.poll_send(&mut cx, true, 1, &[7; 100]),
            Poll::Ready(Err(SendError::TooLarge { bytes: 101, max: 100 }))
        );
        let mut chunk = taken(&outbox);
        assert!(!woken.0.load(Ordering::SeqCst));
        match closes {
            true => outbox.close(),
            false => assert!(take(&outbox, &mut chunk).is_pending()),
        }
        assert!(woken.0.load(Ordering::SeqCst));
        let sent = if closes { Err(SendError::Closed) } else { Ok(Sent(3)) };
        assert_eq!(outbox.poll_send(&mut cx, true, 1, &[7; 50]), Poll::Ready(sent));
    }
}

#[test]
fn small_frames_have_room_of_their_own_and_beyond_it_the_outbox_is_closed() {
    let outbox = outbox(105);
    send(&outbox, 99).unwrap();
    let tell = |len| outbox.tell(2, |out| out.resize(out.len() + len, 7));
    assert_eq!((tell(10), send(&outbox, 0)), (Ok(Sent(2)), Err(SendError::Overloaded { limit: 105 })));
    let mut told = 0;
    while tell(95).is_ok() {
        told += 100;
    }
    assert!((SMALL_BYTES_MAX - 200..=SMALL_BYTES_MAX).contains(&told));
    assert!(outbox.is_closed());
}

#[test]
fn whoever_waits_for_room_is_served_in_turn_and_overtaken_by_nobody() {
    let outbox = Outbox::new(3 * CHUNK_BYTES, CHUNK_BYTES);
    let body = vec![7; CHUNK_BYTES - frame::HEAD_BYTES];
    while outbox.send(1, |out| out.extend_from_slice(&body)).is_ok() {}
    let bells = [Arc::new(Woken(AtomicBool::new(false))), Arc::new(Woken(AtomicBool::new(false)))];
    let rung = || bells.each_ref().map(|bell| bell.0.load(Ordering::Acquire));
    let wakers = bells.each_ref().map(|bell| Waker::from(bell.clone()));
    for waker in &wakers {
        // Twice: it stands in the queue once.
        for waited in [false, true] {
            assert!(outbox.poll_send(&mut Context::from_waker(waker), waited, 1, &body).is_pending());
        }
    }
    let mut chunk = Chunk::default();
    let mut take = || match outbox.poll_take(&mut Context::from_waker(Waker::noop()), &mut chunk) {
        Poll::Ready(Some(next)) => chunk = next,
        other => panic!("{other:?}"),
    };
    take();
    assert_eq!(rung(), [false, false], "nothing has left yet");
    take();
    assert_eq!(rung(), [true, false], "room for one");
    // There is room, and it is not for those who come now.
    assert!(matches!(outbox.send(1, |_| {}), Err(SendError::Overloaded { .. })));
    let late = &mut Context::from_waker(Waker::noop());
    assert!(outbox.poll_send(late, false, 1, b"late").is_pending());
    let first = outbox.poll_send(&mut Context::from_waker(&wakers[0]), true, 1, &body);
    assert!(matches!(first, Poll::Ready(Ok(_))), "{first:?}");
    take();
    assert_eq!(rung(), [true, true]);
    let second = outbox.poll_send(&mut Context::from_waker(&wakers[1]), true, 1, &body);
    assert!(matches!(second, Poll::Ready(Ok(_))), "{second:?}");
    take();
    assert!(outbox.poll_send(late, true, 1, b"late").is_ready());
    assert!(outbox.send(1, |_| {}).is_ok(), "nobody waits any more");
}

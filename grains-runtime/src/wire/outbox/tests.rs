//! What is taken, what is not, and what is known to have left.

use std::sync::Arc;

use super::*;

fn outbox(bytes_max: usize) -> Arc<Outbox> {
    Arc::new(Outbox::new(bytes_max, 100))
}

fn send(outbox: &Outbox, len: usize) -> Result<Sent, SendError> {
    outbox.send(1, |out| out.resize(out.len() + len, 7))
}

fn answer(outbox: &Outbox, len: usize) -> Result<Sent, SendError> {
    outbox.send_in_turn(Order::Free, 1, |out| out.resize(out.len() + len, 7))
}

fn short(short: u64) -> Marks {
    Marks { short, long: 0 }
}

fn take(outbox: &Outbox, used: &mut Chunk) -> Poll<Option<Chunk>> {
    match outbox.take(&mut Context::from_waker(Waker::noop()), used, Pace::Take) {
        Take::Chunk(chunk) => Poll::Ready(Some(chunk)),
        Take::Closed => Poll::Ready(None),
        Take::Nothing => Poll::Pending,
        Take::Few => panic!("it takes what there is"),
    }
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
    assert_eq!((send(&outbox, 10), send(&outbox, 20)), (Ok(Sent::Short(1)), Ok(Sent::Short(2))));
    let chunk = taken(&outbox);
    assert_eq!((chunk.bytes.len(), chunk.frames()), (15 + 25, 2));
    assert!(take(&outbox, &mut Chunk::default()).is_pending());
}

#[test]
fn waiting_bytes_have_a_limit_that_counts_those_being_written() {
    let outbox = outbox(105);
    assert_eq!(send(&outbox, 50), Ok(Sent::Short(1)));
    assert_eq!(send(&outbox, 46), Err(SendError::Overloaded { limit: 105 }));
    assert_eq!(send(&outbox, 45), Ok(Sent::Short(2)));
    let mut chunk = taken(&outbox);
    assert_eq!(chunk.bytes.len(), 105, "nothing of what was refused stands between");
    assert_eq!(send(&outbox, 0), Err(SendError::Overloaded { limit: 105 }));
    assert!(take(&outbox, &mut chunk).is_pending());
    assert_eq!(send(&outbox, 0), Ok(Sent::Short(3)), "and the refused ones have no number");
}

#[test]
fn a_frame_of_the_largest_size_always_fits_alone() {
    let outbox = Outbox::new(10, 100);
    assert_eq!(send(&outbox, 100), Err(SendError::TooLarge { bytes: 101, max: 100 }));
    assert_eq!(send(&outbox, 99), Ok(Sent::Short(1)));
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
        assert_eq!(outbox.written(), Some(short(written)), "{reached} bytes");
    }
}

#[test]
fn what_was_never_taken_never_left() {
    let outbox = outbox(1000);
    send(&outbox, 10).unwrap();
    outbox.close();
    outbox.ended(&Chunk::default(), 0);
    assert_eq!(outbox.written(), Some(short(0)));
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
    assert_eq!(outbox.written(), Some(short(1 + first)));
    outbox.ended(&Chunk::default(), 0);
    assert_eq!(outbox.written(), Some(short(1 + first)), "the first word counts");
}

#[test]
fn a_panic_while_encoding_leaves_nothing_behind() {
    let outbox = outbox(1000);
    send(&outbox, 10).unwrap();
    let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        outbox.send(1, |out| {
            out.push(1);
            panic!("a value that cannot be encoded");
        })
    }));
    assert!(panics.is_err());
    assert_eq!(send(&outbox, 10), Ok(Sent::Short(2)));
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
    let outbox = outbox(105);
    answer(&outbox, 99).unwrap();
    let spawn = || {
        let outbox = outbox.clone();
        tokio::spawn(async move { outbox.send_when_room(1, &[&[1; 50], &[2; 40]]).await })
    };
    let (first, second) = (spawn(), spawn());
    tokio::task::yield_now().await;
    let mut chunk = taken(&outbox);
    assert!(take(&outbox, &mut chunk).is_pending());
    while !outbox.has_backlog() {
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

/// One that can wait for room.
struct Waiter {
    woken: Arc<Woken>,
    ticket: Ticket,
}

impl Waiter {
    fn new() -> Self {
        Self { woken: Arc::new(Woken(AtomicBool::new(false))), ticket: Ticket::default() }
    }

    fn poll(&mut self, outbox: &Arc<Outbox>, body: &[u8]) -> Poll<Result<Sent, SendError>> {
        let waker = Waker::from(self.woken.clone());
        outbox.poll_send(&mut Context::from_waker(&waker), &mut self.ticket, Order::Free, 1, &[body])
    }

    fn is_woken(&self) -> bool {
        self.woken.0.load(Ordering::SeqCst)
    }
}

#[test]
fn who_waits_for_room_is_woken_when_there_is_some_or_it_is_closed() {
    for closes in [false, true] {
        let outbox = outbox(210);
        (0..2).for_each(|_| assert!(answer(&outbox, 99).is_ok()));
        let mut waiter = Waiter::new();
        assert!(waiter.poll(&outbox, &[7; 50]).is_pending());
        let too_large = SendError::TooLarge { bytes: 101, max: 100 };
        assert_eq!(Waiter::new().poll(&outbox, &[7; 100]), Poll::Ready(Err(too_large)));
        let mut chunk = taken(&outbox);
        assert!(!waiter.is_woken());
        match closes {
            true => outbox.close(),
            false => assert!(take(&outbox, &mut chunk).is_pending()),
        }
        assert!(waiter.is_woken());
        let sent = if closes { Err(SendError::Closed) } else { Ok(Sent::Short(3)) };
        assert_eq!(waiter.poll(&outbox, &[7; 50]), Poll::Ready(sent));
    }
}

#[test]
fn small_frames_have_room_of_their_own_and_beyond_it_the_outbox_is_closed() {
    let outbox = outbox(105);
    send(&outbox, 99).unwrap();
    let tell = |len| outbox.tell(Order::Free, 2, |out| out.resize(out.len() + len, 7));
    assert_eq!((tell(10), send(&outbox, 0)), (Ok(Sent::Short(2)), Err(SendError::Overloaded { limit: 105 })));
    let mut told = 0;
    while tell(95).is_ok() {
        told += 100;
    }
    assert!((SMALL_BYTES_MAX - 200..=SMALL_BYTES_MAX).contains(&told));
    assert!(outbox.is_closed());
}

#[test]
fn small_words_that_may_be_lost_leave_room_for_those_that_may_not() {
    let outbox = outbox(105);
    send(&outbox, 99).unwrap();
    assert_eq!(send(&outbox, 10), Err(SendError::Overloaded { limit: 105 }));
    while outbox.send_small(Order::Free, 2, |out| out.resize(out.len() + 95, 7)).is_ok() {}
    assert!(!outbox.is_closed());
    let mut told = 0;
    while outbox.tell(Order::Free, 2, |out| out.resize(out.len() + 95, 7)).is_ok() {
        told += 100;
    }
    assert!((SMALL_BYTES_MAX / 2 - 200..=SMALL_BYTES_MAX / 2 + 200).contains(&told), "{told}");
}

#[test]
fn who_can_wait_and_who_cannot_do_not_keep_each_other_out() {
    let outbox = outbox(105);
    send(&outbox, 99).unwrap();
    assert!(matches!(send(&outbox, 0), Err(SendError::Overloaded { .. })));
    assert!(answer(&outbox, 99).is_ok(), "calls are full, answers are not");
    let mut waiter = Waiter::new();
    assert!(waiter.poll(&outbox, &[7; 99]).is_pending());
    let mut chunk = taken(&outbox);
    assert!(take(&outbox, &mut chunk).is_pending());
    assert!(waiter.is_woken());
    assert!(waiter.poll(&outbox, &[7; 99]).is_ready());
    assert!(Waiter::new().poll(&outbox, &[7; 99]).is_pending(), "answers are full again");
    assert!(send(&outbox, 99).is_ok(), "and calls are not");
}

/// Fills it with answers, of which each is a chunk.
fn full_of_chunks() -> (Arc<Outbox>, Vec<u8>) {
    let outbox = Arc::new(Outbox::new(3 * CHUNK_BYTES, CHUNK_BYTES));
    let body = vec![7; CHUNK_BYTES - frame::HEAD_BYTES];
    while outbox.send_in_turn(Order::Free, 1, |out| out.extend_from_slice(&body)).is_ok() {}
    (outbox, body)
}

#[test]
fn whoever_waits_for_room_is_served_in_turn_and_overtaken_by_nobody() {
    let (outbox, body) = full_of_chunks();
    let mut waiters = [Waiter::new(), Waiter::new()];
    for waiter in &mut waiters {
        // Twice: it stands in line once.
        assert!([(); 2].iter().all(|()| waiter.poll(&outbox, &body).is_pending()));
    }
    let mut chunk = taken(&outbox);
    let mut leaves = || match take(&outbox, &mut chunk) {
        Poll::Ready(Some(next)) => chunk = next,
        other => panic!("{other:?}"),
    };
    leaves();
    assert_eq!(waiters.each_ref().map(Waiter::is_woken), [true, false], "room for one");
    // There is room, and it is not for those who come now, also when they come again.
    let mut late = Waiter::new();
    for _ in 0..2 {
        assert!(matches!(answer(&outbox, 0), Err(SendError::Overloaded { .. })));
        assert!(late.poll(&outbox, b"late").is_pending());
        assert!(waiters[1].poll(&outbox, &body).is_pending());
    }
    assert!(waiters[0].poll(&outbox, &body).is_ready());
    leaves();
    assert!(waiters[1].is_woken() && !late.is_woken());
    // What others send at once does not take what is kept for it.
    assert!(send(&outbox, 0).is_ok() && outbox.tell(Order::Free, 2, |_| {}).is_ok());
    assert!(waiters[1].poll(&outbox, &body).is_ready());
    leaves();
    assert!(late.is_woken());
    assert!(late.poll(&outbox, b"late").is_ready());
    assert!(answer(&outbox, 0).is_ok(), "nobody waits any more");
}

#[test]
fn whoever_is_dropped_in_line_takes_no_wake_up_along() {
    let (outbox, body) = full_of_chunks();
    let [mut first, mut second, mut small] = [(); 3].map(|()| Waiter::new());
    assert!(first.poll(&outbox, &body).is_pending() && second.poll(&outbox, &body).is_pending());
    assert!(small.poll(&outbox, b"small").is_pending());
    let mut chunk = taken(&outbox);
    assert!(take(&outbox, &mut chunk).is_ready());
    assert!(first.is_woken() && !second.is_woken());
    drop(first);
    assert!(second.is_woken() && !small.is_woken(), "what was kept for the first is kept for the second");
    drop(second);
    assert!(small.is_woken());
    assert!(small.poll(&outbox, b"small").is_ready());
    let [mut large, mut small] = [(); 2].map(|()| Waiter::new());
    assert!(large.poll(&outbox, &body).is_pending() && small.poll(&outbox, b"small").is_pending());
    drop(large);
    assert!(small.is_woken(), "it waited only because the large one did");
}

/// Readers of many streams give so much credit that their items alone would always fill most of the outbox.
#[test]
fn a_large_answer_gets_out_beside_items_without_end() {
    const FRAME_BYTES_MAX: usize = 9 * CHUNK_BYTES;
    let outbox = Arc::new(Outbox::new(16 * CHUNK_BYTES, FRAME_BYTES_MAX));
    let (item, large) = (vec![7; 1000], vec![7; FRAME_BYTES_MAX - 1]);
    while lock(&outbox.state).waiting() < 12 * CHUNK_BYTES {
        assert!(Waiter::new().poll(&outbox, &item).is_ready());
    }
    let mut answer = Waiter::new();
    assert!(answer.poll(&outbox, &large).is_pending());
    let (mut chunk, mut left, mut items) = (Chunk::default(), 0, Vec::new());
    for _ in 0..12 {
        let Poll::Ready(Some(next)) = take(&outbox, &mut chunk) else { panic!("there is more") };
        // What has left is read, and is credit again.
        let read = std::mem::replace(&mut left, next.frames());
        chunk = next;
        if answer.is_woken() {
            break;
        }
        items.extend((0..read).map(|_| Waiter::new()));
        assert!(items.iter_mut().all(|waiter| waiter.poll(&outbox, &item).is_pending()), "one overtakes");
        assert!(send(&outbox, 0).is_ok(), "calls have room meanwhile");
        assert!(outbox.tell(Order::Free, 2, |_| {}).is_ok(), "and so have small words");
    }
    assert!(answer.poll(&outbox, &large).is_ready());
    while items.iter().any(|waiter| !waiter.is_woken()) {
        let Poll::Ready(Some(next)) = take(&outbox, &mut chunk) else { panic!("some wait, and nothing leaves") };
        chunk = next;
        items.retain_mut(|waiter| !waiter.is_woken() || waiter.poll(&outbox, &item).is_pending());
    }
}

fn few(outbox: &Outbox) -> bool {
    matches!(outbox.take(&mut Context::from_waker(Waker::noop()), &mut Chunk::default(), Pace::Gather), Take::Few)
}

#[test]
fn who_gathers_leaves_a_few_frames_in_company_and_nothing_else() {
    let in_company = |outbox: &Outbox| outbox.send_in(Company::Of(40), Order::Free, 1, |out| out.push(7));
    let outbox = outbox(100_000);
    assert!(!few(&outbox), "there is nothing");
    in_company(&outbox).unwrap();
    assert!(few(&outbox) && few(&outbox));
    assert_eq!(taken(&outbox).frames(), 1, "who does not gather takes them");
    (1..20).for_each(|_| assert!(in_company(&outbox).is_ok()));
    assert!(few(&outbox));
    in_company(&outbox).unwrap();
    assert!(!few(&outbox), "so many are no few");

    let outbox = Arc::new(Outbox::new(1000, 100));
    in_company(&outbox).unwrap();
    send(&outbox, 10).unwrap();
    assert!(!few(&outbox), "one of them does not wait");
    in_company(&outbox).unwrap();
    assert!(few(&outbox), "and was taken with those before it");
    answer(&outbox, 10).unwrap();
    assert!(!few(&outbox));
    in_company(&outbox).unwrap();
    outbox.close();
    assert!(!few(&outbox), "it is closed");
}

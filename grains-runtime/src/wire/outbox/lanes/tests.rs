//! Long messages between short ones: who overtakes whom, what is known to have left, who has which room.

use std::{
    sync::Arc,
    task::{Context, Waker},
};

use super::{
    super::{Company, Outbox, Pace, SendError, Take, Ticket},
    *,
};
use crate::wire::frame::{Decoder, PART, Parts};

const LONG: usize = 3 * PART_BYTES;

/// Room for a few long ones, and for a few chunks of short ones.
fn outbox() -> Arc<Outbox> {
    Arc::new(Outbox::in_parts(8 * CHUNK_BYTES, 3 * LONG, LONG + 100))
}

/// A message of a kind, of so many bytes with the kind.
fn send(outbox: &Outbox, order: Order, kind: u8, bytes: usize) -> Result<Sent, SendError> {
    outbox.send_in(Company::Alone, order, kind, |out| out.resize(out.len() + bytes - 1, kind))
}

fn take(outbox: &Outbox, used: &mut Chunk) -> Option<Chunk> {
    match outbox.take(&mut Context::from_waker(Waker::noop()), used, Pace::Take) {
        Take::Chunk(chunk) => Some(chunk),
        Take::Nothing | Take::Closed => None,
        Take::Few => panic!("it takes what there is"),
    }
}

/// What the other side hears: kinds in the order in which they are whole, and lengths with kinds.
struct Other {
    decoder: Decoder,
    parts: Parts,
    heard: Vec<(u8, usize)>,
}

impl Other {
    fn new() -> Self {
        Self { decoder: Decoder::new(SHORT_BYTES_MAX), parts: Parts::new(LONG + 100), heard: Vec::new() }
    }

    fn hear(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let space = self.decoder.space();
            let some = space.len().min(bytes.len());
            space[..some].copy_from_slice(&bytes[..some]);
            self.decoder.filled(some);
            bytes = &bytes[some..];
            while let Some((kind, body)) = self.decoder.next().unwrap() {
                if kind != PART {
                    self.heard.push((kind, body.len() + 1));
                } else if let Some(message) = self.parts.add(body).unwrap() {
                    assert!(message.iter().all(|byte| *byte == message[0]), "a message of others' bytes");
                    self.heard.push((message[0], message.len()));
                }
            }
        }
    }

    /// Takes all there is.
    fn drain(&mut self, outbox: &Outbox) -> Vec<u8> {
        let mut chunk = Chunk::default();
        while let Some(next) = take(outbox, &mut chunk) {
            self.hear(&next.bytes);
            chunk = next;
        }
        self.kinds()
    }

    fn kinds(&self) -> Vec<u8> {
        self.heard.iter().map(|(kind, _)| *kind).collect()
    }
}

#[test]
fn a_long_message_arrives_whole_and_short_ones_overtake_it() {
    for long in [SHORT_BYTES_MAX + 1, 2 * PART_BYTES + 1, LONG - 1, LONG, LONG + 100] {
        let outbox = outbox();
        assert_eq!(send(&outbox, Order::Free, 1, 10), Ok(Sent::Short(1)));
        assert_eq!(send(&outbox, Order::Free, 2, long), Ok(Sent::Long(1)));
        assert_eq!(send(&outbox, Order::Free, 3, 10), Ok(Sent::Short(2)));
        let mut other = Other::new();
        assert_eq!(other.drain(&outbox), [1, 3, 2], "{long}");
        assert_eq!(other.heard[2], (2, long));
        assert!(!outbox.has_backlog());
    }
    let outbox = outbox();
    assert_eq!(send(&outbox, Order::Free, 2, SHORT_BYTES_MAX), Ok(Sent::Short(1)));
    assert!(matches!(send(&outbox, Order::Free, 2, LONG + 101), Err(SendError::TooLarge { .. })));
}

#[test]
fn both_lanes_have_turns_however_many_wait_in_the_other() {
    let outbox = outbox();
    send(&outbox, Order::Free, 2, LONG).unwrap();
    (0..3).for_each(|_| _ = send(&outbox, Order::Free, 1, CHUNK_BYTES).unwrap());
    let mut chunk = Chunk::default();
    let mut lanes = Vec::new();
    while let Some(next) = take(&outbox, &mut chunk) {
        lanes.push(next.is_long);
        chunk = next;
        // Short ones come without end.
        if lanes.len() < 5 {
            send(&outbox, Order::Free, 1, CHUNK_BYTES).unwrap();
        }
    }
    assert_eq!(lanes[..6], [false, true, false, true, false, true], "its last part is behind those of before");
}

#[test]
fn a_long_message_overtakes_nothing() {
    let outbox = outbox();
    (0..6).for_each(|_| _ = send(&outbox, Order::Key(7), 1, CHUNK_BYTES).unwrap());
    send(&outbox, Order::Key(7), 2, LONG).unwrap();
    send(&outbox, Order::Free, 3, 10).unwrap();
    assert_eq!(Other::new().drain(&outbox), [1, 1, 1, 1, 1, 1, 2, 3]);
}

#[test]
fn what_belongs_to_a_long_message_stays_behind_it_and_nothing_else_does() {
    let outbox = outbox();
    send(&outbox, Order::Key(7), 1, LONG).unwrap();
    assert_eq!(send(&outbox, Order::Key(7), 2, 10), Ok(Sent::Long(2)));
    assert_eq!(send(&outbox, Order::Key(8), 3, 10), Ok(Sent::Short(1)));
    send(&outbox, Order::Key(8), 4, LONG).unwrap();
    send(&outbox, Order::Key(7), 5, 10).unwrap();
    send(&outbox, Order::Key(8), 6, 10).unwrap();
    send(&outbox, Order::Free, 7, 10).unwrap();
    assert_eq!(Other::new().drain(&outbox), [3, 7, 1, 2, 4, 5, 6]);
    assert_eq!(send(&outbox, Order::Key(7), 8, 10), Ok(Sent::Short(3)), "nothing of it waits any more");
}

#[test]
fn what_is_behind_all_is_behind_short_ones_too() {
    let outbox = outbox();
    (0..3).for_each(|_| _ = send(&outbox, Order::Free, 1, CHUNK_BYTES).unwrap());
    send(&outbox, Order::Free, 2, LONG).unwrap();
    send(&outbox, Order::Free, 3, 10).unwrap();
    assert_eq!(send(&outbox, Order::BehindAll, 4, 10), Ok(Sent::Long(2)));
    send(&outbox, Order::Free, 5, 10).unwrap();
    let heard = Other::new().drain(&outbox);
    let at = |kind| heard.iter().position(|heard| *heard == kind).unwrap();
    assert!(at(4) > at(1) + 2 && at(4) > at(2) && at(4) > at(3), "{heard:?}");
    assert_eq!(send(&outbox, Order::BehindAll, 6, 10), Ok(Sent::Short(6)), "there is nothing to be behind of");
}

/// Cuts the connection at every chunk, at its first and last bytes, and compares with what has arrived.
#[test]
fn what_has_not_left_whole_is_known_for_each_lane() {
    let fill = |outbox: &Outbox| {
        let sends = [(1, 10), (2, LONG), (3, CHUNK_BYTES), (4, 10), (5, LONG), (6, 10), (7, CHUNK_BYTES)];
        sends.map(|(kind, bytes)| (kind, send(outbox, Order::Key(u64::from(kind % 3)), kind, bytes).unwrap()))
    };
    for cut in 0..12 {
        for reached in [0, 1, 14, 15, usize::MAX - 1, usize::MAX] {
            let outbox = outbox();
            let sent = fill(&outbox);
            let (mut other, mut chunk, mut last) = (Other::new(), Chunk::default(), 0);
            for _ in 0..cut {
                other.hear(&chunk.bytes);
                let Some(next) = take(&outbox, &mut chunk) else { break };
                chunk = next;
            }
            if !chunk.bytes.is_empty() {
                last = if reached > 100 { chunk.bytes.len() - (usize::MAX - reached) } else { reached };
                other.hear(&chunk.bytes[..last]);
            }
            outbox.close();
            outbox.ended(&chunk, last);
            let written = outbox.written().unwrap();
            for (kind, sent) in sent {
                let arrived = other.kinds().contains(&kind);
                assert_eq!(written.have(sent), arrived, "{kind} after {cut} chunks and {last} bytes: {written:?}");
            }
        }
    }
}

#[test]
fn long_and_short_messages_keep_each_other_out_of_nothing() {
    let outbox = outbox();
    while send(&outbox, Order::Free, 2, LONG).is_ok() {}
    assert!(matches!(send(&outbox, Order::Free, 2, LONG), Err(SendError::Overloaded { limit }) if limit == 3 * LONG));
    assert!(send(&outbox, Order::Free, 1, CHUNK_BYTES).is_ok());
    let poll = |ticket: &mut Ticket, bytes: usize| {
        outbox.poll_send(&mut Context::from_waker(Waker::noop()), ticket, Order::Free, 3, &[&vec![3; bytes - 1]])
    };
    let mut waits = Ticket::default();
    while poll(&mut waits, LONG).is_ready() {}
    assert!(poll(&mut Ticket::default(), 10).is_ready(), "a short answer does not wait behind long ones");
    let mut other = Other::new();
    let mut chunk = Chunk::default();
    let mut sent = false;
    while let Some(next) = take(&outbox, &mut chunk) {
        other.hear(&next.bytes);
        chunk = next;
        sent = sent || poll(&mut waits, LONG).is_ready();
    }
    assert!(sent, "room is free again as parts leave");
    assert!(!outbox.has_backlog(), "and all of it, when all has left");
    assert!(send(&outbox, Order::Free, 2, LONG).is_ok());
}

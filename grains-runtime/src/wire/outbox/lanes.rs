//! What waits to leave, in two lanes: short frames, one after the other; and long messages, which leave in parts between them.
//! Pure.
//!
//! Short frames overtake long messages, which overtake nothing: a long one is whole on the other side after all that was sent
//! before it. What has an [`Order`] stays behind the long ones that it belongs to: it waits among them.

use std::collections::{BTreeMap, VecDeque};

use grains_core::Instant;

use super::super::frame;

/// Frames of up to this many bytes together leave in one write. Larger batches make both sides take turns instead of
/// working at the same time: 522 calls a write were slower than 111.
pub(super) const CHUNK_BYTES: usize = 64 * 1024;

/// Messages of more bytes than this are long: what waits behind one of these waits a millisecond at 1 Gbit/s, and what a part
/// costs is little beside what it carries.
pub(in crate::wire) const SHORT_BYTES_MAX: usize = 128 * 1024;

/// How many bytes of a long message leave in one frame.
const PART_BYTES: usize = 64 * 1024;

/// A frame that was taken: which one of its lane. Numbers grow by one, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    Short(u64),
    Long(u64),
}

/// How far both lanes have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    pub(crate) short: u64,
    pub(crate) long: u64,
}

impl Marks {
    /// All that was ever sent.
    pub(crate) const ALL: Self = Self { short: u64::MAX, long: u64::MAX };

    /// Whether it is among what these say.
    pub(crate) fn have(&self, sent: Sent) -> bool {
        match sent {
            Sent::Short(number) => number <= self.short,
            Sent::Long(number) => number <= self.long,
        }
    }
}

/// What a frame must not overtake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// It may overtake everything that is long.
    Free,
    /// Not what has the same key: calls to one grain, an answer and its streams.
    Key(u64),
    /// Nothing that was sent before it.
    BehindAll,
}

/// By the length of a message, kind included: which room it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Size {
    #[default]
    Short,
    Long,
}

/// Whole frames one after the other, or one part of a long message.
#[derive(Debug, Default)]
pub(in crate::wire) struct Chunk {
    pub(in crate::wire) bytes: Vec<u8>,
    /// How many frames it may wait for.
    pub(super) gathers: u64,
    /// What was whole before this.
    pub(super) before: Marks,
    /// When its first frame was sent, if that is asked for.
    pub(super) since: Option<Instant>,
    /// How many frames or messages are whole with it.
    pub(super) frames: u64,
    /// It is of the long lane.
    pub(super) is_long: bool,
    /// Whose room is free again when it has left.
    pub(super) size: Size,
    /// How many bytes of it.
    pub(super) room: usize,
    /// And how many of these are of those who can wait.
    pub(super) in_turn: usize,
}

impl Chunk {
    pub(in crate::wire) fn frames(&self) -> u64 {
        self.frames
    }

    /// What may have arrived if `reached` bytes of this chunk have left.
    pub(super) fn reached(&self, reached: usize) -> Marks {
        let Marks { short, long } = self.before;
        match self.is_long {
            false => Marks { short: short + frame::whole_frames(&self.bytes, reached), long },
            true if reached == self.bytes.len() => Marks { short, long: long + self.frames },
            true => self.before,
        }
    }
}

/// Long messages, and what must not overtake them. The first of them is on its way.
#[derive(Default)]
pub(super) struct LongLane {
    messages: VecDeque<Message>,
    /// How many of each key wait.
    keys: BTreeMap<u64, usize>,
    /// How many were ever added.
    pub(super) sent: u64,
}

struct Message {
    /// As a frame, with its head.
    frame: Vec<u8>,
    order: Order,
    /// How many short frames were sent before it. It is not whole before they have left.
    behind: u64,
    /// How much of it has left, head included.
    left: usize,
    size: Size,
    in_turn: bool,
}

impl LongLane {
    /// Whether a frame of this order has to wait among them.
    pub(super) fn holds(&self, order: Order) -> bool {
        match order {
            _ if self.messages.is_empty() => false,
            Order::Free => false,
            Order::Key(key) => self.keys.contains_key(&key),
            Order::BehindAll => true,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// How many have left whole, or are about to: the last part of the last one was given.
    pub(super) fn given(&self) -> u64 {
        self.sent - self.messages.len() as u64
    }

    /// The length of the longest, kind included.
    pub(super) fn longest(&self) -> usize {
        self.messages.iter().map(|message| frame::longest_frame(&message.frame)).max().unwrap_or(0)
    }

    /// `frame` waits behind all others here, and behind as many short ones as were sent.
    pub(super) fn push(&mut self, frame: Vec<u8>, order: Order, behind: u64, size: Size, in_turn: bool) -> Sent {
        if let Order::Key(key) = order {
            *self.keys.entry(key).or_default() += 1;
        }
        self.messages.push_back(Message { frame, order, behind, left: 0, size, in_turn });
        self.sent += 1;
        Sent::Long(self.sent)
    }

    /// The next part, in `buffer`, once so many short frames were given to the writer. Not the last one of a message before those
    /// that were sent before it.
    pub(super) fn next(&mut self, short: u64, buffer: &mut Vec<u8>) -> Option<Chunk> {
        let given = self.given();
        let first = self.messages.front_mut()?;
        let waits = first.behind > short;
        let before = Marks { short, long: given };
        let from = first.left.max(frame::LENGTH_BYTES);
        let to = first.frame.len().min(from + PART_BYTES);
        let is_last = to == first.frame.len() || first.size == Size::Short;
        if is_last && waits {
            return None;
        }
        let mut bytes = std::mem::take(buffer);
        match first.size {
            Size::Short => bytes.extend_from_slice(&first.frame),
            Size::Long => {
                frame::write_part(&mut bytes, &first.frame[from..to], is_last);
            }
        }
        let to = if is_last { first.frame.len() } else { to };
        let room = to - first.left;
        first.left = to;
        let (size, in_turn) = (first.size, if first.in_turn { room } else { 0 });
        if is_last {
            self.pop();
        }
        let frames = u64::from(is_last);
        Some(Chunk { bytes, gathers: 0, before, since: None, frames, is_long: true, size, room, in_turn })
    }

    fn pop(&mut self) {
        let Some(Message { order: Order::Key(key), .. }) = self.messages.pop_front() else { return };
        if let Some(count) = self.keys.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.keys.remove(&key);
            }
        }
    }

    /// Nothing of them leaves any more.
    pub(super) fn clear(&mut self) {
        self.messages.clear();
        self.keys.clear();
    }
}

#[cfg(test)]
mod tests;

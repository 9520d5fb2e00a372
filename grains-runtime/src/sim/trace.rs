//! What happened, in order: a hash over all of it, and the events themselves if somebody wants to read them.

use std::fmt;

use super::engine::MachineId;

/// Kinds of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum What {
    /// A task is polled: its number.
    Poll,
    /// A task begins: its number.
    Spawn,
    /// A task has ended: its number.
    End,
    /// A task panicked: its number.
    Panic,
    /// A timer rings: its number.
    Ring,
    /// A timer of a paused machine would have rung: its number.
    Overdue,
    /// Bytes or a sign of a connection are sent: connection, direction, hash.
    Send,
    /// They arrive: connection, direction, hash.
    Arrive,
    /// They wait for the end of a partition: connection, direction.
    Stall,
    /// A chunk is sent twice: connection, direction.
    Duplicate,
    /// A chunk is lost and its connection breaks: connection, direction.
    Lose,
    /// A life begins: its number.
    Boot,
    /// A life ends: its number.
    Crash,
    Pause,
    Resume,
    /// The clock changes: parts per million, nanoseconds ahead.
    Clock,
    /// From this machine to another one nothing arrives any more.
    Cut,
    /// From this machine to another one things arrive again.
    Heal,
    /// A file is synced: hash of its path, length.
    Sync,
    /// Something becomes wrong with the disk, or is right again: which fault.
    Disk,
    /// The test said something.
    Say,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) at: u64,
    pub(super) machine: MachineId,
    pub(super) what: What,
    pub(super) numbers: [u64; 3],
    pub(super) text: Option<Box<str>>,
}

/// Which events are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    /// None, only the hash.
    Nothing,
    /// Up to this many, without polls, for people to read.
    Lines(usize),
    /// Up to this many, for a comparison.
    Everything(usize),
}

pub(super) struct Trace {
    hash: u64,
    len: u64,
    keep: Keep,
    kept: Vec<Entry>,
}

impl Trace {
    pub(super) fn new(keep: Keep) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, len: 0, keep, kept: Vec::new() }
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn into_kept(self) -> Vec<Entry> {
        self.kept
    }

    pub(super) fn add(&mut self, at: u64, machine: MachineId, what: What, numbers: [u64; 3]) {
        self.fold(at, machine, what, numbers);
        if self.keeps(what) {
            self.kept.push(Entry { at, machine, what, numbers, text: None });
        }
    }

    pub(super) fn say(&mut self, at: u64, machine: MachineId, text: &str) {
        let numbers = [hash_of(text.as_bytes()), 0, 0];
        self.fold(at, machine, What::Say, numbers);
        if self.keeps(What::Say) {
            self.kept.push(Entry { at, machine, what: What::Say, numbers, text: Some(text.into()) });
        }
    }

    fn fold(&mut self, at: u64, machine: MachineId, what: What, numbers: [u64; 3]) {
        let head = at ^ u64::from(machine.0) << 48 ^ (what as u64) << 40;
        self.hash = numbers.iter().fold(folded(self.hash, head), |hash, number| folded(hash, *number));
        self.len += 1;
    }

    fn keeps(&self, what: What) -> bool {
        match self.keep {
            Keep::Nothing => false,
            Keep::Lines(max) => what != What::Poll && self.kept.len() < max,
            Keep::Everything(max) => self.kept.len() < max,
        }
    }
}

fn folded(hash: u64, word: u64) -> u64 {
    (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

/// A hash of bytes for the trace, eight at a time.
pub(super) fn hash_of(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(bytes.len() as u64, |hash, word| folded(hash, u64::from_le_bytes(*word)));
    rest.iter().fold(hash, |hash, byte| folded(hash, u64::from(*byte)))
}

/// An event as a line, with the name of its machine.
pub(super) struct Line<'a>(pub(super) &'a Entry, pub(super) &'a str);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Entry { at, what, numbers: [a, b, c], text, .. }, machine) = self;
        write!(f, "{}.{:09} {machine} ", at / 1_000_000_000, at % 1_000_000_000)?;
        match (what, text) {
            (_, Some(text)) => f.write_str(text),
            (What::Send | What::Arrive, _) => write!(f, "{what:?} {a} {b} {c:016x}"),
            _ => write!(f, "{what:?} {a} {b}"),
        }
    }
}

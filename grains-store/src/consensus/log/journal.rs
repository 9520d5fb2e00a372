//! The journal of a log: what was written last, one frame for each batch, one behind the other, until it is full and all of
//! it goes to redb at once. A batch costs one write of a few pages in a row and one fsync; redb writes eight pages or more
//! all over its file for the same, which takes most disks four times as long.
//!
//! The file is a head and frames, each from the start of a page to where the next page begins, so that no write touches a
//! sector with something acknowledged in it:
//!
//! ```text
//! head:   magic (16 bytes), number of the journal (8), CRC-32 of both (4)
//! frame:  CRC-32 of the rest (4), bytes of the changes (4), generation (8), changes
//! ```
//!
//! Numbers are little-endian. Redb's file says which journal belongs to it and which generation of frames: all others are
//! leftovers. Generations are drawn at random, so that nothing in an entry can pass for a frame.
//!
//! Invariant: a frame is written after the fsync of the one before it, so behind a frame that is not whole there is none.

use std::{io, path::Path};

use grains_core::{
    codec,
    switches::{Mechanism, on},
    world::{Disk, DiskFile},
};
use serde::{Deserialize, Serialize};

use super::rows::Change;
use crate::redb::Why;

/// How long the file may become. More makes each move to redb longer, and the next start after a crash; less makes them more
/// frequent. In our own tests it is soon full.
pub(super) const BYTES_MAX: u64 = if cfg!(test) { 64 * 1024 } else { 4 * 1024 * 1024 };
/// The file grows by so many bytes of zeros at a time: an fsync that must also write a new length takes longer.
const GROWTH_BYTES: u64 = if cfg!(test) { 12 * 1024 } else { 256 * 1024 };
/// As much as any disk writes as a whole, or more.
const PAGE_BYTES: u64 = 4096;
/// Where the first frame is.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) const FIRST_FRAME: usize = PAGE_BYTES as usize;
const MAGIC: [u8; 16] = *b"grains journal 1";
const HEAD_BYTES: usize = MAGIC.len() + 8 + 4;
const FRAME_HEAD_BYTES: usize = 4 + 4 + 8;

/// Which journal belongs to a file of redb.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Journaled {
    /// Never changes.
    pub(super) number: u64,
    /// Changes whenever what the journal holds has gone to redb.
    pub(super) generation: u64,
}

/// An open journal.
pub(super) struct Journal {
    file: Box<dyn DiskFile>,
    journaled: Journaled,
    /// Where the next frame goes.
    end: u64,
    /// The length of the file.
    len: u64,
}

/// Where the journal of a redb file is.
pub(super) fn file_of(file: &str) -> String {
    format!("{}.journal", file.strip_suffix(".redb").unwrap_or(file))
}

impl Journal {
    /// A new journal. One that is there may have been made by somebody who never came to use it; one that was used belongs to
    /// a file of redb that is gone, and says what this node must not forget.
    pub(super) fn create(disk: &dyn Disk, path: &Path, journaled: Journaled) -> Result<Self, Why> {
        let file = disk.open(path).map_err(Why::of_opening)?;
        let len = file.len()?;
        let mut found = vec![0; len.min(PAGE_BYTES) as usize];
        file.read_at(0, &mut found)?;
        if found.iter().any(|byte| *byte != 0) && !found.starts_with(&MAGIC) {
            return Err(Why::damaged(format!("`{}` beside it is no journal of grains", name_of(path))));
        }
        if len > PAGE_BYTES {
            return Err(Why::damaged(format!("it is gone or empty, and its journal `{}` is not", name_of(path))));
        }
        let mut head = [0; PAGE_BYTES as usize];
        head[..HEAD_BYTES].copy_from_slice(&head_of(journaled.number));
        file.write_at(0, &head)?;
        file.sync()?;
        Ok(Self { file, journaled, end: PAGE_BYTES, len: PAGE_BYTES })
    }

    /// The journal that belongs to a redb file, and what has not come from it to redb.
    pub(super) fn open(disk: &dyn Disk, path: &Path, journaled: Journaled) -> Result<(Self, Vec<Change>), Why> {
        let lost = || Why::damaged(format!("its journal `{}` is missing or another's", name_of(path)));
        if !disk.has(path)? {
            return Err(lost());
        }
        let file = disk.open(path).map_err(Why::of_opening)?;
        let len = file.len()?;
        let mut bytes = vec![0; len.min(BYTES_MAX) as usize];
        file.read_at(0, &mut bytes)?;
        if bytes.get(..HEAD_BYTES) != Some(head_of(journaled.number).as_slice()) {
            return Err(lost());
        }
        let (frames, end) = frames(&bytes, journaled.generation).ok_or_else(|| {
            Why::damaged(format!("what was acknowledged has gone from its journal `{}`", name_of(path)))
        })?;
        let mut changes = Vec::new();
        for frame in frames {
            let batch: Vec<Change> = codec::decode(frame)
                .map_err(|why| Why::damaged(format!("a frame of its journal cannot be read: {why}")))?;
            changes.extend(batch);
        }
        Ok((Self { file, journaled, end, len }, changes))
    }

    pub(super) fn journaled(&self) -> Journaled {
        self.journaled
    }

    /// Writes a frame durably, if there is room for it.
    pub(super) fn append(&mut self, changes: &[Change]) -> io::Result<Appended> {
        let room = BYTES_MAX - self.end;
        if changes.iter().map(Change::bytes).sum::<usize>() as u64 > room {
            return Ok(Appended::NoRoom);
        }
        let mut frame = frame_of(self.journaled.generation, &codec::encode(changes).map_err(io::Error::other)?);
        let bytes = (frame.len() as u64).next_multiple_of(PAGE_BYTES);
        if bytes > room {
            return Ok(Appended::NoRoom);
        }
        let end = self.end + bytes;
        let len = if end > self.len { end.next_multiple_of(GROWTH_BYTES).min(BYTES_MAX) } else { self.len };
        let written = if end > self.len { len - self.end } else { bytes };
        frame.resize(written as usize, 0);
        self.file.write_at(self.end, &frame)?;
        if on(Mechanism::EntriesAreDurable) {
            self.file.sync()?;
        }
        (self.end, self.len) = (end, len);
        Ok(Appended::Durable)
    }

    /// Begins again at the start: redb has all that was in it and says that `generation` is next.
    pub(super) fn start_over(&mut self, generation: u64) {
        self.journaled.generation = generation;
        self.end = PAGE_BYTES;
    }
}

/// What became of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Appended {
    Durable,
    NoRoom,
}

pub(super) fn head_of(number: u64) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    let (text, sum) = head.split_at_mut(HEAD_BYTES - 4);
    text[..MAGIC.len()].copy_from_slice(&MAGIC);
    text[MAGIC.len()..].copy_from_slice(&number.to_le_bytes());
    sum.copy_from_slice(&crc32fast::hash(text).to_le_bytes());
    head
}

pub(super) fn frame_of(generation: u64, changes: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity((FRAME_HEAD_BYTES + changes.len()).next_multiple_of(PAGE_BYTES as usize));
    frame.extend([0; 4]);
    frame.extend((changes.len() as u32).to_le_bytes());
    frame.extend(generation.to_le_bytes());
    frame.extend(changes);
    let sum = crc32fast::hash(&frame[4..]);
    frame[..4].copy_from_slice(&sum.to_le_bytes());
    frame
}

/// The frames of a generation, and where the next one goes. None if one of them has lost something after it was durable.
pub(super) fn frames(bytes: &[u8], generation: u64) -> Option<(Vec<&[u8]>, u64)> {
    let page = PAGE_BYTES as usize;
    let mut frames = Vec::new();
    let mut end = page;
    while let Some(changes) = bytes.get(end..).and_then(|rest| frame_at(rest, generation)) {
        frames.push(changes);
        end += (FRAME_HEAD_BYTES + changes.len()).next_multiple_of(page);
    }
    let behind = (end..bytes.len()).step_by(page).any(|at| frame_at(&bytes[at..], generation).is_some());
    (!behind).then_some((frames, end as u64))
}

/// The changes of the frame that `bytes` begin with, if it is whole and of this generation.
fn frame_at(bytes: &[u8], generation: u64) -> Option<&[u8]> {
    let (head, rest) = bytes.split_at_checked(FRAME_HEAD_BYTES)?;
    let number = |at: usize| Some(u32::from_le_bytes(head.get(at..at + 4)?.try_into().ok()?));
    let (sum, len) = (number(0)?, number(4)?);
    if head[8..] != generation.to_le_bytes() {
        return None;
    }
    let changes = rest.get(..len as usize)?;
    let whole = &bytes[4..FRAME_HEAD_BYTES + changes.len()];
    (crc32fast::hash(whole) == sum).then_some(changes)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

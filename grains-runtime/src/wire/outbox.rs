//! The outgoing side of a connection: frames are encoded straight into bounded chunks, and the pump, its one writer, takes
//! a chunk at a time. So batches grow with load, nothing waits when there is none, and what never left is known for sure.
//!
//! Who may take room when:
//!
//! 1. Who can wait for room and who cannot have room of their own, `bytes_max` each. So however many answers and items of
//!    streams there are, they keep no call out, nor calls them.
//! 2. Who cannot wait takes room at once, or is refused. Where calls find none, small words do: those that may be lost
//!    ([`send_small`](Outbox::send_small)) half of [`SMALL_BYTES_MAX`], those that may not ([`tell`](Outbox::tell)) all of it.
//! 3. Who can wait stands in line, and is woken when there is room for it: first come, first served, also where the first
//!    wants much and those behind it little. From then on its room is kept for it. While anybody stands there who was not
//!    woken, nobody who comes later takes room. So it is woken at the latest when all has left that was sent before it came,
//!    and by those who came before it.
//! 4. Whoever stands there holds a [`Ticket`]. Dropped, it leaves the line, or gives up what is kept for it, and those are
//!    woken for whom there is room now: no wake-up is lost with the one it was for.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use self::line::{Line, Number};
use super::frame;
use crate::sync::{Mutex, MutexGuard, lock};

mod line;

/// The number of a frame among those of its outbox: it grows by one, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Sent(pub(crate) u64);

/// The frame was not taken, and nothing of it will be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    /// So many bytes wait that no more are taken.
    #[error("{limit} bytes wait to be sent, as many as may")]
    Overloaded {
        /// How many may wait.
        limit: usize,
    },
    /// It is longer than the other side takes.
    #[error("a frame of {bytes} bytes, and at most {max} are taken")]
    TooLarge {
        /// Its bytes.
        bytes: usize,
        /// How many are taken.
        max: usize,
    },
    /// The connection has ended, for good.
    #[error("the connection has ended")]
    Closed,
}

/// Frames of up to this many bytes together leave in one write. Larger batches make both sides take turns instead of
/// working at the same time: 522 calls a write were slower than 111.
const CHUNK_BYTES: usize = 64 * 1024;

/// A writer that comes upon fewer frames than this lets others run once, for theirs to join them. Of more frames than this the
/// price of a write is a small part.
const GATHERED: u64 = 64;

/// Room for small frames beyond that for calls: some 40,000 credits or bounces, or dozens of the longest failures.
const SMALL_BYTES_MAX: usize = 1 << 20;

/// Frames one after the other, all of them whole.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) bytes: Vec<u8>,
    /// All of it may wait for more.
    patient: bool,
    /// How many frames were sent before the first of these.
    before: u64,
    frames: u64,
    /// How many of its bytes are of those who can wait.
    in_turn: usize,
}

impl Chunk {
    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    /// The last frame that may have arrived if `reached` bytes of this chunk have left.
    fn reached(&self, reached: usize) -> Sent {
        Sent(self.before + frame::whole_frames(&self.bytes, reached))
    }
}

/// Whether others are about to send, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Company {
    /// Nobody, as far as is known: the frame leaves at once.
    Alone,
    /// Several. The frame may wait for theirs until tasks have run that can run now: a write costs more than a call does
    /// otherwise.
    Expected,
}

/// Whether a writer takes whatever there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// It leaves a few frames where they are, if others are expected.
    Gather,
    /// It takes them.
    Take,
}

/// What a writer is given.
#[derive(Debug)]
pub(super) enum Take {
    /// To be written.
    Chunk(Chunk),
    /// There are a few frames. It gathers: it comes back by itself, and takes them.
    Few,
    /// It is woken when there is something.
    Nothing,
    /// There is nothing more, ever.
    Closed,
}

pub(super) struct Outbox {
    state: Mutex<State>,
    /// As the phase says, for those who look often.
    closed: AtomicBool,
    bytes_max: usize,
}

struct State {
    queue: VecDeque<Chunk>,
    /// A used buffer, so that a busy connection allocates none.
    spare: Vec<u8>,
    /// Bytes of those who cannot wait, in the queue and in the chunk that is being written.
    at_once: usize,
    /// The room of the others.
    line: Line,
    sent: u64,
    frame_bytes_max: usize,
    /// That of the frame that is appended next.
    company: Company,
    phase: Phase,
    /// The writer, while there is nothing to write.
    writer: Option<Waker>,
    /// The writer, while it cannot write.
    closer: Option<Waker>,
    /// Those who wait for the end only.
    enders: Vec<Waker>,
}

/// Whose room a frame takes.
#[derive(Clone, Copy)]
enum Room {
    /// That of those who cannot wait, up to so many bytes together.
    AtOnce(usize),
    /// That of those who can, if nobody waits.
    InTurn,
    /// Such that was taken for it already.
    Taken,
}

/// A place in line, for one frame and one outbox. It is had from the first poll that finds no room.
#[derive(Default)]
pub(crate) struct Ticket(Option<(Arc<Outbox>, Number)>);

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some((outbox, number)) = self.0.take() {
            let (_left, woken) = lock(&outbox.state).line.leave(number);
            woken.into_iter().for_each(Waker::wake);
        }
    }
}

enum Phase {
    Open,
    /// It takes no more. Whether the writer has bytes of the last chunk on their way is not known yet.
    Closing,
    /// Nothing after this frame has left or will leave.
    Closed(Sent),
}

impl Outbox {
    pub(super) fn new(bytes_max: usize, frame_bytes_max: usize) -> Self {
        // The largest frame must fit when it is alone.
        let bytes_max = bytes_max.max(frame_bytes_max + frame::HEAD_BYTES);
        let state = State {
            queue: VecDeque::new(),
            spare: Vec::new(),
            at_once: 0,
            line: Line::new(bytes_max),
            sent: 0,
            frame_bytes_max,
            company: Company::Alone,
            phase: Phase::Open,
            writer: None,
            closer: None,
            enders: Vec::new(),
        };
        Self { state: Mutex::new(state), closed: AtomicBool::new(false), bytes_max }
    }

    /// Appends a frame whose body `write` appends to what it is given, and nothing else. It runs under the outbox's lock:
    /// it is short and sends nothing itself.
    pub(super) fn send(&self, kind: u8, write: impl FnOnce(&mut Vec<u8>)) -> Result<Sent, SendError> {
        append(lock(&self.state), Room::AtOnce(self.bytes_max), kind, write)
    }

    /// The same in `company`.
    pub(super) fn send_in(
        &self,
        company: Company,
        kind: u8,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Sent, SendError> {
        let mut state = lock(&self.state);
        state.company = company;
        append(state, Room::AtOnce(self.bytes_max), kind, write)
    }

    /// The same for a small frame, also where calls are refused as overload.
    pub(super) fn send_small(&self, kind: u8, write: impl FnOnce(&mut Vec<u8>)) -> Result<Sent, SendError> {
        append(lock(&self.state), Room::AtOnce(self.bytes_max + SMALL_BYTES_MAX / 2), kind, write)
    }

    /// The same for one that must not be lost in silence, since it is waited for. Where that has no room either, the outbox
    /// is closed, which is told. Then the other side has left [`SMALL_BYTES_MAX`] of small words unread: no single one comes
    /// near that, failures included, whose texts are cut.
    pub(super) fn tell(&self, kind: u8, write: impl FnOnce(&mut Vec<u8>)) -> Result<Sent, SendError> {
        match append(lock(&self.state), Room::AtOnce(self.bytes_max + SMALL_BYTES_MAX), kind, write) {
            Err(SendError::Overloaded { .. }) => {
                self.close();
                Err(SendError::Closed)
            }
            told => told,
        }
    }

    /// The same for what can wait for room, if nobody does. Otherwise it is overload, and [`poll_send`](Self::poll_send) waits.
    pub(super) fn send_in_turn(&self, kind: u8, write: impl FnOnce(&mut Vec<u8>)) -> Result<Sent, SendError> {
        append(lock(&self.state), Room::InTurn, kind, write)
    }

    /// Sends as soon as there is room, for which `cx` waits by `ticket`; also until this is closed.
    pub(super) fn poll_send(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        ticket: &mut Ticket,
        kind: u8,
        body: &[&[u8]],
    ) -> Poll<Result<Sent, SendError>> {
        let body_len = body.iter().map(|part| part.len()).sum();
        let mut state = lock(&self.state);
        if let Err(why) = state.fits(body_len) {
            drop(state);
            *ticket = Ticket::default();
            return Poll::Ready(Err(why));
        }
        let bytes = frame::HEAD_BYTES + body_len;
        let turn = match &ticket.0 {
            Some((_, number)) => state.line.take_kept(*number, cx.waker()),
            None if state.line.take(bytes) => Ok(()),
            None => {
                ticket.0 = Some((self.clone(), state.line.join(bytes, cx.waker().clone())));
                Err(None)
            }
        };
        if let Err(replaced) = turn {
            drop(state);
            drop(replaced);
            return Poll::Pending;
        }
        ticket.0 = None;
        let write = |out: &mut Vec<u8>| body.iter().for_each(|part| out.extend_from_slice(part));
        Poll::Ready(append(state, Room::Taken, kind, write))
    }

    /// Sends as soon as there is room.
    pub(super) async fn send_when_room(self: &Arc<Self>, kind: u8, body: &[&[u8]]) -> Result<Sent, SendError> {
        let mut ticket = Ticket::default();
        poll_fn(|cx| self.poll_send(cx, &mut ticket, kind, body)).await
    }

    /// Whether a frame with a body of so many bytes can be sent at all.
    pub(super) fn fits(&self, body_len: usize) -> Result<(), SendError> {
        lock(&self.state).fits(body_len)
    }

    /// The other side takes frames of up to `frame_bytes_max`. The error is the length of a longer one that waits already.
    pub(super) fn limit_frames(&self, frame_bytes_max: usize) -> Result<(), usize> {
        let mut state = lock(&self.state);
        state.frame_bytes_max = state.frame_bytes_max.min(frame_bytes_max);
        let longest = state.queue.iter().map(|chunk| frame::longest_frame(&chunk.bytes)).max().unwrap_or(0);
        if longest > state.frame_bytes_max { Err(longest) } else { Ok(()) }
    }

    /// The next chunk for the writer, who is done with `used`. Of one who gathers it takes what makes a whole chunk.
    pub(super) fn take(&self, cx: &mut Context<'_>, used: &mut Chunk, pace: Pace) -> Take {
        let mut state = lock(&self.state);
        let woken = state.give_back(std::mem::take(used));
        let taken = match state.phase {
            Phase::Open if pace == Pace::Gather && state.has_few() => Take::Few,
            Phase::Open => match state.queue.pop_front() {
                Some(chunk) => Take::Chunk(chunk),
                None => {
                    state.writer = Some(cx.waker().clone());
                    Take::Nothing
                }
            },
            _ => Take::Closed,
        };
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        taken
    }

    /// The last frame that was taken.
    pub(super) fn sent(&self) -> Sent {
        Sent(lock(&self.state).sent)
    }

    /// Whether bytes wait to be sent.
    pub(super) fn has_backlog(&self) -> bool {
        lock(&self.state).waiting() > 0
    }

    /// Takes no more frames, and tells the writer to stop.
    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        if matches!(state.phase, Phase::Open) {
            state.phase = Phase::Closing;
        }
        self.closed.store(true, Ordering::Release);
        let wakers = state.wakers();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// The writer has stopped, `reached` bytes into `chunk`: nothing behind them will ever leave.
    pub(super) fn ended(&self, chunk: &Chunk, reached: usize) {
        let mut state = lock(&self.state);
        if !matches!(state.phase, Phase::Closed(_)) {
            // With no chunk in hand, all that was taken has left, and the queue begins right behind it.
            let first_waiting = state.queue.front().map_or(state.sent, |chunk| chunk.before);
            let written = if chunk.frames > 0 { chunk.reached(reached) } else { Sent(first_waiting) };
            state.phase = Phase::Closed(written);
        }
        self.closed.store(true, Ordering::Release);
        state.queue.clear();
        let wakers = state.wakers();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Whether it takes no more frames.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Whether it takes no more frames; if it does, `cx` is woken when that ends. For the writer, while it has a chunk.
    pub(super) fn watch_close(&self, cx: &mut Context<'_>) -> bool {
        let mut state = lock(&self.state);
        if matches!(state.phase, Phase::Open)
            && !state.closer.as_ref().is_some_and(|closer| closer.will_wake(cx.waker()))
        {
            state.closer = Some(cx.waker().clone());
        }
        !matches!(state.phase, Phase::Open)
    }

    /// Once the writer has stopped: the last frame that may have arrived.
    pub(super) fn written(&self) -> Option<Sent> {
        match lock(&self.state).phase {
            Phase::Closed(written) => Some(written),
            _ => None,
        }
    }

    /// Runs `future`, but no longer than until this is closed. Only before the writer begins.
    pub(super) async fn unless_closed<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            let mut state = lock(&self.state);
            if !matches!(state.phase, Phase::Open) {
                return Poll::Ready(None);
            }
            if !state.enders.iter().any(|ender| ender.will_wake(cx.waker())) {
                state.enders.push(cx.waker().clone());
            }
            drop(state);
            future.as_mut().poll(cx).map(Some)
        })
        .await
    }
}

/// Appends a frame, and tells the writer.
fn append(
    mut state: MutexGuard<'_, State>,
    room: Room,
    kind: u8,
    write: impl FnOnce(&mut Vec<u8>),
) -> Result<Sent, SendError> {
    state.append(room, kind, write)?;
    let sent = Sent(state.sent);
    let writer = state.writer.take();
    drop(state);
    if let Some(writer) = writer {
        writer.wake();
    }
    Ok(sent)
}

impl State {
    fn waiting(&self) -> usize {
        self.at_once + self.line.taken()
    }

    /// Whether what waits is something that may wait, and less than a write is best for.
    fn has_few(&self) -> bool {
        self.queue.len() == 1 && self.queue[0].patient && self.queue[0].frames < GATHERED
    }

    fn fits(&self, body_len: usize) -> Result<(), SendError> {
        let (bytes, max) = (body_len + 1, self.frame_bytes_max);
        match self.phase {
            Phase::Open if bytes > max => Err(SendError::TooLarge { bytes, max }),
            Phase::Open => Ok(()),
            _ => Err(SendError::Closed),
        }
    }

    fn append(&mut self, room: Room, kind: u8, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), SendError> {
        let company = std::mem::replace(&mut self.company, Company::Alone);
        if !matches!(self.phase, Phase::Open) {
            return Err(SendError::Closed);
        }
        // Asked first: what is written for the length of it alone is written in vain.
        let (full, limit) = match room {
            Room::AtOnce(max) => (self.at_once >= max, max),
            Room::InTurn => (!self.line.is_open(), self.line.bytes_max()),
            Room::Taken => (false, self.line.bytes_max()),
        };
        if full {
            return Err(SendError::Overloaded { limit });
        }
        if self.queue.back().is_none_or(|chunk| chunk.bytes.len() >= CHUNK_BYTES) {
            let bytes = std::mem::take(&mut self.spare);
            let chunk = Chunk { bytes, patient: true, before: self.sent, ..Chunk::default() };
            self.queue.push_back(chunk);
        }
        let chunk = self.queue.back_mut().expect("one was just pushed if there was none");
        let mut undo = Undo { start: chunk.bytes.len(), chunk, keep: false };
        let bytes = frame::write(&mut undo.chunk.bytes, kind, write);
        let grown = undo.chunk.bytes.len() - undo.start;
        if bytes > self.frame_bytes_max {
            return Err(SendError::TooLarge { bytes, max: self.frame_bytes_max });
        }
        let takes = match room {
            Room::AtOnce(max) => self.at_once + grown <= max,
            Room::InTurn => self.line.take(grown),
            Room::Taken => true,
        };
        if !takes {
            return Err(SendError::Overloaded { limit });
        }
        match room {
            Room::AtOnce(_) => self.at_once += grown,
            Room::InTurn | Room::Taken => undo.chunk.in_turn += grown,
        }
        undo.keep = true;
        undo.chunk.frames += 1;
        undo.chunk.patient &= company == Company::Expected;
        self.sent += 1;
        Ok(())
    }

    /// The writer is done with a chunk. Gives the wakers of those for whom there is room now.
    fn give_back(&mut self, used: Chunk) -> Vec<Waker> {
        if used.bytes.is_empty() {
            return Vec::new();
        }
        self.at_once -= used.bytes.len() - used.in_turn;
        let mut bytes = used.bytes;
        bytes.clear();
        if bytes.capacity() <= 2 * CHUNK_BYTES && self.spare.capacity() == 0 {
            self.spare = bytes;
        }
        self.line.give_back(used.in_turn)
    }

    fn wakers(&mut self) -> Vec<Waker> {
        let waiters = self.line.end().into_iter();
        waiters.chain(self.enders.drain(..)).chain(self.writer.take()).chain(self.closer.take()).collect()
    }
}

/// Takes back a frame that is not to be sent, also when encoding it panicked.
struct Undo<'c> {
    chunk: &'c mut Chunk,
    start: usize,
    keep: bool,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if !self.keep {
            self.chunk.bytes.truncate(self.start);
        }
    }
}

#[cfg(test)]
mod tests;

//! The outgoing side of a connection: frames are encoded straight into bounded chunks, and the pump, its one writer, takes
//! a chunk at a time. So batches grow with load, nothing waits when there is none, and what never left is known for sure.

use std::{
    collections::{BTreeSet, VecDeque},
    future::poll_fn,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll, Waker},
};

use super::frame;
use crate::sync::{Mutex, lock};

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

/// Room for small frames beyond that for others: some 40,000 credits or bounces.
const SMALL_BYTES_MAX: usize = 1 << 20;

/// Frames one after the other, all of them whole.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) bytes: Vec<u8>,
    /// How many frames were sent before the first of these.
    before: u64,
    frames: u64,
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
    /// Bytes in the queue and in the chunk that is being written.
    waiting: usize,
    sent: u64,
    frame_bytes_max: usize,
    phase: Phase,
    /// The writer, while there is nothing to write.
    writer: Option<Waker>,
    /// The writer, while it cannot write.
    closer: Option<Waker>,
    /// Those who wait for room, first come first served, and for how much. While there are any, nobody overtakes them.
    waiters: VecDeque<(Waker, usize)>,
    /// The same by what tells wakers apart, so that none stands there twice.
    known: BTreeSet<WakerId>,
    /// Those who wait for the end only.
    enders: Vec<Waker>,
}

/// Whether a frame may go before those of others who wait for room.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Now,
    Behind,
}

/// Data and functions of a waker: as far as [`Waker::will_wake`] looks.
type WakerId = (usize, usize);

fn id_of(waker: &Waker) -> WakerId {
    (waker.data().addr(), std::ptr::from_ref(waker.vtable()).addr())
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
        let state = State {
            queue: VecDeque::new(),
            spare: Vec::new(),
            waiting: 0,
            sent: 0,
            frame_bytes_max,
            phase: Phase::Open,
            writer: None,
            closer: None,
            waiters: VecDeque::new(),
            known: BTreeSet::new(),
            enders: Vec::new(),
        };
        // The largest frame must fit when it is alone.
        let bytes_max = bytes_max.max(frame_bytes_max + frame::HEAD_BYTES);
        Self { state: Mutex::new(state), closed: AtomicBool::new(false), bytes_max }
    }

    /// Appends a frame whose body `write` appends to what it is given, and nothing else. It runs under the outbox's lock:
    /// it is short and sends nothing itself.
    pub(super) fn send(&self, kind: u8, write: impl FnOnce(&mut Vec<u8>)) -> Result<Sent, SendError> {
        self.send_within(self.bytes_max, Turn::Behind, kind, write)
    }

    /// Whether a frame with a body of so many bytes can be sent at all.
    pub(super) fn fits(&self, body_len: usize) -> Result<(), SendError> {
        let (bytes, max) = (body_len + 1, lock(&self.state).frame_bytes_max);
        if bytes > max { Err(SendError::TooLarge { bytes, max }) } else { Ok(()) }
    }

    /// Appends a small frame also where others are refused as overload. Where that has no room either, nothing is taken
    /// at the other side: the outbox is closed, since a word that is lost in silence is waited for in vain.
    pub(super) fn tell(&self, kind: u8, write: impl FnOnce(&mut Vec<u8>)) -> Result<Sent, SendError> {
        match self.send_within(self.bytes_max + SMALL_BYTES_MAX, Turn::Now, kind, write) {
            Err(SendError::Overloaded { .. }) => {
                self.close();
                Err(SendError::Closed)
            }
            told => told,
        }
    }

    fn send_within(
        &self,
        bytes_max: usize,
        turn: Turn,
        kind: u8,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Sent, SendError> {
        let mut state = lock(&self.state);
        if !matches!(state.phase, Phase::Open) {
            return Err(SendError::Closed);
        }
        if state.waiting >= bytes_max || (turn == Turn::Behind && !state.waiters.is_empty()) {
            return Err(SendError::Overloaded { limit: bytes_max });
        }
        state.append(bytes_max, kind, write)?;
        let sent = Sent(state.sent);
        let writer = state.writer.take();
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
        Ok(sent)
    }

    /// Sends as soon as there is room, until which `cx` waits; also until this is closed. Who has not `waited` yet waits
    /// behind those who do.
    pub(super) fn poll_send(
        &self,
        cx: &mut Context<'_>,
        waited: bool,
        kind: u8,
        body: &[u8],
    ) -> Poll<Result<Sent, SendError>> {
        {
            let mut state = lock(&self.state);
            let bytes = frame::HEAD_BYTES + body.len();
            let fits = body.len() < state.frame_bytes_max;
            let room = state.waiting + bytes <= self.bytes_max;
            // Asked first: many may wait, and each would copy its body in vain. What waits is written, and then looked at.
            let behind = (!waited && !state.waiters.is_empty()) || !room;
            if fits && behind && state.waiting > 0 && matches!(state.phase, Phase::Open) {
                state.watch(cx, bytes);
                return Poll::Pending;
            }
        }
        match self.send_within(self.bytes_max, Turn::Now, kind, |out| out.extend_from_slice(body)) {
            Err(SendError::Overloaded { .. }) => {
                self.wake_at_room(cx, body.len());
                Poll::Pending
            }
            result => Poll::Ready(result),
        }
    }

    /// Sends as soon as there is room.
    pub(super) async fn send_when_room(&self, kind: u8, body: &[&[u8]]) -> Result<Sent, SendError> {
        let write = |out: &mut Vec<u8>| body.iter().for_each(|part| out.extend_from_slice(part));
        poll_fn(|cx| match self.send_within(self.bytes_max, Turn::Now, kind, write) {
            Err(SendError::Overloaded { .. }) => {
                self.wake_at_room(cx, body.iter().map(|part| part.len()).sum());
                Poll::Pending
            }
            result => Poll::Ready(result),
        })
        .await
    }

    fn wake_at_room(&self, cx: &mut Context<'_>, bytes: usize) {
        let mut state = lock(&self.state);
        if matches!(state.phase, Phase::Open) && state.waiting > 0 {
            state.watch(cx, bytes);
        } else {
            drop(state);
            cx.waker().wake_by_ref();
        }
    }

    /// The other side takes frames of up to `frame_bytes_max`. The error is the length of a longer one that waits already.
    pub(super) fn limit_frames(&self, frame_bytes_max: usize) -> Result<(), usize> {
        let mut state = lock(&self.state);
        state.frame_bytes_max = state.frame_bytes_max.min(frame_bytes_max);
        let longest = state.queue.iter().map(|chunk| frame::longest_frame(&chunk.bytes)).max().unwrap_or(0);
        if longest > state.frame_bytes_max { Err(longest) } else { Ok(()) }
    }

    /// The next chunk for the writer, who is done with `used` and is woken when there is one; none once it is closed.
    pub(super) fn poll_take(&self, cx: &mut Context<'_>, used: &mut Chunk) -> Poll<Option<Chunk>> {
        let mut state = lock(&self.state);
        state.give_back(std::mem::take(used));
        let served = state.serve(self.bytes_max);
        let taken = match state.phase {
            Phase::Open => match state.queue.pop_front() {
                Some(chunk) => Poll::Ready(Some(chunk)),
                None => {
                    state.writer = Some(cx.waker().clone());
                    Poll::Pending
                }
            },
            _ => Poll::Ready(None),
        };
        drop(state);
        served.into_iter().for_each(Waker::wake);
        taken
    }

    /// The last frame that was taken.
    pub(super) fn sent(&self) -> Sent {
        Sent(lock(&self.state).sent)
    }

    /// Whether bytes wait to be sent.
    pub(super) fn has_backlog(&self) -> bool {
        lock(&self.state).waiting > 0
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

impl State {
    fn append(&mut self, bytes_max: usize, kind: u8, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), SendError> {
        if self.queue.back().is_none_or(|chunk| chunk.bytes.len() >= CHUNK_BYTES) {
            let chunk = Chunk { bytes: std::mem::take(&mut self.spare), before: self.sent, frames: 0 };
            self.queue.push_back(chunk);
        }
        let chunk = self.queue.back_mut().expect("one was just pushed if there was none");
        let mut undo = Undo { start: chunk.bytes.len(), chunk, keep: false };
        let bytes = frame::write(&mut undo.chunk.bytes, kind, write);
        let grown = undo.chunk.bytes.len() - undo.start;
        if bytes > self.frame_bytes_max {
            return Err(SendError::TooLarge { bytes, max: self.frame_bytes_max });
        }
        if self.waiting + grown > bytes_max {
            return Err(SendError::Overloaded { limit: bytes_max });
        }
        undo.keep = true;
        undo.chunk.frames += 1;
        drop(undo);
        self.waiting += grown;
        self.sent += 1;
        Ok(())
    }

    fn give_back(&mut self, used: Chunk) {
        if used.bytes.is_empty() {
            return;
        }
        self.waiting -= used.bytes.len();
        let mut bytes = used.bytes;
        bytes.clear();
        if bytes.capacity() <= 2 * CHUNK_BYTES && self.spare.capacity() == 0 {
            self.spare = bytes;
        }
    }

    fn watch(&mut self, cx: &mut Context<'_>, bytes: usize) {
        if self.known.insert(id_of(cx.waker())) {
            self.waiters.push_back((cx.waker().clone(), bytes));
        }
    }

    /// The first of those who wait, as many as there is room for; all of them if nothing waits to be written any more, for
    /// then nobody would come by again.
    fn serve(&mut self, bytes_max: usize) -> Vec<Waker> {
        let mut room = bytes_max.saturating_sub(self.waiting);
        let mut served = Vec::new();
        while let Some((_, bytes)) = self.waiters.front() {
            if *bytes > room && self.waiting > 0 {
                break;
            }
            room = room.saturating_sub(*bytes);
            if let Some((waker, _)) = self.waiters.pop_front() {
                self.known.remove(&id_of(&waker));
                served.push(waker);
            }
        }
        served
    }

    fn wakers(&mut self) -> Vec<Waker> {
        self.known.clear();
        let waiters = self.waiters.drain(..).map(|(waker, _)| waker);
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

//! The outgoing side of a connection: frames are encoded straight into bounded chunks, and the pump, its one writer, takes
//! a chunk at a time. So batches grow with load, nothing waits when there is none, and what never left is known for sure.
//! Long messages leave in parts between short frames: see `lanes`.
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
//! 4. Long messages have room of their own, of both kinds, so that they keep no short one out, nor in line.
//! 5. Whoever stands there holds a [`Ticket`]. Dropped, it leaves the line, or gives up what is kept for it, and those are
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
    time::Duration,
};

use grains_core::{Instant, world::Clock};

pub(super) use self::lanes::{Chunk, SHORT_BYTES_MAX};
pub(crate) use self::lanes::{Marks, Order, Sent};
use self::{
    lanes::{CHUNK_BYTES, LongLane, Size},
    line::{Line, Number},
};
use super::frame;
use crate::sync::{Mutex, MutexGuard, lock};

mod lanes;
mod line;

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

/// Of more frames than this the price of a write is a small part.
const GATHERED_MAX: u64 = 64;

/// Room for small frames beyond that for calls: some 40,000 credits or bounces, or dozens of the longest failures.
const SMALL_BYTES_MAX: usize = 1 << 20;

/// Whether others are about to send, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Company {
    /// Nobody, as far as is known: the frame leaves at once.
    Alone,
    /// So many are under way. The frame may wait for others until tasks have run that can run now: a write costs more than a
    /// call does otherwise. But not until all of them have come: then the two sides would take turns, and each would
    /// wait while the other works.
    Of(usize),
}

impl Company {
    /// How many frames leave together.
    fn gathers(self) -> u64 {
        match self {
            Self::Alone => 1,
            Self::Of(under_way) => GATHERED_MAX.min(under_way as u64 / 2),
        }
    }
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
    /// There are a few frames. It gathers: it comes back by itself, or is woken when they are not few any more, and takes them.
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
    /// For those who want to know how long frames wait.
    clock: Option<Arc<dyn Clock>>,
}

struct State {
    /// Short frames.
    queue: VecDeque<Chunk>,
    long: LongLane,
    /// It is the turn of the long lane.
    long_next: bool,
    /// Messages of more bytes than this are long.
    short_bytes_max: usize,
    /// A used buffer, so that a busy connection allocates none.
    spare: Vec<u8>,
    short_room: Rooms,
    long_room: Rooms,
    /// How many short frames were sent.
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

/// The room of messages of one size.
struct Rooms {
    /// Bytes of those who cannot wait, in the lanes and in the chunk that is being written.
    at_once: usize,
    /// The room of the others.
    line: Line,
    bytes_max: usize,
}

impl Rooms {
    fn new(bytes_max: usize) -> Self {
        Self { at_once: 0, line: Line::new(bytes_max), bytes_max }
    }

    fn waiting(&self) -> usize {
        self.at_once + self.line.taken()
    }

    /// Takes room for so many bytes.
    fn take(&mut self, room: Room, bytes: usize) -> Result<(), SendError> {
        let taken = match room {
            Room::AtOnce { beyond } => {
                let fits = self.at_once + bytes <= self.bytes_max + beyond;
                self.at_once += if fits { bytes } else { 0 };
                fits
            }
            Room::InTurn => self.line.take(bytes),
            Room::Taken => true,
        };
        if taken { Ok(()) } else { Err(self.overloaded(room)) }
    }

    /// Whether there is none for anything. Asked first: what is written for the length of it alone is written in vain.
    fn is_full(&self, room: Room) -> bool {
        match room {
            Room::AtOnce { beyond } => self.at_once >= self.bytes_max + beyond,
            Room::InTurn => !self.line.is_open(),
            Room::Taken => false,
        }
    }

    fn overloaded(&self, room: Room) -> SendError {
        let beyond = if let Room::AtOnce { beyond } = room { beyond } else { 0 };
        SendError::Overloaded { limit: self.bytes_max + beyond }
    }
}

/// Whose room a frame takes.
#[derive(Clone, Copy)]
enum Room {
    /// That of those who cannot wait, and so many bytes beyond it.
    AtOnce { beyond: usize },
    /// That of those who can, if nobody waits.
    InTurn,
    /// Such that was taken for it already.
    Taken,
}

impl Room {
    const USUAL: Self = Self::AtOnce { beyond: 0 };

    fn waits(self) -> bool {
        !matches!(self, Self::AtOnce { .. })
    }
}

/// A place in line, for one frame and one outbox. It is had from the first poll that finds no room.
#[derive(Default)]
pub(crate) struct Ticket(Option<(Arc<Outbox>, Size, Number)>);

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some((outbox, size, number)) = self.0.take() {
            let (_left, woken) = lock(&outbox.state).room(size).line.leave(number);
            woken.into_iter().for_each(Waker::wake);
        }
    }
}

enum Phase {
    Open,
    /// It takes no more. Whether the writer has bytes of the last chunk on their way is not known yet.
    Closing,
    /// Nothing but this has left or will leave.
    Closed(Marks),
}

impl Outbox {
    /// One where all frames are short: up to `frame_bytes_max` each, kind included, and of all that wait about `bytes_max`.
    pub(super) fn new(bytes_max: usize, frame_bytes_max: usize) -> Self {
        Self::with_lanes(bytes_max, 0, frame_bytes_max, usize::MAX)
    }

    /// One where messages of more than [`SHORT_BYTES_MAX`] leave in parts: up to `message_bytes_max` each, kind included, and of
    /// all that wait about `long_bytes_max`, beside `bytes_max` of short ones.
    pub(super) fn in_parts(bytes_max: usize, long_bytes_max: usize, message_bytes_max: usize) -> Self {
        Self::with_lanes(bytes_max, long_bytes_max, message_bytes_max, SHORT_BYTES_MAX)
    }

    fn with_lanes(bytes_max: usize, long_bytes_max: usize, frame_bytes_max: usize, short_bytes_max: usize) -> Self {
        // The largest frame must fit when it is alone.
        let bytes_max = bytes_max.max(frame_bytes_max.min(short_bytes_max) + frame::HEAD_BYTES);
        let long_bytes_max = long_bytes_max.max(frame_bytes_max + frame::HEAD_BYTES);
        let state = State {
            queue: VecDeque::new(),
            long: LongLane::default(),
            long_next: false,
            short_bytes_max,
            spare: Vec::new(),
            short_room: Rooms::new(bytes_max),
            long_room: Rooms::new(long_bytes_max),
            sent: 0,
            frame_bytes_max,
            company: Company::Alone,
            phase: Phase::Open,
            writer: None,
            closer: None,
            enders: Vec::new(),
        };
        Self { state: Mutex::new(state), closed: AtomicBool::new(false), clock: None }
    }

    /// The same, and it says how long frames [have waited](Self::waited).
    pub(super) fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock: Some(clock), ..self }
    }

    /// How long the first frame of a chunk has waited until now, unless that is of a long message.
    pub(super) fn waited(&self, chunk: &Chunk) -> Option<Duration> {
        Some(self.clock.as_ref()?.now().since(chunk.since?))
    }

    /// Appends a frame whose body `write` appends to what it is given, and nothing else. It runs under the outbox's lock:
    /// it is short and sends nothing itself.
    pub(super) fn send(&self, kind: u8, write: impl FnOnce(&mut Vec<u8>)) -> Result<Sent, SendError> {
        self.append(lock(&self.state), Room::USUAL, Order::Free, kind, write)
    }

    /// The same in `company`, and in `order`.
    pub(super) fn send_in(
        &self,
        company: Company,
        order: Order,
        kind: u8,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Sent, SendError> {
        let mut state = lock(&self.state);
        state.company = company;
        self.append(state, Room::USUAL, order, kind, write)
    }

    /// The same for a small frame, also where calls are refused as overload.
    pub(super) fn send_small(
        &self,
        order: Order,
        kind: u8,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Sent, SendError> {
        self.append(lock(&self.state), Room::AtOnce { beyond: SMALL_BYTES_MAX / 2 }, order, kind, write)
    }

    /// The same for one that must not be lost in silence, since it is waited for. Where that has no room either, the outbox
    /// is closed, which is told. Then the other side has left [`SMALL_BYTES_MAX`] of small words unread: no single one comes
    /// near that, failures included, whose texts are cut.
    pub(super) fn tell(&self, order: Order, kind: u8, write: impl FnOnce(&mut Vec<u8>)) -> Result<Sent, SendError> {
        match self.append(lock(&self.state), Room::AtOnce { beyond: SMALL_BYTES_MAX }, order, kind, write) {
            Err(SendError::Overloaded { .. }) => {
                self.close();
                Err(SendError::Closed)
            }
            told => told,
        }
    }

    /// The same for what can wait for room, if nobody does. Otherwise it is overload, and [`poll_send`](Self::poll_send) waits.
    pub(super) fn send_in_turn(
        &self,
        order: Order,
        kind: u8,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Sent, SendError> {
        self.append(lock(&self.state), Room::InTurn, order, kind, write)
    }

    /// Sends as soon as there is room, for which `cx` waits by `ticket`; also until this is closed.
    pub(super) fn poll_send(
        self: &Arc<Self>,
        cx: &mut Context<'_>,
        ticket: &mut Ticket,
        order: Order,
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
        let (bytes, size) = (frame::HEAD_BYTES + body_len, state.size(body_len + 1));
        let line = &mut state.room(size).line;
        let turn = match &ticket.0 {
            Some((_, _, number)) => line.take_kept(*number, cx.waker()),
            None if line.take(bytes) => Ok(()),
            None => {
                ticket.0 = Some((self.clone(), size, line.join(bytes, cx.waker().clone())));
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
        Poll::Ready(self.append(state, Room::Taken, order, kind, write))
    }

    /// Sends as soon as there is room.
    pub(super) async fn send_when_room(self: &Arc<Self>, kind: u8, body: &[&[u8]]) -> Result<Sent, SendError> {
        let mut ticket = Ticket::default();
        poll_fn(|cx| self.poll_send(cx, &mut ticket, Order::Free, kind, body)).await
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
        let longest = longest.max(state.long.longest());
        if longest > state.frame_bytes_max { Err(longest) } else { Ok(()) }
    }

    /// The next chunk for the writer, who is done with `used`. Of one who gathers it takes what makes a whole chunk.
    pub(super) fn take(&self, cx: &mut Context<'_>, used: &mut Chunk, pace: Pace) -> Take {
        let mut state = lock(&self.state);
        let woken = state.give_back(std::mem::take(used));
        let taken = match state.phase {
            Phase::Open if pace == Pace::Gather && state.has_few() => {
                state.writer = Some(cx.waker().clone());
                Take::Few
            }
            Phase::Open => match state.next() {
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

    /// What was taken until now.
    pub(super) fn sent(&self) -> Marks {
        lock(&self.state).marks()
    }

    /// Whether bytes wait to be sent.
    pub(super) fn has_backlog(&self) -> bool {
        lock(&self.state).waiting() > 0
    }

    /// The bytes of long messages that have not left.
    pub(super) fn long_waiting(&self) -> usize {
        let state = lock(&self.state);
        if matches!(state.phase, Phase::Open) { state.long_room.waiting() } else { 0 }
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
            let written = if chunk.bytes.is_empty() { state.given() } else { chunk.reached(reached) };
            state.phase = Phase::Closed(written);
        }
        self.closed.store(true, Ordering::Release);
        state.queue.clear();
        state.long.clear();
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

    /// Once the writer has stopped: what may have arrived.
    pub(super) fn written(&self) -> Option<Marks> {
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

    /// Appends a frame, and tells the writer.
    fn append(
        &self,
        mut state: MutexGuard<'_, State>,
        room: Room,
        order: Order,
        kind: u8,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Sent, SendError> {
        let sent = state.append(room, order, kind, write, || self.clock.as_ref().map(|clock| clock.now()))?;
        // One that has found nothing comes for the first frame; one that gathers, when there are no longer few.
        let is_first = state.queue.len() == 1 && state.queue[0].frames == 1;
        let writer = if is_first || !state.has_few() { state.writer.take() } else { None };
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
        Ok(sent)
    }
}

impl State {
    fn waiting(&self) -> usize {
        self.short_room.waiting() + self.long_room.waiting()
    }

    fn size(&self, bytes: usize) -> Size {
        if bytes > self.short_bytes_max { Size::Long } else { Size::Short }
    }

    fn room(&mut self, size: Size) -> &mut Rooms {
        match size {
            Size::Short => &mut self.short_room,
            Size::Long => &mut self.long_room,
        }
    }

    fn marks(&self) -> Marks {
        Marks { short: self.sent, long: self.long.sent }
    }

    /// What was given to the writer.
    fn given(&self) -> Marks {
        let short = self.queue.front().map_or(self.sent, |chunk| chunk.before.short);
        Marks { short, long: self.long.given() }
    }

    /// Whether what waits is something that may wait, and less than a write is best for.
    fn has_few(&self) -> bool {
        self.queue.len() == 1 && self.queue[0].frames < self.queue[0].gathers && self.long.is_empty()
    }

    /// The next chunk. Both lanes have turns.
    fn next(&mut self) -> Option<Chunk> {
        while self.queue.front().is_some_and(|chunk| chunk.frames == 0) {
            self.queue.pop_front(); // what was to be its first frame was refused, or is long
        }
        if self.long_next || self.queue.is_empty() {
            self.long_next = false;
            let given = self.given();
            let part = self.long.next(given.short, &mut self.spare);
            if part.is_some() {
                return part;
            }
        }
        let mut chunk = self.queue.pop_front()?;
        chunk.before.long = self.long.given();
        chunk.room = chunk.bytes.len();
        self.long_next = !self.long.is_empty();
        Some(chunk)
    }

    fn fits(&self, body_len: usize) -> Result<(), SendError> {
        let (bytes, max) = (body_len + 1, self.frame_bytes_max);
        match self.phase {
            Phase::Open if bytes > max => Err(SendError::TooLarge { bytes, max }),
            Phase::Open => Ok(()),
            _ => Err(SendError::Closed),
        }
    }

    fn append(
        &mut self,
        room: Room,
        order: Order,
        kind: u8,
        write: impl FnOnce(&mut Vec<u8>),
        now: impl FnOnce() -> Option<Instant>,
    ) -> Result<Sent, SendError> {
        let company = std::mem::replace(&mut self.company, Company::Alone);
        if !matches!(self.phase, Phase::Open) {
            return Err(SendError::Closed);
        }
        if self.short_room.is_full(room) {
            return Err(self.short_room.overloaded(room));
        }
        if self.queue.back().is_none_or(|chunk| chunk.bytes.len() >= CHUNK_BYTES) {
            let bytes = std::mem::take(&mut self.spare);
            let before = self.marks();
            self.queue.push_back(Chunk { bytes, gathers: GATHERED_MAX, before, since: now(), ..Chunk::default() });
        }
        let chunk = self.queue.back_mut().expect("one was just pushed if there was none");
        let mut undo = Undo { start: chunk.bytes.len(), chunk, keep: false };
        let bytes = frame::write(&mut undo.chunk.bytes, kind, write);
        let grown = undo.chunk.bytes.len() - undo.start;
        if bytes > self.frame_bytes_max {
            return Err(SendError::TooLarge { bytes, max: self.frame_bytes_max });
        }
        let (size, rooms) = match bytes > self.short_bytes_max {
            true => (Size::Long, &mut self.long_room),
            false => (Size::Short, &mut self.short_room),
        };
        rooms.take(room, grown)?;
        if size == Size::Long || self.long.holds(order) {
            let frame = undo.take();
            return Ok(self.long.push(frame, order, self.sent, size, room.waits()));
        }
        undo.chunk.in_turn += if room.waits() { grown } else { 0 };
        undo.keep = true;
        undo.chunk.frames += 1;
        undo.chunk.gathers = undo.chunk.gathers.min(company.gathers());
        self.sent += 1;
        Ok(Sent::Short(self.sent))
    }

    /// The writer is done with a chunk. Gives the wakers of those for whom there is room now.
    fn give_back(&mut self, used: Chunk) -> Vec<Waker> {
        if used.bytes.is_empty() {
            return Vec::new();
        }
        let mut bytes = used.bytes;
        bytes.clear();
        if bytes.capacity() <= 2 * CHUNK_BYTES && self.spare.capacity() == 0 {
            self.spare = bytes;
        }
        let rooms = self.room(used.size);
        rooms.at_once -= used.room - used.in_turn;
        rooms.line.give_back(used.in_turn)
    }

    fn wakers(&mut self) -> Vec<Waker> {
        let waiters = self.short_room.line.end().into_iter().chain(self.long_room.line.end());
        waiters.chain(self.enders.drain(..)).chain(self.writer.take()).chain(self.closer.take()).collect()
    }
}

/// Takes back a frame that is not to be sent here, also when encoding it panicked.
struct Undo<'c> {
    chunk: &'c mut Chunk,
    start: usize,
    keep: bool,
}

impl Undo<'_> {
    /// The frame, which leaves elsewhere.
    fn take(self) -> Vec<u8> {
        match self.start {
            0 => std::mem::take(&mut self.chunk.bytes),
            start => self.chunk.bytes.split_off(start),
        }
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if !self.keep {
            self.chunk.bytes.truncate(self.start);
            // What was long grew it.
            self.chunk.bytes.shrink_to(2 * CHUNK_BYTES);
        }
    }
}

#[cfg(test)]
mod tests;

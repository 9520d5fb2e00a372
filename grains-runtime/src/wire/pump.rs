//! What moves the bytes of one connection, of whatever purpose: a task that reads, writes and keeps alive. What frames
//! mean is its [`Duty`]'s.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use grains_core::{
    Instant,
    world::{BoxFuture, ByteReader, ByteWriter, Clock, Tasks},
};

use super::{
    counters::PeerCounters,
    ended::Ended,
    frame::{self, Decoder},
    keepalive::{KeepAlive, Verdict},
    outbox::{Chunk, Outbox, Pace, Take},
};

/// What a connection is for.
pub(super) trait Duty: Send {
    /// A frame has arrived, in order. It returns soon.
    fn frame(&mut self, kind: u8, body: &[u8]) -> Result<(), Ended>;

    /// Some time has passed.
    fn tick(&mut self, now: Instant) -> Result<(), Ended> {
        let _ = now;
        Ok(())
    }
}

/// Both halves of a connection after its handshake.
pub(super) struct Pump {
    pub(super) reader: Box<dyn ByteReader>,
    pub(super) decoder: Decoder,
    pub(super) sends: Sends,
    pub(super) alive: KeepAlive,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) counters: Arc<PeerCounters>,
    /// When the last ping was sent, until it is answered.
    pub(super) pinged: Option<Instant>,
}

/// The writing half. Whatever happens to its task, its end tells the outbox what has left.
pub(super) struct Sends {
    pub(super) writer: Box<dyn ByteWriter>,
    pub(super) outbox: Arc<Outbox>,
    chunk: Chunk,
    reached: usize,
    tasks: Arc<dyn Tasks>,
    pace: Pace,
}

/// How often one poll reads or writes before it lets other tasks run.
const ROUNDS_MAX: usize = 16;

impl Pump {
    /// Runs until the connection ends.
    pub(super) async fn run(mut self, duty: &mut dyn Duty) -> Ended {
        let mut tick = self.clock.sleep_until(self.alive.due());
        poll_fn(|cx| match self.poll(cx, &mut tick, duty) {
            Ok(Progress::Done) => Poll::Pending,
            Ok(Progress::More) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Err(ended) => Poll::Ready(ended),
        })
        .await
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        tick: &mut BoxFuture<'static, ()>,
        duty: &mut dyn Duty,
    ) -> Result<Progress, Ended> {
        // The tick comes last: a sign of life that is here counts, and what waits then is what the other side does not take.
        let read = self.read(cx, duty)?;
        let wrote = match self.sends.write(cx, &mut self.alive, &self.counters) {
            Err(ended @ Ended::Broken(_)) => {
                // What had arrived before is still there to be read, and counts.
                for _ in 0..ROUNDS_MAX {
                    if self.read(cx, duty)? == Progress::Done {
                        break;
                    }
                }
                return Err(ended);
            }
            wrote => wrote?,
        };
        while tick.as_mut().poll(cx).is_ready() {
            self.tick(duty, read)?;
            *tick = self.clock.sleep_until(self.alive.due());
        }
        Ok(if read == Progress::More || wrote == Progress::More { Progress::More } else { Progress::Done })
    }

    fn read(&mut self, cx: &mut Context<'_>, duty: &mut dyn Duty) -> Result<Progress, Ended> {
        for _ in 0..ROUNDS_MAX {
            let bytes = match self.reader.poll_read(cx, self.decoder.space()) {
                Poll::Pending => return Ok(Progress::Done),
                Poll::Ready(Err(why)) => return Err(Ended::Broken(why.to_string())),
                Poll::Ready(Ok(0)) if self.decoder.is_amid_frame() => return Err(Ended::CutShort),
                Poll::Ready(Ok(0)) => return Err(Ended::ByPeer),
                Poll::Ready(Ok(bytes)) => bytes,
            };
            self.decoder.filled(bytes);
            self.alive.heard(self.clock.now());
            let mut frames = 0;
            while let Some((kind, body)) = self.decoder.next()? {
                frames += 1;
                match kind {
                    // Of a flood of pings those find no answer for which there is no room.
                    frame::PING => _ = self.sends.outbox.send(frame::PONG, |_| {}),
                    frame::PONG => {
                        if let Some(at) = self.pinged.take() {
                            self.counters.round_trip(self.clock.now().since(at));
                        }
                    }
                    _ => duty.frame(kind, body)?,
                }
                // Whoever closed the connection expects no more of it.
                if self.sends.outbox.is_closed() {
                    return Err(Ended::ByUs);
                }
            }
            self.counters.received(frames, bytes);
        }
        Ok(Progress::More)
    }

    fn tick(&mut self, duty: &mut dyn Duty, read: Progress) -> Result<(), Ended> {
        let now = self.clock.now();
        match self.alive.tick(now, self.sends.outbox.has_backlog()) {
            Verdict::Dead(silence) => return Err(Ended::Silent(silence)),
            Verdict::Ping => {
                self.sends.outbox.send(frame::PING, |_| {}).ok();
                self.pinged = Some(now);
            }
            Verdict::Wait => {}
        }
        // What is here is read first.
        if read == Progress::Done { duty.tick(now) } else { Ok(()) }
    }
}

impl Sends {
    pub(super) fn new(writer: Box<dyn ByteWriter>, outbox: Arc<Outbox>, tasks: Arc<dyn Tasks>) -> Self {
        Self { writer, outbox, chunk: Chunk::default(), reached: 0, tasks, pace: Pace::Gather }
    }

    fn write(
        &mut self,
        cx: &mut Context<'_>,
        alive: &mut KeepAlive,
        counters: &PeerCounters,
    ) -> Result<Progress, Ended> {
        for _ in 0..ROUNDS_MAX {
            if self.reached == self.chunk.bytes.len() {
                match self.writer.poll_flush(cx) {
                    Poll::Pending if self.outbox.watch_close(cx) => return Err(Ended::ByUs),
                    Poll::Pending => return Ok(Progress::Done),
                    Poll::Ready(Err(why)) => return Err(Ended::Broken(why.to_string())),
                    Poll::Ready(Ok(())) => {}
                }
                counters.sent(self.chunk.frames(), self.chunk.bytes.len());
                let pace = std::mem::replace(&mut self.pace, Pace::Gather);
                let next = self.outbox.take(cx, &mut self.chunk, pace);
                self.reached = 0;
                match next {
                    Take::Chunk(chunk) => {
                        if let Some(waited) = self.outbox.waited(&chunk) {
                            counters.queued(waited);
                        }
                        self.chunk = chunk;
                    }
                    Take::Few => {
                        self.pace = Pace::Take;
                        self.tasks.behind_others(cx);
                        return Ok(Progress::Done);
                    }
                    Take::Nothing => return Ok(Progress::Done),
                    Take::Closed => return Err(Ended::ByUs),
                }
                continue;
            }
            match self.writer.poll_write(cx, &self.chunk.bytes[self.reached..]) {
                Poll::Pending if self.outbox.watch_close(cx) => return Err(Ended::ByUs),
                Poll::Pending => return Ok(Progress::Done),
                Poll::Ready(Err(why)) => return Err(Ended::Broken(why.to_string())),
                Poll::Ready(Ok(0)) => return Err(Ended::Broken("it takes no more bytes".into())),
                Poll::Ready(Ok(bytes)) => {
                    self.reached += bytes;
                    alive.progressed();
                }
            }
        }
        Ok(Progress::More)
    }
}

impl Drop for Sends {
    fn drop(&mut self) {
        self.outbox.ended(&self.chunk, self.reached);
    }
}

/// Whether a poll stopped because there is nothing to do, or to let others run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Done,
    More,
}

#[cfg(test)]
mod tests;

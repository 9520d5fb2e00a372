//! One end of a connection, as its halves see it: reading, writing, closing, leaving.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
    task::{Context, Poll, Waker},
};

use super::{
    gone,
    link::{Dial, Link, LinkId, Segment},
};
use crate::sim::{
    agenda::Event,
    engine::{Life, State},
};

pub(super) struct End {
    pub(super) life: Life,
    /// Bytes that arrived and were not read, from `read` on.
    pub(super) inbox: Vec<u8>,
    pub(super) read: usize,
    pub(super) state: EndState,
    /// The other side will send no more.
    pub(super) ended: bool,
    /// This side will send no more.
    pub(super) closed: bool,
    /// How many of its two halves are held.
    pub(super) halves: u8,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum EndState {
    Open,
    /// The connection was reset.
    Broken,
    /// Nobody is there: not yet, or not any more.
    Nobody,
}

impl End {
    pub(super) fn of(life: Life, state: EndState) -> Self {
        Self {
            life,
            inbox: Vec::new(),
            read: 0,
            state,
            ended: false,
            closed: false,
            halves: 0,
            reader: None,
            writer: None,
        }
    }

    fn unread(&self) -> usize {
        self.inbox.len() - self.read
    }
}

impl State {
    pub(super) fn read(&mut self, id: LinkId, end: usize, out: &mut [u8], cx: &Context<'_>) -> Poll<io::Result<usize>> {
        let Some(link) = self.net.links.get_mut(&id) else { return Poll::Ready(Err(gone())) };
        let side = &mut link.ends[end];
        let read = side.unread().min(out.len());
        if read > 0 {
            out[..read].copy_from_slice(&side.inbox[side.read..][..read]);
            side.read += read;
            if side.unread() == 0 {
                side.inbox.clear();
                side.read = 0;
            }
            link.ways[1 - end].bytes -= read;
            self.later.wake.extend(link.ends[1 - end].writer.take());
            return Poll::Ready(Ok(read));
        }
        match side.state {
            EndState::Nobody => Poll::Ready(Err(gone())),
            EndState::Broken => Poll::Ready(Err(reset())),
            EndState::Open if side.ended || out.is_empty() => Poll::Ready(Ok(0)),
            EndState::Open => {
                self.later.keep(&mut side.reader, cx);
                Poll::Pending
            }
        }
    }

    pub(super) fn write(&mut self, id: LinkId, end: usize, data: &[u8], cx: &Context<'_>) -> Poll<io::Result<usize>> {
        let window = self.settings.window_bytes_max;
        let Some(link) = self.net.links.get_mut(&id) else { return Poll::Ready(Err(gone())) };
        let (side, way) = (&mut link.ends[end], &mut link.ways[end]);
        match side.state {
            EndState::Nobody => return Poll::Ready(Err(gone())),
            EndState::Broken => return Poll::Ready(Err(reset())),
            EndState::Open if side.closed => return Poll::Ready(Err(ErrorKind::BrokenPipe.into())),
            EndState::Open if data.is_empty() => return Poll::Ready(Ok(0)),
            EndState::Open => {}
        }
        let taken = data.len().min(window.saturating_sub(way.bytes));
        if taken == 0 {
            self.later.keep(&mut side.writer, cx);
            return Poll::Pending;
        }
        way.bytes += taken;
        way.chunks += 1;
        let whole = taken == data.len() && !way.within_write;
        way.within_write = taken < data.len();
        let later = whole && way.chunks > 1;
        if end == 0 && way.chunks == 1 {
            link.control = self.net.faults.is_control.map(|is_control| is_control(data));
        }
        if later && link.control == Some(true) && self.chance.net.happens(self.net.faults.duplicate_chance) {
            let faults = &self.net.faults;
            let at = self.now + self.chance.net.below(faults.latency.end() + faults.delay_nanos_max + 1);
            self.agenda.add(at, Event::Again { link: id, way: end, chunk: data.to_vec() });
        }
        self.send(id, end, Segment::Data(data[..taken].to_vec()));
        Poll::Ready(Ok(taken))
    }

    pub(super) fn close(&mut self, id: LinkId, end: usize) -> io::Result<()> {
        let link = self.net.links.get_mut(&id).ok_or_else(gone)?;
        let side = &mut link.ends[end];
        match side.state {
            EndState::Nobody => Err(gone()),
            EndState::Broken => Err(reset()),
            EndState::Open => {
                if !std::mem::replace(&mut side.closed, true) {
                    self.send(id, end, Segment::Close);
                }
                Ok(())
            }
        }
    }

    /// One of the halves of an end is dropped.
    pub(super) fn drop_half(&mut self, id: LinkId, end: usize) {
        let Some(link) = self.net.links.get_mut(&id) else { return };
        let side = &mut link.ends[end];
        side.halves = side.halves.saturating_sub(1);
        if side.halves == 0 {
            self.leave(id, end);
        }
    }

    /// Nobody holds this end any more.
    pub(super) fn leave(&mut self, id: LinkId, end: usize) {
        let Some(link) = self.net.links.get_mut(&id) else { return };
        let side = &mut link.ends[end];
        let was = std::mem::replace(&mut side.state, EndState::Nobody);
        self.later.drop.extend(side.reader.take().into_iter().chain(side.writer.take()));
        // As a kernel does: bytes that will never be read are worth a reset, and so is an end that was never let in.
        let rude = side.unread() > 0 || !side.closed;
        side.inbox = Vec::new();
        side.read = 0;
        if link.ends[1 - end].state == EndState::Nobody {
            return self.forget(id);
        }
        if was == EndState::Open && rude {
            self.send(id, end, Segment::Reset);
        }
    }

    fn forget(&mut self, id: LinkId) {
        let Some(link) = self.net.links.remove(&id) else { return };
        if let Dial::Waits(waker) = link.dial {
            self.later.drop.extend(waker);
        }
        for end in link.ends {
            self.later.drop.extend(end.reader.into_iter().chain(end.writer));
        }
    }

    /// A life ends: its listeners and connections go with it. Of what it has sent, some never made it to the wire.
    pub(in crate::sim) fn cut_off(&mut self, life: Life) {
        let ports = std::mem::take(&mut self.net.ports);
        let (lost, kept) = ports.into_iter().partition(|(_, port)| port.owner == life);
        self.net.ports = kept;
        let lost: BTreeMap<_, _> = lost;
        self.later.drop.extend(lost.into_values().filter_map(|port| port.acceptor));
        let of_life = |(id, link): (&LinkId, &Link)| {
            let end = link.ends.iter().position(|end| end.life == life && end.state != EndState::Nobody)?;
            Some((*id, end))
        };
        let links: Vec<_> = self.net.links.iter().filter_map(of_life).collect();
        for (id, end) in links {
            if let Some(link) = self.net.links.get_mut(&id) {
                let sent = link.ways[end].transit.len() as u64;
                link.ways[end].transit.truncate(self.chance.net.below(sent + 1) as usize);
                link.ends[end].closed = false;
                // A connection of a machine with itself ends at both ends.
                if link.ends[1 - end].life == life {
                    link.ends[1 - end].state = EndState::Nobody;
                }
            }
            self.leave(id, end);
        }
    }
}

fn reset() -> io::Error {
    io::Error::new(ErrorKind::ConnectionReset, "the connection was reset")
}

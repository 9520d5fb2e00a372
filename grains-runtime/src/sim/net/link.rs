//! One connection: two ends, and two ways between them on which segments arrive in the order in which they were sent.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    task::{Context, Poll, Waker},
};

use super::{BACKLOG_LEN_MAX, gone};
use crate::sim::{
    agenda::Event,
    engine::{Life, MachineId, State},
    trace::{What, hash_of},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sim) struct LinkId(u64);

impl LinkId {
    /// A port for the dialling end, which nobody can dial.
    pub(super) fn port(self) -> u64 {
        1024 + self.0 % 48_000
    }
}

/// A connection. End 0 dialled, end 1 listened; way 0 leads from end 0 to end 1.
pub(super) struct Link {
    pub(super) address: String,
    pub(super) ends: [End; 2],
    ways: [Way; 2],
    pub(super) dial: Dial,
    /// Whether its first chunk says that it is a control connection.
    control: Option<bool>,
}

/// How far a dialler has got.
pub(super) enum Dial {
    Waits(Option<Waker>),
    Accepted,
    Refused,
}

pub(super) struct End {
    pub(super) life: Life,
    /// Bytes that arrived and were not read, from `read` on.
    inbox: Vec<u8>,
    read: usize,
    state: EndState,
    /// The other side will send no more.
    ended: bool,
    /// This side will send no more.
    closed: bool,
    /// How many of its two halves are held.
    pub(super) halves: u8,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum EndState {
    Open,
    /// The connection was reset.
    Broken,
    /// Nobody is there: not yet, or not any more.
    Nobody,
}

#[derive(Default)]
struct Way {
    transit: VecDeque<Segment>,
    /// Bytes that were written and not yet read.
    bytes: usize,
    /// When the last segment so far arrives.
    last_at: u64,
    /// How many arrivals a partition has held back.
    stalled: usize,
    chunks: u64,
    /// The last write was not taken whole.
    within_write: bool,
}

enum Segment {
    Open,
    Accepted,
    Refused,
    Data(Vec<u8>),
    Close,
    Reset,
}

impl Segment {
    fn hash(&self) -> u64 {
        match self {
            Self::Open => 1,
            Self::Accepted => 2,
            Self::Refused => 3,
            Self::Close => 4,
            Self::Reset => 5,
            Self::Data(bytes) => hash_of(bytes),
        }
    }
}

impl End {
    fn of(life: Life, state: EndState) -> Self {
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

impl Link {
    /// From which machine to which one a way leads.
    fn machines(&self, way: usize) -> (MachineId, MachineId) {
        (self.ends[way].life.machine, self.ends[1 - way].life.machine)
    }
}

/// How long a dialler waits before it knocks again at a full backlog.
const KNOCK_AGAIN_NANOS: u64 = 1_000_000_000;

impl State {
    /// Sends the first segment of a new connection.
    pub(super) fn dial(&mut self, from: Life, address: &str) -> LinkId {
        let to = self.owner_of(address).unwrap_or(from.machine);
        let id = LinkId(self.net.next_number());
        let link = Link {
            address: address.to_owned(),
            ends: [End::of(from, EndState::Open), End::of(Life { machine: to, number: 0 }, EndState::Nobody)],
            ways: Default::default(),
            dial: Dial::Waits(None),
            control: None,
        };
        self.net.links.insert(id, link);
        self.send(id, 0, Segment::Open);
        id
    }

    fn latency(&mut self) -> u64 {
        let faults = &self.net.faults;
        let delayed = self.chance.net.happens(faults.delay_chance);
        let delay = if delayed { self.chance.net.within(&(0..=faults.delay_nanos_max)) } else { 0 };
        self.chance.net.within(&faults.latency) + delay
    }

    fn send(&mut self, id: LinkId, way: usize, segment: Segment) {
        let at = self.now + self.latency();
        let Some(link) = self.net.links.get_mut(&id) else { return };
        let from = link.machines(way).0;
        let numbers = [id.0, way as u64, segment.hash()];
        let at = at.max(link.ways[way].last_at);
        link.ways[way].last_at = at;
        link.ways[way].transit.push_back(segment);
        self.agenda.add(at, Event::Arrive { link: id, way });
        self.note(from, What::Send, numbers);
    }

    /// The first segment on a way arrives, unless the way is cut.
    pub(in crate::sim) fn arrive(&mut self, id: LinkId, way: usize) {
        let Some(link) = self.net.links.get_mut(&id) else { return };
        let (from, to) = link.machines(way);
        if self.net.cut.contains(&(from, to)) {
            link.ways[way].stalled += 1;
            return self.note(to, What::Stall, [id.0, way as u64, 0]);
        }
        let Some(segment) = link.ways[way].transit.pop_front() else { return };
        self.note(to, What::Arrive, [id.0, way as u64, segment.hash()]);
        match segment {
            Segment::Open => self.knock(id),
            Segment::Accepted => self.dialled(id, Dial::Accepted),
            Segment::Refused => self.dialled(id, Dial::Refused),
            Segment::Data(bytes) => self.receive(id, way, &bytes),
            Segment::Close => self.close_at(id, 1 - way),
            Segment::Reset => self.reset_at(id, 1 - way),
        }
    }

    /// Lets arrivals go on that a partition has held back.
    pub(super) fn release(&mut self) {
        let mut released = Vec::new();
        for (id, link) in &mut self.net.links {
            for way in 0..2 {
                if !self.net.cut.contains(&link.machines(way)) {
                    let stalled = std::mem::take(&mut link.ways[way].stalled);
                    released.extend((0..stalled).map(|_| (*id, way)));
                }
            }
        }
        for (id, way) in released {
            let at = self.now + self.latency();
            let Some(link) = self.net.links.get_mut(&id) else { continue };
            let at = at.max(link.ways[way].last_at);
            link.ways[way].last_at = at;
            self.agenda.add(at, Event::Arrive { link: id, way });
        }
    }

    fn knock(&mut self, id: LinkId) {
        let Some(link) = self.net.links.get_mut(&id) else { return };
        let machine = link.ends[1].life.machine;
        let port = self.net.ports.get_mut(&link.address).filter(|port| port.owner.machine == machine);
        let Some(port) = port else { return self.send(id, 1, Segment::Refused) };
        if port.backlog.len() >= BACKLOG_LEN_MAX {
            link.ways[0].transit.push_front(Segment::Open);
            self.agenda.add(self.now + KNOCK_AGAIN_NANOS, Event::Arrive { link: id, way: 0 });
            return;
        }
        port.backlog.push_back(id);
        self.later.wake.extend(port.acceptor.take());
        link.ends[1].life = port.owner;
        link.ends[1].state = EndState::Open;
        self.send(id, 1, Segment::Accepted);
    }

    fn dialled(&mut self, id: LinkId, result: Dial) {
        let Some(link) = self.net.links.get_mut(&id) else { return };
        if let Dial::Waits(waker) = std::mem::replace(&mut link.dial, result) {
            self.later.wake.extend(waker);
        }
    }

    fn receive(&mut self, id: LinkId, way: usize, bytes: &[u8]) {
        let Some(link) = self.net.links.get_mut(&id) else { return };
        let to = &mut link.ends[1 - way];
        match to.state {
            EndState::Open if self.chance.net.happens(self.net.faults.reset_chance) => {
                self.note(link_machine(&self.net.links[&id], 1 - way), What::Lose, [id.0, way as u64, 0]);
                self.reset_at(id, 1 - way);
                self.send(id, 1 - way, Segment::Reset);
            }
            EndState::Open => {
                to.inbox.extend_from_slice(bytes);
                self.later.wake.extend(to.reader.take());
            }
            EndState::Broken => {}
            EndState::Nobody => self.send(id, 1 - way, Segment::Reset),
        }
    }

    fn close_at(&mut self, id: LinkId, end: usize) {
        let Some(link) = self.net.links.get_mut(&id) else { return };
        link.ends[end].ended = true;
        self.later.wake.extend(link.ends[end].reader.take());
    }

    /// The connection breaks as this end sees it. What it has sent and what is on the way to it is lost.
    fn reset_at(&mut self, id: LinkId, end: usize) {
        let Some(link) = self.net.links.get_mut(&id) else { return };
        if link.ends[end].state == EndState::Open {
            link.ends[end].state = EndState::Broken;
        }
        for way in &mut link.ways {
            way.transit.clear();
            way.stalled = 0;
        }
        self.later.wake.extend(link.ends[end].reader.take());
        self.later.wake.extend(link.ends[end].writer.take());
        // It may not even have been open yet.
        if end == 0 {
            let Dial::Waits(waker) = &mut link.dial else { return };
            self.later.wake.extend(waker.take());
            link.dial = Dial::Refused;
        }
    }

    /// Sends a chunk once more, unless a write is half done or the connection is no more.
    pub(in crate::sim) fn send_again(&mut self, id: LinkId, way: usize, chunk: Vec<u8>) {
        let Some(link) = self.net.links.get_mut(&id) else { return };
        let end = &link.ends[way];
        if end.state != EndState::Open || end.closed || link.ways[way].within_write {
            return;
        }
        link.ways[way].bytes += chunk.len();
        let from = end.life.machine;
        self.note(from, What::Duplicate, [id.0, way as u64, 0]);
        self.send(id, way, Segment::Data(chunk));
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
        let lost: std::collections::BTreeMap<_, _> = lost;
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

fn link_machine(link: &Link, end: usize) -> MachineId {
    link.ends[end].life.machine
}

/// What the halves of a connection do.
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
}

fn reset() -> io::Error {
    io::Error::new(ErrorKind::ConnectionReset, "the connection was reset")
}

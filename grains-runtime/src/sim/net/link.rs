//! One connection: two ends, and two ways between them on which segments arrive in the order in which they were sent.

use std::{collections::VecDeque, task::Waker};

use super::{
    BACKLOG_LEN_MAX,
    end::{End, EndState},
};
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
    pub(super) ways: [Way; 2],
    pub(super) dial: Dial,
    /// Whether its first chunk says that it is a control connection.
    pub(super) control: Option<bool>,
}

/// How far a dialler has got.
pub(super) enum Dial {
    Waits(Option<Waker>),
    Accepted,
    Refused,
}

#[derive(Default)]
pub(super) struct Way {
    pub(super) transit: VecDeque<Segment>,
    /// Bytes that were written and not yet read.
    pub(super) bytes: usize,
    /// When the last segment so far arrives.
    last_at: u64,
    /// How many arrivals a partition has held back.
    stalled: usize,
    pub(super) chunks: u64,
    /// The last write was not taken whole.
    pub(super) within_write: bool,
}

pub(super) enum Segment {
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

    pub(super) fn send(&mut self, id: LinkId, way: usize, segment: Segment) {
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
                let machine = to.life.machine;
                self.note(machine, What::Lose, [id.0, way as u64, 0]);
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

    /// Breaks all connections between two machines that the first one has dialled.
    pub(super) fn break_dialled(&mut self, from: MachineId, to: MachineId) {
        let dialled = |link: &Link| {
            link.machines(0) == (from, to) && link.ends.iter().all(|end| matches!(end.state, EndState::Open))
        };
        let broken: Vec<_> = self.net.links.iter().filter(|(_, link)| dialled(link)).map(|(id, _)| *id).collect();
        for id in broken {
            self.note(to, What::Lose, [id.0, 0, 0]);
            self.reset_at(id, 1);
            self.send(id, 1, Segment::Reset);
        }
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
}

//! The network: who listens where, which connections there are, and what does not get through.
//!
//! Every chunk draws the time that it takes. On one connection nothing overtakes anything, as with TCP: a chunk that is late
//! holds up what is behind it. Between connections, those of two machines included, anything may overtake anything.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    ops::RangeInclusive,
    task::Waker,
};

use super::engine::{Life, MachineId, State};

mod end;
mod faults;
mod link;
mod transport;

pub use self::faults::Network;
use self::link::Link;
pub(super) use self::{link::LinkId, transport::SimTransport};

pub(super) struct Net {
    faults: Faults,
    /// From whom to whom nothing arrives.
    cut: BTreeSet<(MachineId, MachineId)>,
    ports: BTreeMap<String, Port>,
    /// Who listened last at an address.
    owners: BTreeMap<String, MachineId>,
    links: BTreeMap<LinkId, Link>,
    made: u64,
    next_port: u16,
}

/// What goes wrong, and how often.
struct Faults {
    latency: RangeInclusive<u64>,
    delay_chance: f64,
    delay_nanos_max: u64,
    reset_chance: f64,
    duplicate_chance: f64,
    is_control: Option<fn(&[u8]) -> bool>,
}

/// A place where somebody listens.
struct Port {
    owner: Life,
    /// Which one: an address may be left and taken again.
    number: u64,
    /// Connections that nobody has accepted yet.
    backlog: VecDeque<LinkId>,
    acceptor: Option<Waker>,
}

/// How many connections wait for being accepted; further ones knock again later, as with a real kernel.
const BACKLOG_LEN_MAX: usize = 128;
const FIRST_FREE_PORT: u16 = 49_152;

impl Net {
    pub(super) fn new(latency: RangeInclusive<u64>) -> Self {
        Self {
            faults: Faults {
                latency,
                delay_chance: 0.0,
                delay_nanos_max: 0,
                reset_chance: 0.0,
                duplicate_chance: 0.0,
                is_control: None,
            },
            cut: BTreeSet::new(),
            ports: BTreeMap::new(),
            owners: BTreeMap::new(),
            links: BTreeMap::new(),
            made: 0,
            next_port: FIRST_FREE_PORT,
        }
    }

    /// Empties the network, for being dropped without the lock.
    pub(super) fn take_links(&mut self) -> impl Sized + use<> {
        (std::mem::take(&mut self.links), std::mem::take(&mut self.ports))
    }

    fn next_number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    fn free_port(&mut self) -> u16 {
        let port = self.next_port;
        self.next_port = port.checked_add(1).unwrap_or(FIRST_FREE_PORT);
        port
    }
}

impl State {
    /// Takes an address; the result is it with its port, and the number of the listener.
    fn listen(&mut self, life: Life, address: &str) -> io::Result<(String, u64)> {
        let (host, port) = parts(address)?;
        if !self.is_live(life) {
            return Err(gone());
        }
        let mut full = format!("{host}:{port}");
        while port == 0 && (full.ends_with(":0") || self.net.ports.contains_key(&full)) {
            full = format!("{host}:{}", self.net.free_port());
        }
        if self.net.ports.contains_key(&full) {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, format!("cannot listen at {full}: it is in use")));
        }
        let number = self.net.next_number();
        self.net.owners.insert(full.clone(), life.machine);
        let port = Port { owner: life, number, backlog: VecDeque::new(), acceptor: None };
        self.net.ports.insert(full.clone(), port);
        Ok((full, number))
    }

    /// Leaves an address. Who knocked there and was not let in finds the door closed.
    fn unlisten(&mut self, address: &str, number: u64) {
        if self.net.ports.get(address).is_none_or(|port| port.number != number) {
            return;
        }
        let Some(port) = self.net.ports.remove(address) else { return };
        self.later.drop.extend(port.acceptor);
        port.backlog.into_iter().for_each(|link| self.leave(link, 1));
    }

    /// The machine behind an address: who listens there, who did, or whose name it is.
    fn owner_of(&self, address: &str) -> Option<MachineId> {
        let listens = self.net.ports.get(address).map(|port| port.owner.machine);
        let listened = || self.net.owners.get(address).copied();
        let named = || self.find_machine(address.rsplit_once(':')?.0);
        listens.or_else(listened).or_else(named)
    }
}

/// Host and port.
fn parts(address: &str) -> io::Result<(&str, u16)> {
    let split = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    let parsed = split.and_then(|(host, port)| Some((host, port.parse().ok()?)));
    parsed.ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("\"{address}\" is no address: write \"host:port\""))
    })
}

/// What a machine that has crashed hears from its network.
fn gone() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the machine crashed")
}

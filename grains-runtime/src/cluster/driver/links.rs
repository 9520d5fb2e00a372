//! Raft's messages over the wire.

use std::{
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use grains_core::{
    codec,
    world::{BoxFuture, Clock},
};
use grains_store::replicated::{Peers, Unanswered};
use litemap::LiteMap;

use super::Driver;
use crate::{
    cluster::{
        consensus::{self, LinkError, RaftLinks},
        control::{Answer, Ask},
        names::NodeId,
    },
    sync::{Mutex, lock},
    timeout::timeout,
    wire::{Lane, RequestError, Wire},
};

/// The way of stores to each other, over the wire, once there is one.
#[derive(Default)]
pub(crate) struct StatePeers {
    ways: OnceLock<Arc<Ways>>,
    driver: OnceLock<Weak<Driver>>,
}

impl StatePeers {
    pub(crate) fn tie(&self, ways: Arc<Ways>, driver: Weak<Driver>) {
        drop(self.ways.set(ways));
        drop(self.driver.set(driver));
    }
}

impl Peers for StatePeers {
    fn ask(
        &self,
        to: Option<NodeId>,
        address: &str,
        lane: consensus::Lane,
        body: Vec<u8>,
        limit: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, Unanswered>> {
        let lane = match lane {
            consensus::Lane::Control => Lane::States,
            consensus::Lane::Bulk => Lane::Bulk,
        };
        let asking = ask(&self.ways, to, address, lane, &Ask::States(body), limit);
        Box::pin(async move {
            match asking.await? {
                Some(Answer::States(body)) => Ok(body),
                Some(Answer::Refused(why)) => Err(Unanswered { why, sent: false }),
                _ => Err(Unanswered { why: "the answer is none of a store's".into(), sent: true }),
            }
        })
    }

    fn voters(&self) -> Vec<String> {
        let driver = self.driver.get().and_then(Weak::upgrade);
        driver.map_or_else(Vec::new, |driver| {
            driver.addresses_to_ask(driver.voters().into_iter().map(|(_, address)| address))
        })
    }
}

/// The wire, once there is one: Raft begins before the node listens.
#[derive(Default)]
pub(crate) struct Links {
    ways: OnceLock<Arc<Ways>>,
}

impl Links {
    pub(crate) fn tie(&self, ways: Arc<Ways>) {
        drop(self.ways.set(ways));
    }
}

impl RaftLinks for Links {
    fn call(
        &self,
        to: NodeId,
        address: &str,
        lane: consensus::Lane,
        body: Vec<u8>,
        limit: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, LinkError>> {
        let lane = match lane {
            consensus::Lane::Control => Lane::Control,
            consensus::Lane::Bulk => Lane::Bulk,
        };
        let asking = ask(&self.ways, Some(to), address, lane, &Ask::Raft(body), limit);
        Box::pin(async move {
            match asking.await.map_err(|Unanswered { why, .. }| LinkError { why })? {
                Some(Answer::Raft(body)) => Ok(body),
                _ => Err(LinkError { why: "the answer is none of Raft's".into() }),
            }
        })
    }
}

/// The wire, and where on it nodes are that are not where the cluster has them: all of them were stopped and have come back
/// elsewhere, so there is no leader who could be told. They are looked for at the addresses to join by.
pub(crate) struct Ways {
    wire: Arc<Wire>,
    clock: Arc<dyn Clock>,
    /// The addresses to join by, without this node's own.
    join: Vec<String>,
    /// Where each node was found, or is to be looked for next: 0 is where the cluster has it, then come the addresses to
    /// join by. As many as have ever had a vote.
    found: Mutex<LiteMap<NodeId, usize>>,
}

/// Why there is no answer.
enum Missed {
    /// Nobody is there, or another node.
    NotThere(Unanswered),
    NoAnswer(Unanswered),
}

impl From<Missed> for Unanswered {
    fn from((Missed::NotThere(why) | Missed::NoAnswer(why)): Missed) -> Self {
        why
    }
}

impl Ways {
    pub(crate) fn new(wire: Arc<Wire>, clock: Arc<dyn Clock>, join: &[String]) -> Arc<Self> {
        let join = join.iter().filter(|address| *address != wire.address()).cloned().collect();
        Arc::new(Self { wire, clock, join, found: Mutex::default() })
    }

    /// Asks `to`, at `known` or wherever it is now.
    async fn ask(
        &self,
        to: NodeId,
        known: &str,
        lane: Lane,
        body: &[u8],
        limit: Duration,
    ) -> Result<Vec<u8>, Unanswered> {
        let places = 1 + self.join.len();
        let first = lock(&self.found).get(&to).copied().unwrap_or_default();
        let mut missed = Unanswered { why: String::new(), sent: false };
        for place in (first..places).chain(0..first) {
            let address = if place == 0 { known } else { &self.join[place - 1] };
            if place > 0 && address == known {
                continue;
            }
            // Whoever has no more patience with an address that says nothing begins with the next one.
            self.note(to, (place + 1) % places);
            match self.ask_at(Some(to), address, lane, body.to_vec(), limit).await {
                Err(Missed::NotThere(Unanswered { why, sent })) => {
                    missed = Unanswered { why, sent: missed.sent || sent };
                }
                answered_or_not => {
                    self.note(to, place);
                    return answered_or_not.map_err(Unanswered::from);
                }
            }
        }
        self.note(to, 0);
        Err(missed)
    }

    fn note(&self, node: NodeId, place: usize) {
        let mut found = lock(&self.found);
        match place {
            0 => found.remove(&node),
            _ => found.insert(node, place),
        };
    }

    async fn ask_at(
        &self,
        to: Option<NodeId>,
        address: &str,
        lane: Lane,
        body: Vec<u8>,
        limit: Duration,
    ) -> Result<Vec<u8>, Missed> {
        let response = self.wire.request(address, lane, body, limit).await.map_err(|error| {
            let why = error.to_string();
            match error {
                RequestError::Unanswered { .. } => Missed::NoAnswer(Unanswered { why, sent: true }),
                _ => Missed::NotThere(Unanswered { why, sent: false }),
            }
        })?;
        if let Some(to) = to.filter(|to| *to != response.from.node) {
            let why = format!("node {} is where {to} was", response.from.node);
            return Err(Missed::NotThere(Unanswered { why, sent: true }));
        }
        Ok(response.body)
    }
}

/// Asks the node at `address`; if `to` is given it has to be that one, which may have moved. No answer if this node cannot
/// read it.
fn ask(
    ways: &OnceLock<Arc<Ways>>,
    to: Option<NodeId>,
    address: &str,
    lane: Lane,
    ask: &Ask,
    limit: Duration,
) -> impl Future<Output = Result<Option<Answer>, Unanswered>> + Send + use<> {
    let body = codec::encode(ask).expect("bytes can be encoded");
    let ways = ways.get().cloned();
    let address = address.to_owned();
    async move {
        let Some(ways) = ways else {
            return Err(Unanswered { why: "this node does not listen yet".into(), sent: false });
        };
        let answer = match to {
            Some(to) => {
                let asking = Box::pin(ways.ask(to, &address, lane, &body, limit));
                let late = || Unanswered { why: format!("no answer within {limit:?}"), sent: true };
                timeout(&ways.clock, limit, asking).await.ok_or_else(late)?
            }
            None => ways.ask_at(None, &address, lane, body, limit).await.map_err(Unanswered::from),
        };
        Ok(codec::decode(&answer?).ok())
    }
}

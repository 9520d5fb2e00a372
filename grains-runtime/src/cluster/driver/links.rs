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
    /// Where each node was found, or is to be looked for first: 0 is where the cluster has it, then come the addresses to
    /// join by. As many as have ever had a vote.
    found: Mutex<LiteMap<NodeId, usize>>,
}

impl From<RequestError> for Unanswered {
    fn from(error: RequestError) -> Self {
        Self { sent: matches!(error, RequestError::Unanswered { .. }), why: error.to_string() }
    }
}

impl Ways {
    pub(crate) fn new(wire: Arc<Wire>, clock: Arc<dyn Clock>, join: &[String]) -> Arc<Self> {
        let join = join.iter().filter(|address| *address != wire.address()).cloned().collect();
        Arc::new(Self { wire, clock, join, found: Mutex::default() })
    }

    /// Asks `to`, at `known` or wherever it is now. Whoever else is found on the way is not asked.
    async fn ask(
        &self,
        to: NodeId,
        known: &str,
        lane: Lane,
        body: Arc<Vec<u8>>,
        limit: Duration,
    ) -> Result<Vec<u8>, Unanswered> {
        let (places, first) = (self.places(), self.first_place(to));
        let mut missed = Unanswered { why: String::new(), sent: false };
        for place in (first..places).chain(0..first) {
            let address = if place == 0 { known } else { &self.join[place - 1] };
            if place > 0 && address == known {
                continue;
            }
            let mut looking = Looking { ways: self, to, place, address, lane, is_over: false };
            // The caller's patience ends before this one: by that it is known where to begin the next time.
            let answer = self.wire.request_of(to, address, lane, body.clone(), limit * 2).await;
            looking.is_over = true;
            match answer {
                Err(
                    error
                    @ (RequestError::Unreachable { .. } | RequestError::Refused(_) | RequestError::Another { .. }),
                ) => missed = error.into(),
                answer => {
                    self.note(to, place);
                    return Ok(answer?.body);
                }
            }
        }
        Err(missed)
    }

    fn places(&self) -> usize {
        1 + self.join.len()
    }

    fn first_place(&self, node: NodeId) -> usize {
        lock(&self.found).get(&node).copied().unwrap_or_default()
    }

    fn note(&self, node: NodeId, place: usize) {
        let mut found = lock(&self.found);
        match place {
            0 => found.remove(&node),
            _ => found.insert(node, place),
        };
    }
}

/// A place where a node is looked for. Whoever has no more patience with an address that says nothing begins with the next
/// one; if the node is there, it is slow, and nowhere else.
struct Looking<'t> {
    ways: &'t Ways,
    to: NodeId,
    place: usize,
    address: &'t str,
    lane: Lane,
    is_over: bool,
}

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        let Self { ways, to, place, address, lane, is_over } = *self;
        if is_over || ways.wire.is_at(to, address, lane) {
            return;
        }
        // Others may have found it meanwhile.
        if ways.first_place(to) == place {
            ways.note(to, (place + 1) % ways.places());
        }
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
    let body = Arc::new(codec::encode(ask).expect("bytes can be encoded"));
    let ways = ways.get().cloned();
    let address = address.to_owned();
    async move {
        let Some(ways) = ways else {
            return Err(Unanswered { why: "this node does not listen yet".into(), sent: false });
        };
        let answer = match to {
            Some(to) => {
                let asking = Box::pin(ways.ask(to, &address, lane, body, limit));
                let late = || Unanswered { why: format!("no answer within {limit:?}"), sent: true };
                timeout(&ways.clock, limit, asking).await.ok_or_else(late)??
            }
            None => ways.wire.request(&address, lane, body, limit).await?.body,
        };
        Ok(codec::decode(&answer).ok())
    }
}

#[cfg(test)]
mod tests;

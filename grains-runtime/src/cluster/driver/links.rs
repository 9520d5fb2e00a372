//! Raft's messages over the wire.

use std::{
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use grains_core::{codec, world::BoxFuture};
use grains_store::replicated::{Peers, Unanswered};

use super::Driver;
use crate::{
    cluster::{
        consensus::{self, LinkError, RaftLinks},
        control::{Answer, Ask},
        names::NodeId,
    },
    wire::{Lane, RequestError, Wire},
};

/// The way of stores to each other, over the wire, once there is one.
#[derive(Default)]
pub(crate) struct StatePeers {
    wire: OnceLock<Arc<Wire>>,
    driver: OnceLock<Weak<Driver>>,
}

impl StatePeers {
    pub(crate) fn tie(&self, wire: Arc<Wire>, driver: Weak<Driver>) {
        drop(self.wire.set(wire));
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
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, Unanswered>> {
        let lane = match lane {
            consensus::Lane::Control => Lane::States,
            consensus::Lane::Bulk => Lane::Bulk,
        };
        let asking = ask(&self.wire, to, address, lane, &Ask::States(body), timeout);
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
    wire: OnceLock<Arc<Wire>>,
}

impl Links {
    pub(crate) fn tie(&self, wire: Arc<Wire>) {
        drop(self.wire.set(wire));
    }
}

impl RaftLinks for Links {
    fn call(
        &self,
        to: NodeId,
        address: &str,
        lane: consensus::Lane,
        body: Vec<u8>,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, LinkError>> {
        let lane = match lane {
            consensus::Lane::Control => Lane::Control,
            consensus::Lane::Bulk => Lane::Bulk,
        };
        let asking = ask(&self.wire, Some(to), address, lane, &Ask::Raft(body), timeout);
        Box::pin(async move {
            match asking.await.map_err(|Unanswered { why, .. }| LinkError { why })? {
                Some(Answer::Raft(body)) => Ok(body),
                _ => Err(LinkError { why: "the answer is none of Raft's".into() }),
            }
        })
    }
}

/// Asks the node at `address`, which has to be `to` if that is given. No answer if this node cannot read it.
fn ask(
    wire: &OnceLock<Arc<Wire>>,
    to: Option<NodeId>,
    address: &str,
    lane: Lane,
    ask: &Ask,
    timeout: Duration,
) -> impl Future<Output = Result<Option<Answer>, Unanswered>> + Send + use<> {
    let body = codec::encode(ask).expect("bytes can be encoded");
    let asking = wire.get().map(|wire| wire.request(address, lane, body, timeout));
    async move {
        let Some(asking) = asking else {
            return Err(Unanswered { why: "this node does not listen yet".into(), sent: false });
        };
        let response = asking.await.map_err(|error| {
            let sent = matches!(error, RequestError::Unanswered { .. });
            Unanswered { why: error.to_string(), sent }
        })?;
        if let Some(to) = to.filter(|to| *to != response.from.node) {
            return Err(Unanswered { why: format!("node {} is where {to} was", response.from.node), sent: true });
        }
        Ok(codec::decode(&response.body).ok())
    }
}

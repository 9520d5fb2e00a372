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
        let failed = |why: String, sent| Unanswered { why, sent };
        let Some(wire) = self.wire.get() else {
            return Box::pin(async move { Err(failed("this node does not listen yet".into(), false)) });
        };
        let lane = match lane {
            consensus::Lane::Control => Lane::States,
            consensus::Lane::Bulk => Lane::Bulk,
        };
        let body = codec::encode(&Ask::States(body)).expect("bytes can be encoded");
        let asking = wire.request(address, lane, body, timeout);
        Box::pin(async move {
            let response = asking.await.map_err(|why| {
                let sent = matches!(why, RequestError::Unanswered { .. });
                failed(why.to_string(), sent)
            })?;
            if let Some(to) = to.filter(|to| *to != response.from.node) {
                return Err(failed(format!("node {} is where {to} was", response.from.node), true));
            }
            match codec::decode(&response.body) {
                Ok(Answer::States(body)) => Ok(body),
                Ok(Answer::Refused(why)) => Err(failed(why, false)),
                _ => Err(failed("the answer is none of a store's".into(), true)),
            }
        })
    }

    fn voters(&self) -> Vec<String> {
        let driver = self.driver.get().and_then(Weak::upgrade);
        driver.map_or_else(Vec::new, |driver| driver.addresses_to_ask(driver.voters().into_values()))
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
        let failed = |why: String| LinkError { why };
        let Some(wire) = self.wire.get() else {
            return Box::pin(async move { Err(failed("this node does not listen yet".into())) });
        };
        let lane = match lane {
            consensus::Lane::Control => Lane::Control,
            consensus::Lane::Bulk => Lane::Bulk,
        };
        let body = codec::encode(&Ask::Raft(body)).expect("bytes can be encoded");
        let asking = wire.request(address, lane, body, timeout);
        Box::pin(async move {
            let response = asking.await.map_err(|why| failed(why.to_string()))?;
            if response.from.node != to {
                return Err(failed(format!("node {} is where {to} was", response.from.node)));
            }
            match codec::decode(&response.body) {
                Ok(Answer::Raft(body)) => Ok(body),
                _ => Err(failed("the answer is none of Raft's".into())),
            }
        })
    }
}

//! Raft's messages over the wire.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use grains_core::{codec, world::BoxFuture};

use crate::{
    cluster::{
        consensus::{self, LinkError, RaftLinks},
        control::{Answer, Ask},
        names::NodeId,
    },
    wire::{Lane, Wire},
};

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

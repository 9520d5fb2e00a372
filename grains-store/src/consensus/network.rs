//! Raft's messages to other voters and from them. A body names the node it is for, so that a node which now sits at
//! another one's address refuses it. How bodies travel is up to [`RaftLinks`].

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use grains_core::{codec, world::BoxFuture};
use openraft::{
    BasicNode, OptionalSend, Raft, RaftNetworkFactory,
    alias::SnapshotOf,
    async_runtime::Select2,
    errors::{RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable},
    network::{RPCOption, RaftNetworkV2},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
        VoteRequest, VoteResponse,
    },
    rt::AsyncRuntime,
    storage::Snapshot,
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    body::{Body, Kind, Reply, join_snapshot, split_snapshot},
    machine::{Driven, Image},
    runtime::{WorldRuntime, random},
    snapshot::{self, Arrived, Arriving, PART_BYTES, PartHead},
    types::{Types, Vote},
};
use crate::NodeId;

/// The largest body that is looked at: more than the largest command, or part of a snapshot, and what is said about it.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// How long a voter may take for what comes after the last part of a snapshot: the old state goes, the new one is made
/// durable.
const INSTALL_MAX: Duration = Duration::from_secs(60);

/// How long this node may work on anything but that: longer than any voter waits for an answer. It only keeps requests from
/// piling up behind a disk that hangs.
const RECEIVE_MAX: Duration = Duration::from_secs(5);

/// How a body travels to another node and its answer comes back.
pub trait RaftLinks: Send + Sync + 'static {
    /// Hands `body` to [`Consensus::handle`](super::Consensus::handle) of the node `to`, believed to be at `address`, and
    /// gives its answer, or an error after `timeout` at the latest.
    fn call(
        &self,
        to: NodeId,
        address: &str,
        lane: Lane,
        body: Vec<u8>,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, LinkError>>;
}

/// On which connection a body goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Small and urgent: heartbeats, votes, entries.
    Control,
    /// Large: a snapshot, which must not hold up a heartbeat.
    Bulk,
}

/// There was no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct LinkError {
    /// Why.
    pub why: String,
}

/// Makes a client for each voter; openraft asks for separate ones for entries, heartbeats and snapshots.
pub(super) struct Network {
    pub(super) me: NodeId,
    pub(super) links: Arc<dyn RaftLinks>,
    pub(super) addresses: Addresses,
    /// How long another voter may take to store entries. openraft would allow no more than for a heartbeat, which a slow
    /// disk does not keep.
    pub(super) entries_max: Duration,
    pub(super) sent: Sent,
}

/// How much of a snapshot each node has taken, for whoever waits for that.
#[derive(Clone, Default)]
pub(super) struct Sent(Arc<Mutex<BTreeMap<NodeId, u64>>>);

impl Sent {
    /// The most parts of one sending that `node` has taken since it was last forgotten.
    pub(super) fn parts(&self, node: NodeId) -> u64 {
        self.known().get(&node).copied().unwrap_or_default()
    }

    pub(super) fn forget(&self, node: NodeId) {
        self.known().remove(&node);
    }

    fn took(&self, node: NodeId, parts: u64) {
        let mut known = self.known();
        let most = known.entry(node).or_default();
        *most = parts.max(*most);
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<NodeId, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the nodes are by the latest change of voters. openraft keeps its clients when a node moves.
#[derive(Clone, Default)]
pub(super) struct Addresses(Arc<Mutex<BTreeMap<u64, String>>>);

impl Addresses {
    pub(super) fn replace<'n>(&self, nodes: impl Iterator<Item = (&'n u64, &'n BasicNode)>) {
        *self.known() = nodes.map(|(id, node)| (*id, node.addr.clone())).collect();
    }

    fn of(&self, node: NodeId) -> Option<String> {
        self.known().get(&node.0).cloned()
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<u64, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Client {
        let (links, addresses) = (self.links.clone(), self.addresses.clone());
        let (me, to, entries_max, sent) = (self.me, NodeId(target), self.entries_max, self.sent.clone());
        Client { me, to, first_address: node.addr.clone(), links, addresses, entries_max, sent }
    }
}

/// Calls one other voter.
pub(super) struct Client {
    me: NodeId,
    to: NodeId,
    /// Where it was when this client was made, for a node that `addresses` does not have yet.
    first_address: String,
    links: Arc<dyn RaftLinks>,
    addresses: Addresses,
    entries_max: Duration,
    sent: Sent,
}

impl Client {
    async fn call<A: Serialize, R: DeserializeOwned>(
        &self,
        kind: Kind,
        arguments: &A,
        ttl: Duration,
    ) -> Result<R, Failed> {
        let arguments = codec::encode(arguments).map_err(unreachable)?;
        self.call_encoded(kind, Lane::Control, &arguments, ttl).await
    }

    /// Every failure is an "unreachable", for which openraft waits a little before it tries again; it retries others at
    /// once.
    async fn call_encoded<R: DeserializeOwned>(
        &self,
        kind: Kind,
        lane: Lane,
        arguments: &[u8],
        ttl: Duration,
    ) -> Result<R, Failed> {
        let body = Body { kind, to: self.to, from: self.me, arguments }.encode();
        let latest = self.addresses.of(self.to);
        let address = latest.as_ref().unwrap_or(&self.first_address);
        let call = self.links.call(self.to, address, lane, body, ttl);
        // The links keep the time too, but Raft must not depend on that.
        let answer = WorldRuntime::timeout(ttl, call).await.map_err(unreachable)?.map_err(unreachable)?;
        match Reply::decode(&answer).map_err(unreachable)? {
            Reply::Done(result) => codec::decode(result).map_err(unreachable),
            Reply::Refused(why) => Err(unreachable(why)),
        }
    }

    /// Sends a snapshot part by part, each once the one before it has arrived.
    async fn send_parts(
        &self,
        vote: Vote,
        snapshot: SnapshotOf<Types, Image>,
        part_ttl: Duration,
    ) -> Result<SnapshotResponse<Types>, Failed> {
        let Snapshot { meta, snapshot: mut outgoing } = snapshot;
        let mut head = PartHead { vote, meta, sending: random(), part: 0, last: false };
        loop {
            let part = outgoing.part().await.map_err(unreachable)?;
            head.last = part.is_none();
            let bytes = codec::encode(&head).map_err(unreachable)?;
            let arguments = join_snapshot(&bytes, &part.unwrap_or_default());
            if head.last {
                return self.call_encoded(Kind::Snapshot, Lane::Bulk, &arguments, INSTALL_MAX).await;
            }
            self.call_encoded::<()>(Kind::Snapshot, Lane::Bulk, &arguments, part_ttl).await?;
            head.part += 1;
            self.sent.took(self.to, head.part);
        }
    }
}

type Failed = Unreachable<Types>;

fn unreachable(why: impl ToString) -> Failed {
    Unreachable::from_string(why)
}

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = Image;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let heartbeat = option.hard_ttl();
        let ttl = if request.entries.is_empty() { heartbeat } else { heartbeat.max(self.entries_max) };
        Ok(self.call(Kind::Append, &request, ttl).await?)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Ok(self.call(Kind::Vote, &request, option.hard_ttl()).await?)
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        Ok(self.call(Kind::PreVote, &request, option.hard_ttl()).await?)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<Types, Image>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let call = self.send_parts(vote, snapshot, option.hard_ttl());
        match WorldRuntime::select2(cancel, call).await {
            Select2::First(closed) => Err(closed.into()),
            Select2::Second(answer) => Ok(answer?),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        Ok(self.call(Kind::Transfer, &request, option.hard_ttl()).await?)
    }
}

/// What is needed to do what other voters ask for.
pub(super) struct Receiver<'r> {
    pub(super) me: NodeId,
    pub(super) raft: &'r Raft<Types, Driven>,
    pub(super) driven: &'r Driven,
    pub(super) arriving: &'r Arc<tokio::sync::Mutex<Option<Arriving>>>,
}

impl Receiver<'_> {
    /// Does what a body asks for. Whatever it holds, there is an answer.
    pub(super) async fn receive(&self, body: &[u8]) -> Result<Vec<u8>, String> {
        if body.len() > BODY_BYTES_MAX {
            return Err(format!("a message of {} bytes, of at most {BODY_BYTES_MAX}", body.len()));
        }
        let body = Body::decode(body)?;
        let me = self.me;
        if body.to != me {
            return Err(format!("this is node {me}, not {}", body.to));
        }
        if body.from == me {
            return Err(format!("another node has the number {me} too: was a data folder copied?"));
        }
        if body.kind == Kind::Snapshot {
            return self.part(body.from, body.arguments).await;
        }
        let doing = WorldRuntime::timeout(RECEIVE_MAX, self.answer(body.kind, body.arguments));
        doing.await.map_err(|late| late.to_string())?
    }

    async fn answer(&self, kind: Kind, arguments: &[u8]) -> Result<Vec<u8>, String> {
        let raft = self.raft;
        match kind {
            Kind::Append => answer(raft.append_entries(decoded(arguments)?).await),
            Kind::Vote => answer(raft.vote(decoded(arguments)?).await),
            Kind::PreVote => answer(raft.pre_vote(decoded(arguments)?).await),
            Kind::Transfer => answer(raft.handle_transfer_leader(decoded(arguments)?).await.map_err(RaftError::Fatal)),
            Kind::Snapshot => Err("a part of a snapshot has a way of its own".to_owned()),
        }
    }

    /// Takes a part of a snapshot. What cannot be read as one does not reach openraft, which would stop this node for it.
    async fn part(&self, from: NodeId, arguments: &[u8]) -> Result<Vec<u8>, String> {
        let (head, bytes) = split_snapshot(arguments)?;
        let head: PartHead = decoded(head)?;
        if bytes.len() > 2 * PART_BYTES {
            return Err(format!("a part of {} bytes, of at most {}", bytes.len(), 2 * PART_BYTES));
        }
        let taking = async {
            let mut place = self.arriving.clone().lock_owned().await;
            let arrived = snapshot::arrive(&mut place, self.driven, from, &head, bytes).await;
            arrived.map(|arrived| (arrived, place))
        };
        match WorldRuntime::timeout(RECEIVE_MAX, taking).await.map_err(|late| late.to_string())?? {
            (Arrived::Part, _) => codec::encode(&()).map_err(|error| error.to_string()),
            (Arrived::Whole(whole), place) => {
                let snapshot = Snapshot { meta: head.meta, snapshot: whole };
                let raft = self.raft.clone();
                // A task of its own that keeps the place to its end, whoever still waits: no other snapshot begins to come
                // in where this one waits to be installed.
                let installing = WorldRuntime::spawn(async move {
                    let installed = raft.install_full_snapshot(head.vote, snapshot).await;
                    drop(place);
                    installed
                });
                let installed =
                    WorldRuntime::timeout(INSTALL_MAX, installing).await.map_err(|late| late.to_string())?;
                answer(installed.map_err(|error| error.to_string())?.map_err(RaftError::Fatal))
            }
        }
    }
}

fn decoded<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    codec::decode(bytes).map_err(|error| error.to_string())
}

fn answer<T: Serialize>(result: Result<T, RaftError<Types>>) -> Result<Vec<u8>, String> {
    let value = result.map_err(|error| error.to_string())?;
    codec::encode(&value).map_err(|error| error.to_string())
}

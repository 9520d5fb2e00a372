//! Connections between nodes: one port, a handshake, and frames. Questions go by address (`control`), calls of grains by
//! member (`link`), each over connections of their own, so that neither holds up the other. Whoever builds a node gives it
//! a [`WireHandler`] and keeps the [`Wire`].
//!
//! Reading order: `frame` and `handshake` (what is said; pure), `outbox`, `keepalive` and `backoff` (pure but for a lock),
//! `pump` (bytes of one connection), `security` and `identity` (who is at its other end), `dial`, `listener` and
//! `handshakes` (how one comes about), `complaints` (what is said if not), `control`, `asked` and `serve` (questions and
//! answers), `link` and `heard` (calls, and those of others), `clients` (calls from outside of the cluster), `shared` (what
//! all of these know).

use std::{sync::Arc, time::Duration};

use grains_core::world::{BoxFuture, World};

mod address;
mod asked;
mod backoff;
pub(crate) mod clients;
mod complaints;
mod config;
mod control;
mod counters;
mod crew;
mod dial;
mod ended;
pub(crate) mod frame;
pub(crate) mod handshake;
mod handshakes;
mod heard;
mod identity;
mod keepalive;
mod link;
mod listener;
#[cfg(feature = "metrics")]
mod meters;
mod outbox;
mod pump;
mod security;
mod serve;
mod shared;

#[cfg(feature = "client")]
pub(crate) use self::backoff::Backoff;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::control::Head;
#[cfg(any(test, feature = "sim"))]
pub(crate) use self::handshake::is_control_connection;
pub(crate) use self::{
    address::ListenError,
    clients::{Ear, Line, Newcomer, Port},
    config::{Limits, Reach, WireConfig},
    control::{Lane, RequestError, Response},
    counters::micros,
    frame::is_control,
    link::Link,
    outbox::{Company, Marks, Order, SendError, Sent, Ticket},
    security::Security,
};
use self::{address::advertised, listener::Door, shared::Shared};
#[cfg(test)]
pub(crate) use self::{counters::PeerCounters, handshake::Reason};
#[cfg(feature = "tls")]
pub(crate) use self::{
    identity::{Identity, Role},
    security::Unsecured,
};
#[cfg(feature = "cluster")]
use crate::cluster::LinkStatus;
use crate::cluster::{Incarnation, MemberId, NodeId, NodeName};

/// Who is at the other end, as it says itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerInfo {
    /// Its name.
    pub(crate) name: NodeName,
    /// Which node.
    pub(crate) node: NodeId,
    /// Which life of it when it sent this; none while it is no member.
    pub(crate) incarnation: Option<Incarnation>,
}

/// Why a frame means nothing to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unreadable(pub(crate) &'static str);

/// What a node does with what arrives. Its functions are called by the tasks of connections.
pub(crate) trait WireHandler: Send + Sync + 'static {
    /// Answers a question. Each has a task of its own, which goes on to its end when the connection breaks, and is dropped
    /// when the wire is closed.
    fn control(&self, from: PeerInfo, body: Vec<u8>) -> BoxFuture<'static, Vec<u8>>;

    /// A frame of `from` has arrived over its link of number `link`; those of one link arrive in order. Nothing more is
    /// read from that link until this returns, so it does not wait. One that cannot be read ends the connection. `memo` is the
    /// handler's own, kept with the connection: zero at first.
    fn data(&self, from: MemberId, link: u64, kind: u8, body: &[u8], memo: &mut u64) -> Result<(), Unreadable>;

    /// The link of number `link` of `from` has ended, behind the last frame that came over it; what else was on it is lost.
    /// `asked` is a link of this node to that member, and how much was sent on it: that may have been answered in vain.
    /// What was sent behind it, or on a later link, is answered on another link of `from`; what was sent on an earlier one
    /// is told by [`link_down`](Self::link_down).
    fn data_ended(&self, from: MemberId, link: u64, asked: Option<(u64, Marks)>);

    /// What the node of this number is called, if it is a member. Asked of nodes with certificates, which say a name.
    fn name_of(&self, node: NodeId) -> Option<NodeName> {
        let _ = node;
        None
    }

    /// A client wants to call grains by way of this node. The error is for its people.
    fn client(&self, newcomer: Newcomer) -> Result<Box<dyn Ear>, String> {
        let _ = newcomer;
        Err("this node takes no clients".to_owned())
    }

    /// The link of this number is dead. No frame of it beyond `written` has left this node whole or ever will; those up to it
    /// may have arrived. Told exactly once for each link, also when it was closed here.
    fn link_down(&self, to: MemberId, link: u64, written: Marks);
}

/// Asks, and hears nothing: for those to whom nobody connects.
pub(crate) struct Deaf;

impl WireHandler for Deaf {
    fn control(&self, _: PeerInfo, _: Vec<u8>) -> BoxFuture<'static, Vec<u8>> {
        Box::pin(async { Vec::new() })
    }

    fn data(&self, _: MemberId, _: u64, _: u8, _: &[u8], _: &mut u64) -> Result<(), Unreadable> {
        Ok(())
    }

    fn data_ended(&self, _: MemberId, _: u64, _: Option<(u64, Marks)>) {}

    fn link_down(&self, _: MemberId, _: u64, _: Marks) {}
}

/// The connections of one node. Dropped without [`close`](Self::close), it ends its tasks but does not wait for them.
pub(crate) struct Wire {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("address", &self.shared.address).finish_non_exhaustive()
    }
}

impl Wire {
    /// Listens. From now on the handler is called.
    pub(crate) async fn listen(
        world: &World,
        config: WireConfig,
        handler: Arc<dyn WireHandler>,
    ) -> Result<Arc<Self>, ListenError> {
        let listener = world.transport.listen(&config.listen).await;
        let listener = listener.map_err(|why| ListenError::new(&config.listen, &why))?;
        let real = listener.local_address().map_err(|why| ListenError::new(&config.listen, &why))?;
        let address = advertised(&config, &real)?;
        if let Security::Plain = config.security
            && !address::is_local(&real)
        {
            tracing::warn!(
                node = %config.name,
                listens = real,
                "PLAINTEXT on a network: whoever can connect can join the cluster, call every grain and read all that its nodes \
                 say (`plaintext_on_any_network`)"
            );
        }
        tracing::info!(node = %config.name, listens = real, address, "the wire is up");
        let shared = Arc::new(Shared::new(world.clone(), config, address, handler));
        if let Some(keeping) = shared.config.security.kept_fresh(world) {
            shared.crew.spawn(keeping);
        }
        shared.crew.spawn(listener::run(shared.clone(), Door::new(Port::OfNodes), listener));
        Ok(Arc::new(Self { shared }))
    }

    /// Asks others, and takes no connections: for whoever speaks for a node without being it.
    pub(crate) fn asking(world: &World, config: WireConfig, handler: Arc<dyn WireHandler>) -> Self {
        Self { shared: Arc::new(Shared::new(world.clone(), config, String::new(), handler)) }
    }

    /// Listens for clients at an address of their own, too, and gives the one by which they reach it.
    pub(crate) async fn listen_for_clients(
        &self,
        listen: &str,
        advertise: Option<&str>,
    ) -> Result<String, ListenError> {
        let shared = &self.shared;
        let listener = shared.world.transport.listen(listen).await.map_err(|why| ListenError::new(listen, &why))?;
        let real = listener.local_address().map_err(|why| ListenError::new(listen, &why))?;
        let (listen, advertise) = (listen.to_owned(), advertise.map(str::to_owned));
        let address = advertised(&WireConfig { listen, advertise, ..shared.config.clone() }, &real)?;
        if let Security::Plain = shared.config.security
            && !address::is_local(&real)
        {
            tracing::warn!(
                node = %shared.config.name,
                listens = real,
                "PLAINTEXT for clients on a network: whoever can connect can call what is marked for clients \
                 (`plaintext_on_any_network`)"
            );
        }
        tracing::info!(node = %shared.config.name, listens = real, address, "clients are taken");
        shared.crew.spawn(listener::run(shared.clone(), Door::new(Port::OfClients), listener));
        Ok(address)
    }

    /// Where other nodes reach this one.
    pub(crate) fn address(&self) -> &str {
        &self.shared.address
    }

    /// This node is another member from now on, or none. Data connections in both directions end, and new ones say so;
    /// questions and answers say so at once.
    pub(crate) fn set_incarnation(&self, incarnation: Option<Incarnation>) {
        self.shared.set_incarnation(incarnation);
    }

    /// This node knows now which cluster of its name it belongs to. Connections to another one end.
    pub(crate) fn set_generation(&self, generation: u64) {
        self.shared.set_generation(generation);
    }

    /// Asks whoever is at `address` and waits for the answer. Dropping the future forgets the question; it may have been
    /// sent. Soon after an address could not be reached, this fails at once, by a pause that grows up to a second.
    pub(crate) fn request(
        &self,
        address: &str,
        lane: Lane,
        body: impl Into<Arc<Vec<u8>>>,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Response, RequestError>> {
        Box::pin(control::request(self.shared.clone(), None, address.to_owned(), lane, body.into(), timeout))
    }

    /// The same for a question to node `to`: no other one is sent it.
    pub(crate) fn request_of(
        &self,
        to: NodeId,
        address: &str,
        lane: Lane,
        body: Arc<Vec<u8>>,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Response, RequestError>> {
        Box::pin(control::request(self.shared.clone(), Some(to), address.to_owned(), lane, body, timeout))
    }

    /// Whether this node is connected with `node` at `address`.
    pub(crate) fn is_at(&self, node: NodeId, address: &str, lane: Lane) -> bool {
        control::is_at(&self.shared, node, address, lane)
    }

    /// The link to member `to` at `address`: the one there is, unless that is dead. A new one takes frames at once, while it
    /// connects. After [`close`](Self::close) it is dead already, and the handler was told so from within this call.
    pub(crate) fn link(&self, to: MemberId, address: &str) -> Arc<Link> {
        link::get(&self.shared, to, address)
    }

    /// The link to member `to`, if there is one.
    pub(crate) fn known_link(&self, to: MemberId) -> Option<Arc<Link>> {
        self.shared.known_link(to)
    }

    /// Ends what `member` has dialled for its calls: it hears that those which are not answered never will be.
    pub(crate) fn close_heard(&self, member: MemberId) {
        self.shared.close_heard(member);
    }

    /// Ends the links to members that `keep` does not name, and forgets about them. Gives the numbers of those links: what
    /// has left of each is yet to be told.
    pub(crate) fn keep_links(&self, keep: impl Fn(MemberId) -> bool) -> Vec<u64> {
        let gone = self.shared.linked().into_iter().filter(|member| !keep(*member));
        gone.filter_map(|gone| self.shared.close_link(gone)).collect()
    }

    /// Ends the link to a member that is gone, and forgets about it.
    #[cfg(test)]
    pub(crate) fn close_link(&self, member: MemberId) {
        self.shared.close_link(member);
    }

    /// The bytes of long messages of all links that have not left.
    pub(crate) fn long_waiting(&self) -> usize {
        self.shared.long_waiting()
    }

    /// What went to and came from each peer, by name.
    #[cfg(feature = "cluster")]
    pub(crate) fn status(&self) -> Vec<LinkStatus> {
        self.shared.status()
    }

    /// The same counts.
    #[cfg(test)]
    pub(crate) fn peers(&self) -> Vec<(NodeId, Arc<PeerCounters>)> {
        self.shared.peers()
    }

    /// Ends all tasks and connections and waits for that. Not to be called by the handler.
    pub(crate) async fn close(&self) {
        self.shared.close();
        self.shared.crew.gone().await;
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.close();
    }
}

#[cfg(test)]
mod tests;

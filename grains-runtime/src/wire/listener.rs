//! Taking connections: a bounded number of handshakes at a time, and then a pump with a duty by purpose.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::Poll,
    time::Duration,
};

use grains_core::world::{ByteWriter, Connection, Listener};
use tokio::sync::oneshot;

use super::{
    Unreadable,
    clients::{Ear, Hears, Line, Newcomer, Port},
    dial::{Greeted, read_frame, write_all},
    ended::Ended,
    frame::{self, Decoder, Parts},
    handshake::{self, Answer, HANDSHAKE_BYTES_MAX, Purpose, Reason, Refused},
    handshakes::{Handshakes, Place},
    heard::Heard,
    identity::{self, Unconfirmed},
    outbox::Outbox,
    pump::Duty,
    security::{Secured, Unsecured},
    serve::Serve,
    shared::{Registered, Shared, Side, Unwanted},
};
use crate::{cluster::NodeName, sync::lock, timeout::timeout};

/// How long to wait after a failure to accept: it may be that the process has too many open files.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// What stands at one port. Each has handshakes of its own: strangers at that of clients do not keep nodes from making
/// connections.
pub(super) struct Door {
    port: Port,
    handshakes: Mutex<Handshakes>,
}

impl Door {
    pub(super) fn new(port: Port) -> Arc<Self> {
        Arc::new(Self { port, handshakes: Mutex::default() })
    }
}

/// Takes connections until the wire is closed.
pub(super) async fn run(shared: Arc<Shared>, door: Arc<Door>, mut listener: Box<dyn Listener>) {
    let mut failing = false;
    loop {
        match listener.accept().await {
            Ok(connection) => {
                failing = false;
                admit(&shared, &door, connection);
            }
            Err(why) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(address = shared.address, %why, "cannot take connections, trying on");
                }
                let clock = &shared.world.clock;
                clock.sleep_until(clock.now() + ACCEPT_AGAIN).await;
            }
        }
    }
}

/// Begins a handshake. If there are too many already, another one gives way.
fn admit(shared: &Arc<Shared>, door: &Arc<Door>, connection: Connection) {
    let max = shared.config.limits.handshakes_max;
    let (Place { number, given_away }, over) = lock(&door.handshakes).begin(&connection.peer, max);
    if let Some(network) = over {
        tracing::debug!(%network, max, "too many handshakes at a time: the oldest from there has given way");
    }
    let slot = Handshake { number, door: door.clone() };
    shared.crew.spawn(incoming(shared.clone(), connection, slot, given_away));
}

/// One of the handshakes that may take place at a time.
struct Handshake {
    number: u64,
    door: Arc<Door>,
}

impl Drop for Handshake {
    fn drop(&mut self) {
        lock(&self.door.handshakes).end(self.number);
    }
}

/// The output of `future`, unless its place is given away before.
async fn unless_given_away<F: Future>(mut place: oneshot::Receiver<()>, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Pin::new(&mut place).poll(cx).map(|_| None),
    })
    .await
}

async fn incoming(shared: Arc<Shared>, connection: Connection, slot: Handshake, given_away: oneshot::Receiver<()>) {
    let peer = connection.peer.clone();
    let limit = shared.config.limits.handshake_timeout;
    let greeted = timeout(&shared.world.clock, limit, greet(&shared, slot.door.port, connection));
    let Some(greeted) = unless_given_away(given_away, greeted).await else { return };
    drop(slot);
    let Admitted { greeted, outbox, registered, unconfirmed, mut ear } = match greeted {
        Some(Some(admitted)) => admitted,
        Some(None) => return,
        None => return stranger(&shared, &peer, format!("no greeting within {limit:?}")),
    };
    let them = greeted.them.clone();
    let mut duty: Box<dyn Duty + '_> = match (them.purpose, them.member()) {
        (Purpose::Data, Some(from)) => {
            let heard = Heard::new(&shared, from, them.about.link.unwrap_or(0));
            let parts = Parts::new(shared.config.limits.message_bytes_max);
            Box::new(Receive { shared: shared.clone(), heard, unconfirmed, parts, memo: 0 })
        }
        // The handshake refuses calls of nobody.
        (Purpose::Data, None) => return,
        (Purpose::Client, _) => match &mut ear {
            Some(ear) => Box::new(Hears(&mut **ear)),
            None => return,
        },
        (Purpose::Control | Purpose::Bulk, _) => Box::new(Serve::new(&shared, &them, &outbox, unconfirmed)),
    };
    let ended = greeted.pump(&shared, Side::Accepted, &outbox, &registered).run(&mut *duty).await;
    let (name, purpose) = (&them.about.name, them.purpose);
    if ended.is_misbehaviour() {
        tracing::warn!(peer, %name, ?purpose, reason = %ended, "connection closed");
    } else {
        tracing::debug!(peer, %name, ?purpose, reason = %ended, "connection ended");
    }
}

/// What a good handshake has come to.
struct Admitted {
    greeted: Greeted,
    outbox: Arc<Outbox>,
    registered: Registered,
    unconfirmed: Unconfirmed,
    /// Of a client.
    ear: Option<Box<dyn Ear>>,
}

/// The handshake of the side that was dialled.
async fn greet(shared: &Arc<Shared>, port: Port, connection: Connection) -> Option<Admitted> {
    let peer = connection.peer.clone();
    let Secured { mut reader, mut writer, proven } =
        match shared.config.security.accepted(connection, &shared.world.clock).await {
            Ok(secured) => secured,
            // Whoever looks whether the port is open says nothing, and means no harm.
            Err(Unsecured::Broken(why)) if why.kind() == io::ErrorKind::UnexpectedEof => return None,
            Err(Unsecured::Broken(reason)) => {
                tracing::debug!(peer, %reason, "no connection came about");
                return None;
            }
            #[cfg(feature = "tls")]
            Err(Unsecured::Untrusted(why)) => {
                tell(shared, &peer, &super::dial::untrusted(&peer, &why));
                return None;
            }
        };
    let mut decoder = Decoder::new(HANDSHAKE_BYTES_MAX);
    let (kind, body) = match read_frame(&mut reader, &mut decoder).await {
        Ok(frame) => frame,
        // Whoever looks whether the port is open says nothing, and means no harm.
        Err(Ended::ByPeer) => return None,
        Err(reason) => {
            stranger(shared, &peer, format!("no greeting of a grains node: {reason}"));
            return None;
        }
    };
    let is_client = handshake::purpose_of(kind, &body) == Some(Purpose::Client);
    let judge = if is_client { identity::client_of } else { identity::node_of };
    let proven = proven.as_ref().map(|proven| judge(&shared.config.cluster, &peer, proven)).transpose();
    let called = match proven {
        Ok(called) => called,
        Err(why) => return refuse(shared, &peer, &mut writer, &why).await,
    };
    let (them, me) = match handshake::answer(&shared.greeting(Purpose::Control, None), &peer, kind, &body) {
        Answer::Welcome(them) => (them.clone(), shared.greeting(them.purpose, None)),
        Answer::Refuse { say, why } => {
            tell(shared, &peer, &why);
            part(&mut writer, &say).await;
            return None;
        }
        Answer::Close(reason) => {
            stranger(shared, &peer, format!("no greeting of a grains node: {reason}"));
            return None;
        }
    };
    if is_client {
        let me = shared.greeting(Purpose::Client, None);
        let principal = called.cloned();
        return greet_client(shared, port, principal, Greeted { reader, writer, decoder, me, them }, peer).await;
    }
    if port == Port::OfClients {
        tracing::warn!(peer, name = %them.about.name, "connection refused: a node at the port of clients");
        part(&mut writer, &handshake::unwanted("this port is for clients only: nodes connect by `listen`")).await;
        return None;
    }
    let member = called.and_then(|_| shared.handler.name_of(them.about.node));
    if let Some(called) = called
        && let Err(why) = identity::fits(called, &peer, &them, member.as_ref())
    {
        return refuse(shared, &peer, &mut writer, &why).await;
    }
    let unconfirmed = Unconfirmed::new(called, member.as_ref());
    let limits = &shared.config.limits;
    let takes = limits.message_bytes_max(them.purpose);
    let outbox = Outbox::new(limits.outgoing_bytes_max, takes.min(them.about.frame_bytes_max as usize));
    let outbox = Arc::new(outbox);
    let registered = match shared.register(Side::Accepted, &me, &them, &outbox) {
        Ok(registered) => registered,
        Err(why) => {
            tracing::warn!(peer, name = %them.about.name, reason = %why, "connection refused");
            if why == Unwanted::Busy {
                part(&mut writer, &handshake::busy(limits.connections_max)).await;
            }
            return None;
        }
    };
    write_all(&mut writer, &me.frame(frame::WELCOME)).await.ok()?;
    decoder.set_frame_bytes_max(takes);
    let greeted = Greeted { reader, writer, decoder, me, them };
    Some(Admitted { greeted, outbox, registered, unconfirmed, ear: None })
}

/// The rest of it, if that is a client.
async fn greet_client(
    shared: &Arc<Shared>,
    port: Port,
    principal: Option<NodeName>,
    mut greeted: Greeted,
    peer: String,
) -> Option<Admitted> {
    let limits = &shared.config.limits;
    let outbox = Outbox::new(
        limits.client_outgoing_bytes_max,
        greeted.message_bytes_max().min(limits.frame_bytes_max).max(HANDSHAKE_BYTES_MAX),
    );
    let outbox = Arc::new(outbox);
    let registered = match shared.register(Side::Accepted, &greeted.me, &greeted.them, &outbox) {
        Ok(registered) => registered,
        Err(why) => {
            tracing::debug!(peer, reason = %why, "client refused");
            return None;
        }
    };
    let (name, line) = (greeted.them.about.name.clone(), Line::new(outbox.clone()));
    let ear = match shared.handler.client(Newcomer { peer: peer.clone(), name, principal, port, line }) {
        Ok(ear) => ear,
        Err(why) => {
            tell(shared, &peer, &Refused { reason: Reason::Unreadable, text: format!("{peer}: {why}") });
            part(&mut greeted.writer, &handshake::unwanted(&why)).await;
            return None;
        }
    };
    write_all(&mut greeted.writer, &greeted.me.frame(frame::WELCOME)).await.ok()?;
    greeted.decoder.set_frame_bytes_max(limits.client_frame_bytes_max);
    Some(Admitted { greeted, outbox, registered, unconfirmed: Unconfirmed::default(), ear: Some(ear) })
}

/// Says to the other side that its certificate does not do, and ends.
async fn refuse<T>(shared: &Shared, peer: &str, writer: &mut Box<dyn ByteWriter>, why: &Refused) -> Option<T> {
    tell(shared, peer, why);
    part(writer, &handshake::untrusted(why)).await;
    None
}

/// The connection of somebody is closed who does not greet as nodes do: said now and then, or a flood would fill the log.
fn stranger(shared: &Shared, peer: &str, reason: String) {
    let why = Refused { reason: Reason::Unreadable, text: reason };
    match shared.is_news(&why, peer, Side::Accepted) {
        true => tracing::warn!(peer, reason = %why, "connection closed"),
        false => tracing::debug!(peer, reason = %why, "connection closed"),
    }
}

fn tell(shared: &Shared, peer: &str, why: &Refused) {
    match shared.is_news(why, peer, Side::Accepted) {
        true => tracing::warn!(peer, reason = %why, "connection refused"),
        false => tracing::debug!(peer, reason = %why, "connection refused"),
    }
}

/// A last word, which may be lost.
async fn part(writer: &mut Box<dyn ByteWriter>, say: &[u8]) {
    if write_all(writer, say).await.is_ok() {
        drop(poll_fn(|cx| writer.poll_close(cx)).await);
    }
}

/// The duty of a data connection: hands its frames on, and its end behind the last of them.
struct Receive {
    shared: Arc<Shared>,
    heard: Heard,
    unconfirmed: Unconfirmed,
    parts: Parts,
    memo: u64,
}

impl Receive {
    fn data(&mut self, kind: u8, body: &[u8]) -> Result<(), Ended> {
        if frame::is_control(kind) {
            return Err(Ended::Protocol(format!("a frame of kind {kind:#04x} on a data connection")));
        }
        let read = self.shared.handler.data(self.heard.from, self.heard.link, kind, body, &mut self.memo);
        // What it meant, and whoever waits for it, is unknown. Both sides hear of the end.
        read.map_err(|Unreadable(why)| {
            Ended::Protocol(format!("a frame of kind {kind:#04x} that cannot be read: {why}"))
        })
    }
}

impl Duty for Receive {
    fn frame(&mut self, kind: u8, body: &[u8]) -> Result<(), Ended> {
        let confirmed = self.unconfirmed.confirm(|| self.shared.handler.name_of(self.heard.from.node));
        confirmed.map_err(Ended::Protocol)?;
        if kind == frame::LOST
            && let Ok(link) = body.try_into()
        {
            self.heard.lost(u64::from_le_bytes(link));
            return Ok(());
        }
        if kind == frame::PART {
            return match self.parts.add(body)?.as_deref() {
                Some([kind, body @ ..]) => self.data(*kind, body),
                Some([]) | None => Ok(()),
            };
        }
        if frame::is_hint(kind) && frame::is_control(kind) {
            return Ok(());
        }
        self.data(kind, body)
    }

    /// An older one may be half open for long: its end was lost, or was not read because this side was stopped.
    fn tick(&mut self, _: grains_core::Instant) -> Result<(), Ended> {
        if self.heard.is_replaced() { Err(Ended::Replaced) } else { Ok(()) }
    }
}

//! How a connection to another node comes about, and the bytes of handshakes on both sides.

use std::{future::poll_fn, io, sync::Arc};

use grains_core::world::{ByteReader, ByteWriter};

use super::{
    ended::Ended,
    frame::{self, Decoder},
    handshake::{self, Greeting, HANDSHAKE_BYTES_MAX, Purpose, Reason, Refused},
    identity,
    keepalive::{KeepAlive, Role},
    link::Link,
    outbox::Outbox,
    pump::{Pump, Sends},
    security::{Secured, Unsecured},
    shared::{Registered, Shared, Side},
};
use crate::timeout::timeout;

/// A connection whose handshake went well.
pub(super) struct Greeted {
    pub(super) reader: Box<dyn ByteReader>,
    pub(super) writer: Box<dyn ByteWriter>,
    pub(super) decoder: Decoder,
    pub(super) me: Greeting,
    pub(super) them: Greeting,
}

/// Why there is no connection. Nothing but a greeting was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DialError {
    #[error("{0}")]
    Unreachable(String),
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// Connects to `address`, and to the member of the link `to` if it is for one.
pub(super) async fn dial(
    shared: &Shared,
    address: &str,
    purpose: Purpose,
    to: Option<&Link>,
) -> Result<Greeted, DialError> {
    let limit = shared.config.limits.handshake_timeout;
    let clock = &shared.world.clock;
    let connection = match timeout(clock, limit, shared.world.transport.dial(address)).await {
        Some(Ok(connection)) => connection,
        Some(Err(why)) => {
            // Whoever hears of this knows the address, and the transport may have named it too.
            let why = why.to_string();
            let own = format!("cannot connect to {address}: ");
            return Err(DialError::Unreachable(why.strip_prefix(&own).unwrap_or(&why).to_owned()));
        }
        None => return Err(DialError::Unreachable(format!("no connection within {limit:?}"))),
    };
    let Secured { mut reader, mut writer, proven } =
        match timeout(clock, limit, shared.config.security.dialled(connection, clock)).await {
            Some(Ok(secured)) => secured,
            // Somebody is there, and does not know what TLS is, or is just ending.
            Some(Err(Unsecured::Broken(why))) => {
                let why = format!(
                    "it does not answer to TLS ({why}): if it is a node of this cluster, give it `cluster.tls`"
                );
                return Err(untrusted(address, &why).into());
            }
            #[cfg(feature = "tls")]
            Some(Err(Unsecured::Untrusted(why))) => return Err(untrusted(address, &why).into()),
            None => {
                return Err(DialError::Unreachable(format!("it did not finish the handshake of TLS within {limit:?}")));
            }
        };
    let called =
        proven.as_ref().map(|proven| identity::node_of(&shared.config.cluster, address, proven)).transpose()?;
    let me = shared.greeting(purpose, to);
    let mut decoder = Decoder::new(HANDSHAKE_BYTES_MAX);
    let shake = async {
        write_all(&mut writer, &me.frame(frame::HELLO)).await?;
        read_frame(&mut reader, &mut decoder).await
    };
    let (kind, body) = match timeout(clock, limit, shake).await {
        Some(Ok(frame)) => frame,
        Some(Err(Ended::Untrusted(why))) => {
            shared.config.security.look_soon();
            return Err(untrusted(address, &why).into());
        }
        Some(Err(Ended::Frame(_))) if decoder.is_amid_tls() => {
            let why = "it speaks TLS, and this node does not: give this node certificates (`cluster.tls`)";
            return Err(untrusted(address, why).into());
        }
        Some(Err(why)) => return Err(DialError::Unreachable(format!("it did not answer the greeting: {why}"))),
        None => {
            let why = format!("it did not answer the greeting within {limit:?}: is it a grains node, and alive?");
            return Err(DialError::Unreachable(why));
        }
    };
    let them = handshake::outcome(&me, address, kind, &body)?;
    if let Some(called) = called {
        identity::fits(called, address, &them, shared.handler.name_of(them.about.node).as_ref())?;
    }
    decoder.set_frame_bytes_max(shared.config.limits.frame_bytes_max(purpose));
    Ok(Greeted { reader, writer, decoder, me, them })
}

/// About whoever is at `address`, or what it thinks of this node.
pub(super) fn untrusted(address: &str, why: &str) -> Refused {
    Refused { reason: Reason::Certificate, text: format!("{address}: {why}") }
}

impl Greeted {
    /// What moves its bytes from now on.
    pub(super) fn pump(self, shared: &Shared, side: Side, outbox: &Arc<Outbox>, registered: &Registered) -> Pump {
        let limits = &shared.config.limits;
        let clock = shared.world.clock.clone();
        let terms = self.me.terms(&self.them);
        tracing::debug!(name = %self.them.about.name, purpose = ?self.me.purpose, ?side, ?terms, "connection made");
        let role = if side == Side::Dialled { Role::Pings } else { Role::Answers };
        Pump {
            reader: self.reader,
            decoder: self.decoder,
            sends: Sends::new(self.writer, outbox.clone(), shared.world.tasks.clone()),
            alive: KeepAlive::new(role, limits.ping_every, limits.silence_max, clock.now()),
            clock,
            counters: registered.counters.clone(),
            pinged: None,
        }
    }

    /// The longest message the other side takes.
    pub(super) fn message_bytes_max(&self) -> usize {
        self.them.about.frame_bytes_max as usize
    }
}

pub(super) async fn write_all(writer: &mut Box<dyn ByteWriter>, mut bytes: &[u8]) -> Result<(), Ended> {
    while !bytes.is_empty() {
        match poll_fn(|cx| writer.poll_write(cx, bytes)).await {
            Ok(0) => return Err(Ended::Broken("it takes no more bytes".into())),
            Ok(written) => bytes = &bytes[written..],
            Err(why) => return Err(broken(&why)),
        }
    }
    poll_fn(|cx| writer.poll_flush(cx)).await.map_err(|why| broken(&why))
}

fn broken(why: &io::Error) -> Ended {
    match why.kind() {
        // So says TLS, of the other side.
        io::ErrorKind::PermissionDenied => Ended::Untrusted(why.to_string()),
        _ => Ended::Broken(why.to_string()),
    }
}

/// The next frame, and perhaps bytes behind it that stay in `decoder`.
pub(super) async fn read_frame(
    reader: &mut Box<dyn ByteReader>,
    decoder: &mut Decoder,
) -> Result<(u8, Vec<u8>), Ended> {
    loop {
        if let Some((kind, body)) = decoder.next()? {
            return Ok((kind, body.to_vec()));
        }
        match poll_fn(|cx| reader.poll_read(cx, decoder.space())).await {
            Ok(0) if decoder.is_amid_frame() => return Err(Ended::CutShort),
            Ok(0) => return Err(Ended::ByPeer),
            Ok(bytes) => decoder.filled(bytes),
            Err(why) => return Err(broken(&why)),
        }
    }
}

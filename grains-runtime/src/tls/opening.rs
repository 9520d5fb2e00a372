//! How a TLS connection comes about, over a connection of any transport.

use std::{future::poll_fn, io, pin::pin, sync::Arc, time::Duration};

use grains_core::world::{ByteReader, ByteWriter, Clock, Connection};
use rustls::{ClientConnection, Connection as Tls, ServerConnection, pki_types::ServerName};

use super::{
    material::Material,
    session::{Incoming, poll_out, split},
    telling,
    verify::identity,
};
use crate::{
    timeout::timeout,
    wire::{Identity, Unsecured},
};

/// A secret connection, and who is at its other end.
pub(crate) type Opened = (Connection, Identity);

pub(super) async fn dialled(
    material: &Material,
    connection: Connection,
    clock: &Arc<dyn Clock>,
) -> Result<Opened, Unsecured> {
    // No name is asked for or sent: the certificate says which node it is.
    let nobody = ServerName::try_from("node.invalid").expect("it is a name");
    let tls = ClientConnection::new(material.client.clone(), nobody).map_err(untrusted)?;
    open(tls.into(), connection, clock).await
}

pub(super) async fn accepted(
    material: &Material,
    connection: Connection,
    clock: &Arc<dyn Clock>,
) -> Result<Opened, Unsecured> {
    let tls = ServerConnection::new(material.server.clone()).map_err(untrusted)?;
    open(tls.into(), connection, clock).await
}

fn untrusted(why: rustls::Error) -> Unsecured {
    Unsecured::Untrusted(telling::untrusted(&why))
}

/// Whoever calls this limits its time.
async fn open(mut tls: Tls, connection: Connection, clock: &Arc<dyn Clock>) -> Result<Opened, Unsecured> {
    let Connection { peer, mut reader, mut writer } = connection;
    let mut incoming = Incoming::default();
    if let Err(why) = shake(&mut tls, &mut reader, &mut incoming, &mut writer).await {
        if let Unsecured::Untrusted(_) = &why {
            timeout(clock, PARTING_MAX, pin!(part(&mut tls, &mut reader, &mut writer))).await;
        }
        return Err(why);
    }
    // The library has asked for both; that it did is not left to its settings alone.
    let proven = tls.peer_certificates().and_then(|chain| chain.first()).ok_or(rustls::Error::NoCertificatesPresented);
    let proven = proven.and_then(identity).map_err(untrusted)?;
    if !Material::is_protocol(tls.alpn_protocol()) {
        return Err(untrusted(rustls::Error::NoApplicationProtocol));
    }
    let (reader, writer) = split(tls, reader, incoming, writer);
    Ok((Connection { peer, reader: Box::new(reader), writer: Box::new(writer) }, proven))
}

/// How much one read of a handshake brings: a stranger gets no more memory than it needs to say who it is.
const SHAKE_READ_BYTES: usize = 4 * 1024;

/// How long all that the other side says in a handshake may be. The library would keep 64 KiB of a single message; a chain of
/// certificates has some kilobytes.
const SHAKE_BYTES_MAX: usize = 32 * 1024;

async fn shake(
    tls: &mut Tls,
    reader: &mut Box<dyn ByteReader>,
    incoming: &mut Incoming,
    writer: &mut Box<dyn ByteWriter>,
) -> Result<(), Unsecured> {
    let mut heard = 0;
    loop {
        poll_fn(|cx| poll_out(tls, &mut **writer, cx)).await?;
        poll_fn(|cx| writer.poll_flush(cx)).await?;
        if !tls.is_handshaking() {
            return Ok(());
        }
        match poll_fn(|cx| incoming.poll_fill(&mut **reader, cx, SHAKE_READ_BYTES)).await {
            Ok(0) if heard > 0 => {
                return Err(Unsecured::Untrusted(
                    "it closed the connection within the handshake of TLS: its log may say why".to_owned(),
                ));
            }
            // Whoever looks whether the port is open says nothing, and so does who was told of TLS and knows none.
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection").into()),
            Ok(bytes) if heard + bytes > SHAKE_BYTES_MAX => {
                let why =
                    format!("its handshake of TLS has more than {SHAKE_BYTES_MAX} bytes: does it send a long chain?");
                return Err(Unsecured::Untrusted(why));
            }
            Ok(bytes) => heard += bytes,
            Err(why) => return Err(why.into()),
        }
        while !incoming.is_empty() {
            // What comes behind the handshake stays for the session.
            if !tls.is_handshaking() {
                break;
            }
            incoming.give(tls).map_err(untrusted)?;
        }
    }
}

/// How much is read of a connection that has failed, so that what is under way does not make the system forget the alert.
const LEFT_BYTES_MAX: usize = 64 * 1024;

/// How long that may take: whoever goes on hears it in a trip, and whoever stays must not hide the reason from this side's log.
const PARTING_MAX: Duration = Duration::from_millis(200);

/// Says why, as far as TLS has words for it. It may be lost.
async fn part(tls: &mut Tls, reader: &mut Box<dyn ByteReader>, writer: &mut Box<dyn ByteWriter>) {
    let said = poll_fn(|cx| poll_out(tls, &mut **writer, cx)).await;
    if said.is_err() || poll_fn(|cx| writer.poll_close(cx)).await.is_err() {
        return;
    }
    let mut out = [0; 1024];
    let mut left = LEFT_BYTES_MAX;
    while let Ok(read @ 1..) = poll_fn(|cx| reader.poll_read(cx, &mut out)).await
        && let Some(still) = left.checked_sub(read)
    {
        left = still;
    }
}

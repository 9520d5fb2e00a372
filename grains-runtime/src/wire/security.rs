//! How connections are kept from others: in the clear, or over TLS with certificates on both sides. `dial` and `listener` have
//! every connection pass through here before the handshake.

use std::{io, sync::Arc};

use grains_core::world::{BoxFuture, ByteReader, ByteWriter, Clock, Connection, World};

use super::identity::Identity;
#[cfg(feature = "tls")]
use crate::tls::Tls;

/// How a node's connections are kept from others.
#[derive(Clone, Debug)]
pub(crate) enum Security {
    /// Not at all: whoever can connect is believed.
    Plain,
    /// TLS 1.3, with certificates on both sides.
    #[cfg(feature = "tls")]
    Tls(Arc<Tls>),
}

/// A connection that is as secret as it will be.
pub(super) struct Secured {
    pub(super) reader: Box<dyn ByteReader>,
    pub(super) writer: Box<dyn ByteWriter>,
    /// Who the other side has proven to be, if it had to.
    pub(super) proven: Option<Identity>,
}

/// Why a connection is not secret.
#[derive(Debug)]
pub(crate) enum Unsecured {
    /// It broke, or the other side had nothing to say.
    Broken(io::Error),
    /// One side does not trust the other; for people, with the fix.
    #[cfg(feature = "tls")]
    Untrusted(String),
}

impl From<io::Error> for Unsecured {
    fn from(why: io::Error) -> Self {
        Self::Broken(why)
    }
}

impl Security {
    /// The side that dialled.
    pub(super) async fn dialled(&self, connection: Connection, clock: &Arc<dyn Clock>) -> Result<Secured, Unsecured> {
        match self {
            Self::Plain => {
                let _ = clock;
                Ok(Secured::plain(connection))
            }
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.dialled(connection, clock).await.map(Secured::proven),
        }
    }

    /// The side that was dialled.
    pub(super) async fn accepted(&self, connection: Connection, clock: &Arc<dyn Clock>) -> Result<Secured, Unsecured> {
        match self {
            Self::Plain => {
                let _ = clock;
                Ok(Secured::plain(connection))
            }
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.accepted(connection, clock).await.map(Secured::proven),
        }
    }
}

impl Security {
    /// What keeps its certificates fresh, if it has any.
    pub(super) fn kept_fresh(&self, world: &World) -> Option<BoxFuture<'static, ()>> {
        match self {
            Self::Plain => {
                let _ = world;
                None
            }
            #[cfg(feature = "tls")]
            Self::Tls(tls) if !tls.may_change() => None,
            #[cfg(feature = "tls")]
            Self::Tls(tls) => Some(Box::pin(tls.clone().keep_fresh(world.clone()))),
        }
    }

    /// The other side does not trust this one: newer certificates may be there.
    pub(super) fn look_soon(&self) {
        match self {
            Self::Plain => {}
            #[cfg(feature = "tls")]
            Self::Tls(tls) => tls.look_soon(),
        }
    }
}

impl Secured {
    fn plain(connection: Connection) -> Self {
        Self { reader: connection.reader, writer: connection.writer, proven: None }
    }

    #[cfg(feature = "tls")]
    fn proven((connection, proven): (Connection, Identity)) -> Self {
        Self { proven: Some(proven), ..Self::plain(connection) }
    }
}

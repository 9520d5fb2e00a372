//! Why a connection ended.

use std::time::Duration;

use super::frame::FrameError;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Ended {
    /// Closed here: it is not wanted any more.
    #[error("it was closed here")]
    ByUs,
    /// Nobody had anything to ask.
    #[error("there was nothing to ask")]
    Idle,
    /// The other side closed it.
    #[error("the other side closed it")]
    ByPeer,
    /// The other side closed it in the middle of a frame.
    #[error("the other side closed it in the middle of a frame")]
    CutShort,
    /// What the transport said.
    #[error("{0}")]
    Broken(String),
    /// The other side does not take who this node has proven to be.
    #[error("{0}")]
    Untrusted(String),
    /// The other side has another link by now, so this one is dead there.
    #[error("the other side has begun another one")]
    Replaced,
    /// No sign of life.
    #[error("it was silent for {0:?}")]
    Silent(Duration),
    /// No frame of ours.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame that has no place on this connection.
    #[error("{0}")]
    Protocol(String),
}

impl Ended {
    /// Whether the other side does what no node of ours does.
    pub(super) fn is_misbehaviour(&self) -> bool {
        matches!(self, Self::Frame(_) | Self::Protocol(_))
    }
}

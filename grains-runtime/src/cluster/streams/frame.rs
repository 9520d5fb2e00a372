//! What two members say to each other about their streams.

use grains_core::stream::StreamError;
use serde::{Deserialize, Serialize};

/// One message about one stream. `call` is the number that the reader's node gave to the call it is an answer of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StreamFrame {
    /// To the reader: there is such a stream, and nothing to read yet. Without it, a reader that has gone before the
    /// answer came would never be noticed on a quiet stream.
    Open { call: u64, stream: u32 },
    /// To the reader: the next item. It takes one credit.
    Item {
        call: u64,
        stream: u32,
        #[serde(with = "grains_core::codec::bytes")]
        item: Vec<u8>,
    },
    /// To the reader: what stands in place of an item, and is not the end. It takes one credit.
    Gap { call: u64, stream: u32, error: StreamError },
    /// To the reader: nothing follows.
    End { call: u64, stream: u32, error: Option<StreamError> },
    /// To the sender: so many more items may be sent.
    Credit { call: u64, stream: u32, more: u32 },
    /// To the sender: nobody reads any more.
    Stop { call: u64, stream: u32 },
}

/// Which stream between two members, in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct StreamId {
    pub(super) call: u64,
    /// Which one in the answer.
    pub(super) stream: u32,
}

impl StreamFrame {
    /// The call whose answer it is part of.
    pub(crate) fn call(&self) -> u64 {
        self.id().call
    }

    pub(super) fn id(&self) -> StreamId {
        match *self {
            Self::Open { call, stream }
            | Self::Item { call, stream, .. }
            | Self::Gap { call, stream, .. }
            | Self::End { call, stream, .. }
            | Self::Credit { call, stream, .. }
            | Self::Stop { call, stream } => StreamId { call, stream },
        }
    }
}

impl StreamId {
    pub(super) fn open(self) -> StreamFrame {
        StreamFrame::Open { call: self.call, stream: self.stream }
    }

    pub(super) fn item(self, item: Vec<u8>) -> StreamFrame {
        StreamFrame::Item { call: self.call, stream: self.stream, item }
    }

    pub(super) fn gap(self, error: StreamError) -> StreamFrame {
        StreamFrame::Gap { call: self.call, stream: self.stream, error }
    }

    pub(super) fn end(self, error: Option<StreamError>) -> StreamFrame {
        StreamFrame::End { call: self.call, stream: self.stream, error }
    }

    pub(super) fn credit(self, more: u32) -> StreamFrame {
        StreamFrame::Credit { call: self.call, stream: self.stream, more }
    }

    pub(super) fn stop(self) -> StreamFrame {
        StreamFrame::Stop { call: self.call, stream: self.stream }
    }
}

#[cfg(test)]
mod tests {
    use grains_core::codec::{decode, encode};

    use super::*;

    #[test]
    fn every_frame_survives_encoding_and_items_stay_bytes() {
        let id = StreamId { call: u64::MAX, stream: 7 };
        let why = || "x".into();
        let errors = [
            StreamError::ActivationGone,
            StreamError::Failed(grains_core::Error::new("x")),
            StreamError::Missed { items: 3 },
            StreamError::Disconnected { why: why() },
            StreamError::Codec { why: why() },
            StreamError::Overloaded { limit: why() },
        ];
        let ends = errors.into_iter().flat_map(|error| [id.gap(error.clone()), id.end(Some(error))]);
        let others = [id.open(), id.item(vec![0xff; 300]), id.end(None), id.credit(u32::MAX), id.stop()];
        for frame in others.into_iter().chain(ends) {
            let bytes = encode(&frame).unwrap();
            assert_eq!(frame.id(), id);
            assert_eq!(decode::<StreamFrame>(&bytes).unwrap(), frame);
        }
        assert!(encode(&id.item(vec![0xff; 300])).unwrap().len() < 350);
    }
}

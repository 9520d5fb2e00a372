//! Answers that go on after their call, between this node and others: see `cluster::streams`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use grains_core::{codec, stream::ImportedStream};

use super::{
    Clustered,
    envelope::{BadFrame, STREAM},
};
use crate::{
    activation::lock,
    cluster::{
        names::MemberId,
        streams::{LinkGone, StreamFrame, StreamLinks, Streams},
    },
};

/// The way of stream frames to other members.
pub(super) struct StreamWay(pub(super) Weak<Clustered>);

impl StreamLinks for StreamWay {
    fn send(&self, to: MemberId, frame: StreamFrame) -> Result<(), LinkGone> {
        let clustered = self.0.upgrade().ok_or(LinkGone)?;
        let body = codec::encode(&frame).map_err(|_| LinkGone)?;
        clustered.send_frame(to, STREAM, |out| out.extend_from_slice(&body)).map_err(|why| {
            tracing::debug!(%to, %why, "a part of a stream could not be sent");
            LinkGone
        })
    }
}

impl Clustered {
    fn streams(&self) -> Option<Arc<Streams>> {
        lock(&self.streams).clone()
    }

    /// The streams in an answer are read here from now on.
    pub(super) fn import(&self, from: MemberId, call: u64, streams: BTreeMap<u32, ImportedStream>) {
        if let Some(all) = self.streams() {
            all.import(from, call, streams);
        }
    }

    pub(super) fn stream_frame(&self, from: MemberId, body: &[u8]) -> Result<(), BadFrame> {
        let frame = codec::decode(body).map_err(|_| BadFrame::new("no part of a stream"))?;
        if let Some(streams) = self.streams() {
            streams.frame(from, frame);
        }
        Ok(())
    }

    /// The link to a member is lost, or the member is.
    pub(super) fn streams_gone(&self, member: MemberId) {
        if let Some(streams) = self.streams() {
            streams.gone(member);
        }
    }
}

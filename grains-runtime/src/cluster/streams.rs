//! Streams between this node and other members: answers that go on after their call. The routing of calls hands over
//! what it took out of an answer here ([`Streams::export`]) and what it made while decoding one ([`Streams::import`]);
//! whoever reads a link hands over the frames.
//!
//! The callee's node sends an item only if it has credit for it, so that neither node keeps more than `STREAM_CREDIT`
//! items of one stream: it begins with all of it and gets back what the reader takes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use grains_core::{
    stream::{ExportedStream, ImportedStream, STREAM_ITEM_BYTES_MAX, StreamError},
    world::{Tasks, World},
};

use self::{
    frame::StreamId,
    pump::Pump,
    table::{Refused, Table},
};
use super::names::MemberId;
use crate::{activation::turn::drop_quietly, tenure::Tenure};

mod frame;
mod pump;
mod table;
mod watch;

#[cfg(test)]
mod tests;

pub(crate) use self::frame::StreamFrame;

/// All streams of one tenure of this node.
pub(crate) struct Streams {
    hub: Arc<Hub>,
}

/// The way to other members.
pub(crate) trait StreamLinks: Send + Sync + 'static {
    /// Sends `frame`. Frames to one member arrive in order, or none after the first that is lost: then
    /// [`Streams::gone`] is called on both sides. Called from tasks, from users' code, and from within
    /// [`Streams::frame`]; it must not wait.
    fn send(&self, to: MemberId, frame: StreamFrame) -> Result<(), LinkGone>;
}

/// There is no link to the member now. What has begun on the last one is told by [`Streams::gone`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no link to this member now")]
pub(crate) struct LinkGone;

/// What streams may take up.
#[derive(Clone, Debug)]
pub(crate) struct StreamLimits {
    /// Streams open from one member to this node, and as many the other way.
    pub(crate) streams_per_peer_max: usize,
    /// The bytes of one item.
    pub(crate) item_bytes_max: usize,
}

impl Default for StreamLimits {
    /// A thousand streams idle at some 1 KB each; what keeps a peer that asks for more than this from taking all memory.
    fn default() -> Self {
        Self { streams_per_peer_max: 4096, item_bytes_max: STREAM_ITEM_BYTES_MAX }
    }
}

/// What the tasks of streams share.
struct Hub {
    tasks: Arc<dyn Tasks>,
    tenure: Arc<Tenure>,
    links: Arc<dyn StreamLinks>,
    limits: StreamLimits,
    table: Mutex<Table>,
}

impl Streams {
    /// No streams yet. Their tasks are tasks of `tenure`.
    pub(crate) fn new(world: &World, tenure: Arc<Tenure>, links: Arc<dyn StreamLinks>, limits: StreamLimits) -> Self {
        let table = Mutex::new(Table::new(limits.streams_per_peer_max));
        Self { hub: Arc::new(Hub { tasks: world.tasks.clone(), tenure, links, limits, table }) }
    }

    /// Begins to send the streams of an answer to `to`, which called. `call` is its number for the call.
    ///
    /// To be called after the answer was given to the same link: the reader's node refuses what it does not know.
    pub(crate) fn export(&self, to: MemberId, call: u64, streams: Vec<Box<dyn ExportedStream>>) {
        for (stream, source) in (0..).zip(streams) {
            self.export_one(to, StreamId { call, stream }, source);
        }
    }

    fn export_one(&self, to: MemberId, id: StreamId, source: Box<dyn ExportedStream>) {
        let opened = self.hub.table().export(to, id);
        match opened {
            Ok(gate) => {
                let pump = Pump::new(self.hub.clone(), to, id, gate, source);
                self.hub.tenure.tasks.spawn(pump.run());
            }
            Err(refused) => {
                drop_quietly(source, "a stream");
                self.hub.send(to, id.end(Some(self.hub.refusal(refused)))).ok();
            }
        }
    }

    /// Lets the streams of an answer from `from` be fed. `call` is this node's number for the call.
    ///
    /// To be called while the frame with the answer is handled: items follow it, and so may the end of the link.
    pub(crate) fn import(&self, from: MemberId, call: u64, streams: BTreeMap<u32, ImportedStream>) {
        for (stream, imported) in streams {
            self.import_one(from, StreamId { call, stream }, imported);
        }
    }

    fn import_one(&self, from: MemberId, id: StreamId, imported: ImportedStream) {
        let opened = self.hub.table().import(from, id, imported.clone());
        match opened {
            Ok(()) => self.hub.tenure.tasks.spawn(watch::watch(self.hub.clone(), from, id, imported)),
            Err(refused) => {
                imported.end(Some(self.hub.refusal(refused)));
                // One that is open under this number goes on.
                if refused != Refused::Twice {
                    self.hub.send(from, id.stop()).ok();
                }
            }
        }
    }

    /// A frame has come from `from`. Frames of one link are handled in their order.
    pub(crate) fn frame(&self, from: MemberId, frame: StreamFrame) {
        let id = frame.id();
        match frame {
            StreamFrame::Open { .. } => {
                if self.hub.imported(from, id).is_none() {
                    self.hub.send(from, id.stop()).ok();
                }
            }
            StreamFrame::Item { item, .. } => self.hub.feed(from, id, Ok(item)),
            StreamFrame::Gap { error, .. } => self.hub.feed(from, id, Err(error)),
            StreamFrame::End { error, .. } => {
                let imported = self.hub.table().close_import(from, id);
                if let Some(imported) = imported {
                    imported.end(error);
                }
            }
            StreamFrame::Credit { more, .. } => {
                let gate = self.hub.table().exported(from, id);
                if let Some(gate) = gate {
                    gate.grant(more);
                }
            }
            StreamFrame::Stop { .. } => {
                let gate = self.hub.table().close_export(from, id);
                if let Some(gate) = gate {
                    gate.stop();
                }
            }
        }
    }

    /// The link to `member` was lost, or it is a member no more: what was open over it is over.
    pub(crate) fn gone(&self, member: MemberId) {
        let peer = self.hub.table().leave(member);
        peer.end(&StreamError::Disconnected { why: format!("the connection to member {member} is lost").into() });
    }

    /// The tenure is over: its streams too. None begin after this.
    pub(crate) fn end(&self) {
        let peers = self.hub.table().end();
        peers.into_values().for_each(|peer| peer.end(&over()));
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.end();
    }
}

impl Hub {
    /// Nothing leaves after the lease has ended, not even from a task that runs before anybody has noticed: another
    /// node may have the grain by then.
    fn send(&self, to: MemberId, frame: StreamFrame) -> Result<(), LinkGone> {
        if self.tenure.may_act() { self.links.send(to, frame) } else { Err(LinkGone) }
    }

    fn feed(&self, from: MemberId, id: StreamId, item: Result<Vec<u8>, StreamError>) {
        let Some(imported) = self.imported(from, id) else {
            // Its reader is gone, and the frame that says so under way; or it was never here.
            self.send(from, id.stop()).ok();
            return;
        };
        let fed = match self.fits(&item) {
            Ok(()) => imported.feed(item).map_err(|flooded| StreamError::Disconnected {
                why: format!("it was told to stop, because it sent {flooded}").into(),
            }),
            Err(too_large) => Err(too_large),
        };
        if let Err(error) = fed {
            drop(self.table().close_import(from, id));
            imported.end(Some(error));
            self.send(from, id.stop()).ok();
        }
    }

    fn fits(&self, item: &Result<Vec<u8>, StreamError>) -> Result<(), StreamError> {
        let max = self.limits.item_bytes_max;
        match item {
            Ok(bytes) if bytes.len() > max => Err(StreamError::Codec {
                why: format!("it has {} bytes: item_bytes_max = {max} reached", bytes.len()).into(),
            }),
            _ => Ok(()),
        }
    }

    fn refusal(&self, refused: Refused) -> StreamError {
        match refused {
            Refused::Full => {
                let max = self.limits.streams_per_peer_max;
                StreamError::Overloaded { limit: format!("streams_per_peer_max = {max}").into() }
            }
            Refused::Twice => StreamError::Disconnected { why: "it uses the number of another stream".into() },
            Refused::Over => over(),
        }
    }

    fn imported(&self, from: MemberId, id: StreamId) -> Option<ImportedStream> {
        self.table().imported(from, id)
    }

    /// Nothing of users' is dropped or woken under this lock.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What readers on this node are told when its tenure ends.
fn over() -> StreamError {
    StreamError::Disconnected { why: "the node of the reader has stopped, or left its cluster".into() }
}

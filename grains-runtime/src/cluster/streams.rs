//! Streams between this node and other members: answers that go on after their call. The routing of calls hands over
//! what it took out of an answer here ([`Streams::export`]) and what it made while decoding one ([`Streams::import`]);
//! whoever reads a link hands over the frames.
//!
//! The callee's node sends an item only if it has credit for it, so that neither node keeps more than `STREAM_CREDIT`
//! items of one stream: it begins with all of it and gets back what the reader takes.
//!
//! A stream lives on two links, one of either node: that on which its call went, and that on which its answer came. All its
//! frames go over them, so that they arrive in order, or none after the first that is lost; when one of them ends, on either
//! side, the stream is over there. What is about to be sent waits for room on its link.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
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
use crate::{activation::turn::drop_quietly, tenure::Tenure, wire::Ticket};

mod frame;
mod pump;
mod table;
mod watch;

#[cfg(test)]
mod tests;

pub(crate) use self::{frame::StreamFrame, table::Ends};

/// All streams of one tenure of this node.
pub(crate) struct Streams {
    hub: Arc<Hub>,
}

/// The way to other members.
pub(crate) trait StreamLinks: Send + Sync + 'static {
    /// Sends a small frame about a stream that this node does not know, over whatever link there is. It may be lost.
    fn tell(&self, to: MemberId, frame: StreamFrame);
}

/// One link to another member. Its frames arrive in order, or none after the first that is lost: then
/// [`Streams::link_ended`] is called here and [`Streams::data_ended`] there.
pub(crate) trait StreamLink: Send + Sync + 'static {
    /// Which link of this node.
    fn id(&self) -> u64;

    /// Whether it has ended.
    fn is_closed(&self) -> bool;

    /// Sends a small frame, which finds room where others have to wait. Called from tasks, from users' code, and from
    /// within [`Streams::frame`]; it does not wait.
    fn tell(&self, frame: &StreamFrame) -> Result<(), LinkGone>;

    /// Sends an encoded frame as soon as there is room, for which `cx` waits by `ticket`: one for each frame.
    /// `call` is the one whose answer it is part of: only frames of other calls may overtake it.
    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        ticket: &mut Ticket,
        call: u64,
        frame: &[u8],
    ) -> Poll<Result<(), NotSent>>;
}

/// The link has ended. What has begun on it is told by [`Streams::link_ended`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the link has ended")]
pub(crate) struct LinkGone;

/// Why a frame was not sent, and never will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotSent {
    Gone,
    /// It is longer than the other side takes, in words.
    TooLarge(String),
}

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

    /// Begins to send the streams of an answer to `to`, which called. `call` is its number for the call, which came on its
    /// link `theirs`.
    ///
    /// To be called after the answer was given to `link`: the reader's node refuses what it does not know.
    pub(crate) fn export(
        &self,
        to: MemberId,
        call: u64,
        link: &Arc<dyn StreamLink>,
        theirs: u64,
        streams: Vec<Box<dyn ExportedStream>>,
    ) {
        for (stream, source) in (0..).zip(streams) {
            self.export_one(to, StreamId { call, stream }, link.clone(), theirs, source);
        }
    }

    fn export_one(
        &self,
        to: MemberId,
        id: StreamId,
        link: Arc<dyn StreamLink>,
        theirs: u64,
        source: Box<dyn ExportedStream>,
    ) {
        let opened = self.hub.table().export(to, id, Ends { ours: link.id(), theirs });
        match opened {
            Ok(gate) => {
                let pump = Pump::new(self.hub.clone(), link, to, id, gate, source);
                self.hub.tenure.tasks.spawn(pump.run());
            }
            Err(refused) => {
                drop_quietly(source, "a stream");
                self.hub.tell(&*link, &id.end(Some(self.hub.refusal(refused)))).ok();
            }
        }
    }

    /// Lets the streams of an answer from `from`, which came on its link `theirs`, be fed. `call` is this node's number for
    /// the call, and `link` is where it went.
    ///
    /// To be called while the frame with the answer is handled: items follow it, and so may the end of the link.
    pub(crate) fn import(
        &self,
        from: MemberId,
        call: u64,
        link: &Arc<dyn StreamLink>,
        theirs: u64,
        streams: BTreeMap<u32, ImportedStream>,
    ) {
        for (stream, imported) in streams {
            self.import_one(from, StreamId { call, stream }, link.clone(), theirs, imported);
        }
    }

    fn import_one(
        &self,
        from: MemberId,
        id: StreamId,
        link: Arc<dyn StreamLink>,
        theirs: u64,
        imported: ImportedStream,
    ) {
        let opened = self.hub.table().import(from, id, Ends { ours: link.id(), theirs }, imported.clone());
        match opened {
            // Its end may have been told before the stream was here to hear it.
            Ok(()) if link.is_closed() => self.link_ended(from, link.id()),
            Ok(()) => self.hub.tenure.tasks.spawn(watch::watch(self.hub.clone(), link, from, id, imported)),
            Err(refused) => {
                imported.end(Some(self.hub.refusal(refused)));
                // One that is open under this number goes on.
                if refused != Refused::Twice {
                    self.hub.tell(&*link, &id.stop()).ok();
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
                    self.hub.refuse(from, id);
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

    /// This node's link of number `ours` to `member` has ended: what lived on it is over.
    pub(crate) fn link_ended(&self, member: MemberId, ours: u64) {
        self.cut(member, |ends| ends.ours == ours);
    }

    /// The link of number `theirs` of `member` has ended, behind the last frame that came on it: what lived on it is over.
    pub(crate) fn data_ended(&self, member: MemberId, theirs: u64) {
        self.cut(member, |ends| ends.theirs == theirs);
    }

    /// `member` is a member no more: what was open with it is over.
    pub(crate) fn gone(&self, member: MemberId) {
        self.cut(member, |_| true);
    }

    fn cut(&self, member: MemberId, which: impl Fn(Ends) -> bool) {
        let cut = self.hub.table().cut(member, which);
        cut.end(&StreamError::Disconnected { why: format!("the connection to member {member} is lost").into() });
    }

    /// The tenure is over: its streams too. None begin after this.
    pub(crate) fn end(&self) {
        let peers = self.hub.table().end();
        peers.into_iter().for_each(|(_, peer)| peer.end(&over()));
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
    fn tell(&self, link: &dyn StreamLink, frame: &StreamFrame) -> Result<(), LinkGone> {
        if self.tenure.may_act() { link.tell(frame) } else { Err(LinkGone) }
    }

    /// The same for what may be large, and waits until there is room.
    fn poll_send(
        &self,
        link: &dyn StreamLink,
        cx: &mut Context<'_>,
        ticket: &mut Ticket,
        call: u64,
        frame: &[u8],
    ) -> Poll<Result<(), NotSent>> {
        if self.tenure.may_act() { link.poll_send(cx, ticket, call, frame) } else { Poll::Ready(Err(NotSent::Gone)) }
    }

    /// Stops a stream that nobody reads here.
    fn refuse(&self, from: MemberId, id: StreamId) {
        if self.tenure.may_act() {
            self.links.tell(from, id.stop());
        }
    }

    fn feed(&self, from: MemberId, id: StreamId, item: Result<Vec<u8>, StreamError>) {
        let Some(imported) = self.imported(from, id) else {
            // Its reader is gone, and the frame that says so under way; or it was never here.
            return self.refuse(from, id);
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
            self.refuse(from, id);
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

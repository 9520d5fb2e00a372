//! Which streams are open, by member. What is taken out is handed to the caller, to be ended when the table is unlocked.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use grains_core::stream::{ImportedStream, StreamError};
use litemap::LiteMap;

use super::{frame::StreamId, pump::Gate};
use crate::cluster::names::MemberId;

pub(super) struct Table {
    streams_per_peer_max: usize,
    over: bool,
    /// Members with at least one open stream.
    peers: LiteMap<MemberId, Peer>,
}

/// The streams between this node and one member.
#[derive(Default)]
pub(super) struct Peer {
    /// Read there.
    exports: BTreeMap<StreamId, (Ends, Arc<Gate>)>,
    /// Read here.
    imports: BTreeMap<StreamId, (Ends, ImportedStream)>,
}

/// The two links on which a stream lives: this node's, by its own number, and the other one's, by that one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) ours: u64,
    pub(crate) theirs: u64,
}

/// Why a stream cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Full,
    Twice,
    Over,
}

impl Table {
    pub(super) fn new(streams_per_peer_max: usize) -> Self {
        Self { streams_per_peer_max, over: false, peers: LiteMap::default() }
    }

    pub(super) fn export(&mut self, to: MemberId, id: StreamId, ends: Ends) -> Result<Arc<Gate>, Refused> {
        let gate = Arc::new(Gate::new());
        self.open(to, |peer| &mut peer.exports, id, (ends, gate.clone()))?;
        Ok(gate)
    }

    pub(super) fn import(
        &mut self,
        from: MemberId,
        id: StreamId,
        ends: Ends,
        imported: ImportedStream,
    ) -> Result<(), Refused> {
        self.open(from, |peer| &mut peer.imports, id, (ends, imported))
    }

    fn open<S>(
        &mut self,
        member: MemberId,
        side: impl Fn(&mut Peer) -> &mut BTreeMap<StreamId, S>,
        id: StreamId,
        stream: S,
    ) -> Result<(), Refused> {
        if self.over {
            return Err(Refused::Over);
        }
        let max = self.streams_per_peer_max;
        let streams = side(self.peers.entry(member).or_default());
        let full = streams.len() >= max;
        match streams.entry(id) {
            Entry::Occupied(_) => Err(Refused::Twice),
            Entry::Vacant(_) if full => Err(Refused::Full),
            Entry::Vacant(place) => {
                place.insert(stream);
                Ok(())
            }
        }
    }

    pub(super) fn exported(&self, to: MemberId, id: StreamId) -> Option<Arc<Gate>> {
        self.peers.get(&to)?.exports.get(&id).map(|(_, gate)| gate.clone())
    }

    pub(super) fn imported(&self, from: MemberId, id: StreamId) -> Option<ImportedStream> {
        self.peers.get(&from)?.imports.get(&id).map(|(_, imported)| imported.clone())
    }

    pub(super) fn close_export(&mut self, to: MemberId, id: StreamId) -> Option<Arc<Gate>> {
        self.close(to, |peer| peer.exports.remove(&id)).map(|(_, gate)| gate)
    }

    pub(super) fn close_import(&mut self, from: MemberId, id: StreamId) -> Option<ImportedStream> {
        self.close(from, |peer| peer.imports.remove(&id)).map(|(_, imported)| imported)
    }

    /// The pump behind `gate` has ended. Another stream may have its number by now.
    pub(super) fn forget_export(&mut self, to: MemberId, id: StreamId, gate: &Arc<Gate>) {
        self.close(to, |peer| match peer.exports.entry(id) {
            Entry::Occupied(place) if Arc::ptr_eq(&place.get().1, gate) => Some(place.remove()),
            _ => None,
        });
    }

    fn close<S>(&mut self, member: MemberId, remove: impl FnOnce(&mut Peer) -> Option<S>) -> Option<S> {
        let peer = self.peers.get_mut(&member)?;
        let stream = remove(peer);
        if peer.exports.is_empty() && peer.imports.is_empty() {
            self.peers.remove(&member);
        }
        stream
    }

    /// Takes out those streams of `member` that lived on such links.
    pub(super) fn cut(&mut self, member: MemberId, which: impl Fn(Ends) -> bool) -> Peer {
        let cut = self.close(member, |peer| {
            let exports = peer.exports.extract_if(.., |_, (ends, _)| which(*ends)).collect();
            let imports = peer.imports.extract_if(.., |_, (ends, _)| which(*ends)).collect();
            Some(Peer { exports, imports })
        });
        cut.unwrap_or_default()
    }

    /// Takes out all streams, and lets no more in.
    pub(super) fn end(&mut self) -> LiteMap<MemberId, Peer> {
        self.over = true;
        std::mem::take(&mut self.peers)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }
}

impl Peer {
    /// Stops what is read there, and ends what is read here with `error`.
    pub(super) fn end(self, error: &StreamError) {
        self.exports.into_values().for_each(|(_, gate)| gate.stop());
        self.imports.into_values().for_each(|(_, imported)| imported.end(Some(error.clone())));
    }
}

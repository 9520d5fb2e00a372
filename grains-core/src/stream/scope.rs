//! Streams inside encoded values. A stream has no bytes: while a value is encoded the stream moves out of it and a number
//! is written instead; while it is decoded the number is exchanged for a stream. The runtime opens a scope around both,
//! which says where the streams go: through a table of this process, or to and from another node.

use std::{cell::RefCell, collections::BTreeMap};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use super::{
    Streaming,
    export::StreamTable,
    incoming::{ImportedStream, import},
    outgoing::{ExportedStream, export},
};
use crate::method::Wire;

#[cfg(test)]
mod tests;

/// How many streams one value can carry, or how many a [`StreamTable`] holds.
///
/// A thousand is beyond any sensible answer and costs some 100 KB at most.
pub const STREAMS_MAX: usize = 1024;

/// What becomes of streams that are encoded and decoded now.
enum Scope {
    /// They stay in this process.
    Here(StreamTable),
    /// They are read by another node. The number of each is its place.
    Outgoing(Vec<Box<dyn ExportedStream>>),
    /// They are sent by another node, which numbered them.
    Incoming(BTreeMap<u32, ImportedStream>),
    /// They are inside an item of a stream between nodes.
    Item,
}

thread_local! {
    /// The innermost scope on this thread.
    static SCOPE: RefCell<Option<Scope>> = const { RefCell::new(None) };
}

/// Runs `f`. Every [`Streaming`] it encodes moves to `table`, and every one it decodes is taken from there.
///
/// ```
/// use grains_core::{codec, stream::{StreamTable, Streaming, with_exports}};
///
/// let (sink, numbers) = Streaming::<u32>::channel(8);
/// let table = StreamTable::default();
/// let bytes = with_exports(&table, || codec::encode(&numbers)).unwrap();
/// let same: Streaming<u32> = with_exports(&table, || codec::decode(&bytes)).unwrap();
/// assert!(!sink.is_closed());
/// drop(same);
/// assert!(sink.is_closed());
/// ```
pub fn with_exports<R>(table: &StreamTable, f: impl FnOnce() -> R) -> R {
    within(Scope::Here(table.clone()), f).0
}

/// Runs `encode`, and gives back every [`Streaming`] it encoded, in the order of their numbers, to be pumped to the node
/// that the bytes go to. Dropping one tells its sender to stop: that is what should happen if `encode` failed.
///
/// ```
/// use grains_core::{codec, stream::{ImportedStream, Streaming, with_incoming, with_outgoing}};
///
/// let (_sink, numbers) = Streaming::<u32>::channel(8);
/// let (bytes, exported) = with_outgoing(|| codec::encode(&("all", numbers)));
/// let (answer, imported) = with_incoming(|| codec::decode::<(String, Streaming<u32>)>(&bytes.unwrap()));
/// assert!(answer.is_ok() && exported.len() == 1 && imported.contains_key(&0));
/// ```
pub fn with_outgoing<R>(encode: impl FnOnce() -> R) -> (R, Vec<Box<dyn ExportedStream>>) {
    match within(Scope::Outgoing(Vec::new()), encode) {
        (bytes, Some(Scope::Outgoing(streams))) => (bytes, streams),
        _ => unreachable!("inner scopes have ended"),
    }
}

/// Runs `decode`. Every [`Streaming`] it decodes reads from an [`ImportedStream`], which is given back under the number
/// that the other node gave it, to be fed with what that node sends. Numbers that `decode` skipped are missing.
pub fn with_incoming<R>(decode: impl FnOnce() -> R) -> (R, BTreeMap<u32, ImportedStream>) {
    match within(Scope::Incoming(BTreeMap::new()), decode) {
        (value, Some(Scope::Incoming(streams))) => (value, streams),
        _ => unreachable!("inner scopes have ended"),
    }
}

/// Runs `f`, which encodes or decodes an item of a stream between nodes, or looks at a value that stays: streams inside are
/// refused.
pub(crate) fn within_item<R>(f: impl FnOnce() -> R) -> R {
    within(Scope::Item, f).0
}

/// Runs `f` in `scope`, and gives back the scope.
fn within<R>(scope: Scope, f: impl FnOnce() -> R) -> (R, Option<Scope>) {
    struct Restore<'s> {
        outer: Option<Scope>,
        own: &'s mut Option<Scope>,
    }
    impl Drop for Restore<'_> {
        fn drop(&mut self) {
            *self.own = SCOPE.replace(self.outer.take());
        }
    }
    let mut own = None;
    let restore = Restore { outer: SCOPE.replace(Some(scope)), own: &mut own };
    let done = f();
    drop(restore);
    (done, own)
}

// No code of users runs here, which could want the scope too: streams only change places.
impl Scope {
    fn put<T: Wire>(&mut self, stream: &Streaming<T>) -> Result<u64, ScopeError> {
        match self {
            Self::Here(table) => table.put(stream),
            Self::Outgoing(streams) if streams.len() >= STREAMS_MAX => Err(ScopeError::Full),
            Self::Outgoing(streams) => {
                streams.push(export(stream.move_out().ok_or(ScopeError::Moved)?));
                Ok(streams.len() as u64 - 1)
            }
            Self::Incoming(_) => Err(ScopeError::NoScope),
            Self::Item => Err(ScopeError::InsideItem),
        }
    }

    fn take<T: Wire>(&mut self, id: u64) -> Result<Streaming<T>, ScopeError> {
        match self {
            Self::Here(table) => table.take(id),
            Self::Incoming(streams) => {
                let number = u32::try_from(id).ok().filter(|number| (*number as usize) < STREAMS_MAX);
                let number = number.filter(|number| !streams.contains_key(number)).ok_or(ScopeError::Unknown { id })?;
                let (imported, stream) = import();
                streams.insert(number, imported);
                Ok(stream)
            }
            Self::Outgoing(_) => Err(ScopeError::NoScope),
            Self::Item => Err(ScopeError::InsideItem),
        }
    }
}

/// Why a stream could not be encoded or decoded. Serde makes a message of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ScopeError {
    #[error("a stream has no bytes: it can be in the answer to a call, but not in a state or another encoded value")]
    NoScope,
    #[error("this stream was sent before: a stream has one reader")]
    Moved,
    #[error("too many streams on their way: STREAMS_MAX = {STREAMS_MAX} reached")]
    Full,
    #[error("there is no stream number {id}: it was taken before, or its sender is gone")]
    Unknown { id: u64 },
    #[error("stream number {id} is not one of `{wanted}`")]
    OtherType { id: u64, wanted: &'static str },
    #[error("a stream inside an item of another stream cannot go to another node: answer a call with it instead")]
    InsideItem,
}

fn in_scope<R>(f: impl FnOnce(&mut Scope) -> Result<R, ScopeError>) -> Result<R, ScopeError> {
    SCOPE.with_borrow_mut(|scope| scope.as_mut().ok_or(ScopeError::NoScope).and_then(f))
}

/// Only while a node encodes an answer, and only once: the stream moves.
impl<T: Wire> Serialize for Streaming<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let id = in_scope(|scope| scope.put(self)).map_err(ser::Error::custom)?;
        serializer.serialize_u64(id)
    }
}

/// Only while a node decodes an answer.
impl<'de, T: Wire> Deserialize<'de> for Streaming<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let id = u64::deserialize(deserializer)?;
        in_scope(|scope| scope.take(id)).map_err(de::Error::custom)
    }
}

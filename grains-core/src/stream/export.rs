//! Streams inside encoded values. A stream has no bytes: while a value is encoded the stream moves to a table and its
//! number is written instead; while it is decoded the number is exchanged for the stream. The runtime opens a scope
//! with [`with_exports`] around both.

use std::{
    any::{Any, type_name},
    cell::RefCell,
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use super::Streaming;
use crate::method::Wire;

#[cfg(test)]
mod tests;

/// How many streams a table holds.
///
/// A stream is there only between encoding and decoding, so this is how many one value can carry, or how many values
/// can be on their way; a thousand is beyond any sensible answer and costs some 100 KB at most.
pub const STREAMS_MAX: usize = 1024;

/// Streams that have been encoded and not decoded yet. Dropping the last clone drops them, so that their senders stop.
#[derive(Clone, Default)]
pub struct StreamTable {
    inner: Arc<Mutex<Exported>>,
}

#[derive(Default)]
struct Exported {
    next: u64,
    streams: BTreeMap<u64, Box<dyn Any + Send>>,
}

impl StreamTable {
    /// How many streams are on their way.
    pub fn len(&self) -> usize {
        self.lock().streams.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn put<T: Send + 'static>(&self, stream: &Streaming<T>) -> Result<u64, ExportError> {
        let mut exported = self.lock();
        if exported.streams.len() >= STREAMS_MAX {
            return Err(ExportError::Full);
        }
        let stream = stream.move_out().ok_or(ExportError::Moved)?;
        let id = exported.next;
        exported.next += 1;
        exported.streams.insert(id, Box::new(stream));
        Ok(id)
    }

    fn take<T: 'static>(&self, id: u64) -> Result<Streaming<T>, ExportError> {
        let mut exported = self.lock();
        let stream = exported.streams.remove(&id).ok_or(ExportError::Unknown { id })?;
        match stream.downcast::<Streaming<T>>() {
            Ok(stream) => Ok(*stream),
            Err(other) => {
                // It stays, so that whoever asks with the right type still gets it.
                exported.streams.insert(id, other);
                Err(ExportError::OtherType { id, wanted: type_name::<T>() })
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Exported> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for StreamTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamTable").field("len", &self.len()).finish()
    }
}

thread_local! {
    /// The table of the innermost scope on this thread.
    static TABLE: RefCell<Option<StreamTable>> = const { RefCell::new(None) };
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
    struct Restore(Option<StreamTable>);
    impl Drop for Restore {
        fn drop(&mut self) {
            let inner = TABLE.replace(self.0.take());
            drop(inner);
        }
    }
    let _restore = Restore(TABLE.replace(Some(table.clone())));
    f()
}

fn table() -> Result<StreamTable, ExportError> {
    TABLE.with_borrow(Clone::clone).ok_or(ExportError::NoScope)
}

/// Why a stream could not be encoded or decoded. Serde makes a message of it.
#[derive(Debug, thiserror::Error)]
enum ExportError {
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
}

/// Only inside [`with_exports`], and only once: the stream moves.
// `T: Wire` although items stay as they are here: a stream that leaves the process will have to encode them.
impl<T: Wire> Serialize for Streaming<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let id = table().and_then(|table| table.put(self)).map_err(ser::Error::custom)?;
        serializer.serialize_u64(id)
    }
}

/// Only inside [`with_exports`].
impl<'de, T: Wire> Deserialize<'de> for Streaming<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let id = u64::deserialize(deserializer)?;
        table().and_then(|table| table.take(id)).map_err(de::Error::custom)
    }
}

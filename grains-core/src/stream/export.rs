//! Streams on their way through bytes inside one process: a table that keeps them between encoding and decoding.

use std::{
    any::{Any, type_name},
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{
    Streaming,
    scope::{STREAMS_MAX, ScopeError},
};

#[cfg(test)]
mod tests;

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

    pub(super) fn put<T: Send + 'static>(&self, stream: &Streaming<T>) -> Result<u64, ScopeError> {
        let mut exported = self.lock();
        if exported.streams.len() >= STREAMS_MAX {
            return Err(ScopeError::Full);
        }
        let stream = stream.move_out().ok_or(ScopeError::Moved)?;
        let id = exported.next;
        exported.next += 1;
        exported.streams.insert(id, Box::new(stream));
        Ok(id)
    }

    pub(super) fn take<T: 'static>(&self, id: u64) -> Result<Streaming<T>, ScopeError> {
        let mut exported = self.lock();
        let stream = exported.streams.remove(&id).ok_or(ScopeError::Unknown { id })?;
        match stream.downcast::<Streaming<T>>() {
            Ok(stream) => Ok(*stream),
            Err(other) => {
                // It stays, so that whoever asks with the right type still gets it.
                exported.streams.insert(id, other);
                Err(ScopeError::OtherType { id, wanted: type_name::<T>() })
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

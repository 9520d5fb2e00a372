//! Streams whose sender is on another node: the runtime feeds bytes into an [`ImportedStream`], a [`Streaming`] reads
//! them. The other node sends an item only if it has credit for it; what the reader has taken becomes new credit.
//!
//! Items are decoded where they are read: the reader pays for it, and its panics and delays are its own.

use std::{
    collections::VecDeque,
    fmt,
    marker::PhantomData,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use super::{STREAM_CREDIT, Source, StreamError, Streaming, outgoing::coding};
use crate::{
    codec,
    method::Wire,
    reference::{current_route, with_route},
    route::Route,
};

#[cfg(test)]
mod tests;

/// How many taken items make one grant of credit: half of it, so that the sender can go on while the grant travels.
const GRANT: u32 = STREAM_CREDIT as u32 / 2;

/// The end of a stream into which its items are fed. When the last clone is dropped, the reader is told that the node
/// of the sender can no longer be heard.
#[derive(Clone)]
pub struct ImportedStream {
    feeder: Arc<Feeder>,
}

struct Feeder {
    flow: Arc<Mutex<Flow>>,
}

/// Invariant: `items.len() + taken <= STREAM_CREDIT`, and the other node has credit for the difference.
struct Flow {
    items: VecDeque<Result<Vec<u8>, StreamError>>,
    /// Items that were taken and are not credit again.
    taken: u32,
    phase: Phase,
    reader: Option<Waker>,
    watcher: Option<Waker>,
}

enum Phase {
    Open,
    /// Nothing more is taken in; after the last item the reader gets this error, or the normal end.
    Ended(Option<StreamError>),
    ReaderGone,
}

/// What the reader of an [`ImportedStream`] has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It has taken so many items, for which the sender gets credit again. Said once.
    Took(u32),
    /// It is gone: the sender can stop.
    Stopped,
    /// The stream was ended by [`ImportedStream::end`]: what the reader does is of no interest any more.
    Over,
}

/// An item was sent for which there was no credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more items than there is credit for: STREAM_CREDIT = {STREAM_CREDIT} reached")]
pub struct Flooded;

/// A stream, and the end into which its items are fed. References in them are bound as if they were read now.
pub(super) fn import<T: Wire>() -> (ImportedStream, Streaming<T>) {
    let flow = Arc::new(Mutex::new(Flow {
        items: VecDeque::new(),
        taken: 0,
        phase: Phase::Open,
        reader: None,
        watcher: None,
    }));
    let reader = Reader { flow: flow.clone(), route: current_route(), items: PhantomData };
    (ImportedStream { feeder: Arc::new(Feeder { flow }) }, Streaming::from_source(reader))
}

impl ImportedStream {
    /// Appends what the other node sent: an item, or an error in its place. What nobody will read is dropped.
    pub fn feed(&self, item: Result<Vec<u8>, StreamError>) -> Result<(), Flooded> {
        let mut flow = lock(&self.feeder.flow);
        if !matches!(flow.phase, Phase::Open) {
            return Ok(());
        }
        if flow.items.len() + flow.taken as usize >= STREAM_CREDIT {
            return Err(Flooded);
        }
        flow.items.push_back(item);
        let reader = flow.reader.take();
        drop(flow);
        wake(reader);
        Ok(())
    }

    /// Ends the stream after what was fed, unless it has ended: with an error, or normally.
    pub fn end(&self, with: Option<StreamError>) {
        self.feeder.end(with);
    }

    /// What the reader has done since it was asked last. One task may wait for it.
    pub fn poll_reading(&self, cx: &mut Context<'_>) -> Poll<Reading> {
        let mut flow = lock(&self.feeder.flow);
        let reading = match flow.phase {
            Phase::Ended(_) => Reading::Over,
            Phase::ReaderGone => Reading::Stopped,
            Phase::Open if flow.taken >= GRANT => Reading::Took(mem::take(&mut flow.taken)),
            Phase::Open => {
                let replaced = register(&mut flow.watcher, cx);
                drop(flow);
                drop(replaced);
                return Poll::Pending;
            }
        };
        Poll::Ready(reading)
    }
}

impl fmt::Debug for ImportedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ImportedStream")
    }
}

impl Feeder {
    fn end(&self, with: Option<StreamError>) {
        let mut flow = lock(&self.flow);
        if !matches!(flow.phase, Phase::Open) {
            return;
        }
        flow.phase = Phase::Ended(with);
        let (reader, watcher) = (flow.reader.take(), flow.watcher.take());
        drop(flow);
        wake(reader);
        wake(watcher);
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.end(Some(StreamError::Disconnected { why: "this node has stopped to listen".into() }));
    }
}

/// The reading end, inside a [`Streaming`].
struct Reader<T> {
    flow: Arc<Mutex<Flow>>,
    route: Option<Arc<dyn Route>>,
    items: PhantomData<fn() -> T>,
}

impl<T: Wire> Reader<T> {
    fn decode(&self, item: &[u8]) -> Result<T, StreamError> {
        coding(|| match &self.route {
            Some(route) => with_route(route, || codec::decode(item)),
            None => codec::decode(item),
        })
    }
}

impl<T: Wire> Source<T> for Reader<T> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, StreamError>>> {
        let mut flow = lock(&self.flow);
        if let Some(item) = flow.items.pop_front() {
            flow.taken += 1;
            let watcher = if flow.taken >= GRANT { flow.watcher.take() } else { None };
            drop(flow);
            wake(watcher);
            return Poll::Ready(Some(item.and_then(|item| self.decode(&item))));
        }
        if let Phase::Ended(with) = &mut flow.phase {
            // Taken, because an error that is not terminal would be repeated for ever: the other node chose it.
            return Poll::Ready(with.take().map(Err));
        }
        let replaced = register(&mut flow.reader, cx);
        drop(flow);
        drop(replaced);
        Poll::Pending
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        let mut flow = lock(&self.flow);
        if matches!(flow.phase, Phase::Open) {
            flow.phase = Phase::ReaderGone;
        }
        let items = mem::take(&mut flow.items);
        let (own, watcher) = (flow.reader.take(), flow.watcher.take());
        drop(flow);
        drop((items, own));
        wake(watcher);
    }
}

/// Notes who is to be woken. The waker that this replaces is to be dropped outside of the lock.
#[must_use]
fn register(place: &mut Option<Waker>, cx: &Context<'_>) -> Option<Waker> {
    match place {
        Some(known) if known.will_wake(cx.waker()) => None,
        _ => place.replace(cx.waker().clone()),
    }
}

/// Wakers are dropped and woken outside of this lock: both can run code that wants it.
fn lock(flow: &Mutex<Flow>) -> MutexGuard<'_, Flow> {
    flow.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

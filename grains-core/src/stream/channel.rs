//! A stream with one reader and a bound on what is under way: [`Streaming::channel`].

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use super::{
    Source, StreamError, Streaming,
    waiting::{Called, Ticket, Waiting},
};
use crate::error::Error;

#[cfg(test)]
mod tests;

/// How many items may be sent and not yet taken, unless the grain says otherwise.
///
/// Waking a task on another thread costs some 35 us, sending an item well under one: 64 items make the wake-up the
/// smaller part of the cost, and are few enough to keep for every reader that has stopped reading.
pub const STREAM_CREDIT: usize = 64;

impl<T: Send + 'static> Streaming<T> {
    /// A sink, and the stream of what is sent there. At most `credit` items (at least 1; [`STREAM_CREDIT`] suits most)
    /// are under way; then the sender waits for the reader.
    pub fn channel(credit: usize) -> (StreamSink<T>, Self) {
        let shared = Arc::new(Mutex::new(Shared {
            items: VecDeque::new(),
            credit: credit.max(1),
            promised: 0,
            senders: Waiting::default(),
            watchers: Waiting::default(),
            reader: None,
            sinks: 1,
            phase: Phase::Open,
        }));
        (StreamSink { shared: shared.clone() }, Self::from_source(Reader { shared }))
    }
}

/// The sending end of a [`Streaming`]. Dropping the last clone without [`finish`](Self::finish) ends the stream with
/// [`StreamError::ActivationGone`], after the items already sent: that is what readers see of an activation that goes.
///
/// Items of one clone arrive in the order they were sent. Senders that wait for credit are served in the order they
/// came.
pub struct StreamSink<T> {
    shared: Arc<Mutex<Shared<T>>>,
}

struct Shared<T> {
    items: VecDeque<T>,
    credit: usize,
    /// Credit of senders that were called and have not sent yet. `items.len() + promised` never exceeds `credit`, and
    /// equals it while a sender waits.
    promised: usize,
    senders: Waiting,
    watchers: Waiting,
    reader: Option<Waker>,
    sinks: usize,
    phase: Phase,
}

enum Phase {
    Open,
    /// Nothing more is taken in; after the last item the reader gets this error, or the normal end.
    Ended(Option<StreamError>),
    ReaderGone,
}

impl<T> StreamSink<T> {
    /// Sends `item`, once there is credit for it.
    ///
    /// Dropping the future before it is ready drops the item unsent. An error gives the item back: nobody will read it.
    pub async fn send(&self, item: T) -> Result<(), SendError<T>> {
        let mut place = Place { shared: &self.shared, ticket: None };
        let mut item = Some(item);
        poll_fn(|cx| place.poll_send(&mut item, cx)).await
    }

    /// Sends `item` if there is credit for it now.
    pub fn try_send(&self, item: T) -> Result<(), TrySendError<T>> {
        let mut shared = lock(&self.shared);
        if !shared.is_open() {
            return Err(TrySendError::Ended(item));
        }
        if !shared.has_credit() {
            return Err(TrySendError::Full(item));
        }
        let reader = shared.push(item);
        drop(shared);
        wake(reader);
        Ok(())
    }

    /// Whether nothing sent from now on would be read: the reader is gone, or another clone has ended the stream.
    pub fn is_closed(&self) -> bool {
        !lock(&self.shared).is_open()
    }

    /// Returns when [`is_closed`](Self::is_closed). For senders that wait for something else meanwhile.
    pub async fn closed(&self) {
        let mut watch = Watch { shared: &self.shared, ticket: None };
        poll_fn(|cx| watch.poll_closed(cx)).await;
    }

    /// Ends the stream: `None` after the last item. Other clones can send no more.
    pub fn finish(self) {
        self.end(None);
    }

    /// Ends the stream with [`StreamError::Failed`] after the last item. Other clones can send no more.
    pub fn fail(self, error: Error) {
        self.end(Some(StreamError::Failed(error)));
    }

    fn end(&self, with: Option<StreamError>) {
        let mut shared = lock(&self.shared);
        if shared.is_open() {
            let (reader, others) = shared.end(with);
            drop(shared);
            wake(reader);
            others.into_iter().for_each(Called::wake);
        }
    }

    #[cfg(test)]
    pub(super) fn strong_count(&self) -> usize {
        Arc::strong_count(&self.shared)
    }
}

impl<T> Clone for StreamSink<T> {
    fn clone(&self) -> Self {
        lock(&self.shared).sinks += 1;
        Self { shared: self.shared.clone() }
    }
}

impl<T> Drop for StreamSink<T> {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        shared.sinks -= 1;
        let last = shared.sinks == 0;
        drop(shared);
        if last {
            self.end(Some(StreamError::ActivationGone));
        }
    }
}

impl<T> fmt::Debug for StreamSink<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StreamSink")
    }
}

impl<T> Shared<T> {
    fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    fn has_credit(&self) -> bool {
        self.items.len() + self.promised < self.credit
    }

    /// Appends `item`; the reader is to be woken.
    #[must_use]
    fn push(&mut self, item: T) -> Option<Waker> {
        self.items.push_back(item);
        self.reader.take()
    }

    /// Promises free credit to whoever has waited longest; it is to be woken.
    #[must_use]
    fn promise(&mut self) -> Option<Waker> {
        if !self.is_open() || !self.has_credit() {
            return None;
        }
        let sender = self.senders.call_first()?;
        self.promised += 1;
        Some(sender)
    }

    /// Everybody in the result is to be woken.
    fn end(&mut self, with: Option<StreamError>) -> (Option<Waker>, [Called; 2]) {
        self.phase = Phase::Ended(with);
        (self.reader.take(), [self.senders.call_all(), self.watchers.call_all()])
    }
}

/// One `send` that may wait.
struct Place<'s, T> {
    shared: &'s Mutex<Shared<T>>,
    ticket: Option<Ticket>,
}

impl<T> Place<'_, T> {
    fn poll_send(&mut self, item: &mut Option<T>, cx: &mut Context<'_>) -> Poll<Result<(), SendError<T>>> {
        let mut shared = lock(self.shared);
        if !shared.is_open() {
            self.ticket = None;
            return Poll::Ready(Err(SendError(take(item))));
        }
        let credit = match self.ticket {
            Some(ticket) if shared.senders.holds(ticket) => Credit::Waits,
            Some(_) => Credit::Promised,
            None if shared.has_credit() => Credit::Free,
            None => Credit::Waits,
        };
        match credit {
            Credit::Waits => {
                let replaced = shared.senders.wait(&mut self.ticket, cx.waker());
                drop(shared);
                drop(replaced);
                return Poll::Pending;
            }
            Credit::Promised => shared.promised -= 1,
            Credit::Free => {}
        }
        self.ticket = None;
        let reader = shared.push(take(item));
        drop(shared);
        wake(reader);
        Poll::Ready(Ok(()))
    }
}

enum Credit {
    Free,
    Promised,
    Waits,
}

impl<T> Drop for Place<'_, T> {
    /// A send that stops waiting passes on the credit it was promised, or it would be lost.
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let mut shared = lock(self.shared);
        if !shared.is_open() {
            return;
        }
        let own = shared.senders.leave(ticket);
        let next = match own {
            Some(_) => None,
            None => {
                shared.promised -= 1;
                shared.promise()
            }
        };
        drop(shared);
        drop(own);
        wake(next);
    }
}

/// One `closed` that waits.
struct Watch<'s, T> {
    shared: &'s Mutex<Shared<T>>,
    ticket: Option<Ticket>,
}

impl<T> Watch<'_, T> {
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut shared = lock(self.shared);
        if !shared.is_open() {
            return Poll::Ready(());
        }
        let replaced = shared.watchers.wait(&mut self.ticket, cx.waker());
        drop(shared);
        drop(replaced);
        Poll::Pending
    }
}

impl<T> Drop for Watch<'_, T> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let own = lock(self.shared).watchers.leave(ticket);
        drop(own);
    }
}

/// The reading end, inside a [`Streaming`].
struct Reader<T> {
    shared: Arc<Mutex<Shared<T>>>,
}

impl<T: Send> Source<T> for Reader<T> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, StreamError>>> {
        let mut shared = lock(&self.shared);
        if let Some(item) = shared.items.pop_front() {
            let sender = shared.promise();
            drop(shared);
            wake(sender);
            return Poll::Ready(Some(Ok(item)));
        }
        if let Phase::Ended(with) = &shared.phase {
            return Poll::Ready(with.clone().map(Err));
        }
        if shared.reader.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        let replaced = shared.reader.replace(cx.waker().clone());
        drop(shared);
        drop(replaced);
        Poll::Pending
    }
}

impl<T> Drop for Reader<T> {
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        shared.phase = Phase::ReaderGone;
        let items = mem::take(&mut shared.items);
        let own = shared.reader.take();
        let others = [shared.senders.call_all(), shared.watchers.call_all()];
        drop(shared);
        drop((items, own));
        others.into_iter().for_each(Called::wake);
    }
}

/// Items are dropped and tasks woken outside of this lock: both can run code that wants it.
fn lock<T>(shared: &Mutex<Shared<T>>) -> MutexGuard<'_, Shared<T>> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn take<T>(item: &mut Option<T>) -> T {
    item.take().expect("a send is not polled after it was ready")
}

/// The item was not sent, because nobody will read it: the reader is gone, or a clone of the sink has ended the stream.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nobody reads this stream any more")]
pub struct SendError<T>(
    /// The item.
    pub T,
);

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendError(..)")
    }
}

/// The item was not sent.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrySendError<T> {
    /// There is no credit now: the reader is slower than the sender.
    #[error("the reader of this stream is slower than its sender")]
    Full(T),
    /// Nobody will read it.
    #[error("nobody reads this stream any more")]
    Ended(T),
}

impl<T> TrySendError<T> {
    /// The item.
    pub fn into_item(self) -> T {
        match self {
            Self::Full(item) | Self::Ended(item) => item,
        }
    }
}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Ended(_) => "Ended(..)",
        })
    }
}

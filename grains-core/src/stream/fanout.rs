//! The same items for many readers, none of whom can hold up the others: [`Fanout`].

use std::{
    collections::VecDeque,
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use serde::{Deserialize, Serialize};

use super::{
    Source, StreamError, Streaming,
    waiting::{Ticket, Waiting},
};

#[cfg(test)]
mod tests;

/// The limits of a [`Fanout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FanoutLimits {
    /// How many items are kept for readers that have not read them yet, at least 1. They are kept once, whatever the
    /// number of readers; a reader further behind misses the oldest. 256 by default: at a thousand items a second, a
    /// quarter of a second, which covers the pauses of a healthy reader.
    pub backlog_len_max: usize,
    /// How many readers there may be. 1,024 by default: every item wakes the readers that wait, at up to a microsecond
    /// each, so that sending stays around a millisecond. Beyond that let some of the readers be grains that pass it on.
    pub subscribers_max: usize,
}

impl Default for FanoutLimits {
    fn default() -> Self {
        Self { backlog_len_max: 256, subscribers_max: 1024 }
    }
}

/// There are as many subscribers as there may be. Nothing was subscribed; it may work later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("this fanout has no room for another subscriber: subscribers_max = {subscribers_max} reached")]
pub struct FanoutFull {
    /// The limit.
    pub subscribers_max: usize,
}

/// A field of a grain whose callers want to follow what happens: everything sent here reaches every subscriber.
///
/// Sending never waits and never fails. The last items are kept in one ring which each subscriber reads at its own
/// pace; one that falls behind it gets [`StreamError::Missed`] with the exact count, then the oldest item kept. Items
/// are cloned for each reader, one reader at a time: put large ones into an `Arc`.
///
/// Dropping it, as happens when its activation goes, ends all subscriptions with [`StreamError::ActivationGone`] after
/// what they have not read yet.
///
/// ```
/// # use grains_core as grains;
/// use grains::stream::{Fanout, StreamError, Streaming};
///
/// #[derive(Default)]
/// struct RoomGrain {
///     lines: Fanout<String>,
/// }
///
/// impl RoomGrain {
///     async fn say(&mut self, text: String) -> grains::Result<()> {
///         self.lines.send(text);
///         Ok(())
///     }
///     async fn watch(&self) -> grains::Result<Streaming<String>> {
///         Ok(self.lines.subscribe())
///     }
/// }
/// # use std::{future::Future, pin::pin, task::{Context, Poll, Waker}};
/// # fn run<F: Future>(f: F) -> F::Output {
/// #     let mut f = pin!(f);
/// #     loop { if let Poll::Ready(out) = f.as_mut().poll(&mut Context::from_waker(Waker::noop())) { return out } }
/// # }
/// # run(async {
/// let mut room = RoomGrain::default();
/// let mut lines = room.watch().await?;
/// room.say("hello".into()).await?;
/// assert_eq!(lines.next().await, Some(Ok("hello".into())));
/// drop(room);
/// assert_eq!(lines.next().await, Some(Err(StreamError::ActivationGone)));
/// # Ok::<(), grains::Error>(())
/// # }).unwrap();
/// ```
pub struct Fanout<T> {
    ring: Arc<Mutex<Ring<T>>>,
}

struct Ring<T> {
    limits: FanoutLimits,
    /// The last items sent, oldest first; empty without subscribers.
    items: VecDeque<T>,
    /// How many items were sent, so the number of the next one.
    sent: u64,
    subscribers: usize,
    waiting: Waiting,
    phase: Phase,
}

enum Phase {
    Open,
    /// Nothing more is sent; after the last item subscribers get this error, or the normal end.
    Ended(Option<StreamError>),
}

impl<T: Clone + Send + 'static> Fanout<T> {
    /// A fanout with limits of its own.
    pub fn with_limits(limits: FanoutLimits) -> Self {
        Self {
            ring: Arc::new(Mutex::new(Ring {
                limits: FanoutLimits { backlog_len_max: limits.backlog_len_max.max(1), ..limits },
                items: VecDeque::new(),
                sent: 0,
                subscribers: 0,
                waiting: Waiting::default(),
                phase: Phase::Open,
            })),
        }
    }

    /// Every item from now on.
    ///
    /// Over `subscribers_max`, the only item of the stream is [`StreamError::Failed`], which says so. Use
    /// [`try_subscribe`](Self::try_subscribe) where the caller must know at once.
    pub fn subscribe(&self) -> Streaming<T> {
        self.try_subscribe().unwrap_or_else(|full| Streaming::failed(full.into()))
    }

    /// Every item from now on, or an error if `subscribers_max` is reached.
    pub fn try_subscribe(&self) -> Result<Streaming<T>, FanoutFull> {
        let mut ring = lock(&self.ring);
        let FanoutLimits { subscribers_max, .. } = ring.limits;
        if ring.subscribers >= subscribers_max {
            return Err(FanoutFull { subscribers_max });
        }
        ring.subscribers += 1;
        let next = ring.sent;
        drop(ring);
        Ok(Streaming::from_source(Subscription { ring: self.ring.clone(), next, ticket: None }))
    }

    /// Sends `item` to all who have subscribed before. After [`close`](Self::close) it goes nowhere.
    pub fn send(&self, item: T) {
        let mut ring = lock(&self.ring);
        if ring.subscribers == 0 || matches!(ring.phase, Phase::Ended(_)) {
            drop(ring);
            return drop(item);
        }
        let oldest = ring.push(item);
        let waiting = ring.waiting.call_all();
        drop(ring);
        drop(oldest);
        waiting.wake();
    }
}

impl<T> Fanout<T> {
    /// Ends all subscriptions, also those made later: `None` after what they have not read yet.
    pub fn close(&self) {
        self.end(None);
    }

    /// How many subscriptions have not been dropped.
    pub fn subscribers(&self) -> usize {
        lock(&self.ring).subscribers
    }

    fn end(&self, with: Option<StreamError>) {
        let mut ring = lock(&self.ring);
        if let Phase::Open = ring.phase {
            ring.phase = Phase::Ended(with);
        }
        let waiting = ring.waiting.call_all();
        drop(ring);
        waiting.wake();
    }
}

impl<T: Clone + Send + 'static> Default for Fanout<T> {
    fn default() -> Self {
        Self::with_limits(FanoutLimits::default())
    }
}

impl<T> Drop for Fanout<T> {
    fn drop(&mut self) {
        self.end(Some(StreamError::ActivationGone));
    }
}

impl<T> fmt::Debug for Fanout<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fanout").field("subscribers", &self.subscribers()).finish_non_exhaustive()
    }
}

impl<T> Ring<T> {
    /// Appends `item` and gives back the one that has no room any more.
    #[must_use]
    fn push(&mut self, item: T) -> Option<T> {
        let oldest = if self.items.len() < self.limits.backlog_len_max { None } else { self.items.pop_front() };
        self.items.push_back(item);
        self.sent += 1;
        oldest
    }

    /// The number of the oldest item kept.
    fn oldest(&self) -> u64 {
        self.sent - self.items.len() as u64
    }
}

impl<T: Clone> Ring<T> {
    /// What a subscriber gets that has read all before `next`; `None` if it has to wait.
    fn read(&self, next: &mut u64) -> Option<Option<Result<T, StreamError>>> {
        let oldest = self.oldest();
        if *next < oldest {
            let items = oldest - mem::replace(next, oldest);
            return Some(Some(Err(StreamError::Missed { items })));
        }
        if let Some(item) = self.items.get((*next - oldest) as usize) {
            let item = item.clone();
            *next += 1;
            return Some(Some(Ok(item)));
        }
        match &self.phase {
            Phase::Open => None,
            Phase::Ended(with) => Some(with.clone().map(Err)),
        }
    }
}

/// One reader of the ring, inside a [`Streaming`].
struct Subscription<T> {
    ring: Arc<Mutex<Ring<T>>>,
    /// The number of the item it reads next.
    next: u64,
    ticket: Option<Ticket>,
}

impl<T: Clone + Send> Source<T> for Subscription<T> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, StreamError>>> {
        let mut ring = lock(&self.ring);
        if let Some(item) = ring.read(&mut self.next) {
            return Poll::Ready(item);
        }
        let replaced = ring.waiting.wait(&mut self.ticket, cx.waker());
        drop(ring);
        drop(replaced);
        Poll::Pending
    }
}

impl<T> Drop for Subscription<T> {
    fn drop(&mut self) {
        let mut ring = lock(&self.ring);
        ring.subscribers -= 1;
        let own = self.ticket.and_then(|ticket| ring.waiting.leave(ticket));
        let unread = if ring.subscribers == 0 { mem::take(&mut ring.items) } else { VecDeque::new() };
        drop(ring);
        drop((own, unread));
    }
}

/// Items are dropped and tasks woken outside of this lock: both can run code that wants it.
fn lock<T>(ring: &Mutex<Ring<T>>) -> MutexGuard<'_, Ring<T>> {
    ring.lock().unwrap_or_else(PoisonError::into_inner)
}

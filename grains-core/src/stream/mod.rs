//! Answers that go on: [`Streaming`], the reply type of a method that answers with many items over time. Grains make
//! one with [`Streaming::channel`] or with a [`Fanout`]; the runtime moves it to the caller.

use std::{
    fmt,
    future::poll_fn,
    mem,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use serde::{Deserialize, Serialize};

use crate::error::Error;

mod channel;
mod export;
mod fanout;
mod incoming;
mod outgoing;
mod scope;
mod waiting;

#[cfg(test)]
mod testing;

pub use channel::{STREAM_CREDIT, SendError, StreamSink, TrySendError};
pub use export::StreamTable;
pub use fanout::{Fanout, FanoutFull, FanoutLimits};
pub use incoming::{Flooded, ImportedStream, Reading};
pub use outgoing::{ExportedStream, STREAM_ITEM_BYTES_MAX};
pub(crate) use scope::within_item;
pub use scope::{STREAMS_MAX, with_exports, with_incoming, with_outgoing};

/// This is an answer of many items: what `async fn watch(&self) -> Result<Streaming<Line>, E>` gives its caller.
///
/// Read it with [`next`](Self::next), or as a [`Stream`]. `None` says that it ended as its sender wanted; an error says
/// that it did not, or that items were missed. After `None` and after an error that
/// [is terminal](StreamError::is_terminal) there is only `None`. Dropping it tells the sender to stop.
///
/// ```
/// # use grains_core as grains;
/// use grains::stream::{StreamError, Streaming};
/// # use std::{future::Future, pin::pin, task::{Context, Poll, Waker}};
/// # fn run<F: Future>(f: F) -> F::Output {
/// #     let mut f = pin!(f);
/// #     loop { if let Poll::Ready(out) = f.as_mut().poll(&mut Context::from_waker(Waker::noop())) { return out } }
/// # }
/// # run(async {
/// let (sink, mut lines) = Streaming::channel(8);
/// sink.send("hello").await?;
/// sink.finish();
/// while let Some(line) = lines.next().await {
///     assert_eq!(line?, "hello");
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[must_use = "dropping a stream tells its sender to stop"]
pub struct Streaming<T> {
    // A lock only because encoding has `&self` and moves the source out; reading has `&mut self` and takes no lock.
    state: Mutex<State<T>>,
}

enum State<T> {
    Open(Box<dyn Source<T>>),
    Moved,
    Ended,
}

/// What a [`Streaming`] reads from. Channels, fanouts and streams of other nodes are such; grains have no need to be.
pub trait Source<T>: Send {
    /// The next item, or `None` at the normal end. Not asked again after `None` or a terminal error.
    ///
    /// Whoever gets `Pending` may stop asking, or be dropped, without an item being lost.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<T, StreamError>>>;
}

impl<T> Streaming<T> {
    /// A stream that reads from `source`.
    pub fn from_source(source: impl Source<T> + 'static) -> Self {
        Self::from_state(State::Open(Box::new(source)))
    }

    /// A stream whose only item is `error`, for a grain that finds out too late that it has nothing to send.
    pub fn failed(error: Error) -> Self
    where
        T: 'static,
    {
        Self::from_source(Failed(Some(error)))
    }

    /// The next item, as soon as there is one.
    ///
    /// Dropping the future before it is ready loses nothing, so that it can stand in a `select!`.
    pub async fn next(&mut self) -> Option<Result<T, StreamError>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    fn from_state(state: State<T>) -> Self {
        Self { state: Mutex::new(state) }
    }

    /// Takes what is left of this stream; `None` if that has happened before.
    fn move_out(&self) -> Option<Self> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match mem::replace(&mut *state, State::Moved) {
            State::Moved => None,
            open_or_ended => Some(Self::from_state(open_or_ended)),
        }
    }
}

impl<T> Stream for Streaming<T> {
    type Item = Result<T, StreamError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let item = match state {
            State::Open(source) => ready!(source.poll_next(cx)),
            State::Moved => Some(Err(StreamError::Failed(Error::new("this stream was sent away: it is read there")))),
            State::Ended => None,
        };
        if is_last(&item) {
            *state = State::Ended;
        }
        Poll::Ready(item)
    }
}

fn is_last<T>(item: &Option<Result<T, StreamError>>) -> bool {
    match item {
        Some(Ok(_)) => false,
        Some(Err(error)) => error.is_terminal(),
        None => true,
    }
}

impl<T> fmt::Debug for Streaming<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Streaming")
    }
}

struct Failed(Option<Error>);

impl<T> Source<T> for Failed {
    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<T, StreamError>>> {
        Poll::Ready(self.0.take().map(|error| Err(StreamError::Failed(error))))
    }
}

/// What can stand in a stream in place of an item.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StreamError {
    /// The activation that sent this stream is gone. Everything before was received in order; what it would have sent
    /// later is unknown. Ask the grain again for a new stream. Terminal.
    #[error("the activation that sent this stream is gone")]
    ActivationGone,
    /// The sender ended the stream with an error. Terminal.
    #[error("the stream failed: {0}")]
    Failed(Error),
    /// This reader was too slow, and items were dropped. The next item follows.
    #[error("{items} items were missed: this reader is too slow")]
    Missed {
        /// How many, exactly.
        items: u64,
    },
    /// The node that sent this stream can no longer be heard. Everything before was received in order; what it would
    /// have sent later is unknown. Ask the grain again for a new stream. Terminal.
    #[error("the node that sent this stream can no longer be heard: {why}")]
    Disconnected {
        /// What became of the node or the connection.
        why: Box<str>,
    },
    /// An item could not go to the node of its reader, or could not be read there. Terminal.
    #[error("an item of this stream could not travel: {why}")]
    Codec {
        /// What is wrong with it.
        why: Box<str>,
    },
    /// There are too many streams to begin this one. Nothing was sent. Terminal.
    #[error("there are too many streams: {limit} reached")]
    Overloaded {
        /// The limit that was reached, for example `streams_per_peer_max = 4096`.
        limit: Box<str>,
    },
}

impl StreamError {
    /// Whether nothing follows.
    pub fn is_terminal(&self) -> bool {
        match self {
            Self::Missed { .. } => false,
            Self::ActivationGone
            | Self::Failed(_)
            | Self::Disconnected { .. }
            | Self::Codec { .. }
            | Self::Overloaded { .. } => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::block_on, *};

    struct Script(Vec<Option<Result<u8, StreamError>>>);

    impl Source<u8> for Script {
        fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<u8, StreamError>>> {
            Poll::Ready(self.0.remove(0))
        }
    }

    fn read_all(mut stream: Streaming<u8>, times: usize) -> Vec<Option<Result<u8, StreamError>>> {
        (0..times).map(|_| block_on(stream.next())).collect()
    }

    #[test]
    fn nothing_follows_a_terminal_error_or_the_end() {
        for last in [None, Some(Err(StreamError::ActivationGone)), Some(Err(StreamError::Failed(Error::new("no"))))] {
            let stream = Streaming::from_source(Script(vec![Some(Ok(1)), last.clone(), Some(Ok(2))]));
            assert_eq!(read_all(stream, 4), [Some(Ok(1)), last, None, None]);
        }
    }

    #[test]
    fn items_follow_missed_ones() {
        let missed = Some(Err(StreamError::Missed { items: 3 }));
        let stream = Streaming::from_source(Script(vec![missed.clone(), Some(Ok(2)), None]));
        assert_eq!(read_all(stream, 3), [missed, Some(Ok(2)), None]);
    }

    #[test]
    fn an_ended_stream_lets_go_of_its_source() {
        let (sink, mut stream) = Streaming::channel(1);
        let other = sink.clone();
        sink.fail(Error::new("enough"));
        block_on(other.send(1)).unwrap_err();
        assert_eq!(block_on(stream.next()), Some(Err(StreamError::Failed(Error::new("enough")))));
        assert_eq!(other.strong_count(), 1);
    }

    #[test]
    fn a_stream_can_move_between_threads_and_be_polled_unpinned() {
        fn check<T: Send + Sync + Unpin + 'static>() {}
        check::<Streaming<std::cell::Cell<u8>>>();
        check::<Streaming<std::marker::PhantomPinned>>();
    }
}

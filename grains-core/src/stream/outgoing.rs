//! Streams whose reader is on another node: their items as bytes, for the runtime to send.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;

use super::{StreamError, Streaming, scope::within_item};
use crate::{codec, error::Error, method::Wire};

/// How many bytes an item of a stream between nodes may have. It is sent as one frame, which delays all others.
pub const STREAM_ITEM_BYTES_MAX: usize = 1 << 20;

/// A stream that was encoded for another node. Dropping it tells its sender to stop.
pub trait ExportedStream: Send {
    /// The next item in bytes, or `None` at the normal end. Not asked again after `None` or a terminal error.
    ///
    /// Panics of users' code are errors here. Nothing is taken from the stream before somebody asks for it.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Vec<u8>, StreamError>>>;
}

/// `stream`, with its items as bytes.
pub(super) fn export<T: Wire>(stream: Streaming<T>) -> Box<dyn ExportedStream> {
    Box::new(Exported(stream))
}

struct Exported<T>(Streaming<T>);

impl<T: Wire> ExportedStream for Exported<T> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Vec<u8>, StreamError>>> {
        let next = match caught(|| Pin::new(&mut self.0).poll_next(cx)) {
            Ok(polled) => ready!(polled),
            Err(panic) => Some(Err(StreamError::Failed(Error::new(format_args!("its source panicked: {panic}"))))),
        };
        Poll::Ready(next.map(|item| item.and_then(|item| encode_item(&item))))
    }
}

fn encode_item<T: Wire>(item: &T) -> Result<Vec<u8>, StreamError> {
    coding(|| codec::encode(item))
}

/// Runs users' `Serialize` or `Deserialize` for one item.
pub(super) fn coding<R>(code: impl FnOnce() -> Result<R, codec::CodecError>) -> Result<R, StreamError> {
    let why = match caught(|| within_item(code)) {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(why)) => why.to_string(),
        Err(panic) => format!("encoding or decoding it panicked: {panic}"),
    };
    Err(StreamError::Codec { why: why.into() })
}

/// What `f` says, or what its panic said.
fn caught<R>(f: impl FnOnce() -> R) -> Result<R, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| message(&*panic).to_owned())
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a value that is not text")
}

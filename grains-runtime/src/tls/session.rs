//! The bytes of an open TLS connection. Its two directions share one state of `rustls`, under a lock: both are polled by one
//! task, the pump of the connection, so nobody ever waits for it.

use std::{
    io::{self, Write as _},
    sync::Arc,
    task::{Context, Poll, ready},
};

use grains_core::world::{ByteReader, ByteWriter};
use rustls::{Connection as Tls, Error};

use super::telling;
use crate::sync::{Mutex, lock};

/// How many encrypted bytes one read brings: more than a record, and what the busiest peers send at once.
const READ_BYTES: usize = 64 * 1024;

/// How much is encrypted before it has left. What a writer has taken counts as sent, so this is little.
const UNSENT_BYTES_MAX: usize = 64 * 1024;

/// Bytes that have arrived and are yet to be decrypted.
#[derive(Default)]
pub(super) struct Incoming {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Incoming {
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Reads some, once there are none: at most `bytes`, or as many as there was room for before.
    pub(super) fn poll_fill(
        &mut self,
        reader: &mut dyn ByteReader,
        cx: &mut Context<'_>,
        bytes: usize,
    ) -> Poll<io::Result<usize>> {
        debug_assert!(self.is_empty(), "what is here is decrypted first");
        if self.bytes.len() < bytes {
            self.bytes.resize(bytes, 0);
        }
        let read = ready!(reader.poll_read(cx, &mut self.bytes))?;
        (self.start, self.end) = (0, read);
        Poll::Ready(Ok(read))
    }

    /// Has some of them decrypted.
    pub(super) fn give(&mut self, tls: &mut Tls) -> Result<(), Error> {
        let mut given = &self.bytes[self.start..self.end];
        let taken = tls.read_tls(&mut given).map_err(|why| Error::General(why.to_string()))?;
        self.start += taken;
        if taken == 0 {
            return Err(Error::General("a record that is longer than any".to_owned()));
        }
        tls.process_new_packets().map(|_| ())
    }
}

/// Sends what is encrypted.
pub(super) fn poll_out(tls: &mut Tls, writer: &mut dyn ByteWriter, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    while tls.wants_write() {
        match tls.write_tls(&mut Out { writer, cx }) {
            Ok(0) => return Poll::Ready(Err(io::Error::new(io::ErrorKind::WriteZero, "it takes no more bytes"))),
            Ok(_) => {}
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            Err(why) => return Poll::Ready(Err(why)),
        }
    }
    Poll::Ready(Ok(()))
}

/// A writer in the shape that `rustls` writes to.
struct Out<'t, 'c> {
    writer: &'t mut dyn ByteWriter,
    cx: &'t mut Context<'c>,
}

impl io::Write for Out<'_, '_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        match self.writer.poll_write(self.cx, data) {
            Poll::Ready(written) => written,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Both halves, behind the handshake.
pub(super) fn split(
    mut tls: Tls,
    reader: Box<dyn ByteReader>,
    incoming: Incoming,
    writer: Box<dyn ByteWriter>,
) -> (Reader, Writer) {
    tls.set_buffer_limit(Some(UNSENT_BYTES_MAX));
    let tls = Arc::new(Mutex::new(tls));
    (Reader { tls: tls.clone(), reader, incoming, failed: None }, Writer { tls, writer, failed: None, closing: false })
}

/// What comes, decrypted.
pub(super) struct Reader {
    tls: Arc<Mutex<Tls>>,
    reader: Box<dyn ByteReader>,
    incoming: Incoming,
    /// What is wrong behind what was read last: for the next who asks.
    failed: Option<Error>,
}

impl ByteReader for Reader {
    /// An end that TLS was not told of is an end like any: frames say how long they are, and what an end means to calls does
    /// not depend on whether it was meant.
    fn poll_read(&mut self, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        if let Some(why) = self.failed.take() {
            return Poll::Ready(Err(broken(&why)));
        }
        let tls = &mut *lock(&self.tls);
        let mut read = 0;
        loop {
            match io::Read::read(&mut tls.reader(), &mut out[read..]) {
                Ok(0) => return Poll::Ready(Ok(read)),
                Ok(more) => read += more,
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {}
                Err(why) => return Poll::Ready(Err(why)),
            }
            if read == out.len() {
                return Poll::Ready(Ok(read));
            }
            if !self.incoming.is_empty() {
                match self.incoming.give(tls) {
                    Ok(()) => continue,
                    Err(why) if read > 0 => {
                        self.failed = Some(why);
                        return Poll::Ready(Ok(read));
                    }
                    Err(why) => return Poll::Ready(Err(broken(&why))),
                }
            }
            if read > 0 {
                return Poll::Ready(Ok(read));
            }
            if ready!(self.incoming.poll_fill(&mut *self.reader, cx, READ_BYTES))? == 0 {
                return Poll::Ready(Ok(0));
            }
        }
    }
}

fn broken(why: &Error) -> io::Error {
    match why {
        why if telling::is_refusal(why) => io::Error::new(io::ErrorKind::PermissionDenied, telling::untrusted(why)),
        Error::AlertReceived(_) => io::Error::new(io::ErrorKind::ConnectionAborted, telling::untrusted(why)),
        why => io::Error::new(io::ErrorKind::InvalidData, format!("what came is not what was sent: {why}")),
    }
}

/// What goes, encrypted.
pub(super) struct Writer {
    tls: Arc<Mutex<Tls>>,
    writer: Box<dyn ByteWriter>,
    /// Why what was taken has not left: for the next who asks.
    failed: Option<io::Error>,
    closing: bool,
}

impl ByteWriter for Writer {
    /// What it takes may have left from then on, whatever happens: so an error that comes behind that is said the next time, and
    /// what this refuses has certainly not left.
    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(cx))?;
        let tls = &mut *lock(&self.tls);
        let taken = tls.writer().write(data)?;
        if let Poll::Ready(Err(why)) = poll_out(tls, &mut *self.writer, cx) {
            self.failed = Some(why);
        }
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(why) = self.failed.take() {
            return Poll::Ready(Err(why));
        }
        ready!(poll_out(&mut lock(&self.tls), &mut *self.writer, cx))?;
        self.writer.poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.closing, true) {
            lock(&self.tls).send_close_notify();
        }
        ready!(self.poll_flush(cx))?;
        self.writer.poll_close(cx)
    }
}

#[cfg(test)]
#[cfg(feature = "ca")]
mod tests;

//! TCP between nodes, through the sockets of one tokio runtime.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use grains_core::world::{BoxFuture, ByteReader, ByteWriter, Connection, Listener, Transport};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::Handle,
};

#[cfg(test)]
mod tests;

/// TCP, with small writes sent at once.
pub(super) struct Tcp {
    runtime: Handle,
}

impl Tcp {
    pub(super) fn new(runtime: Handle) -> Self {
        Self { runtime }
    }
}

impl Transport for Tcp {
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(inside(&self.runtime, async move {
            let listener = TcpListener::bind(address).await.map_err(|why| about("cannot listen at", address, why))?;
            Ok(Box::new(TcpPort { runtime: self.runtime.clone(), listener }) as Box<dyn Listener>)
        }))
    }

    fn dial<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Connection>> {
        Box::pin(inside(&self.runtime, async move {
            let stream = TcpStream::connect(address).await;
            stream.and_then(connection).map_err(|why| about("cannot connect to", address, why))
        }))
    }
}

/// Polls `future` inside of `runtime`, whoever polls it: its sockets belong there.
async fn inside<F: Future>(runtime: &Handle, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| {
        let _inside = runtime.enter();
        future.as_mut().poll(cx)
    })
    .await
}

struct TcpPort {
    runtime: Handle,
    listener: TcpListener,
}

impl Listener for TcpPort {
    fn local_address(&self) -> io::Result<String> {
        self.listener.local_addr().map(|address| address.to_string())
    }

    /// After an error the next call may work: it was about one connection, or the process has too many open files.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(inside(&self.runtime, async {
            let (stream, _) = self.listener.accept().await?;
            connection(stream)
        }))
    }
}

fn connection(stream: TcpStream) -> io::Result<Connection> {
    let (reader, writer) = halves(stream)?;
    Ok(Connection { peer: reader.peer.to_string(), reader: Box::new(reader), writer: Box::new(writer) })
}

/// Nagle's algorithm would keep a small frame back until the one before it is acknowledged.
fn halves(stream: TcpStream) -> io::Result<(TcpReader, TcpWriter)> {
    stream.set_nodelay(true)?;
    let peer = stream.peer_addr()?;
    let (reader, writer) = stream.into_split();
    Ok((TcpReader { half: reader, peer }, TcpWriter { half: writer, peer }))
}

struct TcpReader {
    half: OwnedReadHalf,
    peer: SocketAddr,
}

impl ByteReader for TcpReader {
    fn poll_read(&mut self, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut out = ReadBuf::new(out);
        let read = ready!(Pin::new(&mut self.half).poll_read(cx, &mut out));
        Poll::Ready(read.map(|()| out.filled().len()).map_err(|why| about("connection to", self.peer, why)))
    }
}

/// Dropped, it closes its direction, as tokio's half does.
struct TcpWriter {
    half: OwnedWriteHalf,
    peer: SocketAddr,
}

impl ByteWriter for TcpWriter {
    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.half).poll_write(cx, data);
        written.map_err(|why| about("connection to", self.peer, why))
    }

    /// TCP keeps nothing back to flush.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.half).poll_shutdown(cx);
        closed.map_err(|why| about("connection to", self.peer, why))
    }
}

fn about(what: &str, address: impl std::fmt::Display, why: io::Error) -> io::Error {
    io::Error::new(why.kind(), format!("{what} {address}: {why}"))
}

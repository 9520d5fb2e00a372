//! A transport in memory: pipes that hold little, so that both sides have to wait for each other.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use grains_core::world::{ByteReader, ByteWriter, Listener, Transport};
use tokio::sync::mpsc;

use super::*;

const PIPE_BYTES: usize = 40_000;

/// Everything there is to dial.
#[derive(Default)]
pub(super) struct Memory {
    ports: Arc<Mutex<BTreeMap<String, mpsc::UnboundedSender<Connection>>>>,
}

impl Transport for Memory {
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let mut ports = lock(&self.ports);
            let host = address.strip_suffix(":0");
            let address = host.map_or_else(|| address.to_owned(), |host| format!("{host}:{}", 1000 + ports.len()));
            if ports.get(&address).is_some_and(|port| !port.is_closed()) {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            let (port, connections) = mpsc::unbounded_channel();
            ports.insert(address.clone(), port);
            Ok(Box::new(Port { address, connections }) as Box<dyn Listener>)
        })
    }

    fn dial<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Connection>> {
        Box::pin(async move {
            let ((reader, their_writer), (their_reader, writer)) = (pipe(), pipe());
            let them = Connection { peer: "memory:0".into(), reader: their_reader, writer: their_writer };
            let port = lock(&self.ports).get(address).cloned();
            port.and_then(|port| port.send(them).ok()).ok_or(io::ErrorKind::ConnectionRefused)?;
            Ok(Connection { peer: address.to_owned(), reader, writer })
        })
    }
}

struct Port {
    address: String,
    connections: mpsc::UnboundedReceiver<Connection>,
}

impl Listener for Port {
    fn local_address(&self) -> io::Result<String> {
        Ok(self.address.clone())
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(async { self.connections.recv().await.ok_or(io::ErrorKind::BrokenPipe.into()) })
    }
}

#[derive(Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    ended: bool,
    waiting: Vec<Waker>,
}

struct End(Arc<Mutex<Pipe>>);

fn pipe() -> (Box<dyn ByteReader>, Box<dyn ByteWriter>) {
    let pipe = Arc::default();
    (Box::new(End(Arc::clone(&pipe))), Box::new(End(pipe)))
}

impl ByteReader for End {
    fn poll_read(&mut self, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut pipe = lock(&self.0);
        if pipe.bytes.is_empty() && !pipe.ended {
            pipe.waiting.push(cx.waker().clone());
            return Poll::Pending;
        }
        let some = io::Read::read(&mut pipe.bytes, out)?;
        pipe.waiting.drain(..).for_each(Waker::wake);
        Poll::Ready(Ok(some))
    }
}

impl ByteWriter for End {
    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let mut pipe = lock(&self.0);
        if pipe.ended {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let some = data.len().min(PIPE_BYTES - pipe.bytes.len());
        if some == 0 {
            pipe.waiting.push(cx.waker().clone());
            return Poll::Pending;
        }
        pipe.bytes.extend(&data[..some]);
        pipe.waiting.drain(..).for_each(Waker::wake);
        Poll::Ready(Ok(some))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}

impl End {
    fn end(&self) {
        let mut pipe = lock(&self.0);
        pipe.ended = true;
        pipe.waiting.drain(..).for_each(Waker::wake);
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.end();
    }
}

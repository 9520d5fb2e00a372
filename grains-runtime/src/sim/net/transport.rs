//! The seam of connections, over the simulated network.

use std::{
    future::{Future, poll_fn},
    io::{self, ErrorKind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use grains_core::world::{BoxFuture, ByteReader, ByteWriter, Connection, Listener, Transport};

use super::{
    gone,
    link::{Dial, LinkId},
    parts,
};
use crate::sim::engine::{Engine, Life};

/// The connections of one life of a machine.
pub(in crate::sim) struct SimTransport {
    engine: Arc<Engine>,
    life: Life,
}

impl SimTransport {
    pub(in crate::sim) fn new(engine: Arc<Engine>, life: Life) -> Self {
        Self { engine, life }
    }
}

impl Transport for SimTransport {
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let (address, number) = self.engine.with(|state| state.listen(self.life, address))?;
            Ok(Box::new(SimPort { engine: self.engine.clone(), address, number }) as Box<dyn Listener>)
        })
    }

    fn dial<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Connection>> {
        Box::pin(async move {
            parts(address)?;
            let link = self.engine.with(|state| {
                if state.is_live(self.life) { Ok(state.dial(self.life, address)) } else { Err(gone()) }
            })?;
            Dialling { engine: &self.engine, link, held: Held::ByDialler }.await
        })
    }
}

/// Waits for the answer of the other side. Dropped, it gives up.
struct Dialling<'e> {
    engine: &'e Arc<Engine>,
    link: LinkId,
    held: Held,
}

#[derive(PartialEq, Eq)]
enum Held {
    ByDialler,
    ByHalves,
}

impl Future for Dialling<'_> {
    type Output = io::Result<Connection>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Connection>> {
        let dialled = self.engine.with(|state| {
            let Some(link) = state.net.links.get_mut(&self.link) else { return Poll::Ready(Err(gone())) };
            match &mut link.dial {
                Dial::Waits(waker) => {
                    state.later.keep(waker, cx);
                    Poll::Pending
                }
                Dial::Accepted => {
                    link.ends[0].halves = 2;
                    Poll::Ready(Ok(link.address.clone()))
                }
                Dial::Refused => Poll::Ready(Err(io::Error::new(
                    ErrorKind::ConnectionRefused,
                    format!("cannot connect to {}: refused", link.address),
                ))),
            }
        });
        let peer = std::task::ready!(dialled)?;
        self.held = Held::ByHalves;
        Poll::Ready(Ok(connection(self.engine, self.link, 0, peer)))
    }
}

impl Drop for Dialling<'_> {
    fn drop(&mut self) {
        if self.held == Held::ByDialler {
            self.engine.with(|state| state.leave(self.link, 0));
        }
    }
}

struct SimPort {
    engine: Arc<Engine>,
    address: String,
    number: u64,
}

impl Listener for SimPort {
    fn local_address(&self) -> io::Result<String> {
        Ok(self.address.clone())
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(poll_fn(|cx| {
            let accepted = self.engine.with(|state| {
                let port = state.net.ports.get_mut(&self.address).filter(|port| port.number == self.number);
                let Some(port) = port else { return Poll::Ready(Err(gone())) };
                while let Some(id) = port.backlog.pop_front() {
                    // It may have been given up meanwhile.
                    let Some(link) = state.net.links.get_mut(&id) else { continue };
                    link.ends[1].halves = 2;
                    let peer = state.machine(state.net.links[&id].ends[0].life.machine).name.to_string();
                    return Poll::Ready(Ok((id, peer)));
                }
                state.later.keep(&mut port.acceptor, cx);
                Poll::Pending
            });
            let (link, peer) = std::task::ready!(accepted)?;
            Poll::Ready(Ok(connection(&self.engine, link, 1, format!("{peer}:{}", link.port()))))
        }))
    }
}

impl Drop for SimPort {
    fn drop(&mut self) {
        self.engine.with(|state| state.unlisten(&self.address, self.number));
    }
}

fn connection(engine: &Arc<Engine>, link: LinkId, end: usize, peer: String) -> Connection {
    let half = || Half { engine: engine.clone(), link, end };
    Connection { peer, reader: Box::new(Reader(half())), writer: Box::new(Writer(half())) }
}

/// One half of one end of a connection.
struct Half {
    engine: Arc<Engine>,
    link: LinkId,
    end: usize,
}

impl Drop for Half {
    fn drop(&mut self) {
        self.engine.with(|state| state.drop_half(self.link, self.end));
    }
}

struct Reader(Half);

impl ByteReader for Reader {
    fn poll_read(&mut self, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        let Half { engine, link, end } = &self.0;
        engine.with(|state| state.read(*link, *end, out, cx))
    }
}

struct Writer(Half);

impl ByteWriter for Writer {
    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let Half { engine, link, end } = &self.0;
        engine.with(|state| state.write(*link, *end, data, cx))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Half { engine, link, end } = &self.0;
        Poll::Ready(engine.with(|state| state.close(*link, *end)))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let Half { engine, link, end } = &self.0;
        // A connection that broke needs no goodbye.
        let _ = engine.with(|state| state.close(*link, *end));
    }
}

//! The floor, written by hand: one connection, and for each call a frame there and a frame back. Callers append frames to a
//! buffer that one task writes whole, so that calls which are under way together share a write; another task reads the
//! answers and wakes who waits. The server answers all frames of a read with one write.

mod client;
mod frame;
mod server;

use tokio::net::TcpListener;

use super::{CALLEES, Remote, RemoteOneWay};
use client::Client;
use frame::Kind;

pub(crate) struct Echo;

/// One of the counters on the other side.
#[derive(Clone)]
pub(crate) struct Callee {
    client: Client,
    number: u8,
}

impl Remote for Echo {
    type Callee = Callee;

    async fn serve(ready: impl FnOnce(String)) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        ready(listener.local_addr().expect("it listens").to_string());
        server::serve(&listener).await;
    }

    async fn connect(address: String) -> Vec<Callee> {
        let client = Client::connect(&address).await;
        (0..CALLEES as u8).map(|number| Callee { client: client.clone(), number }).collect()
    }

    async fn echo(callee: &Callee, text: String) -> String {
        callee.client.call(Kind::Echo, callee.number, &text).await
    }
}

impl RemoteOneWay for Echo {
    async fn note(callee: &Callee, text: String) {
        callee.client.send(Kind::Note, callee.number, &text).await;
    }

    async fn noted(callee: &Callee) -> u64 {
        callee.client.call(Kind::Noted, callee.number, "").await.parse().expect("it answers a number")
    }
}

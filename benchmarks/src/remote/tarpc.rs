//! Tarpc over its own TCP transport, with bincode. It has no callees: all calls go to one service. Its limits on calls under
//! way are raised above ours.

use futures_util::StreamExt as _;
use tarpc::{
    client, context, serde_transport,
    server::{self, BaseChannel, Channel as _},
    tokio_serde::formats::Bincode,
};

use super::{CALLEES, Remote};

pub(crate) struct Tarpc;

/// The service.
#[tarpc::service]
pub(crate) trait Parrot {
    /// Answers `text`.
    async fn echo(text: String) -> String;
}

#[derive(Clone)]
struct Served;

impl Parrot for Served {
    async fn echo(self, _ctx: context::Context, text: String) -> String {
        text
    }
}

const UNDER_WAY_MAX: usize = 1024;

impl Remote for Tarpc {
    type Callee = ParrotClient;

    async fn serve(ready: impl FnOnce(String)) {
        let mut listener = serde_transport::tcp::listen("127.0.0.1:0", Bincode::default).await.expect("a port is free");
        ready(listener.local_addr().to_string());
        while let Some(Ok(transport)) = listener.next().await {
            transport.get_ref().set_nodelay(true).expect("it is connected");
            let config = server::Config { pending_response_buffer: UNDER_WAY_MAX };
            let calls = BaseChannel::new(config, transport).execute(Served.serve());
            tokio::spawn(calls.for_each(|call| async move {
                tokio::spawn(call);
            }));
        }
    }

    async fn connect(address: String) -> Vec<ParrotClient> {
        let transport = serde_transport::tcp::connect(address, Bincode::default).await.expect("it listens");
        transport.get_ref().set_nodelay(true).expect("it is connected");
        let mut config = client::Config::default();
        config.max_in_flight_requests = UNDER_WAY_MAX;
        config.pending_request_buffer = UNDER_WAY_MAX;
        vec![ParrotClient::new(config, transport).spawn(); CALLEES]
    }

    async fn echo(callee: &ParrotClient, text: String) -> String {
        callee.echo(context::current(), text).await.expect("it answers")
    }
}

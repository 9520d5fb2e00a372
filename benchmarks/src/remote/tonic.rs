//! Tonic: unary calls over HTTP/2. It has no callees: all calls go to one service, written by hand instead of by `protoc`.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use tonic::{
    Request, Response, Status,
    body::Body,
    client,
    codegen::{
        BoxFuture, Service,
        http::{self, uri::PathAndQuery},
    },
    server,
    transport::{Channel, Endpoint, Server},
};
use tonic_prost::ProstCodec;

use super::{CALLEES, Remote, free_address};

pub(crate) struct Tonic;

/// What a call carries, both ways.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Text {
    /// It.
    #[prost(string, tag = "1")]
    pub text: String,
}

const METHOD: &str = "/benchmarks.Parrot/Echo";

/// The method.
struct Echo;

impl Service<Request<Text>> for Echo {
    type Response = Response<Text>;
    type Error = Status;
    type Future = BoxFuture<Response<Text>, Status>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Text>) -> Self::Future {
        Box::pin(async move { Ok(Response::new(request.into_inner())) })
    }
}

/// The service: it has one method, so it need not look for it.
#[derive(Clone)]
struct Parrot;

impl Service<http::Request<Body>> for Parrot {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let codec = ProstCodec::<Text, Text>::default();
        Box::pin(async move { Ok(server::Grpc::new(codec).unary(Echo, request).await) })
    }
}

impl Remote for Tonic {
    type Callee = client::Grpc<Channel>;

    async fn serve(ready: impl FnOnce(String)) {
        let address = free_address();
        let listening = address.parse().expect("it is an address");
        ready(address);
        Server::builder().tcp_nodelay(true).serve(listening, Parrot).await.expect("the port was free");
    }

    async fn connect(address: String) -> Vec<Self::Callee> {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("it is an address");
        let endpoint = endpoint.tcp_nodelay(true);
        let channel = loop {
            // It says that it is ready before it listens.
            match endpoint.connect().await {
                Ok(channel) => break channel,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        vec![client::Grpc::new(channel); CALLEES]
    }

    async fn echo(callee: &Self::Callee, text: String) -> String {
        // A client is made for one call at a time.
        let mut client = callee.clone();
        client.ready().await.expect("it is connected");
        let (method, codec) = (PathAndQuery::from_static(METHOD), ProstCodec::<Text, Text>::default());
        let answer: Response<Text> =
            client.unary(Request::new(Text { text }), method, codec).await.expect("it answers");
        answer.into_inner().text
    }
}

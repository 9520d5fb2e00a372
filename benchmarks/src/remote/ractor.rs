//! Ractor's cluster: a node server in each process; actors of the other one are found by their group.

use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use ractor_cluster::{NodeServer, RactorClusterMessage};

use super::{CALLEES, Remote, RemoteOneWay, free_address};

pub(crate) struct Ractor;

struct Parrot;

/// What it is told.
#[derive(RactorClusterMessage)]
pub(crate) enum Request {
    #[rpc]
    Echo(String, RpcReplyPort<String>),
    Note(String),
    #[rpc]
    Noted(RpcReplyPort<u64>),
}

const GROUP: &str = "parrots";

impl Actor for Parrot {
    type Msg = Request;
    /// How many texts were counted.
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<Request>, _arguments: ()) -> Result<u64, ActorProcessingErr> {
        ractor::pg::join(GROUP.to_owned(), vec![me.get_cell()]);
        Ok(0)
    }

    async fn handle(
        &self,
        _me: ActorRef<Request>,
        request: Request,
        noted: &mut u64,
    ) -> Result<(), ActorProcessingErr> {
        match request {
            Request::Echo(text, answer) => answer.send(text)?,
            Request::Note(text) => *noted += u64::from(!text.is_empty()),
            Request::Noted(answer) => answer.send(std::mem::take(noted))?,
        }
        Ok(())
    }
}

/// A node server that listens there.
async fn node(name: &str, address: &str) -> ActorRef<ractor_cluster::NodeServerMessage> {
    let (_, port) = address.rsplit_once(':').expect("it has a port");
    let port = port.parse().expect("it is a number");
    let server = NodeServer::new(port, "cookie".to_owned(), name.to_owned(), "localhost".to_owned(), None, None);
    Actor::spawn(None, server, ()).await.expect("the port was free").0
}

impl Remote for Ractor {
    type Callee = ActorRef<Request>;

    async fn serve(ready: impl FnOnce(String)) {
        let address = free_address();
        node("serving", &address).await;
        for _ in 0..CALLEES {
            Actor::spawn(None, Parrot, ()).await.expect("an actor without a name starts");
        }
        ready(address);
        std::future::pending().await
    }

    async fn connect(address: String) -> Vec<Self::Callee> {
        let node = node("calling", &free_address()).await;
        ractor_cluster::client_connect(&node, address).await.expect("it listens");
        let members = loop {
            match ractor::pg::get_members(&GROUP.to_owned()) {
                members if members.len() == CALLEES => break members,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        members.into_iter().map(ActorRef::from).collect()
    }

    async fn echo(callee: &Self::Callee, text: String) -> String {
        ractor::call!(callee, Request::Echo, text).expect("it answers")
    }
}

impl RemoteOneWay for Ractor {
    async fn note(callee: &Self::Callee, text: String) {
        callee.send_message(Request::Note(text)).expect("it lives");
    }

    async fn noted(callee: &Self::Callee) -> u64 {
        ractor::call!(callee, Request::Noted).expect("it answers")
    }
}

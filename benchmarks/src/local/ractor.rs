//! Ractor. Its mailboxes are unbounded. It is built with its `cluster` feature, as grains are: calls that could leave the
//! process cost it a little.

use ractor::{Actor, ActorProcessingErr, ActorRef, Message, RpcReplyPort};

use super::{Local, Place};

pub(crate) struct Ractor;

pub(crate) struct Adder;

pub(crate) enum Request {
    Add(u64, RpcReplyPort<u64>),
    AddOneWay(u64),
}

impl Message for Request {}

impl Actor for Adder {
    type Msg = Request;
    type State = u64;
    type Arguments = ();

    async fn pre_start(&self, _me: ActorRef<Request>, _arguments: ()) -> Result<u64, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(&self, _me: ActorRef<Request>, request: Request, sum: &mut u64) -> Result<(), ActorProcessingErr> {
        match request {
            Request::Add(n, answer) => {
                *sum = sum.wrapping_add(n);
                answer.send(*sum).ok();
            }
            Request::AddOneWay(n) => *sum = sum.wrapping_add(n),
        }
        Ok(())
    }
}

impl Local for Ractor {
    type Callee = ActorRef<Request>;
    type Kept = Self::Callee;

    async fn start() -> Self {
        Self
    }

    async fn callee(&self, _key: u64, _place: Place) -> Self::Callee {
        Actor::spawn(None, Adder, ()).await.expect("an actor without a name starts").0
    }

    fn keep(callee: Self::Callee) -> Self::Kept {
        callee
    }

    async fn call(callee: &Self::Callee, n: u64) -> u64 {
        ractor::call!(callee, Request::Add, n).expect("it answers")
    }

    async fn send(callee: &Self::Callee, n: u64) {
        callee.send_message(Request::AddOneWay(n)).expect("it lives");
    }
}

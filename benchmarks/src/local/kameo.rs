//! Kameo, with a bounded mailbox and without its tracing.

use kameo::{
    Actor,
    actor::{ActorRef, Spawn as _},
    mailbox,
    message::{Context, Message},
};

use super::{Local, Place, QUEUE_LEN_MAX};

pub(crate) struct Kameo;

#[derive(Actor)]
pub(crate) struct Adder {
    sum: u64,
}

pub(crate) struct Add(u64);

impl Message<Add> for Adder {
    type Reply = u64;

    async fn handle(&mut self, add: Add, _ctx: &mut Context<Self, u64>) -> u64 {
        self.sum = self.sum.wrapping_add(add.0);
        self.sum
    }
}

impl Local for Kameo {
    type Callee = ActorRef<Adder>;
    type Kept = Self::Callee;

    async fn start() -> Self {
        Self
    }

    async fn callee(&self, _key: u64, _place: Place) -> Self::Callee {
        Adder::spawn_with_mailbox(Adder { sum: 0 }, mailbox::bounded(QUEUE_LEN_MAX))
    }

    fn keep(callee: Self::Callee) -> Self::Kept {
        callee
    }

    async fn call(callee: &Self::Callee, n: u64) -> u64 {
        callee.ask(Add(n)).await.expect("it answers")
    }

    async fn send(callee: &Self::Callee, n: u64) {
        callee.tell(Add(n)).await.expect("it lives");
    }
}

//! Coerce: actors without a name, which its system does not list. Their mailboxes are unbounded.

use coerce::actor::{
    Actor, LocalActorRef,
    context::ActorContext,
    message::{Handler, Message},
    system::ActorSystem,
};

use super::{Local, Place};

pub(crate) struct Coerce(ActorSystem);

pub(crate) struct Adder {
    sum: u64,
}

impl Actor for Adder {}

pub(crate) struct Add(u64);

impl Message for Add {
    type Result = u64;
}

#[async_trait::async_trait]
impl Handler<Add> for Adder {
    async fn handle(&mut self, add: Add, _ctx: &mut ActorContext) -> u64 {
        self.sum = self.sum.wrapping_add(add.0);
        self.sum
    }
}

impl Local for Coerce {
    type Callee = LocalActorRef<Adder>;
    type Kept = Self::Callee;

    async fn start() -> Self {
        Self(ActorSystem::new())
    }

    async fn callee(&self, _key: u64, _place: Place) -> Self::Callee {
        self.0.new_anon_actor(Adder { sum: 0 }).await.expect("an actor without a name starts")
    }

    fn keep(callee: Self::Callee) -> Self::Kept {
        callee
    }

    async fn call(callee: &Self::Callee, n: u64) -> u64 {
        callee.send(Add(n)).await.expect("it answers")
    }

    async fn send(callee: &Self::Callee, n: u64) {
        callee.notify(Add(n)).expect("it lives");
    }
}

//! Actix: not on tokio's workers but on as many arbiters, each a thread, to which actors and callers are bound. A caller
//! sits on its callee's thread where it calls one of its own, which suits actix best.

use actix::prelude::*;

use super::{Local, Place};
use crate::machine;

pub(crate) struct Actix(Vec<ArbiterHandle>);

/// Runs a work where actix runs.
pub(super) fn in_system<F: Future>(work: F) -> F::Output {
    System::new().block_on(work)
}

pub(crate) struct Adder {
    sum: u64,
}

impl Actor for Adder {
    type Context = Context<Self>;
}

#[derive(Message)]
#[rtype(result = "u64")]
pub(crate) struct Add(u64);

impl Handler<Add> for Adder {
    type Result = u64;

    fn handle(&mut self, add: Add, _ctx: &mut Context<Self>) -> u64 {
        self.sum = self.sum.wrapping_add(add.0);
        self.sum
    }
}

impl Actix {
    fn arbiter(&self, place: Place) -> &ArbiterHandle {
        &self.0[place.0 % self.0.len()]
    }
}

impl Local for Actix {
    type Callee = Addr<Adder>;
    type Kept = Self::Callee;

    async fn start() -> Self {
        Self((0..machine::cores()).map(|_| Arbiter::new().handle()).collect())
    }

    async fn callee(&self, _key: u64, place: Place) -> Self::Callee {
        Adder::start_in_arbiter(self.arbiter(place), |_| Adder { sum: 0 })
    }

    fn keep(callee: Self::Callee) -> Self::Kept {
        callee
    }

    async fn call(callee: &Self::Callee, n: u64) -> u64 {
        callee.send(Add(n)).await.expect("it answers")
    }

    /// Its queue is bounded for `send` alone.
    async fn send(callee: &Self::Callee, n: u64) {
        callee.do_send(Add(n));
    }

    fn spawn(&self, place: Place, caller: impl Future<Output = ()> + Send + 'static) {
        assert!(self.arbiter(place).spawn(caller), "arbiters live as long as their system");
    }
}

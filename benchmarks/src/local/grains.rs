//! Grains, on one node with everything as by default.

use grains::{CallError, Node, prelude::*};

use super::{Local, Place};

/// Adds.
#[rpc_trait(key = u64)]
pub(crate) trait Adder {
    /// Adds `n` and answers the sum.
    async fn add(&mut self, n: u64) -> Result<u64>;
}

/// A grain without state in a store.
#[grain(Adder, default)]
#[derive(Default)]
pub(crate) struct AdderGrain {
    sum: u64,
}

impl Adder for AdderGrain {
    async fn add(&mut self, n: u64) -> Result<u64> {
        self.sum = self.sum.wrapping_add(n);
        Ok(self.sum)
    }
}

pub(crate) struct Grains(Node);

impl Local for Grains {
    type Callee = AdderRef;
    type Kept = ();

    async fn start() -> Self {
        Self(Node::builder().host::<AdderGrain>().start().await.expect("a node alone starts"))
    }

    async fn callee(&self, key: u64, _place: Place) -> AdderRef {
        self.0.get(key)
    }

    fn keep(_callee: AdderRef) {}

    async fn call(callee: &AdderRef, n: u64) -> u64 {
        callee.add(n).await.expect("it answers")
    }

    /// There is no sending that waits for room: a full mailbox refuses. The sender lets others run, and tries again.
    async fn send(callee: &AdderRef, n: u64) {
        loop {
            match callee.add(n).send() {
                Ok(()) => return,
                Err(CallError::Overloaded { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

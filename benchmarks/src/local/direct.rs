//! A plain async call: the sum under a lock, changed in the caller's own task. Nothing can be below it.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Local, Place};

pub(crate) struct Direct;

/// Not inlined, as no call through a framework is.
#[inline(never)]
async fn add(sum: &Mutex<u64>, n: u64) -> u64 {
    let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
    *sum = sum.wrapping_add(n);
    *sum
}

impl Local for Direct {
    type Callee = Arc<Mutex<u64>>;
    type Kept = Self::Callee;

    async fn start() -> Self {
        Self
    }

    async fn callee(&self, _key: u64, _place: Place) -> Self::Callee {
        Arc::default()
    }

    fn keep(callee: Self::Callee) -> Self::Kept {
        callee
    }

    async fn call(callee: &Self::Callee, n: u64) -> u64 {
        add(callee, n).await
    }

    async fn send(_callee: &Self::Callee, _n: u64) {
        unreachable!("it has no one-way calls")
    }
}

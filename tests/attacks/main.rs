//! Attacks: what a hostile user, a bad moment or a careless `Drop` may do, each once found to do harm or suspected of it.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "tests")]

mod deep;
mod edges;
mod leftovers;
mod lives;
mod repelled;
mod turns;

/// Polls `call` once and gives it back.
async fn started<F: Future + Unpin>(mut call: F) -> F {
    std::future::poll_fn(|cx| {
        assert!(std::pin::Pin::new(&mut call).poll(cx).is_pending(), "the call has to wait");
        std::task::Poll::Ready(())
    })
    .await;
    call
}

//! A bound on somebody else's future, by the node's own clock.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use crate::world::{BoxFuture, Clock};
use pin_project_lite::pin_project;

pin_project! {
    /// Ends with `None` when the time is over first. A future that is ready at its first poll costs no timer.
    pub struct Timeout<F> {
        #[pin]
        future: F,
        clock: Arc<dyn Clock>,
        limit: Duration,
        sleep: Option<BoxFuture<'static, ()>>,
    }
}

/// Waits for `future`, but no longer than `limit`.
pub fn timeout<F: Future>(clock: &Arc<dyn Clock>, limit: Duration, future: F) -> Timeout<F> {
    Timeout { future, clock: clock.clone(), limit, sleep: None }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Option<F::Output>;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let me = self.project();
        if let Poll::Ready(output) = me.future.poll(cx) {
            return Poll::Ready(Some(output));
        }
        let sleep = me.sleep.get_or_insert_with(|| me.clock.sleep_until(me.clock.now() + *me.limit));
        sleep.as_mut().poll(cx).map(|()| None)
    }
}

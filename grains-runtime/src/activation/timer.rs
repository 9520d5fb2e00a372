//! The two kinds of timers: ticks that run a function of the grain, and stored calls. Each is a task that waits for its
//! time, has its work done, and only then looks for the next time: beats never pile up.

use std::{
    future::Future,
    sync::{Arc, Weak},
    time::Duration,
};

use grains_core::{
    ActivationId, GrainId, Instant, Lifecycle, SharedTick, StoredTimer,
    reply::{ReplyReceiver, reply_channel},
    world::{BoxFuture, Clock},
};

use super::{
    Activation,
    mailbox::Enqueued,
    waiter::{TickWaiter, Waiter},
};

/// The next beat after `now` of a timer that beats every `period`: beats that have passed are left out.
fn next_beat(last: Instant, period: Duration, now: Instant) -> Instant {
    let next = last + period;
    if next > now {
        return next;
    }
    let period_nanos = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
    let missed = (now.as_nanos() - last.as_nanos()) / period_nanos;
    last + Duration::from_nanos(period_nanos.saturating_mul(missed)) + period
}

impl<G: Lifecycle> Activation<G> {
    pub(super) fn tick_task(
        me: &Arc<Self>,
        life: ActivationId,
        period: Duration,
        tick: SharedTick<G>,
    ) -> impl Future<Output = ()> + Send + 'static + use<G> {
        let clock = me.node.world.clock.clone();
        let me = Arc::downgrade(me);
        let begun = clock.now();
        async move {
            let mut at = begun + period;
            loop {
                clock.sleep_until(at).await;
                let Some(done) = Self::beat(&me, life, &tick) else { return };
                ended(done).await;
                at = next_beat(at, period, clock.now());
            }
        }
    }

    /// Queues one tick; `None` when the activation is no more.
    fn beat(me: &Weak<Self>, life: ActivationId, tick: &SharedTick<G>) -> Option<ReplyReceiver<()>> {
        let me = me.upgrade()?;
        let (done, receiver) = reply_channel();
        let timeout = me.node.config.call_timeout;
        let waiter = TickWaiter { tick: tick.clone(), done, activation: Arc::downgrade(&me), life, timeout };
        match me.mailbox.enqueue(Waiter::new(waiter), me.grain_type.mailbox_len_max, &me.node.backlog) {
            Enqueued::Waits => {}
            Enqueued::Granted(waiter) => Self::begin_elsewhere(&me, waiter),
            Enqueued::Full(waiter, full) => {
                tracing::warn!(grain = %me.id, ?full, "a tick was left out: no room in its mailbox or on its node");
                drop(waiter);
            }
            Enqueued::Gone(_) => return None,
        }
        Some(receiver)
    }
}

/// Makes the stored call whenever its time has come.
pub(super) fn timer_task(clock: Arc<dyn Clock>, grain: GrainId, timer: StoredTimer) -> BoxFuture<'static, ()> {
    let begun = clock.now();
    Box::pin(async move {
        let mut at = begun + timer.first;
        loop {
            clock.sleep_until(at).await;
            if let Err(error) = timer.call.make().await {
                tracing::warn!(%grain, timer = &*timer.name, %error, "the call of a timer failed");
            }
            match timer.period {
                Some(period) => at = next_beat(at, period, clock.now()),
                None => return,
            }
        }
    })
}

async fn ended(mut receiver: ReplyReceiver<()>) {
    std::future::poll_fn(|cx| receiver.poll(cx)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_that_have_passed_are_left_out() {
        let ms = |n: u64| Instant::from_nanos(n * 1_000_000);
        let period = Duration::from_millis(10);
        assert_eq!(next_beat(ms(10), period, ms(11)), ms(20));
        assert_eq!(next_beat(ms(10), period, ms(20)), ms(30));
        assert_eq!(next_beat(ms(10), period, ms(47)), ms(50));
    }
}

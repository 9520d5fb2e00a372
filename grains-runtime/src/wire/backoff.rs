//! When to try an address again. Pure: the time and a random number come in.

use std::time::Duration;

use grains_core::Instant;

/// What is known about reaching one address.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
    until: Instant,
}

impl Backoff {
    /// When it may be tried.
    pub(crate) fn until(&self) -> Instant {
        self.until
    }

    /// It could not be reached, or did not stay: the next pause is twice as long, up to `max`, and by chance up to half
    /// of it shorter, so that nodes that lost the same peer do not come back at the same time.
    pub(crate) fn failed(&mut self, now: Instant, random: u64, min: Duration, max: Duration) {
        let pause = min.saturating_mul(1 << self.failures.min(16)).min(max);
        self.failures = self.failures.saturating_add(1);
        let half = pause / 2;
        let jitter = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX).saturating_add(1);
        self.until = now + half + Duration::from_nanos(random % jitter);
    }

    /// It was reached and stayed.
    pub(crate) fn worked(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(50);
    const MAX: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_up_to_the_longest_and_start_over() {
        let now = Instant::from_nanos(1_000_000);
        let mut backoff = Backoff::default();
        for round in 0..100_u64 {
            backoff.failed(now, round.wrapping_mul(0x9e37_79b9_7f4a_7c15), MIN, MAX);
            let whole = (MIN * (1 << round.min(10))).min(MAX);
            let pause = backoff.until().since(now);
            assert!(pause >= whole / 2 && pause <= whole, "{pause:?} in round {round}");
        }
        backoff.worked();
        assert_eq!(backoff.until(), Instant::default());
        backoff.failed(now, u64::MAX, MIN, MAX);
        assert!(backoff.until().since(now) <= MIN);
    }

    #[test]
    fn pauses_differ_by_chance() {
        let now = Instant::default();
        let pauses: std::collections::BTreeSet<_> = (0..50)
            .map(|random| {
                let mut backoff = Backoff::default();
                backoff.failed(now, random * 1_000_003, MIN, MAX);
                backoff.until()
            })
            .collect();
        assert!(pauses.len() > 40);
    }
}

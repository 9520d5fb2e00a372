//! The clock of a node: one that goes on while the machine sleeps, and timers that do not ring before it says so.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use grains_core::{
    Instant,
    reply::Young,
    world::{BoxFuture, Clock},
};
use tokio::runtime::Handle;

use self::young::Nursery;

mod young;

/// The clock of the operating system, with the timers of one tokio runtime.
pub(super) struct TokioClock {
    runtime: Handle,
    nursery: Arc<Nursery>,
}

impl TokioClock {
    pub(super) fn new(runtime: Handle) -> Self {
        Self { runtime, nursery: Arc::default() }
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Instant {
        os::now()
    }

    fn recent(&self) -> Instant {
        os::recent()
    }

    fn wall_ms(&self) -> u64 {
        // Before 1970 is a clock that was never set: zero says that as well as any number.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// Tokio's timers stand still while the machine sleeps, and in tokio's paused time they run ahead. So it rings
    /// never early, because the clock is asked again; but after a suspend it rings late, by up to the time it had left
    /// when the machine went to sleep. Whatever must hold after a suspend compares with [`Clock::now`] itself.
    fn sleep_until(&self, at: Instant) -> BoxFuture<'static, ()> {
        let runtime = self.runtime.clone();
        Box::pin(async move {
            loop {
                let left = at.since(os::now());
                if left.is_zero() {
                    return;
                }
                let sleep = {
                    let _inside = runtime.enter();
                    tokio::time::sleep(left)
                };
                sleep.await;
            }
        })
    }

    fn wake_later(&self, caller: Arc<dyn Young>) -> bool {
        self.nursery.take(caller, &self.runtime);
        true
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod os {
    use std::cell::Cell;

    use grains_core::Instant;

    /// `CLOCK_BOOTTIME`, which counts the time the machine sleeps, unlike the clock of `std::time::Instant`.
    pub(super) fn now() -> Instant {
        Instant::from_nanos(nanos(libc::CLOCK_BOOTTIME))
    }

    thread_local! {
        /// When this thread last asked: by the coarse clock, and by that of [`now`].
        static ASKED: Cell<(u64, Instant)> = const { Cell::new((0, Instant::from_nanos(0))) };
    }

    /// What [`now`] said at some time since the last tick of the kernel, 1 to 10 ms ago: the clock that says which tick it is
    /// costs a fifth.
    pub(super) fn recent() -> Instant {
        let tick = nanos(libc::CLOCK_MONOTONIC_COARSE);
        let (asked, answer) = ASKED.get();
        if asked == tick {
            return answer;
        }
        let answer = now();
        ASKED.set((tick, answer));
        answer
    }

    // By libc, which tokio and redb bring anyway; a safe wrapper would be two more crates for one call.
    #[allow(unsafe_code)]
    fn nanos(clock: libc::clockid_t) -> u64 {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is a valid, writable `timespec` for as long as the call takes, and that is all it needs.
        let result = unsafe { libc::clock_gettime(clock, &mut time) };
        // It fails for unknown clocks only, and Linux has had these since 2.6.39.
        assert_eq!(result, 0, "the kernel has no clock number {clock}");
        time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod os {
    use std::{sync::OnceLock, time};

    use grains_core::Instant;

    /// The clock of the standard library, which may stand still while the machine sleeps. Enough for one node; clusters
    /// need Linux.
    pub(super) fn now() -> Instant {
        static ORIGIN: OnceLock<time::Instant> = OnceLock::new();
        let since = ORIGIN.get_or_init(time::Instant::now).elapsed();
        Instant::from_nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    /// There is no cheaper clock here.
    pub(super) fn recent() -> Instant {
        now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::tokio_world;

    #[test]
    fn now_never_goes_back_and_is_never_zero() {
        let mut last = os::now();
        for _ in 0..10_000 {
            let now = os::now();
            assert!(now >= last);
            last = now;
        }
        std::thread::sleep(Duration::from_millis(1));
        assert!(os::now().since(last) >= Duration::from_millis(1));
    }

    #[test]
    fn recent_is_never_ahead_and_does_not_stand_still() {
        let begun = os::recent();
        let mut last = begun;
        while last.since(begun) < Duration::from_millis(30) {
            let recent = os::recent();
            assert!(recent >= last && recent <= os::now());
            last = recent;
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn now_counts_from_the_boot_of_the_machine() {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
        let seconds: f64 = uptime.split_whitespace().next().unwrap().parse().unwrap();
        let now = os::now().since(Instant::default()).as_secs_f64();
        assert!((now - seconds).abs() < 5.0, "{now} is not near {seconds}");
    }

    #[tokio::test]
    async fn a_sleep_ends_when_its_time_has_come_and_not_before() {
        let clock = tokio_world().unwrap().clock;
        for millis in [0, 1, 20] {
            let at = clock.now() + Duration::from_millis(millis);
            clock.sleep_until(at).await;
            assert!(clock.now() >= at);
        }
        clock.sleep_until(Instant::default()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_that_runs_ahead_does_not_end_a_sleep() {
        let clock = tokio_world().unwrap().clock;
        let at = clock.now() + Duration::from_millis(20);
        clock.sleep_until(at).await;
        assert!(clock.now() >= at);
    }

    #[tokio::test]
    async fn a_sleep_can_be_made_and_waited_for_outside_the_runtime() {
        let clock = tokio_world().unwrap().clock;
        let (rang, ring) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let sleep = clock.sleep_until(clock.now() + Duration::from_millis(1));
            let plain = tokio::runtime::Builder::new_current_thread().build().unwrap();
            plain.block_on(sleep);
            rang.send(()).unwrap();
        });
        ring.await.unwrap();
    }

    #[tokio::test]
    async fn never_is_waited_for_without_overflow() {
        let clock = tokio_world().unwrap().clock;
        let never = clock.sleep_until(Instant::NEVER);
        let soon = tokio::time::timeout(Duration::from_millis(5), never).await;
        assert!(soon.is_err());
    }

    #[test]
    fn the_wall_clock_is_past_2024() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert!(TokioClock::new(runtime.handle().clone()).wall_ms() > 1_704_067_200_000);
    }
}

//! Whether the other side of a connection is still there. Pure: the pump tells what it saw, and asks at every tick.

use std::time::Duration;

use grains_core::Instant;

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Who dialled: it pings.
    Pings,
    /// Who was dialled: it answers pings, and waits twice as long for them, so that usually the dialler finds out first.
    Answers,
}

/// What is known of the other side.
#[derive(Debug)]
pub(super) struct KeepAlive {
    role: Role,
    every: Duration,
    silence_max: Duration,
    /// The last sign of life.
    heard: Instant,
    /// Bytes have left since the last tick.
    progressed: bool,
    due: Instant,
}

/// What to do at a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Go on.
    Wait,
    /// Ask.
    Ping,
    /// It was silent for that long: give it up.
    Dead(Duration),
}

impl KeepAlive {
    pub(super) fn new(role: Role, every: Duration, silence_max: Duration, now: Instant) -> Self {
        let silence_max = if role == Role::Answers { silence_max * 2 } else { silence_max };
        Self { role, every, silence_max, heard: now, progressed: false, due: now + every }
    }

    /// When to ask for a verdict.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Bytes have arrived.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// Bytes have left.
    pub(super) fn progressed(&mut self) {
        self.progressed = true;
    }

    /// The tick. `backlog`: bytes wait to leave, and a ping among them, so that silence says little, while bytes that
    /// leave show that somebody takes them.
    pub(super) fn tick(&mut self, now: Instant, backlog: bool) -> Verdict {
        let overslept = now.since(self.due) > self.every;
        let moves = std::mem::take(&mut self.progressed) && backlog;
        // Whoever overslept heard nothing because it did not listen.
        if overslept || moves {
            self.heard = now;
        }
        self.due = now + self.every;
        let silence = now.since(self.heard);
        match self.role {
            _ if silence >= self.silence_max => Verdict::Dead(silence),
            Role::Pings if !backlog => Verdict::Ping,
            _ => Verdict::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(seconds: u64) -> Instant {
        Instant::default() + SECOND * u32::try_from(seconds).unwrap()
    }

    fn new(role: Role) -> KeepAlive {
        KeepAlive::new(role, SECOND, SECOND * 4, at(0))
    }

    #[test]
    fn a_silent_peer_is_given_up_after_its_time() {
        let mut alive = new(Role::Pings);
        assert_eq!([1, 2, 3].map(|n| alive.tick(at(n), false)), [Verdict::Ping; 3]);
        assert_eq!(alive.tick(at(4), false), Verdict::Dead(SECOND * 4));
        let mut alive = new(Role::Answers);
        assert_eq!([1, 2, 3, 4, 5, 6, 7].map(|n| alive.tick(at(n), false)), [Verdict::Wait; 7]);
        assert_eq!(alive.tick(at(8), false), Verdict::Dead(SECOND * 8));
    }

    #[test]
    fn a_peer_that_answers_stays() {
        let mut alive = new(Role::Pings);
        for n in 1..100 {
            assert_eq!(alive.tick(at(n), false), Verdict::Ping);
            alive.heard(at(n));
        }
    }

    #[test]
    fn a_slow_peer_that_takes_bytes_stays_and_one_that_takes_none_goes() {
        let mut alive = new(Role::Pings);
        for n in 1..50 {
            alive.progressed();
            assert_eq!(alive.tick(at(n), true), Verdict::Wait);
        }
        assert_eq!([50, 51, 52].map(|n| alive.tick(at(n), true)), [Verdict::Wait; 3]);
        assert!(matches!(alive.tick(at(53), true), Verdict::Dead(_)));
    }

    #[test]
    fn bytes_that_leave_without_a_backlog_prove_nothing() {
        let mut alive = new(Role::Pings);
        for n in 1..4 {
            alive.progressed();
            assert_eq!(alive.tick(at(n), false), Verdict::Ping);
        }
        alive.progressed();
        assert!(matches!(alive.tick(at(4), false), Verdict::Dead(_)));
    }

    #[test]
    fn whoever_overslept_does_not_blame_the_peer() {
        let mut alive = new(Role::Pings);
        assert_eq!(alive.tick(at(60), false), Verdict::Ping);
        assert_eq!([61, 62, 63].map(|n| alive.tick(at(n), false)), [Verdict::Ping; 3]);
        assert!(matches!(alive.tick(at(64), false), Verdict::Dead(_)));
    }
}

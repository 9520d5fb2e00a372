//! Clocks that run at a speed of their own, and the timers that ring by them.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use grains_core::{
    Instant,
    world::{BoxFuture, Clock},
};

use super::{
    agenda::{Event, Slot},
    engine::{Engine, MachineId, State},
    trace::What,
};

/// A clock beside the true time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drift {
    /// How much faster than the true time, in parts per million.
    rate_ppm: i64,
    true_base: u64,
    local_base: u64,
    /// What it showed at time zero.
    start: u64,
    pub(super) wall_offset_ms: i64,
}

const MILLION: i128 = 1_000_000;

impl Drift {
    /// A clock that shows `local` at time zero and goes right.
    pub(super) fn showing(local: u64) -> Self {
        Self { rate_ppm: 0, true_base: 0, local_base: local, start: local, wall_offset_ms: 0 }
    }

    /// What it shows at the true time `at`.
    pub(super) fn local(&self, at: u64) -> u64 {
        let gone = i128::from(at.saturating_sub(self.true_base));
        let gone = gone * (MILLION + i128::from(self.rate_ppm)) / MILLION;
        self.local_base.saturating_add(u64::try_from(gone).unwrap_or(u64::MAX))
    }

    /// The first true time at which it shows `local` or more.
    pub(super) fn true_time(&self, local: u64) -> u64 {
        let wanted = u128::from(local.saturating_sub(self.local_base)) * MILLION as u128;
        let gone = wanted.div_ceil((MILLION + i128::from(self.rate_ppm)) as u128);
        self.true_base.saturating_add(u64::try_from(gone).unwrap_or(u64::MAX))
    }

    /// Goes at another speed from `now` on, and `ahead` nanoseconds further.
    pub(super) fn change(&mut self, now: u64, rate_ppm: i64, ahead: u64) {
        assert!(i128::from(rate_ppm) > -MILLION, "a clock cannot stand or go back: {rate_ppm} ppm");
        self.local_base = self.local(now).saturating_add(ahead);
        self.true_base = now;
        self.rate_ppm = rate_ppm;
    }

    pub(super) fn rate_ppm(&self) -> i64 {
        self.rate_ppm
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TimerId(u64);

/// All timers that somebody waits for.
#[derive(Default)]
pub(super) struct Timers {
    timers: BTreeMap<TimerId, Timer>,
    made: u64,
}

struct Timer {
    machine: MachineId,
    /// By the clock of the machine.
    at: Instant,
    phase: Phase,
    waker: Option<Waker>,
}

enum Phase {
    Set(Slot),
    /// It was to ring while the machine was paused.
    Overdue,
    Rung,
}

/// What a machine that was paused needs to look at its timers, at most: until then its tasks run with clocks that are
/// past deadlines of which nobody has told them.
const LATE_NANOS_MAX: u64 = 1_000_000;

impl State {
    pub(super) fn local_now(&self, machine: MachineId) -> Instant {
        Instant::from_nanos(self.machine(machine).clock.local(self.now))
    }

    fn set_timer(&mut self, machine: MachineId, at: Instant, waker: Waker) -> TimerId {
        self.timers.made += 1;
        let id = TimerId(self.timers.made);
        let phase = Phase::Set(self.ring_at(machine, at, id));
        self.timers.timers.insert(id, Timer { machine, at, phase, waker: Some(waker) });
        id
    }

    fn ring_at(&mut self, machine: MachineId, at: Instant, id: TimerId) -> Slot {
        let due = self.machine(machine).clock.true_time(at.as_nanos()).max(self.now);
        self.agenda.add(due, Event::Ring(id))
    }

    pub(super) fn ring(&mut self, id: TimerId) {
        let Some(timer) = self.timers.timers.get_mut(&id) else { return };
        let machine = timer.machine;
        if self.machines[machine.index()].frozen {
            timer.phase = Phase::Overdue;
            self.machines[machine.index()].overdue.push(id);
            return self.note(machine, What::Overdue, [id.0, 0, 0]);
        }
        timer.phase = Phase::Rung;
        self.later.wake.extend(timer.waker.take());
        self.note(machine, What::Ring, [id.0, 0, 0]);
    }

    /// Lets the timers ring that a pause has held back, each after a moment of its own.
    pub(super) fn ring_overdue(&mut self, machine: MachineId) {
        for id in std::mem::take(&mut self.machines[machine.index()].overdue) {
            let Some(timer) = self.timers.timers.get_mut(&id) else { continue };
            let at = self.now + self.chance.schedule.below(LATE_NANOS_MAX);
            timer.phase = Phase::Set(self.agenda.add(at, Event::Ring(id)));
        }
    }

    /// Changes the clock of a machine and moves its timers with it.
    pub(super) fn change_clock(&mut self, machine: MachineId, rate_ppm: i64, ahead: u64) {
        let now = self.now;
        self.machines[machine.index()].clock.change(now, rate_ppm, ahead);
        self.note(machine, What::Clock, [rate_ppm as u64, ahead, 0]);
        let clock = self.machines[machine.index()].clock;
        for (id, timer) in &mut self.timers.timers {
            let Phase::Set(slot) = &mut timer.phase else { continue };
            if timer.machine == machine {
                self.agenda.remove(*slot);
                let due = clock.true_time(timer.at.as_nanos()).max(now);
                *slot = self.agenda.add(due, Event::Ring(*id));
            }
        }
    }

    fn drop_timer(&mut self, id: TimerId) {
        let Some(timer) = self.timers.timers.remove(&id) else { return };
        if let Phase::Set(slot) = timer.phase {
            self.agenda.remove(slot);
        }
        self.later.drop.extend(timer.waker);
    }

    fn poll_timer(&mut self, id: TimerId, cx: &Context<'_>) -> Poll<()> {
        // Without it the simulation is over, and nothing rings any more.
        let Some(timer) = self.timers.timers.get_mut(&id) else { return Poll::Pending };
        if let Phase::Rung = timer.phase {
            self.drop_timer(id);
            return Poll::Ready(());
        }
        self.later.keep(&mut timer.waker, cx);
        Poll::Pending
    }
}

/// The clock of one machine.
pub(super) struct SimClock {
    engine: Arc<Engine>,
    machine: MachineId,
}

impl SimClock {
    pub(super) fn new(engine: Arc<Engine>, machine: MachineId) -> Self {
        Self { engine, machine }
    }
}

/// The wall clock shows the first second of 2026 when a run begins.
const WALL_MS_AT_START: i64 = 1_767_225_600_000;

impl Clock for SimClock {
    fn now(&self) -> Instant {
        self.engine.with(|state| state.local_now(self.machine))
    }

    fn wall_ms(&self) -> u64 {
        self.engine.with(|state| {
            let clock = &state.machine(self.machine).clock;
            let gone = (clock.local(state.now) - clock.start) / 1_000_000;
            u64::try_from(WALL_MS_AT_START + gone as i64 + clock.wall_offset_ms).unwrap_or(0)
        })
    }

    fn sleep_until(&self, at: Instant) -> BoxFuture<'static, ()> {
        Box::pin(Sleep { engine: self.engine.clone(), machine: self.machine, at, waits: Waits::NotYet })
    }
}

/// Waits for a time on the clock of a machine. Once it waits, it ends when its timer rings and not because the clock says
/// so, as with the timers of a real runtime.
struct Sleep {
    engine: Arc<Engine>,
    machine: MachineId,
    at: Instant,
    waits: Waits,
}

enum Waits {
    NotYet,
    For(TimerId),
    NoMore,
}

impl Future for Sleep {
    type Output = ();
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let me = &mut *self;
        me.engine.with(|state| match me.waits {
            Waits::NotYet if state.local_now(me.machine) < me.at => {
                me.waits = Waits::For(state.set_timer(me.machine, me.at, cx.waker().clone()));
                Poll::Pending
            }
            Waits::For(timer) => {
                std::task::ready!(state.poll_timer(timer, cx));
                me.waits = Waits::NoMore;
                Poll::Ready(())
            }
            Waits::NotYet | Waits::NoMore => Poll::Ready(()),
        })
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Waits::For(timer) = self.waits {
            self.engine.with(|state| state.drop_timer(timer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drifting_clock_shows_what_was_asked_for_when_its_timer_rings_and_not_before() {
        for rate in [-999_000, -300_000, -1, 0, 1, 10_000, 333_333, 5_000_000] {
            let mut clock = Drift::showing(77);
            clock.change(1_000, rate, 5);
            for local in [1_100, 1_083, 999_999_999, 12_345_678_901] {
                let due = clock.true_time(local);
                assert!(clock.local(due) >= local, "{rate} ppm rings early at {local}");
                assert!(due == 1_000 || clock.local(due - 1) < local, "{rate} ppm rings late at {local}");
            }
        }
        assert_eq!(Drift::showing(1).true_time(u64::MAX), u64::MAX - 1);
    }
}

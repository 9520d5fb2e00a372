//! Turns that wait for long. Each turn that becomes a task is entered here and goes when it ends; a task of the node looks a few
//! times in each `slow_turn` whether any has been there for longer, and names it once.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use super::NodeInner;
use crate::{
    activation::lock,
    ambient::{Frame, Holder, Link, TurnName, chain_names},
};

/// How many places there are that lock apart, so that threads whose turns wait rarely meet.
const SHARDS: usize = 16;

/// How often in each `slow_turn` the node looks: a turn is named at most a quarter of it late.
const LOOKS: u32 = 4;
/// A look takes microseconds, but never more than a hundred of them a second.
const LOOK_PERIOD_MIN: Duration = Duration::from_millis(10);

/// How many turns are named at one look; the others are counted. When everything hangs, the log must not be the next.
const NAMED_MAX: usize = 20;

/// How many callers of a turn are named.
const CALLERS_MAX: usize = 8;

pub(crate) struct SlowTurns {
    /// Zero: nobody looks.
    limit: Duration,
    /// How often the node has looked: the time that turns are entered with, which costs less than a clock.
    looks: AtomicU32,
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    /// As many places as turns have waited at a time, each of which has a task, which is larger.
    places: Vec<Option<Waiting>>,
    /// The places that are free.
    free: Vec<usize>,
}

/// A shard that is empty and has more places than this gives them back.
const PLACES_KEPT_MAX: usize = 1024;

struct Waiting {
    /// The last look before it began to wait.
    since: u32,
    turn: TurnName,
    caller: Option<Arc<Link>>,
    told: bool,
}

impl Shard {
    fn enter(&mut self, waiting: Waiting) -> usize {
        match self.free.pop() {
            Some(place) => {
                self.places[place] = Some(waiting);
                place
            }
            None => {
                self.places.push(Some(waiting));
                self.places.len() - 1
            }
        }
    }

    fn leave(&mut self, place: usize) -> Option<Waiting> {
        let left = self.places[place].take();
        self.free.push(place);
        if self.free.len() == self.places.len() && self.places.len() > PLACES_KEPT_MAX {
            *self = Self::default();
        }
        left
    }
}

/// A turn that waits, until this is dropped.
pub(crate) struct Entered {
    holder: Arc<dyn Holder>,
    shard: usize,
    place: usize,
}

impl SlowTurns {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, looks: AtomicU32::new(0), shards: Default::default() }
    }

    /// The turn of `frame` begins to wait. `None` if nobody looks.
    pub(crate) fn enter(frame: &Frame) -> Option<Entered> {
        let holder = frame.shared_holder()?;
        let slow = holder.slow_turns();
        if slow.limit.is_zero() {
            return None;
        }
        let turn = frame.turn()?;
        let at = (turn.life.epoch ^ turn.life.counter) as usize % SHARDS;
        let since = slow.looks.load(Ordering::Relaxed);
        let waiting = Waiting { since, turn, caller: frame.caller.clone(), told: false };
        let place = lock(&slow.shards[at]).enter(waiting);
        Some(Entered { holder, shard: at, place })
    }

    /// How long it is from one look to the next.
    fn period(&self) -> Duration {
        (self.limit / LOOKS).max(LOOK_PERIOD_MIN)
    }

    /// Looks once more. Gives the turns that have become old since the last time, and how many more.
    fn look(&self) -> (Vec<Slow>, usize) {
        let now = self.looks.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let (mut named, mut more) = (Vec::new(), 0);
        for shard in &self.shards {
            let mut shard = lock(shard);
            for waiting in shard.places.iter_mut().flatten().filter(|waiting| !waiting.told) {
                // The first of them came after it had begun to wait, so these are whole periods. It may also be that none has come
                // yet: it has begun during this look.
                let periods = now.wrapping_sub(waiting.since).saturating_sub(1);
                if periods < LOOKS {
                    continue;
                }
                let age = self.period() * periods;
                waiting.told = true;
                match named.len() < NAMED_MAX {
                    true => named.push(Slow { turn: waiting.turn.clone(), age, caller: waiting.caller.clone() }),
                    false => more += 1,
                }
            }
        }
        (named, more)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let ended = lock(&self.holder.slow_turns().shards[self.shard]).leave(self.place);
        drop(ended); // a chain may be the last of many things
    }
}

struct Slow {
    turn: TurnName,
    age: Duration,
    caller: Option<Arc<Link>>,
}

impl Slow {
    fn tell(&self) {
        let (grain, method, age) = (&self.turn.grain, self.turn.method.name(), self.age);
        let chain = chain_names(self.caller.as_ref(), CALLERS_MAX).join(" <- ");
        let called_by = if chain.is_empty() { "no grain" } else { &*chain };
        tracing::warn!(%grain, method, at_least = ?age, called_by, "a turn waits for long: see `slow_turn`");
    }
}

impl NodeInner {
    /// Names the turns that wait for long, for as long as the node lives.
    pub(super) fn look_for_slow_turns(&self) {
        let limit = self.slow.limit;
        if limit.is_zero() {
            return;
        }
        let period = self.slow.period();
        let (me, clock) = (self.me.clone(), self.world.clock.clone());
        self.tasks.spawn(async move {
            loop {
                clock.sleep_until(clock.now() + period).await;
                let Some(node) = me.upgrade() else { return };
                let (named, more) = node.slow.look();
                named.iter().for_each(Slow::tell);
                if more > 0 {
                    tracing::warn!(more, "so many other turns wait for long");
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use grains_core::{AccessKind, ActivationId, GrainId, MethodInfo};

    use super::*;
    use crate::ambient::TurnMethod;

    const INFO: MethodInfo = MethodInfo::new("wait", AccessKind::Shared);

    fn begins(slow: &SlowTurns, shard: usize, key: &str) {
        let (grain, life) = (GrainId::new("desk", key), ActivationId { epoch: 1, counter: 1 });
        let turn = TurnName { node: 1, grain, life, is_worker: false, method: TurnMethod::Known(&INFO) };
        let since = slow.looks.load(Ordering::Relaxed);
        lock(&slow.shards[shard]).enter(Waiting { since, turn, caller: None, told: false });
    }

    fn named(slow: &SlowTurns) -> Vec<String> {
        let (named, more) = slow.look();
        assert_eq!(more, 0);
        named.iter().map(|slow| format!("{} {}", slow.turn, slow.age.as_secs())).collect()
    }

    #[test]
    fn each_turn_is_named_once_when_it_has_waited_for_that_long() {
        let slow = SlowTurns::new(Duration::from_secs(40));
        assert_eq!(slow.period(), Duration::from_secs(10));
        begins(&slow, 0, "a");
        assert_eq!(named(&slow), [] as [&str; 0]);
        begins(&slow, 3, "b");
        begins(&slow, 3, "c");
        drop(lock(&slow.shards[3]).leave(1));
        for _ in 0..3 {
            assert_eq!(named(&slow), [] as [&str; 0]);
        }
        assert_eq!(named(&slow), ["desk/a.wait 40"], "at the fifth look it is 40 to 50 s old");
        assert_eq!(named(&slow), ["desk/b.wait 40"]);
        for _ in 0..20 {
            assert_eq!(named(&slow), [] as [&str; 0]);
        }
    }

    #[test]
    fn a_turn_that_begins_to_wait_during_a_look_is_not_named_at_it() {
        let slow = SlowTurns::new(Duration::from_secs(40));
        // It has seen the number of this look, and the look then finds it.
        slow.looks.fetch_add(1, Ordering::Relaxed);
        begins(&slow, 0, "a");
        slow.looks.fetch_sub(1, Ordering::Relaxed);
        for _ in 0..5 - 1 {
            assert_eq!(named(&slow), [] as [&str; 0]);
        }
        assert_eq!(named(&slow), [] as [&str; 0]);
        assert_eq!(named(&slow), ["desk/a.wait 40"]);
    }

    #[test]
    fn places_are_used_again_and_many_of_them_given_back() {
        let slow = SlowTurns::new(Duration::from_secs(30));
        (0..2000).for_each(|_| begins(&slow, 0, "a"));
        let mut shard = lock(&slow.shards[0]);
        (0..1999).for_each(|place| drop(shard.leave(place)));
        assert_eq!(shard.places.len(), 2000);
        drop(shard);
        (0..1999).for_each(|_| begins(&slow, 0, "b"));
        assert_eq!(lock(&slow.shards[0]).places.len(), 2000);
        (0..2000).for_each(|place| drop(lock(&slow.shards[0]).leave(place)));
        assert_eq!(lock(&slow.shards[0]).places.len(), 0);
    }

    #[test]
    fn of_very_many_some_are_named_and_the_others_counted() {
        let slow = SlowTurns::new(Duration::from_secs(30));
        (0..100).for_each(|n| begins(&slow, n % SHARDS, "a"));
        (0..LOOKS).for_each(|_| assert_eq!(slow.look().1, 0));
        let (named, more) = slow.look();
        assert_eq!((named.len(), more), (NAMED_MAX, 80));
        assert_eq!(slow.look().1, 0, "once");
    }
}

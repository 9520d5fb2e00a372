//! Turns that wait for long. Each turn that becomes a task is entered here and goes when it ends; a task of the node looks a few
//! times in each `slow_turn` whether any has been there for longer, and names it once.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use grains_core::{Instant, world::Clock};

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
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    /// As many as turns wait, each with its task; in the order in which they began to.
    turns: BTreeMap<u64, Waiting>,
    next: u64,
    /// The last of them that was looked at and found old.
    told: u64,
}

struct Waiting {
    since: Instant,
    turn: TurnName,
    caller: Option<Arc<Link>>,
}

/// A turn that waits, until it is dropped.
pub(crate) struct Entered {
    holder: Arc<dyn Holder>,
    shard: usize,
    number: u64,
}

impl SlowTurns {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, shards: Default::default() }
    }

    /// The turn of `frame` begins to wait. `None` if nobody looks.
    pub(crate) fn enter(frame: &Frame, clock: &dyn Clock) -> Option<Entered> {
        let holder = frame.shared_holder()?;
        let slow = holder.slow_turns();
        if slow.limit.is_zero() {
            return None;
        }
        let turn = frame.turn()?;
        let at = (turn.life.epoch ^ turn.life.counter) as usize % SHARDS;
        let waiting = Waiting { since: clock.now(), turn, caller: frame.caller.clone() };
        let mut shard = lock(&slow.shards[at]);
        shard.next += 1;
        let number = shard.next;
        shard.turns.insert(number, waiting);
        drop(shard);
        Some(Entered { holder, shard: at, number })
    }

    /// The turns that have become old since the last look, with their ages; and how many more.
    fn look(&self, now: Instant) -> (Vec<Slow>, usize) {
        let (mut named, mut more) = (Vec::new(), 0);
        for shard in &self.shards {
            let mut shard = lock(shard);
            let Shard { turns, told, .. } = &mut *shard;
            for (number, Waiting { since, turn, caller }) in turns.range(*told + 1..) {
                let age = now.since(*since);
                if age < self.limit {
                    break;
                }
                *told = *number;
                match named.len() < NAMED_MAX {
                    true => named.push(Slow { turn: turn.clone(), age, caller: caller.clone() }),
                    false => more += 1,
                }
            }
        }
        (named, more)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let ended = lock(&self.holder.slow_turns().shards[self.shard]).turns.remove(&self.number);
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
        let called_by = chain_names(self.caller.as_ref(), CALLERS_MAX).join(" <- ");
        tracing::warn!(%grain, method, ?age, called_by, "a turn waits for long: see `slow_turn`");
    }
}

impl NodeInner {
    /// Names the turns that wait for long, for as long as the node lives.
    pub(super) fn look_for_slow_turns(&self) {
        let limit = self.slow.limit;
        if limit.is_zero() {
            return;
        }
        let period = (limit / LOOKS).max(LOOK_PERIOD_MIN);
        let (me, clock) = (self.me.clone(), self.world.clock.clone());
        self.tasks.spawn(async move {
            loop {
                clock.sleep_until(clock.now() + period).await;
                let Some(node) = me.upgrade() else { return };
                let (named, more) = node.slow.look(clock.now());
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

    fn begins(slow: &SlowTurns, shard: usize, since: u64, key: &str) {
        let (grain, life) = (GrainId::new("desk", key), ActivationId { epoch: 1, counter: 1 });
        let turn = TurnName { node: 1, grain, life, method: TurnMethod::Known(&INFO) };
        let mut shard = lock(&slow.shards[shard]);
        shard.next += 1;
        let number = shard.next;
        shard.turns.insert(number, Waiting { since: at(since), turn, caller: None });
    }

    fn at(second: u64) -> Instant {
        Instant::from_nanos(second * 1_000_000_000)
    }

    fn named(slow: &SlowTurns, second: u64) -> Vec<String> {
        let (named, more) = slow.look(at(second));
        assert_eq!(more, 0);
        named.iter().map(|slow| format!("{} {}", slow.turn, slow.age.as_secs())).collect()
    }

    #[test]
    fn each_turn_is_named_once_when_it_is_old() {
        let slow = SlowTurns::new(Duration::from_secs(30));
        begins(&slow, 0, 0, "a");
        begins(&slow, 3, 5, "b");
        begins(&slow, 3, 40, "c");
        assert_eq!(named(&slow, 29), [] as [&str; 0]);
        assert_eq!(named(&slow, 30), ["desk/a.wait 30"]);
        assert_eq!(named(&slow, 36), ["desk/b.wait 31"]);
        assert_eq!(named(&slow, 69), [] as [&str; 0]);
        assert_eq!(named(&slow, 70), ["desk/c.wait 30"]);
        assert_eq!(named(&slow, 1000), [] as [&str; 0]);
    }

    #[test]
    fn of_very_many_some_are_named_and_the_others_counted() {
        let slow = SlowTurns::new(Duration::from_secs(30));
        (0..100).for_each(|n| begins(&slow, n % SHARDS, 0, "a"));
        let (named, more) = slow.look(at(30));
        assert_eq!((named.len(), more), (NAMED_MAX, 80));
        assert_eq!(slow.look(at(31)).1, 0, "once");
    }
}

//! Chance from a seed: one stream per purpose, so that a draw more in one place moves nothing elsewhere.

use std::{
    ops::RangeInclusive,
    sync::atomic::{AtomicU64, Ordering},
};

use grains_core::world::Random;

/// The step of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

fn mixed(state: u64) -> u64 {
    let state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

/// A seed that differs for every part of a path: the run's seed, a purpose, a number.
pub(super) fn seed_of(seed: u64, purpose: &str, number: u64) -> u64 {
    let purpose = purpose.bytes().fold(STEP, |hash, byte| mixed(hash ^ u64::from(byte)));
    mixed(mixed(seed.wrapping_add(STEP)) ^ purpose).wrapping_add(mixed(number.wrapping_add(STEP)))
}

/// One stream of numbers.
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64, purpose: &str) -> Self {
        Self(seed_of(seed, purpose, 0))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(STEP);
        mixed(self.0)
    }

    /// A number below `end`, which is not zero. The bias is below 1 in 2^40 for what is drawn here.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    pub(super) fn within(&mut self, range: &RangeInclusive<u64>) -> u64 {
        let width = range.end().saturating_sub(*range.start());
        range.start() + self.below(width.saturating_add(1))
    }

    /// Whether something of this chance, from 0 to 1, happens. What cannot happen draws nothing.
    pub(super) fn happens(&mut self, chance: f64) -> bool {
        chance > 0.0 && ((self.next() >> 11) as f64) < chance * (1_u64 << 53) as f64
    }
}

/// The streams of a run.
pub(super) struct Chances {
    pub(super) schedule: Chance,
    pub(super) net: Chance,
    pub(super) disk: Chance,
    /// What the test draws.
    pub(super) test: Chance,
}

impl Chances {
    pub(super) fn new(seed: u64) -> Self {
        let stream = |purpose| Chance::new(seed, purpose);
        Self { schedule: stream("schedule"), net: stream("net"), disk: stream("disk"), test: stream("test") }
    }
}

/// The chance of one life of a machine.
pub(super) struct SimRandom(AtomicU64);

impl SimRandom {
    pub(super) fn new(seed: u64) -> Self {
        Self(AtomicU64::new(seed))
    }
}

impl Random for SimRandom {
    fn next_u64(&self) -> u64 {
        mixed(self.0.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP))
    }
}

//! Chance, seeded by the operating system.

use std::{
    cell::Cell,
    hash::{BuildHasher, RandomState},
};

use grains_core::world::Random;

/// One generator per thread, so that threads do not wait for each other.
pub(super) struct OsRandom;

thread_local! {
    // The standard library seeds `RandomState` from the operating system and offers no other way to that seed; hashing
    // anything with it gives 64 bits of it. A crate for randomness would be one more to build.
    static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0));
}

impl Random for OsRandom {
    /// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
    fn next_u64(&self) -> u64 {
        let state = STATE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        STATE.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, thread};

    use super::*;

    #[test]
    fn threads_draw_different_numbers() {
        let draw = || (0..1000).map(|_| OsRandom.next_u64()).collect::<Vec<_>>();
        let threads: Vec<_> = (0..4).map(|_| thread::spawn(draw)).collect();
        let all: HashSet<u64> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert_eq!(all.len(), 4000);
    }

    #[test]
    fn every_bit_is_set_about_half_of_the_time() {
        let mut ones = [0; 64];
        for _ in 0..10_000 {
            let number = OsRandom.next_u64();
            ones.iter_mut().enumerate().for_each(|(bit, ones)| *ones += (number >> bit) & 1);
        }
        // Ten standard deviations.
        assert!(ones.iter().all(|ones| (4500..5500).contains(ones)), "{ones:?}");
    }
}

//! The states an exploration has seen, each with a number. Called by `explore`, millions of times in unoptimised builds:
//! states lie in one vector, and a table of numbers finds them by hash.

use std::hash::{Hash, Hasher};

/// Every state seen so far, in the order of finding.
pub(crate) struct Seen<S> {
    states: Vec<S>,
    /// Open addressing: 0, or half of the state's hash above its number plus one.
    slots: Vec<u64>,
}

impl<S: Copy + Eq + Hash> Seen<S> {
    pub(crate) fn new() -> Self {
        Self { states: Vec::new(), slots: vec![0; SLOTS_AT_FIRST] }
    }

    pub(crate) fn len(&self) -> usize {
        self.states.len()
    }

    pub(crate) fn get(&self, number: usize) -> &S {
        &self.states[number]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &S> {
        self.states.iter()
    }

    /// The number of `state`, and whether it is new.
    pub(crate) fn insert(&mut self, state: &S) -> (u32, bool) {
        let hash = hash(state);
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while self.slots[at] != 0 {
            let slot = self.slots[at];
            let number = slot as u32 - 1;
            if slot >> 32 == hash && self.states[number as usize] == *state {
                return (number, false);
            }
            at = (at + 1) & mask;
        }
        let number = u32::try_from(self.states.len()).expect("memory ends before 4 billion states");
        self.slots[at] = (hash << 32) | u64::from(number + 1);
        self.states.push(*state);
        if self.states.len() * 2 > self.slots.len() {
            self.grow();
        }
        (number, true)
    }

    fn grow(&mut self) {
        let mask = self.slots.len() * 2 - 1;
        let mut slots = vec![0; mask + 1];
        for &slot in self.slots.iter().filter(|&&slot| slot != 0) {
            let mut at = (slot >> 32) as usize & mask;
            while slots[at] != 0 {
                at = (at + 1) & mask;
            }
            slots[at] = slot;
        }
        self.slots = slots;
    }
}

const SLOTS_AT_FIRST: usize = 1 << 12;

/// 32 bits: as many as a slot has room for, and more than there are slots.
fn hash(state: &impl Hash) -> u64 {
    let mut hasher = Multiply(0);
    state.hash(&mut hasher);
    let sum = hasher.finish();
    (sum ^ (sum >> 32)) & 0xffff_ffff
}

/// One rotation and one multiplication a word, as in Firefox and rustc: states are small and nobody chooses them to collide.
struct Multiply(u64);

impl Multiply {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for Multiply {
    fn finish(&self) -> u64 {
        let sum = (self.0 ^ (self.0 >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        sum ^ (sum >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.add(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.add(u64::from(byte));
    }

    fn write_u64(&mut self, word: u64) {
        self.add(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.add(word as u64);
    }

    fn write_isize(&mut self, word: isize) {
        self.add(word as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_keep_their_numbers_while_the_table_grows() {
        let mut seen = Seen::new();
        for state in 0..20_000_u64 {
            assert_eq!(seen.insert(&(state * 4096)), (state as u32, true));
        }
        for state in 0..20_000_u64 {
            assert_eq!(seen.insert(&(state * 4096)), (state as u32, false));
        }
        assert_eq!(seen.len(), 20_000);
    }
}

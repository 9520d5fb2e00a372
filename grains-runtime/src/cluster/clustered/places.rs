//! Where grains were found: a bounded memory, so that a call takes one hop. It may be wrong; whoever is asked in vain says
//! so.

use grains_core::GrainId;
use hashbrown::{HashTable, hash_table::Entry};

use super::envelope::Found;

/// Two generations: what is used moves to the young one, and when that is full the old one is forgotten. Costs no list
/// and no clock, and keeps what was used lately. Each is looked up by what the catalog of this node looks grains up by.
pub(crate) struct Places {
    young: HashTable<Known>,
    old: HashTable<Known>,
    generation_max: usize,
}

struct Known {
    hash: u64,
    grain: GrainId,
    found: Found,
}

impl Places {
    pub(crate) fn new(places_max: usize) -> Self {
        Self { young: HashTable::new(), old: HashTable::new(), generation_max: (places_max / 2).max(1) }
    }

    pub(crate) fn find(&mut self, hash: u64, grain: &GrainId) -> Option<Found> {
        if let Some(known) = self.young.find(hash, |known| known.grain == *grain) {
            return Some(known.found);
        }
        let Known { grain, found, .. } = take(&mut self.old, hash, grain)?;
        self.learn(hash, &grain, found);
        Some(found)
    }

    pub(crate) fn learn(&mut self, hash: u64, grain: &GrainId, found: Found) {
        // Most answers say what is known.
        if let Some(known) = self.young.find_mut(hash, |known| known.grain == *grain) {
            known.found = found;
            return;
        }
        if self.young.len() >= self.generation_max {
            self.old = std::mem::take(&mut self.young);
        }
        take(&mut self.old, hash, grain);
        if let Entry::Vacant(place) = self.young.entry(hash, |known| known.grain == *grain, |known| known.hash) {
            place.insert(Known { hash, grain: grain.clone(), found });
        }
    }

    pub(crate) fn forget(&mut self, hash: u64, grain: &GrainId) {
        take(&mut self.young, hash, grain);
        take(&mut self.old, hash, grain);
    }
}

fn take(generation: &mut HashTable<Known>, hash: u64, grain: &GrainId) -> Option<Known> {
    let known = generation.find_entry(hash, |known| known.grain == *grain).ok()?;
    Some(known.remove().0)
}

#[cfg(test)]
mod tests {
    use grains_core::ActivationId;

    use super::*;
    use crate::cluster::{Incarnation, MemberId, NodeId};

    fn found(counter: u64) -> Found {
        let host = MemberId { node: NodeId(1), incarnation: Incarnation(1) };
        Found { host, activation: ActivationId { epoch: 1, counter } }
    }

    #[test]
    fn places_are_bounded_and_those_in_use_stay() {
        let mut places = Places::new(20);
        let grain = |n: u64| GrainId::new("g", n.to_string());
        // Few hashes: some grains have the same.
        let hash = |n: u64| n % 7;
        places.learn(hash(0), &grain(0), found(0));
        for n in 1..1000 {
            places.learn(hash(n), &grain(n), found(n));
            assert_eq!(places.find(hash(0), &grain(0)), Some(found(0)), "it is used all the time");
            assert_eq!(places.find(hash(n), &grain(n)), Some(found(n)));
            assert!(places.young.len() + places.old.len() <= 20);
        }
        assert_eq!(places.find(hash(1), &grain(1)), None);
        places.forget(hash(0), &grain(0));
        assert_eq!(places.find(hash(0), &grain(0)), None);
    }

    #[test]
    fn where_a_grain_was_found_last_counts() {
        let mut places = Places::new(4);
        let (one, others) = (GrainId::new("g", "one"), [2, 3].map(|n: u64| GrainId::new("g", n.to_string())));
        places.learn(1, &one, found(1));
        places.learn(1, &one, found(2));
        assert_eq!(places.find(1, &one), Some(found(2)));
        others.iter().for_each(|other| places.learn(1, other, found(9)));
        places.learn(1, &one, found(3));
        assert_eq!(places.find(1, &one), Some(found(3)), "also when it was about to be forgotten");
        places.forget(1, &one);
        assert_eq!(places.find(1, &one), None, "in either generation");
    }
}

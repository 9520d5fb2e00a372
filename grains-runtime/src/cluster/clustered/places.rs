//! Where grains were found: a bounded memory, so that a call takes one hop. It may be wrong; whoever is asked in vain says
//! so.

use std::collections::BTreeMap;

use grains_core::GrainId;

use super::envelope::Found;

/// Two generations: what is used moves to the young one, and when that is full the old one is forgotten. Costs no list
/// and no clock, and keeps what was used lately.
pub(crate) struct Places {
    young: BTreeMap<GrainId, Found>,
    old: BTreeMap<GrainId, Found>,
    generation_max: usize,
}

impl Places {
    pub(crate) fn new(places_max: usize) -> Self {
        Self { young: BTreeMap::new(), old: BTreeMap::new(), generation_max: (places_max / 2).max(1) }
    }

    pub(crate) fn find(&mut self, grain: &GrainId) -> Option<Found> {
        if let Some(found) = self.young.get(grain) {
            return Some(*found);
        }
        let (grain, found) = self.old.remove_entry(grain)?;
        self.learn(grain, found);
        Some(found)
    }

    pub(crate) fn learn(&mut self, grain: GrainId, found: Found) {
        if self.young.len() >= self.generation_max && !self.young.contains_key(&grain) {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&grain);
        self.young.insert(grain, found);
    }

    pub(crate) fn forget(&mut self, grain: &GrainId) {
        self.young.remove(grain);
        self.old.remove(grain);
    }
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
        places.learn(grain(0), found(0));
        for n in 1..1000 {
            places.learn(grain(n), found(n));
            assert_eq!(places.find(&grain(0)), Some(found(0)), "it is used all the time");
            assert!(places.young.len() + places.old.len() <= 20);
        }
        assert_eq!(places.find(&grain(1)), None);
        places.forget(&grain(0));
        assert_eq!(places.find(&grain(0)), None);
    }
}

//! Which partition a grain is in, and which node a slot of the cluster falls to. Pure and in integers only, so that every
//! node, on any machine, finds the same. Called by `state` (owners, singletons), `placement` and whoever routes a call.

use std::cmp::Ordering;

use super::names::{NodeId, PartitionId};
use crate::fnv::fnv1a;

/// How many partitions a cluster has unless it was founded with another number.
pub(crate) const PARTITIONS_DEFAULT: u16 = 1_024;

/// The partition of a grain in a cluster of `count` partitions.
pub(crate) fn partition_of(grain_type: &str, key: &str, count: u16) -> PartitionId {
    let place = hash(grain_type.bytes().chain(*b"/").chain(key.bytes())) % u64::from(count.max(1));
    // It is below `count`, which is a `u16`.
    PartitionId(place as u16)
}

/// Something that one node of several has: the same slot falls to the same node as long as that node is a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(u64);

impl Slot {
    /// The slot of a partition.
    pub(crate) fn of_partition(id: PartitionId) -> Self {
        Self(mix(u64::from(id.0) ^ 0x7061_7274_6974_696f))
    }

    /// The slot of the singleton of a grain type.
    pub(crate) fn of_singleton(grain_type: &str) -> Self {
        Self(hash(b"singleton/".iter().copied().chain(grain_type.bytes())))
    }

    /// The one of `candidates`, nodes with their weights, to which this slot falls: weighted rendezvous hashing.
    ///
    /// Each node draws a number that only slot and node decide; the smallest wins. Drawn from an exponential distribution
    /// whose rate is the weight, each node wins as often as its weight says, and a node that comes or goes moves only
    /// what it gets or had.
    pub(crate) fn falls_to(self, candidates: impl IntoIterator<Item = (NodeId, u32)>) -> Option<NodeId> {
        let hash = |node: NodeId| mix(self.0 ^ mix(node.0 ^ 0x6e6f_6465));
        let draws = candidates.into_iter().map(|(node, weight)| Draw { hash: hash(node), weight: weight.max(1), node });
        draws.reduce(|best, other| if other.beats(&best) { other } else { best }).map(|best| best.node)
    }
}

/// What one node draws for one slot: a number whose [`surprise`], divided by the weight, is its draw.
struct Draw {
    hash: u64,
    weight: u32,
    node: NodeId,
}

impl Draw {
    fn beats(&self, other: &Self) -> bool {
        // Ties go by hash and node, so that there is always one winner.
        let tie = || other.hash.cmp(&self.hash).then(self.node.cmp(&other.node));
        self.compare(other).then_with(tie) == Ordering::Less
    }

    /// Fractions are compared crosswise, so nothing is rounded. Of equal weights the larger hash has the smaller surprise,
    /// or the same one, so there is nothing to compute: the usual case.
    fn compare(&self, other: &Self) -> Ordering {
        if self.weight == other.weight {
            return Ordering::Equal;
        }
        let own = u128::from(surprise(self.hash)) * u128::from(other.weight);
        own.cmp(&(u128::from(surprise(other.hash)) * u128::from(self.weight)))
    }
}

/// `-log2(hash / 2^64)` with 32 binary digits after the point, never 0. Floating point would do it in one instruction,
/// and differently on some machine.
fn surprise(hash: u64) -> u64 {
    let hash = hash.max(1);
    let zeros = hash.leading_zeros();
    // The mantissa, in [1, 2) with 63 digits; squaring it yields the logarithm's digits one by one.
    let mut mantissa = hash << zeros;
    let mut digits = 0_u64;
    for _ in 0..SURPRISE_DIGITS {
        let square = (u128::from(mantissa) * u128::from(mantissa)) >> 63;
        let carry = (square >> 64) as u64;
        digits = digits << 1 | carry;
        mantissa = (square >> carry) as u64;
    }
    (u64::from(zeros + 1) << SURPRISE_DIGITS) - digits
}

const SURPRISE_DIGITS: u32 = 32;

/// FNV-1a with a finaliser: FNV alone leaves low bits that hardly depend on the first letters.
fn hash(bytes: impl Iterator<Item = u8>) -> u64 {
    mix(fnv1a(bytes))
}

/// The finaliser of MurmurHash3: every bit of the input changes every bit of the output half of the time.
fn mix(mut word: u64) -> u64 {
    word = (word ^ word >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    word = (word ^ word >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    word ^ word >> 33
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Enough slots for chance to even out: with 1,024, a fifth of them is 205 give or take 13.
    const SLOTS: u16 = 30_000;

    fn owners(nodes: &[(u64, u32)]) -> Vec<u64> {
        let candidates = || nodes.iter().map(|(node, weight)| (NodeId(*node), *weight));
        (0..SLOTS).map(|p| Slot::of_partition(PartitionId(p)).falls_to(candidates()).unwrap().0).collect()
    }

    fn counts(owners: &[u64]) -> BTreeMap<u64, f64> {
        let mut counts = BTreeMap::new();
        owners.iter().for_each(|owner| *counts.entry(*owner).or_default() += 1.0);
        counts
    }

    const FOUR: [(u64, u32); 4] = [(1, 1), (2, 1), (77, 1), (u64::MAX, 1)];
    const FIVE: [(u64, u32); 5] = [(1, 1), (2, 1), (77, 1), (u64::MAX, 1), (5, 1)];

    #[test]
    fn equal_nodes_own_about_as_much() {
        for (node, count) in counts(&owners(&FIVE)) {
            let share = count / (f64::from(SLOTS) / 5.0);
            assert!((0.9..1.1).contains(&share), "n{node} owns {share} of its share");
        }
    }

    #[test]
    fn a_fifth_node_gets_a_fifth_and_nothing_else_moves() {
        let (before, after) = (owners(&FOUR), owners(&FIVE));
        let moved: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
        assert!(moved.iter().all(|(_, after)| **after == 5), "something moved between old nodes");
        let share = moved.len() as f64 / f64::from(SLOTS);
        assert!((0.18..0.22).contains(&share), "{share} moved");
    }

    #[test]
    fn a_node_that_goes_moves_only_what_it_had() {
        for (before, after) in owners(&FIVE).iter().zip(owners(&FOUR)) {
            assert!(*before == 5 || *before == after);
        }
    }

    #[test]
    fn weights_are_honoured() {
        let counts = counts(&owners(&[(1, 1), (2, 2), (3, 5)]));
        for (node, weight) in [(1, 1.0), (2, 2.0), (3, 5.0)] {
            let share = counts[&node] / (f64::from(SLOTS) * weight / 8.0);
            assert!((0.95..1.05).contains(&share), "n{node} owns {share} of its share");
        }
    }

    #[test]
    fn the_order_of_candidates_does_not_matter() {
        let mut reversed = FIVE;
        reversed.reverse();
        assert_eq!(owners(&FIVE), owners(&reversed));
        assert_eq!(Slot::of_singleton("clock").falls_to([]), None);
    }

    #[test]
    fn keys_that_differ_little_fill_all_partitions_evenly() {
        let mut counts = vec![0_u32; 64];
        for key in 0..64_000 {
            counts[usize::from(partition_of("cart", &key.to_string(), 64).0)] += 1;
        }
        assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
        assert_eq!(partition_of("cart", "x", 0), PartitionId(0), "no count panics");
    }

    /// Nodes of different releases share a cluster: these numbers may never change.
    #[test]
    fn places_are_the_same_for_ever() {
        let weighted = counts(&owners(&[(1, 1), (2, 2), (3, 5)]))[&2];
        let slots = (Slot::of_partition(PartitionId(7)).0, Slot::of_singleton("clock").0);
        let found = (partition_of("cart", "alice", 1_024).0, slots, counts(&owners(&FIVE))[&5], weighted);
        assert_eq!(found, (788, (9_807_231_057_983_141_453, 9_330_778_020_807_214_202), 5_935.0, 7_597.0));
    }

    #[test]
    fn the_logarithm_is_right() {
        for hash in [1, 2, 3, 1 << 40, u64::MAX / 3, u64::MAX - 1, u64::MAX] {
            let expected = 64.0 - (hash as f64).log2();
            let found = surprise(hash) as f64 / f64::from(2_u32.pow(16)) / f64::from(2_u32.pow(16));
            assert!((expected - found).abs() < 1e-8, "{hash}: {found} instead of {expected}");
            assert!(surprise(hash) > 0);
        }
    }
}

//! Which gateways a client uses. Pure: time and chance come in.
//!
//! Each client has an order of its own of all gateways, drawn from its number and their addresses, and wants the first few that
//! answer. So clients spread evenly over the gateways, and few of them move when one comes or goes.

use std::{collections::BTreeMap, time::Duration};

use grains_core::Instant;

use crate::{fnv::fnv1a, wire::Backoff};

/// The first pause after a gateway could not be reached; it doubles.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// The longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// How many addresses are remembered that are neither configured nor known as gateways any more.
const TRIED_MAX: usize = 1024;

/// All gateways that are known.
pub(super) struct Gateways {
    /// Draws this client's order.
    seed: u64,
    configured: Vec<String>,
    /// What a gateway has told last.
    learned: Vec<String>,
    tried: BTreeMap<String, Tried>,
}

#[derive(Default)]
struct Tried {
    backoff: Backoff,
    /// What went wrong last, if it did.
    failure: Option<String>,
}

impl Gateways {
    pub(super) fn new(seed: u64, configured: Vec<String>) -> Self {
        Self { seed, configured, learned: Vec::new(), tried: BTreeMap::new() }
    }

    /// A gateway has told which ones there are.
    pub(super) fn learn(&mut self, gateways: Vec<String>) {
        self.learned = gateways;
        if self.tried.len() > TRIED_MAX {
            let (learned, configured) = (&self.learned, &self.configured);
            self.tried.retain(|address, _| learned.contains(address) || configured.contains(address));
        }
    }

    /// It could not be reached, or did not stay.
    pub(super) fn failed(&mut self, address: &str, why: String, now: Instant, random: u64) {
        let tried = self.tried.entry(address.to_owned()).or_default();
        tried.backoff.failed(now, random, BACKOFF_MIN, BACKOFF_MAX);
        tried.failure = Some(why);
    }

    /// It was reached, and stayed for long enough.
    pub(super) fn worked(&mut self, address: &str) {
        self.tried.remove(address);
    }

    /// It was reached.
    pub(super) fn reached(&mut self, address: &str) {
        if let Some(tried) = self.tried.get_mut(address) {
            tried.failure = None;
        }
    }

    /// Those that were told of, in this client's order; those it was configured with until then.
    fn ranked(&self) -> Vec<&String> {
        let from = if self.learned.is_empty() { &self.configured } else { &self.learned };
        let mut ranked: Vec<_> = from.iter().collect();
        ranked.sort_by_key(|address| self.rank(address));
        ranked.dedup();
        ranked
    }

    fn rank(&self, address: &str) -> u64 {
        let hash = fnv1a(address.bytes().chain(self.seed.to_le_bytes()));
        // The last bytes of an address differ, and have to move all bits.
        let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ (mixed >> 29)
    }

    fn until(&self, address: &str) -> Instant {
        self.tried.get(address).map_or(Instant::default(), |tried| tried.backoff.until())
    }

    fn is_failing(&self, address: &str) -> bool {
        self.tried.get(address).is_some_and(|tried| tried.failure.is_some())
    }

    /// The gateways that a client with so many connections would best use, as far as is known: only such as it was told of, and none
    /// that it has to let rest.
    pub(super) fn wanted(&self, connections: usize, now: Instant) -> Vec<&str> {
        if self.learned.is_empty() {
            return Vec::new();
        }
        let well = self.ranked().into_iter().filter(|address| self.until(address) <= now);
        well.take(connections).map(String::as_str).collect()
    }

    /// When the next of those may be tried that it has to let rest.
    pub(super) fn next_rested(&self, now: Instant) -> Option<Instant> {
        self.learned.iter().map(|address| self.until(address)).filter(|until| *until > now).min()
    }

    /// The one to dial next, and from when on; those in `taken` only if there is no other that answers, and never `leaving`. `None` if
    /// there is none.
    pub(super) fn next(&self, taken: &[&str], leaving: Option<&str>, now: Instant) -> Option<(String, Instant)> {
        let ranked = self.ranked();
        // What it was configured with may be other names of the same: only when those that it was told of fail.
        let others = self.configured.iter().filter(|address| !ranked.contains(address));
        let all = ranked.iter().copied().chain(others).enumerate();
        let all = all.filter(|(_, address)| Some(address.as_str()) != leaving);
        let best = all.min_by_key(|(rank, address)| {
            let until = self.until(address);
            let waits = until > now;
            let (is_taken, is_failing) = (taken.contains(&address.as_str()), self.is_failing(address));
            (waits, is_failing, is_taken, if waits { until } else { Instant::default() }, *rank)
        });
        best.map(|(_, address)| (address.clone(), self.until(address)))
    }

    /// What became of each, for people.
    pub(super) fn told(&self) -> String {
        let ranked = self.ranked();
        let others = self.configured.iter().filter(|address| !ranked.contains(address));
        let one = |address: &String| {
            let failure = self.tried.get(address).and_then(|tried| tried.failure.as_deref());
            let failure = failure.unwrap_or("not reached yet");
            // Many failures name the address already.
            match failure.strip_prefix(address.as_str()) {
                Some(_) => failure.to_owned(),
                None => format!("{address}: {failure}"),
            }
        };
        let told: Vec<_> = ranked.iter().copied().chain(others).map(one).collect();
        if told.is_empty() { "it was given no addresses".to_owned() } else { told.join("; ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(n: usize) -> Vec<String> {
        (0..n).map(|n| format!("10.0.0.{n}:7200")).collect()
    }

    fn at(ms: u64) -> Instant {
        Instant::default() + Duration::from_millis(ms)
    }

    #[test]
    fn clients_spread_evenly_and_few_move_when_a_gateway_goes() {
        let mut counts = BTreeMap::<String, usize>::new();
        let mut moved = 0;
        for seed in 0..1000_u64 {
            let mut gateways = Gateways::new(u64::wrapping_mul(seed, 0x1234_5678_9abc_def1), named(1));
            gateways.learn(named(4));
            let wanted: Vec<String> = gateways.wanted(2, at(0)).into_iter().map(str::to_owned).collect();
            assert_eq!(wanted.len(), 2);
            assert_ne!(wanted[0], wanted[1]);
            wanted.iter().for_each(|address| *counts.entry(address.clone()).or_default() += 1);
            gateways.learn(named(3));
            moved += wanted.iter().filter(|address| !gateways.wanted(2, at(0)).contains(&address.as_str())).count();
        }
        assert!(counts.values().all(|count| (400..600).contains(count)), "{counts:?}");
        assert_eq!(moved, counts["10.0.0.3:7200"], "only who was there");
    }

    #[test]
    fn what_fails_waits_and_others_are_tried_meanwhile() {
        let mut gateways = Gateways::new(1, named(2));
        let (first, from) = gateways.next(&[], None, at(0)).unwrap();
        assert_eq!(from, Instant::default());
        gateways.failed(&first, "connection refused".into(), at(0), 0);
        let (second, _) = gateways.next(&[], None, at(0)).unwrap();
        assert_ne!(first, second);
        gateways.failed(&second, format!("{second} is busy"), at(10), 0);
        let (again, from) = gateways.next(&[], None, at(10)).unwrap();
        assert_eq!((again, from > at(10)), (first.clone(), true));
        let told = gateways.told();
        assert!(told.contains(&format!("{first}: connection refused")), "{told}");
        assert!(told.contains(&format!("{second} is busy")) && !told.contains(&format!("{second}: ")), "{told}");
        gateways.worked(&first);
        assert!(gateways.told().contains("not reached yet"));
    }

    #[test]
    fn another_gateway_is_better_than_one_that_is_taken_and_that_is_better_than_one_that_fails() {
        let mut gateways = Gateways::new(1, named(1));
        gateways.learn(named(2));
        assert_eq!(gateways.next(&["10.0.0.0:7200"], None, at(0)).unwrap().0, "10.0.0.1:7200");
        gateways.failed("10.0.0.1:7200", "no".into(), at(0), 0);
        assert_eq!(gateways.next(&["10.0.0.0:7200"], None, at(0)).unwrap().0, "10.0.0.0:7200");
        assert_eq!(gateways.next(&["10.0.0.0:7200"], None, at(5000)).unwrap().0, "10.0.0.0:7200");
        // One that leaves is none, however badly the others do.
        assert_eq!(gateways.next(&[], Some("10.0.0.0:7200"), at(0)).unwrap().0, "10.0.0.1:7200");
        assert_eq!(gateways.wanted(2, at(0)), ["10.0.0.0:7200"]);
        // It is given another chance when it has rested.
        let rested = gateways.next_rested(at(0)).unwrap();
        assert!(gateways.wanted(2, rested).contains(&"10.0.0.1:7200"));
        assert_eq!(gateways.next_rested(rested), None);
    }
}

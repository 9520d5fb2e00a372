//! What a campaign came to, in numbers.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

/// Times that were measured, by what they are of.
#[derive(Default)]
pub struct Times(BTreeMap<&'static str, Vec<u64>>);

/// What is always reported.
const NAMES: [&str; 8] = [
    "kill_recovery_ms",
    "kill_recovery_leader_ms",
    "freeze_recovery_ms",
    "freeze_recovery_leader_ms",
    "cut_recovery_ms",
    "in_flight_kill_ms",
    "in_flight_freeze_ms",
    "heal_ms",
];

impl Times {
    /// Adds one, in nanoseconds.
    pub fn add(&mut self, of: &'static str, nanos: u64) {
        debug_assert!(NAMES.contains(&of));
        self.0.entry(of).or_default().push(nanos);
    }

    pub fn report(&mut self, into: &mut Map<String, Value>) {
        for name in NAMES {
            let times = self.0.entry(name).or_default();
            times.sort_unstable();
            let millis = |nanos: &u64| (*nanos as f64 / 100_000.0).round() / 10.0;
            let at = |share: usize| times.get((times.len() * share / 100).min(times.len().wrapping_sub(1))).map(millis);
            let told = json!({"n": times.len(), "p50": at(50), "p99": at(99), "max": times.last().map(millis)});
            into.insert(name.to_owned(), told);
        }
    }
}

#[test]
fn shares_are_those_of_what_was_measured() {
    let mut times = Times::default();
    (1..=200).rev().for_each(|ms| times.add("heal_ms", ms * 1_000_000));
    times.add("cut_recovery_ms", 1_500_000);
    let mut told = Map::new();
    times.report(&mut told);
    assert_eq!(told["heal_ms"], json!({"n": 200, "p50": 101.0, "p99": 199.0, "max": 200.0}));
    assert_eq!(told["cut_recovery_ms"], json!({"n": 1, "p50": 1.5, "p99": 1.5, "max": 1.5}));
    assert_eq!(told["kill_recovery_ms"], json!({"n": 0, "p50": null, "p99": null, "max": null}));
}

//! What the explorer shows: nothing goes wrong while all rules are kept, and each rule is needed.

use super::{Broken, Violation, explore, trace};
use crate::cluster::directory::rules::Rule;

/// How many worlds are tried with every rule.
const SEEDS: u64 = 5_000;

/// Within how many a broken rule must show.
const BROKEN_SEEDS_MAX: u64 = 20_000;

#[test]
fn with_all_rules_nothing_goes_wrong() {
    for seed in 0..SEEDS {
        if let Err(violation) = explore(seed, Broken::Nothing) {
            panic!("seed {seed}: {violation:?}\n{}", trace(seed, Broken::Nothing));
        }
    }
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    assert_eq!(trace(7, Broken::Nothing), trace(7, Broken::Nothing));
}

#[test]
fn without_any_one_rule_something_goes_wrong() {
    let mut missed = Vec::new();
    let callers = [Broken::RejoinRenews, Broken::ReportStarting, Broken::GoneAfterLastTurn, Broken::LeaveWhenEmpty];
    for broken in SAFETY.map(Broken::Rule).into_iter().chain(callers) {
        match first(broken, |violation| matches!(violation, Violation::Unsafe(_))) {
            Some((seed, violation)) => println!("without {broken:?}, seed {seed}: {violation:?}"),
            None => missed.push(broken),
        }
    }
    for broken in PROGRESS {
        match first(broken, |violation| matches!(violation, Violation::Stuck(_))) {
            Some((seed, violation)) => println!("without {broken:?}, seed {seed}: {violation:?}"),
            None => missed.push(broken),
        }
    }
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}

/// Without one of these a grain may live twice.
const SAFETY: [Rule; 11] = [
    Rule::Once,
    Rule::Fence,
    Rule::Life,
    Rule::LeavingRefuses,
    Rule::RecoverAfterApply,
    Rule::Regain,
    Rule::Predecessor,
    Rule::SealAfterApply,
    Rule::SealIsFinal,
    Rule::Everyone,
    Rule::HighestToken,
];

/// Without one of these a grain may be out of reach for ever.
const PROGRESS: [Broken; 3] =
    [Broken::Rule(Rule::NotServing), Broken::Rule(Rule::PredecessorGone), Broken::RefusalsAreTold];

fn first(broken: Broken, counts: impl Fn(&Violation) -> bool) -> Option<(u64, Violation)> {
    (0..BROKEN_SEEDS_MAX).find_map(|seed| Some((seed, explore(seed, broken).err().filter(&counts)?)))
}

//! What happens in the pure rooms without a mechanism that simulated clusters would need too long to miss: how many seeds of their
//! own worlds it takes. Run by `tests/switches`.

use std::env;

use grains_core::switches::{
    Mechanism::{self, *},
    Off,
};

use super::{directory::explorer, driver, lease, state};

/// Within how many worlds of directories and hosts it must show.
const DIRECTORIES_MAX: u64 = 20_000;
/// Within how many worlds of leases.
const LEASES_MAX: u64 = 2_000;

/// Mechanisms of directories and hosts.
const DIRECTORY: &[Mechanism] = &[
    RefusalRaisesMark,
    OldEpochsRefused,
    OrderNamesIncarnation,
    LeavingRefuses,
    AnswerAfterApplying,
    RegainAcquires,
    SealAfterApplying,
    HighestTokenWins,
];

/// Mechanisms of leases.
const LEASE: &[Mechanism] =
    &[ActsAfterFirstAck, CountFromSending, Guard, MemberCheckedAfterRound, EvictBlocksRenewal, CertificateNamesProcess];

/// Mechanisms of what the cluster agrees on, where no chance is needed.
const STATE: &[Mechanism] = &[EvictNamesIncarnation, CommandsOnce];

#[test]
#[ignore = "for tests/switches"]
fn each_mechanism_is_needed() {
    let wanted = env::var("GRAINS_SWITCH_OFF").unwrap_or_default();
    let is_wanted =
        |mechanism: &&Mechanism| wanted.is_empty() || wanted.split(',').any(|name| name == mechanism.name());
    let mut missed = Vec::new();
    let mut look = |mechanism: Mechanism, max: u64, room: &str, harm: &dyn Fn(u64) -> Option<String>| {
        let _off = Off::new(&[mechanism]);
        match (1..=max).find_map(|seed| Some((seed, harm(seed)?))) {
            Some((seed, harm)) => println!("{}\t{seed}\t{room}: {harm}", mechanism.name()),
            None => missed.push(mechanism.name()),
        }
    };
    for mechanism in DIRECTORY.iter().filter(is_wanted) {
        look(*mechanism, DIRECTORIES_MAX, "directories and hosts", &explorer::harm);
    }
    for mechanism in LEASE.iter().filter(is_wanted) {
        look(*mechanism, LEASES_MAX, "leases", &lease::tests::harm);
    }
    for mechanism in STATE.iter().filter(is_wanted) {
        look(*mechanism, 1, "what is agreed on", &|_| state::tests::harm());
    }
    if is_wanted(&&PromiseIsDurable) {
        look(PromiseIsDurable, 1, "promises", &|_| driver::promise::tests::harm());
    }
    assert!(missed.is_empty(), "nobody missed {missed:?}");
}

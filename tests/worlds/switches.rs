//! Worlds that lack a mechanism: how many it takes until one does harm. `tests/switches` runs this, and docs/SIMULATION.md has
//! what it prints.

use std::{
    cell::RefCell,
    env,
    num::NonZero,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Mutex,
    thread,
};

use grains::{
    sim::Builder,
    switches::Mechanism::{self, *},
};

use crate::{
    directed::{self, Directed},
    facts::lock,
};

thread_local! {
    static LACKING: RefCell<Vec<Mechanism>> = RefCell::default();
}

/// How many polls at one instant are harm done: a cluster that runs in circles is of no use.
const POLLS_AT_ONCE_MAX: u64 = 200_000;

/// Has a simulation do without what those of this thread are to do without.
pub(crate) fn without_what_is_lacking(builder: Builder) -> Builder {
    LACKING.with_borrow(|lacking| match lacking.is_empty() {
        true => builder,
        false => builder.without(lacking).polls_at_once_max(POLLS_AT_ONCE_MAX),
    })
}

/// How the lack of a mechanism is found.
struct Finding {
    lack: &'static [Mechanism],
    by: By,
}

enum By {
    /// By random worlds: so many at most.
    Worlds(u64),
    /// By a world in which one certain thing goes wrong.
    Directed(Directed),
}

const SEEDS_MAX: u64 = 100;
const DIRECTED_MAX: u64 = 5;

fn findings() -> Vec<Finding> {
    let directed = |lack, directed| Finding { lack, by: By::Directed(directed) };
    let alone = |mechanism: &'static Mechanism| Finding {
        lack: std::slice::from_ref(mechanism),
        by: match mechanism {
            CountFromSending => By::Directed(directed::LATE_ANSWERS),
            DriftMargin => By::Directed(directed::CLOCKS_APART),
            StoppedLeaderWaits => By::Directed(directed::LEADER_JUMPS),
            JoinNeedsProof => By::Directed(directed::NAMESAKE),
            ActsAfterFirstAck => By::Directed(directed::LATE_WELCOME),
            RoundAfterReceipt => By::Directed(directed::OLD_LEADER),
            _ => By::Worlds(SEEDS_MAX),
        },
    };
    let together = |lack| Finding { lack, by: By::Worlds(SEEDS_MAX) };
    Mechanism::ALL
        .iter()
        .map(alone)
        .chain([
            directed(&[DriftMargin, Guard], directed::CLOCKS_APART),
            together(&[TokenIsChecked, VersionIsChecked]),
            together(&[OpenCommitEndsLife, VersionIsChecked]),
            together(&[CommitsOnce, VersionIsChecked]),
            together(&[CommandsOnce, EvictNamesIncarnation]),
            directed(&[EvictStaysInTerm, EvictChecksTerm], directed::OLD_LEADER),
            together(&[MemberCheckedAfterRound, EvictBlocksRenewal]),
        ])
        .collect()
}

#[test]
#[ignore = "minutes: run by tests/switches"]
fn each_mechanism_is_needed() {
    let wanted = env::var("GRAINS_SWITCH_OFF").ok();
    let max = env::var("GRAINS_SEEDS").ok().map(|text| text.parse().expect("GRAINS_SEEDS is a number"));
    let is_wanted =
        |finding: &Finding| wanted.as_ref().is_none_or(|names| names.split(',').any(|name| name == finding.name()));
    let todo = Mutex::new(findings().into_iter().filter(is_wanted));
    let missed = Mutex::new(Vec::new());
    let work = || loop {
        let next = lock(&todo).next();
        let Some(finding) = next else { return };
        if !finding.look(max) {
            lock(&missed).push(finding.name());
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            let name = thread::current().name().unwrap_or_default().to_owned();
            thread::Builder::new().name(name).spawn_scoped(scope, work).expect("a thread can be started");
        }
    });
    let missed = missed.into_inner().expect("nothing panics while it is held");
    assert!(missed.is_empty(), "nobody missed {missed:?}");
}

impl Finding {
    fn name(&self) -> String {
        self.lack.iter().map(|mechanism| mechanism.name()).collect::<Vec<_>>().join("+")
    }

    /// Looks for harm, and tells what was found.
    fn look(&self, max: Option<u64>) -> bool {
        let name = self.name();
        LACKING.set(self.lack.to_vec());
        let found = match self.by {
            By::Directed((scenario, run)) => {
                let found = (1..=DIRECTED_MAX).find_map(|seed| Some((seed, harm(|| run(seed))?)));
                found.map(|(seeds, harm)| (seeds, format!("{scenario}: {harm}")))
            }
            By::Worlds(most) => (1..=max.unwrap_or(most)).find_map(|seed| {
                let nodes = if seed % 3 == 0 { 5 } else { 3 };
                let harm = harm(|| {
                    let (_, verdict) = crate::judged(seed, nodes);
                    assert!(verdict.violations.is_empty(), "{}", verdict.violations[0]);
                });
                Some((seed, harm?))
            }),
        };
        LACKING.take();
        match &found {
            Some((seeds, harm)) => println!("{name}\t{seeds}\t{}", harm.lines().next().unwrap_or_default()),
            None => println!("{name}\tnever"),
        }
        found.is_some()
    }
}

/// What went wrong, if anything did.
fn harm(run: impl FnOnce()) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(run)).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).or(Some("it panicked".into()))
}

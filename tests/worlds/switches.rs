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
    world,
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
    mechanism: Mechanism,
    /// What covers it, and has to be off as well.
    cover: Option<Mechanism>,
    by: By,
}

enum By {
    /// By random worlds.
    Worlds,
    /// By a world in which one certain thing goes wrong.
    Directed(Directed),
    /// In the room that has it: `cluster/switched.rs` of the runtime, `replicated/tests` of the store.
    ItsRoom,
}

const WORLDS_MAX: u64 = 100;
const DIRECTED_MAX: u64 = 10;

fn finding(mechanism: Mechanism) -> Finding {
    let (cover, by) = match mechanism {
        DriftMargin => (None, By::Directed(directed::CLOCKS_APART)),
        StoppedLeaderWaits => (None, By::Directed(directed::LEADER_JUMPS)),
        JoinNeedsProof => (None, By::Directed(directed::NAMESAKE)),
        RoundAfterReceipt => (None, By::Directed(directed::OLD_LEADER)),
        EvictChecksTerm => (Some(EvictStaysInTerm), By::Directed(directed::OLD_LEADER)),
        EvictStaysInTerm => (Some(EvictChecksTerm), By::Directed(directed::OLD_LEADER)),
        VersionIsChecked => (Some(OpenCommitEndsLife), By::Worlds),
        ActsAfterFirstAck
        | CommitsOnce
        | CountFromSending
        | Guard
        | MemberCheckedAfterRound
        | EvictBlocksRenewal
        | EvictNamesIncarnation
        | CommandsOnce
        | PromiseIsDurable
        | RefusalRaisesMark
        | OldEpochsRefused
        | OrderNamesIncarnation
        | LeavingRefuses
        | AnswerAfterApplying
        | RegainAcquires
        | SealAfterApplying
        | HighestTokenWins => (None, By::ItsRoom),
        _ => (None, By::Worlds),
    };
    Finding { mechanism, cover, by }
}

#[test]
#[ignore = "minutes: run by tests/switches"]
fn each_mechanism_is_needed() {
    let wanted = env::var("GRAINS_SWITCH_OFF").ok();
    let is_wanted = |finding: &Finding| {
        let name = finding.mechanism.name();
        wanted.as_ref().is_none_or(|names| names.is_empty() || names.split(',').any(|wanted| wanted == name))
    };
    let todo = Mutex::new(Mechanism::ALL.iter().copied().map(finding).filter(is_wanted));
    let missed = Mutex::new(Vec::new());
    let work = || loop {
        let next = lock(&todo).next();
        let Some(finding) = next else { return };
        if !finding.look() {
            lock(&missed).push(finding.mechanism.name());
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
    /// Looks for harm, and tells what was found.
    fn look(&self) -> bool {
        let name = self.mechanism.name();
        LACKING.set([self.mechanism].into_iter().chain(self.cover).collect());
        let found = match self.by {
            By::ItsRoom => return true,
            By::Directed((world, run)) => {
                first(DIRECTED_MAX, run).map(|(seed, harm)| (seed, format!("{world}: {harm}")))
            }
            By::Worlds => first(WORLDS_MAX, |seed| {
                let (_, verdict) = crate::judged(seed, &world::worlds(if seed % 3 == 0 { 5 } else { 3 }));
                assert!(verdict.violations.is_empty(), "{}", verdict.violations[0]);
            }),
        };
        LACKING.take();
        let with = self.cover.map(|cover| format!("without {}, too: ", cover.name())).unwrap_or_default();
        match &found {
            Some((seeds, harm)) => println!("{name}\t{seeds}\t{with}{}", harm.lines().next().unwrap_or_default()),
            None => println!("{name}\tnever"),
        }
        found.is_some()
    }
}

/// The first seed with which something goes wrong, and what.
fn first(max: u64, run: impl Fn(u64)) -> Option<(u64, String)> {
    (1..=max).find_map(|seed| Some((seed, harm(|| run(seed))?)))
}

/// What went wrong, if anything did.
fn harm(run: impl FnOnce()) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(run)).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).or(Some("it panicked".into()))
}

//! What holds with all rules, and what goes wrong without each.

use super::{
    Changes, Cluster,
    Property::{self, AtMostOnce, DirectoryComplete, OneExecutor, OneServingOwner},
    Rules, VIEWS,
    changes::Change,
    configurations::*,
};
use crate::explore::{Search, explore};

fn holds(name: &str, cluster: &Cluster) {
    explore(cluster, &Search::all()).expect_no_trouble(&format!("directory, {name}"));
}

#[test]
fn one_grain_through_every_two_changes() {
    holds("1 grain, 3 views, 2 orders", &any(3, 2, Rules::all()));
}

#[test]
fn two_grains_share_one_mark() {
    holds("2 grains, 2 views, 3 orders", &two_grains(any(2, 3, Rules::all())));
}

#[test]
fn migration_with_a_call_through_every_change() {
    holds("migration, 2 views, 2 orders, a call", &migrating(any(2, 2, Rules::all())));
}

#[test]
fn two_grains_through_given_changes() {
    through_given_changes("2 grains", two_grains, &SHORT);
}

#[test]
fn migration_with_a_call_through_given_changes() {
    through_given_changes("migration, a call", migrating, &SHORT);
}

#[test]
#[ignore = "takes minutes"]
fn two_grains_through_given_longer_changes() {
    through_given_changes("2 grains", two_grains, &LONG);
}

#[test]
#[ignore = "takes minutes"]
fn migration_with_a_call_through_given_longer_changes() {
    through_given_changes("migration, a call", migrating, &LONG);
}

fn through_given_changes(name: &str, extended: fn(Cluster) -> Cluster, given: &'static [&'static [Change]]) {
    for changes in given {
        let texts: Vec<_> = changes.iter().map(ToString::to_string).collect();
        holds(&format!("{name}: {}", texts.join("; ")), &extended(with(changes, Rules::all())));
    }
}

/// The mark is less to remember, not another promise.
#[test]
fn remembering_every_order_is_as_safe_as_a_mark() {
    let remembers = Rules { mark: false, ..Rules::all() };
    holds("every order remembered", &with(OWNER_RECOVERS, remembers));
    holds("every order remembered, 2 grains", &two_grains(any(1, 3, remembers)));
}

/// Each of these stands in for another one, or guards against what no explored configuration shows.
#[test]
fn some_rules_are_there_for_depth_only() {
    holds("without the rules for depth", &migrating(any(2, 2, without_those_for_depth())));
    let fence = Rules { fence_on_answering: false, ..Rules::all() };
    holds("without the fence on answering", &with(OWNER_RECOVERS, fence));
}

fn without_those_for_depth() -> Rules {
    Rules {
        fence_on_applying: false,
        fence_on_acting: false,
        drop_what_view_knows: false,
        freeze_is_fenced: false,
        ..Rules::all()
    }
}

#[test]
#[ignore = "takes minutes"]
fn some_rules_are_there_for_depth_only_through_three_views() {
    holds("without the rules for depth, 3 views", &migrating(any(3, 2, without_those_for_depth())));
    let fence = Rules { fence_on_answering: false, ..Rules::all() };
    holds("without the fence on answering, 3 views", &any(3, 3, fence));
}

/// One test each, so that one can be run alone.
macro_rules! larger_configurations_hold {
    ($($test:ident: $name:literal, $cluster:expr;)+) => {$(
        #[test]
        #[ignore = "takes minutes"]
        fn $test() {
            holds($name, &$cluster);
        }
    )+};
}

larger_configurations_hold! {
    three_views_three_orders: "1 grain, 3 views, 3 orders", any(3, 3, Rules::all());
    four_views_two_orders: "1 grain, 4 views, 2 orders", any(4, 2, Rules::all());
    four_views_three_orders: "1 grain, 4 views, 3 orders", any(4, 3, Rules::all());
    two_grains_two_views_four_orders: "2 grains, 2 views, 4 orders", two_grains(any(2, 4, Rules::all()));
    two_grains_three_views_two_orders: "2 grains, 3 views, 2 orders", two_grains(any(3, 2, Rules::all()));
    migration_two_views_three_orders: "migration, 2 views, 3 orders, a call", migrating(any(2, 3, Rules::all()));
    migration_three_views: "migration, 3 views, 2 orders, a call", migrating(any(3, 2, Rules::all()));
    two_grains_that_migrate: "2 grains that migrate, 2 orders, a call", two_grains(migrating(any(2, 2, Rules::all())));
}

/// Switches one rule off, or the several that stand in for each other.
type Off = fn(&mut Rules);

/// What goes wrong without a rule.
enum Wrong {
    Violates(&'static [Property]),
    /// P4: from some state on, no progress leads to an owner that can answer.
    GetsStuck,
}
use Wrong::{GetsStuck, Violates};

struct Row {
    rule: &'static str,
    off: Off,
    cluster: fn(Rules) -> Cluster,
    wrong: Wrong,
}

/// One row a counter-example; `docs/MODELS.md` tells them.
const ROWS: &[Row] = &[
    Row { rule: "once", off: |r| r.once = false, cluster: still, wrong: Violates(&[OneExecutor, DirectoryComplete]) },
    Row {
        rule: "order_names_incarnation",
        off: |r| r.order_names_incarnation = false,
        cluster: |r| with(HOST_REJOINS, r),
        wrong: Violates(&[OneExecutor, DirectoryComplete]),
    },
    Row {
        rule: "refusal_is_told",
        off: |r| r.refusal_is_told = false,
        cluster: |r| with(LEAVER_OWNS, r),
        wrong: GetsStuck,
    },
    Row {
        rule: "refusal_raises_mark",
        off: |r| r.refusal_raises_mark = false,
        cluster: still,
        wrong: Violates(&[OneExecutor, DirectoryComplete]),
    },
    Row {
        rule: "voided_is_told",
        off: |r| r.voided_is_told = false,
        cluster: |r| two_grains(still(r)),
        wrong: GetsStuck,
    },
    Row {
        rule: "fence_on_applying and fence_on_answering",
        off: |r| (r.fence_on_applying, r.fence_on_answering) = (false, false),
        cluster: |r| with(OWNER_RECOVERS, r),
        wrong: Violates(&[OneExecutor, DirectoryComplete]),
    },
    Row {
        rule: "rejoin_makes_epoch",
        off: |r| r.rejoin_makes_epoch = false,
        cluster: |r| with(OWNER_REJOINS, r),
        wrong: Violates(&[OneExecutor, DirectoryComplete]),
    },
    Row {
        rule: "regain_acquires",
        off: |r| r.regain_acquires = false,
        cluster: |r| with(THERE_AND_BACK, r),
        wrong: Violates(&[OneExecutor, DirectoryComplete, OneServingOwner]),
    },
    Row {
        rule: "exact_predecessor",
        off: |r| r.exact_predecessor = false,
        cluster: |r| with(LEAVER_REJOINS, r),
        wrong: Violates(&[OneExecutor, DirectoryComplete]),
    },
    Row {
        rule: "exact_predecessor, with another successor",
        off: |r| r.exact_predecessor = false,
        cluster: |r| with(SUCCESSOR_LOSES, r),
        wrong: Violates(&[DirectoryComplete, OneServingOwner]),
    },
    Row {
        rule: "gone_predecessor_asks_all",
        off: |r| r.gone_predecessor_asks_all = false,
        cluster: |r| with(PREDECESSOR_DIES, r),
        wrong: GetsStuck,
    },
    Row {
        rule: "not_serving_asks_all",
        off: |r| r.not_serving_asks_all = false,
        cluster: |r| with(PREDECESSOR_NEVER_SERVED, r),
        wrong: GetsStuck,
    },
    Row {
        rule: "seal_after_applying",
        off: |r| r.seal_after_applying = false,
        cluster: |r| with(SEALS_EARLY, r),
        wrong: Violates(&[OneExecutor, DirectoryComplete, OneServingOwner]),
    },
    Row {
        rule: "answer_after_applying",
        off: |r| r.answer_after_applying = false,
        cluster: |r| with(SUCCESSOR_DIES, r),
        wrong: Violates(&[DirectoryComplete, OneServingOwner]),
    },
    Row {
        rule: "report_starting",
        off: |r| r.report_starting = false,
        cluster: |r| with(OWNER_RECOVERS, r),
        wrong: Violates(&[OneExecutor, DirectoryComplete]),
    },
    Row {
        rule: "report_frozen",
        off: |r| r.report_frozen = false,
        cluster: |r| Cluster { orders_max: 3, migration: true, ..with(OWNER_RECOVERS, r) },
        wrong: Violates(&[OneExecutor, DirectoryComplete]),
    },
    Row {
        rule: "highest_token_wins",
        off: |r| r.highest_token_wins = false,
        cluster: |r| with(SUCCESSOR_DIES, r),
        wrong: Violates(&[OneExecutor, DirectoryComplete]),
    },
    Row {
        rule: "gone_after_last_turn",
        off: |r| r.gone_after_last_turn = false,
        cluster: still,
        wrong: Violates(&[OneExecutor]),
    },
    Row {
        rule: "leaving_refuses",
        off: |r| r.leaving_refuses = false,
        cluster: |r| with(HOST_LEAVES, r),
        wrong: Violates(&[OneExecutor, DirectoryComplete]),
    },
    Row {
        rule: "entry_holds_both",
        off: |r| r.entry_holds_both = false,
        cluster: |r| migrating(still(r)),
        wrong: Violates(&[OneExecutor, DirectoryComplete]),
    },
    Row {
        rule: "resume_on_refusal_only",
        off: |r| r.resume_on_refusal_only = false,
        cluster: |r| migrating(still(r)),
        wrong: Violates(&[OneExecutor, DirectoryComplete, AtMostOnce]),
    },
    Row {
        rule: "evicted_target_drops",
        off: |r| r.evicted_target_drops = false,
        cluster: |r| migrating(with(HOST_DIES, r)),
        wrong: Violates(&[OneExecutor, DirectoryComplete, AtMostOnce]),
    },
];

fn without(row: &Row, cluster: impl Fn(Rules) -> Cluster) {
    let mut rules = Rules::all();
    (row.off)(&mut rules);
    let cluster = cluster(rules);
    match row.wrong {
        Violates(properties) => {
            explore(&cluster, &Search::until(properties.to_vec())).expect_violated(row.rule, properties);
        }
        GetsStuck => explore(&cluster, &Search::all()).expect_stuck(row.rule),
    }
}

#[test]
fn each_rule_is_needed() {
    for row in ROWS {
        without(row, row.cluster);
    }
}

/// Otherwise the rows above would show nothing.
#[test]
fn with_the_rule_the_same_configuration_holds() {
    for row in ROWS {
        holds(&format!("as without {}", row.rule), &(row.cluster)(Rules::all()));
    }
}

/// The given changes are no trick: a search through all of them finds as much.
#[test]
#[ignore = "takes minutes"]
fn each_rule_is_needed_among_all_changes() {
    for row in ROWS {
        without(row, |rules| Cluster { changes: Changes::Any, ..(row.cluster)(rules) });
    }
}

/// Names every rule: one that is added without being switched off above does not compile.
#[test]
fn no_rule_is_left_out() {
    let Rules {
        // Each has its row.
        once: _,
        order_names_incarnation: _,
        refusal_is_told: _,
        refusal_raises_mark: _,
        voided_is_told: _,
        rejoin_makes_epoch: _,
        regain_acquires: _,
        exact_predecessor: _,
        gone_predecessor_asks_all: _,
        not_serving_asks_all: _,
        seal_after_applying: _,
        answer_after_applying: _,
        report_starting: _,
        report_frozen: _,
        highest_token_wins: _,
        gone_after_last_turn: _,
        leaving_refuses: _,
        entry_holds_both: _,
        resume_on_refusal_only: _,
        evicted_target_drops: _,
        // These have one together.
        fence_on_applying: _,
        fence_on_answering: _,
        // Depth only.
        fence_on_acting: _,
        drop_what_view_knows: _,
        freeze_is_fenced: _,
        // See `lingering`.
        evicted_is_gone: _,
        evicted_runs_nothing: _,
        // Another way to remember.
        mark: _,
    } = Rules::all();
    assert!(ROWS.iter().all(|row| usize::from((row.cluster)(Rules::all()).views_max) <= VIEWS));
}

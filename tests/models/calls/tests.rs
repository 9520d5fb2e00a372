//! What holds with all rules, and what goes wrong without each.

use super::{
    Calls,
    Property::{self, AtMostOnce, NoCircle, ToldTheTruth},
    Rules,
    configurations::*,
};
use crate::explore::{Search, explore};

fn holds(name: &str, calls: &Calls) {
    explore(calls, &Search::all()).expect_no_trouble(&format!("calls, {name}"));
}

#[test]
fn a_call_runs_at_most_once_and_its_caller_is_told_the_truth() {
    for (name, views) in SHORT {
        holds(name, &through(views, Rules::all()));
    }
}

#[test]
fn a_one_way_call_runs_at_most_once() {
    for (name, views) in [("no changes", STILL), ("the host dies", HOST_DIES), ("the caller dies", CALLER_DIES)] {
        holds(&format!("one-way, {name}"), &one_way(through(views, Rules::all())));
    }
}

#[test]
fn a_call_whose_grain_has_one_host_goes_round_in_no_circle() {
    for (name, views) in SHORT.into_iter().chain([("there and back", THERE_AND_BACK)]) {
        holds(&format!("one host, {name}"), &with_one_host(through(views, Rules::all())));
    }
}

#[test]
#[ignore = "takes minutes"]
fn a_call_runs_at_most_once_through_longer_changes() {
    for (name, views) in LONG {
        holds(name, &through(views, Rules::all()));
        holds(&format!("one host, {name}"), &with_one_host(through(views, Rules::all())));
    }
}

#[test]
#[ignore = "takes minutes"]
fn a_one_way_call_runs_at_most_once_through_every_change() {
    for (name, views) in SHORT.into_iter().chain(LONG) {
        holds(&format!("one-way, {name}"), &one_way(through(views, Rules::all())));
    }
}

/// What goes wrong without a rule.
enum Wrong {
    Violates(&'static [Property]),
    /// P4: from some state on, no progress leads to an answer.
    GetsStuck,
}
use Wrong::{GetsStuck, Violates};

struct Row {
    rule: &'static str,
    off: fn(&mut Rules),
    calls: fn(Rules) -> Calls,
    wrong: Wrong,
}

/// One row a counter-example; `docs/MODELS.md` tells them.
const ROWS: &[Row] = &[
    Row {
        rule: "resends_only_unsent",
        off: |r| r.resends_only_unsent = false,
        calls: |r| through(STILL, r),
        wrong: Violates(&[AtMostOnce]),
    },
    Row {
        rule: "unanswered_is_unknown",
        off: |r| r.unanswered_is_unknown = false,
        calls: |r| through(STILL, r),
        wrong: Violates(&[ToldTheTruth]),
    },
    Row {
        rule: "sent_is_begun",
        off: |r| r.sent_is_begun = false,
        calls: |r| through(STILL, r),
        wrong: Violates(&[ToldTheTruth]),
    },
    Row {
        rule: "bounce_takes_out",
        off: |r| r.bounce_takes_out = false,
        calls: |r| through(STILL, r),
        wrong: Violates(&[AtMostOnce]),
    },
    Row {
        rule: "taken_is_adopted",
        off: |r| r.taken_is_adopted = false,
        calls: |r| one_way(through(STILL, r)),
        wrong: Violates(&[AtMostOnce]),
    },
    Row { rule: "waiting_goes_on", off: |r| r.waiting_goes_on = false, calls: |r| through(STILL, r), wrong: GetsStuck },
    Row {
        rule: "link_end_is_told",
        off: |r| r.link_end_is_told = false,
        calls: |r| through(STILL, r),
        wrong: GetsStuck,
    },
    Row {
        rule: "removal_is_told",
        off: |r| r.removal_is_told = false,
        calls: |r| through(HOST_DIES, r),
        wrong: GetsStuck,
    },
    Row {
        rule: "void_is_told",
        off: |r| r.void_is_told = false,
        calls: |r| through(CALLER_LEAVES, r),
        wrong: GetsStuck,
    },
    Row {
        rule: "place_is_forgotten",
        off: |r| r.place_is_forgotten = false,
        calls: |r| through(STILL, r),
        wrong: GetsStuck,
    },
    Row {
        rule: "asks_no_third",
        off: |r| r.asks_no_third = false,
        calls: |r| through(THERE_AND_BACK, r),
        wrong: Violates(&[NoCircle]),
    },
    Row {
        rule: "not_now_waits",
        off: |r| r.not_now_waits = false,
        calls: |r| through(OWNER_MOVES, r),
        wrong: Violates(&[NoCircle]),
    },
    Row {
        rule: "refused_waits",
        off: |r| r.refused_waits = false,
        calls: |r| with_one_host(through(OWNER_MOVES, r)),
        wrong: Violates(&[NoCircle]),
    },
];

#[test]
fn each_rule_is_needed() {
    for row in ROWS {
        let mut rules = Rules::all();
        (row.off)(&mut rules);
        let calls = (row.calls)(rules);
        match row.wrong {
            Violates(properties) => {
                explore(&calls, &Search::until(properties.to_vec())).expect_violated(row.rule, properties);
            }
            GetsStuck => explore(&calls, &Search::all()).expect_stuck(row.rule),
        }
    }
}

/// Names every rule: one that is added without being switched off above does not compile.
#[test]
fn no_rule_is_left_out() {
    let Rules {
        resends_only_unsent: _,
        unanswered_is_unknown: _,
        sent_is_begun: _,
        bounce_takes_out: _,
        taken_is_adopted: _,
        waiting_goes_on: _,
        link_end_is_told: _,
        removal_is_told: _,
        void_is_told: _,
        place_is_forgotten: _,
        asks_no_third: _,
        not_now_waits: _,
        refused_waits: _,
    } = Rules::all();
    assert_eq!(ROWS.len(), 13);
}

//! What holds with all rules, and what each rule is for.

use super::{Lease, Property, Rules};
use crate::explore::{Search, explore};

/// The right to act, under every fault of leaders.
const LEADERS: fn(Rules) -> Lease =
    |rules| Lease { rules, mails_max: 1, elections: true, stops: true, rejoins: false, turns: false, deaths: false };

/// A node that comes back.
const REJOINS: fn(Rules) -> Lease =
    |rules| Lease { rules, mails_max: 1, elections: false, stops: false, rejoins: true, turns: false, deaths: false };

/// Turns and writes, under one leader.
const TURNS: fn(Rules) -> Lease =
    |rules| Lease { rules, mails_max: 1, elections: false, stops: false, rejoins: true, turns: true, deaths: false };

/// A node that comes back while leaders change.
const LEADERS_AND_REJOINS: fn(Rules) -> Lease = |rules| Lease { rejoins: true, ..LEADERS(rules) };

/// A node whose process may end, and come back as another one, while leaders change.
const DEATHS: fn(Rules) -> Lease = |rules| Lease { deaths: true, stops: false, ..LEADERS_AND_REJOINS(rules) };

/// What such a process has written before its end.
const DEATHS_AND_WRITES: fn(Rules) -> Lease = |rules| Lease { deaths: true, ..TURNS(rules) };

/// Everything at once.
const EVERYTHING: fn(Rules) -> Lease =
    |rules| Lease { rules, mails_max: 2, elections: true, stops: true, rejoins: true, turns: true, deaths: true };

fn holds(name: &str, configuration: fn(Rules) -> Lease) {
    explore(&configuration(Rules::all()), &Search::all()).expect_no_trouble(name);
}

#[test]
fn an_evicted_node_does_not_act_whoever_leads() {
    holds("leases, leaders that change and stop", LEADERS);
}

#[test]
fn an_evicted_node_does_not_act_when_it_comes_back() {
    holds("leases, a node that joins again", REJOINS);
}

#[test]
fn an_evicted_node_does_not_act_when_it_comes_back_to_another_leader() {
    holds("leases, a node that joins again, leaders that change and stop", LEADERS_AND_REJOINS);
}

#[test]
fn an_evicted_node_begins_no_poll_and_overwrites_nothing() {
    holds("leases, turns and writes", TURNS);
}

#[test]
fn a_node_whose_death_is_certified_does_not_act_whoever_leads() {
    holds("leases, processes that end while leaders change", DEATHS);
}

#[test]
fn what_a_process_wrote_before_its_end_overwrites_nothing() {
    holds("leases, processes that end, and their writes", DEATHS_AND_WRITES);
}

#[test]
#[ignore = "takes minutes"]
fn everything_at_once_holds() {
    holds("leases, everything at once", EVERYTHING);
}

/// Switches one rule off.
type Off = fn(&mut Rules);

fn without(rule: &str, off: Off, configuration: fn(Rules) -> Lease, property: Property) {
    let mut rules = Rules::all();
    off(&mut rules);
    explore(&configuration(rules), &Search::until(vec![property])).expect_violated(rule, &[property]);
}

macro_rules! each_rule_is_needed {
    ($($rule:ident: $configuration:ident breaks $property:ident;)+) => {$(
        #[test]
        fn $rule() {
            without(stringify!($rule), |rules| rules.$rule = false, $configuration, Property::$property);
        }
    )+

        #[test]
        fn no_rule_is_left_out() {
            // Names every field: a rule without a line above does not compile.
            let Rules { $($rule: _),+ } = Rules::all();
        }
    };
}

/// A token is what stops the writes of a process that is known to have ended, too.
#[test]
fn tokens_are_checked_after_a_death() {
    without(
        "token_is_checked, when a process has ended",
        |rules| rules.token_is_checked = false,
        DEATHS_AND_WRITES,
        Property::OneWriter,
    );
}

/// One test a rule: without it, the property is violated.
mod without_it_there_are_two {
    use super::*;

    each_rule_is_needed! {
        count_from_sending: LEADERS breaks OneExecutor;
        drift_margin: LEADERS breaks OneExecutor;
        evict_waits: LEADERS breaks OneExecutor;
        new_leader_waits: LEADERS breaks OneExecutor;
        stopped_leader_waits: LEADERS breaks OneExecutor;
        ack_after_quorum_round: LEADERS breaks OneExecutor;
        round_after_receipt: LEADERS breaks OneExecutor;
        member_checked_after_round: LEADERS breaks OneExecutor;
        evict_blocks_renewal: LEADERS breaks OneExecutor;
        evict_checks_term: LEADERS breaks OneExecutor;
        evict_names_incarnation: REJOINS breaks OneExecutor;
        certificate_names_process: DEATHS breaks OneExecutor;
        certificate_means_death: DEATHS breaks OneExecutor;
        join_needs_proof: LEADERS breaks OneExecutor;
        acts_after_first_ack: REJOINS breaks OneExecutor;
        clock_is_read: TURNS breaks OneExecutor;
        every_poll_asks: TURNS breaks OneExecutor;
        token_is_checked: TURNS breaks OneWriter;
    }
}

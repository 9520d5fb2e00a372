//! Goes through every state a model can get into, breadth first, so that the first way found into a bad state is a
//! shortest one. Called by the tests of all models.

use std::{fmt, hash::Hash};

use crate::{
    report::{Report, Trace},
    seen::Seen,
};

/// A system as states and what can happen in them.
pub(crate) trait Model {
    type State: Copy + Eq + Hash;
    /// What can happen; shown in traces.
    type Event: Copy + fmt::Display;
    /// What has to hold in every state.
    type Property: Copy + Eq + fmt::Debug;

    /// The states in which the system may begin.
    fn starts(&self) -> Vec<Self::State>;

    /// Adds everything that can happen in `state`.
    fn steps(&self, state: &Self::State, steps: &mut Steps<Self>);

    /// The properties that do not hold in `state`.
    fn violated(&self, state: &Self::State) -> Vec<Self::Property>;

    /// Whether `state` is what the system is for. From every state one like it has to be within reach without faults.
    fn is_goal(&self, state: &Self::State) -> bool;
}

/// What can happen in one state.
pub(crate) type Steps<M> = Vec<Step<<M as Model>::State, <M as Model>::Event>>;

/// One thing that can happen.
pub(crate) struct Step<S, E> {
    pub(crate) event: E,
    pub(crate) kind: Kind,
    /// The state after it.
    pub(crate) next: S,
}

/// Whether the system can do without an event.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// What a healthy system gets to sooner or later.
    Progress,
    /// What may never happen again: a node dies, a message is lost.
    Fault,
}

/// How far to go.
pub(crate) struct Search<P> {
    /// Stop once these are known to be violated; empty: go through all states, and then look for stuck ones.
    until: Vec<P>,
    /// Give up beyond this many states.
    states_max: usize,
}

impl<P> Search<P> {
    /// Goes through all states, then looks for those from which no goal can be reached.
    pub(crate) fn all() -> Self {
        Self { until: Vec::new(), states_max: STATES_MAX }
    }

    /// Stops as soon as each of `properties` was found violated.
    pub(crate) fn until(properties: Vec<P>) -> Self {
        Self { until: properties, states_max: STATES_MAX }
    }
}

/// About 8 GiB of states.
const STATES_MAX: usize = 30_000_000;

/// Explores `model`.
///
/// # Panics
///
/// If there are more states than the search may hold: what was not looked at must not pass for safe.
pub(crate) fn explore<M: Model>(model: &M, search: &Search<M::Property>) -> Report<M> {
    let mut seen = Seen::new();
    let mut ways = Ways(Vec::new());
    let mut progress = Vec::new();
    let mut violations: Vec<(M::Property, u32)> = Vec::new();
    for start in model.starts() {
        if seen.insert(&start).1 {
            ways.0.push(None);
        }
    }
    let mut steps = Vec::new();
    let mut at = 0;
    while at < seen.len() {
        let state = *seen.get(at);
        for property in model.violated(&state) {
            if violations.iter().all(|(known, _)| *known != property) {
                violations.push((property, at as u32));
            }
        }
        let found = |wanted: &M::Property| violations.iter().any(|(known, _)| known == wanted);
        if !search.until.is_empty() && search.until.iter().all(found) {
            break;
        }
        model.steps(&state, &mut steps);
        for step in steps.drain(..) {
            let (number, new) = seen.insert(&step.next);
            if new {
                ways.0.push(Some((at as u32, step.event)));
            }
            if search.until.is_empty() && step.kind == Kind::Progress {
                progress.push((at as u32, number));
            }
        }
        assert!(seen.len() <= search.states_max, "more than {} states: explore less", search.states_max);
        at += 1;
    }
    let stuck = if search.until.is_empty() { stuck(model, &seen, &progress) } else { Vec::new() };
    Report {
        states: seen.len(),
        exhaustive: at == seen.len(),
        violations: violations.into_iter().map(|(property, number)| (property, ways.to(number))).collect(),
        stuck: stuck.first().map(|&number| ways.to(number)),
        stuck_states: stuck.len(),
    }
}

/// The states from which progress alone leads to no goal.
fn stuck<M: Model>(model: &M, seen: &Seen<M::State>, progress: &[(u32, u32)]) -> Vec<u32> {
    let mut fine: Vec<bool> = seen.iter().map(|state| model.is_goal(state)).collect();
    let mut changed = true;
    while changed {
        changed = false;
        // Most steps lead to states with larger numbers, so that one sweep backwards settles most of them.
        for &(from, to) in progress.iter().rev() {
            if fine[to as usize] && !fine[from as usize] {
                fine[from as usize] = true;
                changed = true;
            }
        }
    }
    (0..seen.len() as u32).filter(|&number| !fine[number as usize]).collect()
}

/// How each state was first reached: from which one, by what.
struct Ways<E>(Vec<Option<(u32, E)>>);

impl<E: Copy> Ways<E> {
    fn to(&self, number: u32) -> Trace<E> {
        let mut events = Vec::new();
        let mut at = number;
        while let Some((from, event)) = self.0[at as usize] {
            events.push(event);
            at = from;
        }
        events.reverse();
        Trace(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A counter that can grow by one or by three, is never to be seven, and should be able to become ten.
    struct Counter {
        max: u32,
        by_three: bool,
    }

    impl Model for Counter {
        type State = u32;
        type Event = u32;
        type Property = &'static str;

        fn starts(&self) -> Vec<u32> {
            vec![0]
        }

        fn steps(&self, &state: &u32, steps: &mut Steps<Self>) {
            if state < self.max {
                steps.push(Step { event: 1, kind: Kind::Fault, next: state + 1 });
            }
            if self.by_three && state + 3 <= self.max {
                steps.push(Step { event: 3, kind: Kind::Progress, next: state + 3 });
            }
        }

        fn violated(&self, &state: &u32) -> Vec<&'static str> {
            if state == 7 { vec!["seven"] } else { Vec::new() }
        }

        fn is_goal(&self, &state: &u32) -> bool {
            state == 10
        }
    }

    #[test]
    fn the_way_into_a_bad_state_is_a_shortest_one() {
        let report = explore(&Counter { max: 12, by_three: true }, &Search::until(vec!["seven"]));
        let (property, trace) = &report.violations[0];
        assert_eq!((*property, trace.0.len(), trace.0.iter().sum::<u32>()), ("seven", 3, 7));
        assert!(!report.exhaustive, "the search stops where it was told to");
    }

    #[test]
    fn a_small_model_has_no_bad_state_and_every_state_is_counted() {
        let report = explore(&Counter { max: 6, by_three: true }, &Search::all());
        assert!(report.exhaustive && report.violations.is_empty());
        assert_eq!(report.states, 7);
    }

    #[test]
    fn states_from_which_only_a_fault_leads_to_the_goal_are_stuck() {
        let report = explore(&Counter { max: 10, by_three: true }, &Search::all());
        // 1, 4, 7 and 10 get there by threes.
        assert_eq!(report.stuck_states, 7);
        assert_eq!(
            report.stuck.expect("one is stuck").0,
            Vec::<u32>::new(),
            "the beginning is the nearest stuck state"
        );
    }

    #[test]
    #[should_panic(expected = "explore less")]
    fn a_search_that_would_not_end_is_no_success() {
        explore(&Counter { max: 1000, by_three: false }, &Search { until: Vec::new(), states_max: 100 });
    }
}

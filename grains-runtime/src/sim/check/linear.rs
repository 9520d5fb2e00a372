//! Whether the operations on one key have an order that explains their answers; [`History`](super::History) asks.
//!
//! `events` prepares, `search` looks for the order, `report` tells a person why there is none.

mod events;
mod report;
mod search;

use std::fmt::Debug;

use self::{
    events::Events,
    search::{Found, Search},
};
use super::{
    history::Operation,
    spec::Spec,
    violation::{Rule, Violation},
};

/// What a successful check of one key looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Operations that have an answer, all of them explained.
    pub ended: usize,
    /// Operations whose outcome is unknown, which may or may not have been part of the explanation.
    pub open: usize,
    /// Operations that never ran.
    pub never_ran: usize,
    /// How long the search was: the configurations (a state, and what was done by then) it reached and compared.
    pub steps: usize,
}

/// Looks for an order of `operations` (those on `key`, in the order of their begin) in which `S` gives all their answers.
pub(super) fn check<S: Spec>(
    key: &impl Debug,
    operations: &[Operation<S::Input, S::Output>],
) -> Result<Stats, Violation> {
    check_within::<S>(key, operations, STEPS_MAX)
}

fn check_within<S: Spec>(
    key: &impl Debug,
    operations: &[Operation<S::Input, S::Output>],
    steps_max: usize,
) -> Result<Stats, Violation> {
    let events = Events::<S>::new(operations);
    let (found, trail) = Search::new(&events, steps_max).run();
    let kind = match found {
        Found::Order => return Ok(Stats { steps: trail.steps, ..events.stats() }),
        Found::None => Rule::Linearizable,
        Found::GaveUp => Rule::Decided,
    };
    Err(Violation::new(kind, report::message(key, operations, &events, &trail, kind)))
}

/// How many steps the search for one key may take: a few seconds. A history that has an order rarely needs more than five
/// for each of its operations.
const STEPS_MAX: usize = 3_000_000;

#[cfg(test)]
mod tests;

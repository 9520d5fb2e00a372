//! Calls between nodes: one call for one grain, from its caller to the end of all its copies, while the grain's activation comes
//! and goes, views change, links end and nodes die.
//!
//! Nodes that are evicted go on with everything until they notice, turns included: that is more than leases let them do.
//!
//! What owners and hosts agree on is the model of the directory: here an owner begins to serve with what that model has shown it
//! to know. What is left is who has the call, who sends it on or back, and what its caller is told.

mod caller;
mod configurations;
mod event;
mod host;
mod owner;
mod rules;
mod state;
mod tests;

use configurations::View;
use event::Event;
use rules::Rules;
use state::{Copied, NODES, NodeNumber, State, Told};

use crate::explore::{Kind, Model, Step, Steps};

/// How often a call is tried in a row before it waits for something to change, whatever it is told.
const AT_ONCE: u8 = 3;

/// More than that, in a row, while nothing changes: it goes round in a circle.
const HOPS_MAX: u8 = AT_ONCE + 2;

/// A configuration: which rules are kept, and what may happen.
#[derive(Clone, Copy)]
pub(crate) struct Calls {
    pub(crate) rules: Rules,
    /// One after the other, at any moments.
    pub(crate) views: &'static [View],
    /// Which nodes host the grain's type.
    pub(crate) hosts: [bool; NODES],
    /// Nobody waits for an answer.
    pub(crate) one_way: bool,
}

/// What calls are promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Property {
    /// P3: a call is executed at most once.
    AtMostOnce,
    /// What a caller is told is so: "did not run" of what did not and will not, an answer of what ran.
    ToldTheTruth,
    /// A call is in one place.
    OneCopy,
    /// P5: a call goes on only so often while nothing else happens.
    NoCircle,
}

impl Model for Calls {
    type State = State;
    type Event = Event;
    type Property = Property;

    fn starts(&self) -> Vec<State> {
        vec![State::first(self.views[0].owner)]
    }

    fn steps(&self, state: &State, steps: &mut Steps<Self>) {
        let mut happens = Happens { model: self, rules: &self.rules, state, steps };
        happens.views();
        for node in 0..NODES as NodeNumber {
            if state.node(node).view != 0 {
                happens.owns(node);
                happens.hosts(node);
            }
        }
        for (number, copy) in state.copies.iter().enumerate() {
            if let Some(copy) = copy {
                happens.goes_on(number, *copy);
            }
        }
        happens.gives_up();
    }

    fn violated(&self, state: &State) -> Vec<Property> {
        let mut violated = Vec::new();
        if state.executed > 1 {
            violated.push(Property::AtMostOnce);
        }
        let lies = match state.told {
            Told::DidNotRun => state.executed > 0,
            Told::Answer => state.executed == 0,
            Told::Nothing | Told::MayHaveRun => false,
        };
        if lies {
            violated.push(Property::ToldTheTruth);
        }
        if state.copies.iter().flatten().count() > 1 {
            violated.push(Property::OneCopy);
        }
        if state.hops >= HOPS_MAX {
            violated.push(Property::NoCircle);
        }
        violated
    }

    /// P4: the caller was told what became of its call, or nobody waits for it.
    fn is_goal(&self, state: &State) -> bool {
        state.told != Told::Nothing || state.copies.iter().flatten().all(|copy| !copy.waits)
    }
}

/// Collects what can happen in one state.
struct Happens<'a> {
    model: &'a Calls,
    rules: &'a Rules,
    state: &'a State,
    steps: &'a mut Steps<Calls>,
}

impl Happens<'_> {
    fn progress(&mut self, event: Event, change: impl FnOnce(&mut State)) {
        self.happens(event, Kind::Progress, change);
    }

    fn fault(&mut self, event: Event, change: impl FnOnce(&mut State)) {
        self.happens(event, Kind::Fault, change);
    }

    /// Something happens beside the call, so that it may go elsewhere than before.
    fn happens(&mut self, event: Event, kind: Kind, change: impl FnOnce(&mut State)) {
        let mut next = *self.state;
        change(&mut next);
        next.hops = 0;
        self.add(event, kind, next);
    }

    /// The call goes on to `next`.
    fn hop(&mut self, event: Event, mut next: State) {
        next.hops = (next.hops + 1).min(HOPS_MAX);
        self.add(event, Kind::Progress, next);
    }

    /// The call gets to where it was sent, or back.
    fn arrives(&mut self, event: Event, next: State) {
        self.add(event, Kind::Progress, next);
    }

    fn add(&mut self, event: Event, kind: Kind, mut next: State) {
        next.settle();
        if next != *self.state {
            self.steps.push(Step { event, kind, next });
        }
    }
}

impl State {
    /// Puts a copy in place of another one; none if it is over.
    fn set(&mut self, number: usize, copy: Option<Copied>) {
        self.copies[number] = copy;
    }

    /// The caller is told, unless nobody waits. Of several copies the first one counts.
    fn tell(&mut self, one_way: bool, told: Told) {
        if !one_way && self.told == Told::Nothing {
            self.told = told;
        }
    }
}

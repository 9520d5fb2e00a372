//! Leases: a node that acts while its lease lasts, leaders that come and go and evict it when the lease is over, and the
//! others who act in its place once its eviction is applied.
//!
//! Time is a number of ticks and only remainders are kept, so the model has no horizon: what holds, holds for runs of any
//! length. The leaders' clocks are true; the node's may be slow within the drift bound, which is what one clock may be
//! against another.

mod death;
mod event;
mod leader;
mod node;
mod rules;
mod state;
mod tests;

use event::Event;
use rules::Rules;
use state::{LEASE, State};

use crate::explore::{Kind, Model, Step, Steps};

/// A configuration: which rules are kept, and what may happen.
#[derive(Clone, Copy)]
pub(crate) struct Lease {
    pub(crate) rules: Rules,
    /// How many messages between node and leaders may be on their way.
    pub(crate) mails_max: usize,
    /// Whether leaders are deposed and elected.
    pub(crate) elections: bool,
    /// Whether the first leader may be stopped and go on later.
    pub(crate) stops: bool,
    /// Whether an evicted node joins again.
    pub(crate) rejoins: bool,
    /// Whether turns, polls and writes to a store are modelled, or only the right to act.
    pub(crate) turns: bool,
    /// Whether the process of the node may end, of which its watchdog tells.
    pub(crate) deaths: bool,
}

/// What leases are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Property {
    /// A node does not act once its eviction is applied.
    OneExecutor,
    /// A store accepts no write of an earlier activation after one of a later.
    OneWriter,
}

impl Model for Lease {
    type State = State;
    type Event = Event;
    type Property = Property;

    fn starts(&self) -> Vec<State> {
        vec![State::first()]
    }

    fn steps(&self, state: &State, steps: &mut Steps<Self>) {
        let mut happens = Happens { model: self, state, steps };
        happens.time();
        happens.node();
        happens.death();
        happens.others();
        happens.leaders();
    }

    fn violated(&self, state: &State) -> Vec<Property> {
        let mut violated = Vec::new();
        if !state.member && self.may_act(state) {
            violated.push(Property::OneExecutor);
        }
        if state.overwritten {
            violated.push(Property::OneWriter);
        }
        violated
    }

    /// The node is a member and may act, or is gone for good.
    fn is_goal(&self, state: &State) -> bool {
        let acts = state.member && state.knows_it_joined && state.lease > 0;
        acts || !(state.member || self.rejoins)
    }
}

/// Collects what can happen in one state.
struct Happens<'a> {
    model: &'a Lease,
    state: &'a State,
    steps: &'a mut Steps<Lease>,
}

impl Happens<'_> {
    fn add(&mut self, event: Event, kind: Kind, change: impl FnOnce(&mut State)) {
        let mut next = *self.state;
        change(&mut next);
        next.settle();
        if next != *self.state {
            self.steps.push(Step { event, kind, next });
        }
    }

    fn time(&mut self) {
        self.add(Event::Tick, Kind::Progress, |next| {
            next.pass_time();
            next.pass_local_time();
        });
        if self.state.until_slow == 0 {
            self.add(Event::SlowTick, Kind::Fault, State::pass_time_slowly);
        }
    }

    /// Those who act in place of the node once it is evicted.
    fn others(&mut self) {
        if self.model.turns && !self.state.member {
            self.add(Event::OthersWrite, Kind::Progress, |next| next.newer_wrote = true);
        }
    }
}

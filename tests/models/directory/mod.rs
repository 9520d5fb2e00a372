//! The directory: three nodes, one partition, one or two grains, views that change who owns the partition, and orders to
//! activate.
//!
//! A message, once sent, may arrive never, late, in any order, and many times. That a node which is evicted has stopped
//! acting is what the model of leases is for; here it is gone at once.

mod changes;
mod configurations;
mod event;
mod host;
mod lingering;
mod migration;
mod owner;
mod partitions;
mod rules;
mod settle;
mod state;
mod tests;
mod transfer;

use changes::Changes;
use event::Event;
use rules::Rules;
use state::{Call, Directory, Life, NODES, Serves, State, VIEWS, View};

use crate::explore::{Kind, Model, Step, Steps};

/// A configuration: which rules are kept, and what may happen.
#[derive(Clone, Copy)]
pub(crate) struct Cluster {
    pub(crate) rules: Rules,
    /// How many grains, all of one partition.
    pub(crate) grains: u8,
    /// How many orders may be alive at once. Those that nobody can act on or ask for any more do not count.
    pub(crate) orders_max: u8,
    /// How many views, the first included, and which.
    pub(crate) views_max: u8,
    pub(crate) changes: Changes,
    /// Whether the owner has activations migrate.
    pub(crate) migration: bool,
    /// Whether a client calls, once.
    pub(crate) call: bool,
}

/// What the directory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Property {
    /// P1: a grain has at most one activation.
    OneExecutor,
    /// P2: every activation is in the entry of whoever serves the partition.
    DirectoryComplete,
    /// P2b: at most one node serves the partition.
    OneServingOwner,
    /// P3: a call is executed at most once.
    AtMostOnce,
    /// With the mark, one number tells a host which orders it is done with: all up to it, and none above.
    MarkSuffices,
}

impl Model for Cluster {
    type State = State;
    type Event = Event;
    type Property = Property;

    fn starts(&self) -> Vec<State> {
        vec![State::first(0, self.call)]
    }

    fn steps(&self, state: &State, steps: &mut Steps<Self>) {
        let mut happens = Happens { model: self, rules: &self.rules, state, steps };
        happens.views();
        for node in 0..NODES as u8 {
            if state.node(node).incarnation != 0 {
                happens.applies(node);
                happens.notices(node);
                happens.transfers(node);
                happens.owns(node);
                happens.hosts(node);
            }
        }
    }

    fn violated(&self, state: &State) -> Vec<Property> {
        let mut violated = Vec::new();
        let grains = 0..usize::from(self.grains);
        let rules = &self.rules;
        if grains.clone().any(|grain| state.acting(rules).filter(|node| node.hosted[grain].life.runs()).count() > 1) {
            violated.push(Property::OneExecutor);
        }
        if state.owners(rules).any(|owner| grains.clone().any(|grain| state.misses(rules, owner, grain))) {
            violated.push(Property::DirectoryComplete);
        }
        if state.owners(rules).count() > 1 {
            violated.push(Property::OneServingOwner);
        }
        if state.executed > 1 {
            violated.push(Property::AtMostOnce);
        }
        if self.rules.remembers_a_mark() && !state.mark_suffices() {
            violated.push(Property::MarkSuffices);
        }
        violated
    }

    /// P4: the owner of the last view serves, and for each grain it can place it or knows of an active activation.
    fn is_goal(&self, state: &State) -> bool {
        let view = state.view(state.last_view);
        let directory = &state.node(view.owner).directory;
        let serves = directory.serves == Serves::Serving && directory.epoch == view.epoch;
        serves && (0..usize::from(self.grains)).all(|grain| state.can_answer(directory, grain))
    }
}

impl State {
    /// The nodes whose turns run, and who are asked where grains are.
    fn acting<'a>(&'a self, rules: &'a Rules) -> impl Iterator<Item = &'a state::Node> {
        (0..NODES as u8).filter(|&node| self.acts(node, rules)).map(|node| self.node(node))
    }

    fn acts(&self, node: state::NodeNumber, rules: &Rules) -> bool {
        let node = self.node(node);
        node.incarnation != 0 && !(node.evicted && rules.evicted_runs_nothing)
    }

    fn owners<'a>(&'a self, rules: &'a Rules) -> impl Iterator<Item = &'a Directory> {
        self.acting(rules).map(|node| &node.directory).filter(|directory| directory.serves == Serves::Serving)
    }

    /// Whether some activation of `grain` is not in its entry.
    fn misses(&self, rules: &Rules, owner: &Directory, grain: usize) -> bool {
        let entry = owner.entries[grain];
        self.acting(rules).map(|node| node.hosted[grain]).any(|hosted| {
            let open = matches!(hosted.life, Life::Starting | Life::Active);
            open && hosted.order != entry.activation && hosted.order != entry.target
        })
    }

    fn mark_suffices(&self) -> bool {
        let orders = 1..=self.last_order;
        orders.clone().all(|lower| {
            let open = self.order(lower);
            let same_host = |order: &state::Order| (order.host, order.incarnation) == (open.host, open.incarnation);
            // One below the fence is done with, whenever it comes; one for a host that is no more is nobody's.
            open.is_settled()
                || !self.host_lives(open)
                || open.epoch < self.node(open.host).fence
                || !orders.clone().any(|higher| {
                    let order = self.order(higher);
                    order.is_settled() && same_host(order) && self.token(lower) < self.token(higher)
                })
        })
    }

    fn can_answer(&self, owner: &Directory, grain: usize) -> bool {
        let entry = owner.entries[grain];
        if entry.activation == 0 {
            return entry.target == 0;
        }
        let order = self.order(entry.activation);
        let host = self.node(order.host);
        let hosted = host.hosted[grain];
        host.incarnation == order.incarnation
            && !host.evicted
            && hosted.order == entry.activation
            && hosted.life == Life::Active
    }
}

/// Collects what can happen in one state.
struct Happens<'a> {
    model: &'a Cluster,
    rules: &'a Rules,
    state: &'a State,
    steps: &'a mut Steps<Cluster>,
}

impl Happens<'_> {
    fn progress(&mut self, event: Event, change: impl FnOnce(&mut State)) {
        self.add(event, Kind::Progress, change);
    }

    fn add(&mut self, event: Event, kind: Kind, change: impl FnOnce(&mut State)) {
        let mut next = *self.state;
        change(&mut next);
        next.settle(self.rules);
        if next != *self.state {
            self.steps.push(Step { event, kind, next });
        }
    }
}

//! Two partitions with the same members, each with an owner and a grain of its own: twice the model of one, side by side. What
//! they share are views, which nodes apply to both at once, the lives of nodes, and messages that speak of both.
//!
//! A message about both arrives as two about one each that come one behind the other. So what is to be shown is that nothing said or
//! done about one partition counts for the other: each rule here is such a wall.

mod tests;

use std::fmt;

use super::{
    Changes, Cluster, Event, Property, Rules,
    changes::Change,
    state::{Answer, Asks, Life, NODES, NodeNumber, Order, Serves, State, ViewNumber},
};
use crate::explore::{Kind, Model, Step, Steps};

/// Which walls stand.
#[derive(Clone, Copy)]
pub(crate) struct Walls {
    /// A request about several partitions is about those that were gained by one view, and is answered once that is applied.
    pub(crate) one_view_a_request: bool,
    /// An answer names its partition, and counts for no other.
    pub(crate) answers_name_partition: bool,
    /// A host refuses orders by what it has seen of their partition, not of another one.
    pub(crate) fence_by_partition: bool,
    /// An owner that loses one partition goes on with the other.
    pub(crate) sealed_by_partition: bool,
    /// A node that leaves is empty when nothing of any partition lives there.
    pub(crate) empty_of_all: bool,
}

impl Walls {
    /// As they should be.
    pub(crate) fn all() -> Self {
        Self {
            one_view_a_request: true,
            answers_name_partition: true,
            fence_by_partition: true,
            sealed_by_partition: true,
            empty_of_all: true,
        }
    }
}

/// A configuration: two clusters that are one.
#[derive(Clone, Copy)]
pub(crate) struct Two {
    pub(crate) walls: Walls,
    pub(crate) each: [Part; 2],
    pub(crate) orders_max: u8,
}

/// One of the partitions.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    /// Who serves it in the first view.
    pub(crate) owner: NodeNumber,
    /// The changes of the view, as far as this partition goes. The others have the same of the members.
    pub(crate) changes: &'static [Change],
}

/// What is known of each partition.
pub(crate) type Both = [State; 2];

/// What happens to a partition, or to both.
#[derive(Clone, Copy)]
pub(crate) enum Happened {
    To(usize, Event),
    ToBoth(Event, Event),
}

impl fmt::Display for Happened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::To(part, event) => write!(f, "of partition {part}: {event}"),
            Self::ToBoth(one, other) if one == other => write!(f, "{one}"),
            Self::ToBoth(one, other) => write!(f, "{one}; of partition 1: {other}"),
        }
    }
}

impl Model for Two {
    type State = Both;
    type Event = Happened;
    type Property = Property;

    fn starts(&self) -> Vec<Both> {
        vec![self.each.map(|part| State::first(part.owner, false))]
    }

    fn steps(&self, both: &Both, steps: &mut Steps<Self>) {
        let of_each = [0, 1].map(|part| self.of_one(part, &both[part]));
        for (part, found) in of_each.iter().enumerate() {
            for Step { event, kind, next } in found {
                if is_shared(*event) {
                    continue;
                }
                if self.may(*event, part, both) {
                    let mut after = *both;
                    after[part] = *next;
                    self.leak(*event, part, &mut after);
                    add(Happened::To(part, *event), *kind, both, after, steps);
                }
            }
        }
        let [one, other] = &of_each;
        for first in one.iter().filter(|step| is_shared(step.event)) {
            let same = |step: &&Step<State, Event>| same_for_both(first.event, step.event);
            match other.iter().find(same) {
                Some(second) => {
                    let mut after = [first.next, second.next];
                    self.leak_sealed(first.event, &mut after);
                    add(Happened::ToBoth(first.event, second.event), first.kind, both, after, steps);
                }
                None if !self.walls.empty_of_all => self.leave_with_one(first, both, steps),
                None => {}
            }
        }
    }

    fn violated(&self, both: &Both) -> Vec<Property> {
        let mut violated = Vec::new();
        for (part, state) in both.iter().enumerate() {
            for property in self.one(part).violated(state) {
                if !violated.contains(&property) {
                    violated.push(property);
                }
            }
        }
        violated
    }

    /// P4, and more of it: each grain has an active activation, of which the owner knows, if there was an order left for it.
    fn is_goal(&self, both: &Both) -> bool {
        let lives = |state: &State| state.nodes.iter().any(|node| node.hosted[0].life == Life::Active);
        let lives = |state: &State| lives(state) || state.last_order == self.orders_max;
        both.iter().enumerate().all(|(part, state)| self.one(part).is_goal(state) && lives(state))
    }
}

impl Two {
    /// A partition by itself. Hosts fence by their view only, as they are built.
    fn one(&self, part: usize) -> Cluster {
        let changes = self.each[part].changes;
        let applied = self.walls.one_view_a_request;
        let rules = Rules {
            fence_on_answering: false,
            answer_after_applying: applied,
            seal_after_applying: applied,
            ..Rules::all()
        };
        Cluster {
            rules,
            grains: 1,
            orders_max: self.orders_max,
            views_max: changes.len() as u8 + 1,
            changes: Changes::These(changes),
            migration: false,
            call: false,
        }
    }

    fn of_one(&self, part: usize, state: &State) -> Steps<Cluster> {
        let mut steps = Vec::new();
        self.one(part).steps(state, &mut steps);
        steps
    }

    /// Without the wall, a node answers for a partition before its view, if the same message asks for the other one, whose view it
    /// has applied.
    fn may(&self, event: Event, part: usize, both: &Both) -> bool {
        let (Event::AnswersSeal { node, epoch, .. } | Event::AnswersRecovery { node, epoch }) = event else {
            return true;
        };
        let view = both[part].node(node).view;
        let beside = || {
            let asker = both[part].view(epoch).owner;
            asked_by(&both[1 - part], asker, node).is_some_and(|other| other <= view)
        };
        view >= epoch || beside()
    }

    /// Without a wall, what happens to one partition happens to the other.
    fn leak(&self, event: Event, part: usize, both: &mut Both) {
        match event {
            Event::AnswersRecovery { node, epoch } if !self.walls.answers_name_partition => {
                let asker = both[part].view(epoch).owner;
                let other = &mut both[1 - part];
                let incarnation = other.node(node).incarnation;
                if let Some(epoch) = asked_by(other, asker, node) {
                    let answer = &mut other.acquisition_mut(epoch).answers[usize::from(node)];
                    if answer.incarnation == 0 {
                        *answer = Answer { incarnation, ..Answer::default() };
                    }
                }
            }
            Event::ActsOn { node, .. } if !self.walls.fence_by_partition => {
                let seen = both[part].node(node).hosted[0].order;
                let Order { epoch, .. } = *both[part].order(seen);
                let other = both[1 - part].node_mut(node);
                other.fence = other.fence.max(epoch);
            }
            _ => {}
        }
    }

    fn leak_sealed(&self, event: Event, both: &mut Both) {
        let Event::Applies { node, view } = event else { return };
        if !self.walls.sealed_by_partition
            && both.iter().any(|state| state.node(node).directory.serves == Serves::Sealed)
        {
            for state in both.iter_mut().filter(|state| state.node(node).directory.serves == Serves::Serving) {
                state.node_mut(node).directory.serves = Serves::Sealed;
            }
        }
        if !self.walls.fence_by_partition {
            let newest = both.iter().map(|state| state.view(view).epoch).max().unwrap_or(0);
            both.iter_mut().for_each(|state| state.node_mut(node).fence = newest.max(state.node(node).fence));
        }
    }

    /// Without the wall, a node is removed that is empty of the first partition.
    fn leave_with_one(&self, first: &Step<State, Event>, both: &Both, steps: &mut Steps<Self>) {
        let Event::WantsOut { node } = first.event else { return };
        let mut after = [first.next, both[1]];
        let applied = after[1].node(node).view;
        if after[1].view(applied).is_leaving(node) {
            after[1].node_mut(node).wants_out = true;
            add(Happened::To(0, first.event), first.kind, both, after, steps);
        }
    }
}

fn add(event: Happened, kind: Kind, before: &Both, after: Both, steps: &mut Steps<Two>) {
    if after != *before {
        steps.push(Step { event, kind, next: after });
    }
}

/// What happens to both partitions or to none.
fn is_shared(event: Event) -> bool {
    matches!(event, Event::Changes { .. } | Event::Applies { .. } | Event::WantsOut { .. })
}

fn same_for_both(one: Event, other: Event) -> bool {
    match (one, other) {
        (Event::Changes { view, change }, Event::Changes { view: same, change: other }) => {
            view == same && change.node() == other.node()
        }
        (one, other) => one == other,
    }
}

/// The epoch for which `asker`, who acquires this partition, asks `node`, if it does.
fn asked_by(state: &State, asker: NodeNumber, node: NodeNumber) -> Option<ViewNumber> {
    let directory = &state.node(asker).directory;
    let acquires = directory.serves == Serves::Acquiring;
    let asks = acquires.then(|| state.acquisition(directory.epoch).asks)?;
    let asked = match asks {
        Asks::Nobody => false,
        Asks::Predecessor(predecessor) => predecessor == node,
        Asks::AllAfter(_) | Asks::All => usize::from(node) < NODES,
    };
    asked.then_some(directory.epoch)
}

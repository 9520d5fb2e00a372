//! Small clusters of real directories and hosts, driven by chance: views come late or are skipped, messages are lost,
//! doubled and reordered, nodes die and return. After each step it is checked that
//!
//! - a grain has at most one activation,
//! - a partition is served by at most one node, and what that serves names every activation,
//!
//! and in the end, when faults stop, that every grain can be found or placed and that nothing is left over.

mod authority;
mod chance;
mod claims;
mod settle;

use std::collections::{BTreeMap, BTreeSet};

use grains_core::{ActivationId, GrainId, Instant};

use self::{
    authority::{Authority, active},
    chance::Chance,
};
use super::{
    Action, Directory, Located, Message, Order,
    pages::Limits,
    rules::{Rule, Rules},
    testing::partition_of,
};
use crate::cluster::{
    host::{Host, Verdict},
    names::{MemberId, NodeId, PartitionId},
    view::View,
};

/// What the caller of the pure code, or the authority over views, does wrong. [`Rule`]s are what the pure code itself does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    Nothing,
    Rule(Rule),
    /// A node that joins anew keeps the epochs of its partitions.
    RejoinRenews,
    /// A host says that an activation has ended before its last turn.
    GoneAfterLastTurn,
    /// A host does not report an activation that is only starting.
    ReportStarting,
    /// The owner does not hear of refusals.
    RefusalsAreTold,
    /// A node leaves for good while it has activations.
    LeaveWhenEmpty,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// Two activations of one grain, two owners, or an activation that its owner does not know.
    Unsafe(String),
    /// When all is well again, a grain still cannot be reached, or something is left over.
    Stuck(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Active,
    Stopping,
}

struct Node {
    id: MemberId,
    directory: Directory,
    host: Host,
    lives: BTreeMap<(GrainId, ActivationId), Phase>,
    /// The version of the view it has applied, 0 before the first.
    applied: usize,
    proposes_to_leave: bool,
    /// Partitions that a call waits for.
    waiting: BTreeSet<PartitionId>,
}

#[derive(Clone, Debug)]
struct Flight {
    from: MemberId,
    to: NodeId,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Message(Message),
    Order(Order),
    Refused(GrainId, ActivationId),
}

pub(crate) struct World {
    chance: Chance,
    broken: Broken,
    authority: Authority,
    nodes: BTreeMap<MemberId, Node>,
    flights: Vec<Flight>,
    grains: Vec<GrainId>,
    ids: Vec<NodeId>,
    now: Instant,
    /// How likely each kind of step is in this run, so that runs differ in kind.
    weights: [usize; KINDS],
    /// A node that seldom hears of views, if there is one.
    laggard: Option<NodeId>,
    loss: usize,
    again: usize,
    views_max: usize,
    /// Which grains' orders were taken, for the end.
    reached: BTreeSet<GrainId>,
    trace: Option<Vec<String>>,
}

const KINDS: usize = 7;
const FLIGHTS_MAX: usize = 80;

/// Runs one world to its end.
pub(crate) fn explore(seed: u64, broken: Broken) -> Result<(), Violation> {
    World::new(seed, broken, None).run().map(drop)
}

/// What goes wrong in one world that breaks no rule itself.
#[cfg(feature = "switches")]
pub(crate) fn harm(seed: u64) -> Option<String> {
    explore(seed, Broken::Nothing).err().map(|violation| format!("{violation:?}"))
}

/// The steps of one world, for people.
pub(crate) fn trace(seed: u64, broken: Broken) -> String {
    let mut world = World::new(seed, broken, Some(Vec::new()));
    let end = world.run();
    format!("{}\n{end:?}", world.trace.unwrap_or_default().join("\n"))
}

impl World {
    fn new(seed: u64, broken: Broken, trace: Option<Vec<String>>) -> Self {
        let mut chance = Chance::new(seed);
        let mut authority = Authority::new(1 + chance.below(2));
        authority.rejoin_renews = broken != Broken::RejoinRenews;
        let nodes = 3 + chance.below(2) as u64;
        let grains = 1 + chance.below(3);
        let weights = std::array::from_fn(|_| [1, 3, 8, 20][chance.below(4)]);
        let mut world = Self {
            broken,
            authority,
            nodes: BTreeMap::new(),
            flights: Vec::new(),
            grains: (0..grains).map(|n| GrainId::new("explored", n.to_string())).collect(),
            ids: (1..=nodes).map(NodeId).collect(),
            now: Instant::default(),
            weights,
            laggard: chance.percent(50).then(|| NodeId(1 + chance.below(nodes as usize) as u64)),
            loss: [0, 5, 30][chance.below(3)],
            again: [0, 10, 50, 90][chance.below(4)],
            views_max: 4 + chance.below(6),
            reached: BTreeSet::new(),
            trace,
            chance,
        };
        for node in world.ids.clone().into_iter().take(1 + world.chance.below(nodes as usize)) {
            world.join(node);
        }
        // Often a cluster that works, so that the few steps that follow reach further.
        if world.chance.percent(70) {
            world.catch_up();
        }
        if world.chance.percent(25) {
            world.lose_owners_in_a_row();
        }
        world.views_max = [1, world.views_max][world.chance.below(2)] + world.authority.views.len();
        world
    }

    /// The owner of a partition loses it to another one, which dies before it heard, and does not notice for long. Chance
    /// alone would hardly come upon it, and it is where recoveries are at their hardest.
    fn lose_owners_in_a_row(&mut self) {
        let absent: Vec<_> =
            self.ids.iter().filter(|id| !self.authority.last().members.contains_key(id)).copied().collect();
        absent.into_iter().for_each(|node| self.join(node));
        self.catch_up();
        (self.again, self.weights) = (10, [1, 3, 4, 4, 1, 8, 8]);
        let owner = |world: &Self| world.authority.last().partitions[0].owner;
        let Some(first) = owner(self) else { return };
        self.grains.clone().iter().for_each(|grain| self.call(first, grain));
        self.catch_up();
        self.laggard = Some(first.node);
        self.authority.leave(&mut self.chance, first);
        self.note_view(|| format!("{first} is leaving"));
        if let Some(second) = owner(self) {
            self.evict(second);
        }
    }

    fn run(&mut self) -> Result<(), Violation> {
        let steps = 40 + self.chance.below(160);
        for _ in 0..steps {
            self.step();
            self.check()?;
        }
        self.settle()
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(text());
        }
    }

    fn step(&mut self) {
        let mut at = self.chance.below(self.weights.iter().sum());
        let kind = self.weights.iter().position(|weight| {
            let hit = at < *weight;
            at = at.saturating_sub(*weight);
            hit
        });
        match kind {
            Some(0) => self.change_view(),
            Some(1) => self.apply_some(),
            Some(2) => self.call_some(),
            Some(3) => self.live_some(),
            Some(4) => self.pass_time(60),
            _ => self.deliver_some(),
        }
    }

    fn change_view(&mut self) {
        if let Some(id) = self.some_node(|node| node.proposes_to_leave) {
            return self.left(id);
        }
        if self.authority.views.len() >= self.views_max {
            return;
        }
        let Some(node) = self.some_id() else { return };
        let Some(member) = self.authority.last().members.get(&node).cloned() else { return self.join(node) };
        let id = member.id;
        match self.chance.below(10) {
            0..=2 => self.join(node),
            3 => {
                self.note(|| format!("{id} dies"));
                self.nodes.remove(&id);
            }
            4..=6 => self.evict(id),
            _ => {
                self.authority.leave(&mut self.chance, id);
                self.note_view(|| format!("{id} is leaving"));
            }
        }
    }

    fn join(&mut self, node: NodeId) {
        // An earlier life has ended before: its lease says so.
        self.nodes.retain(|id, _| id.node != node);
        let id = self.authority.join(&mut self.chance, node);
        let rules = match self.broken {
            Broken::Rule(rule) => Rules::without(rule),
            _ => Rules::default(),
        };
        let limits = Limits { list_len_max: 2, answers_max: 2 };
        let node = Node {
            id,
            directory: Directory::new(id, partition_of).with(rules, limits),
            host: Host::new(id, partition_of).with(rules, limits),
            lives: BTreeMap::new(),
            applied: 0,
            proposes_to_leave: false,
            waiting: BTreeSet::new(),
        };
        self.nodes.insert(id, node);
        self.note_view(|| format!("{id} joined"));
    }

    fn evict(&mut self, id: MemberId) {
        self.nodes.remove(&id);
        self.authority.remove(&mut self.chance, id);
        self.note_view(|| format!("{id} evicted"));
    }

    fn left(&mut self, id: MemberId) {
        if self.nodes.get(&id).is_some_and(|node| node.lives.is_empty()) {
            self.nodes.remove(&id);
        }
        self.authority.remove(&mut self.chance, id);
        self.note_view(|| format!("{id} left"));
    }

    fn note_view(&mut self, text: impl FnOnce() -> String) {
        if self.trace.is_some() {
            let partitions = self.authority.last().partitions.clone();
            let owners: Vec<_> = partitions
                .iter()
                .map(|p| format!("{} of {:?} after {:?}", p.epoch, p.owner.map(|id| id.to_string()), p.previous))
                .collect();
            let version = self.authority.views.len();
            self.note(|| format!("v{version}: {}; partitions {owners:?}", text()));
        }
    }

    fn apply_some(&mut self) {
        let last = self.authority.views.len();
        let Some(id) = self.some_node(|node| node.applied < last) else { return };
        if self.laggard == Some(id.node) && self.chance.percent(95) {
            return;
        }
        let applied = self.nodes[&id].applied;
        let first = self.authority.views.iter().position(|view| view.member(id).is_some()).map_or(last, |at| at + 1);
        let from = first.max(applied + 1);
        if from <= last {
            let version = if self.chance.percent(60) { from } else { from + self.chance.below(last - from + 1) };
            self.apply(id, version);
        }
    }

    /// A node that is no member any more hears of no views.
    fn apply(&mut self, id: MemberId, version: usize) {
        let view = self.authority.views[version - 1].clone();
        let Some(node) = self.nodes.get_mut(&id) else { return };
        if view.member(id).is_none() || version <= node.applied {
            return;
        }
        node.applied = version;
        let mut actions = node.directory.apply(self.now, &view);
        actions.extend(node.host.apply(self.now, &view));
        self.note(|| format!("{id} applies v{version}"));
        self.act(id, actions);
    }

    fn call_some(&mut self) {
        let grain = self.grains[self.chance.below(self.grains.len())].clone();
        let partition = partition_of(&grain, self.partitions());
        // Others would only say that they are not the owner.
        if let Some(id) = self.some_node(|node| node.directory.served(partition).is_some()) {
            self.call(id, &grain);
        }
    }

    /// A call for `grain` comes to a node, which knows what to do only if it is the owner.
    fn call(&mut self, id: MemberId, grain: &GrainId) {
        let partition = partition_of(grain, self.partitions());
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let chance = &mut self.chance;
        let located =
            node.directory.locate(grain, &mut |view: &View, _| chance.pick(&active(view)).ok_or("nobody is active"));
        match located {
            Located::At(order) => {
                self.note(|| format!("{id} orders {} of {grain} on {}", order.activation(), order.host));
                self.send(id, order.host.node, What::Order(order));
            }
            Located::Wait => {
                node.waiting.insert(partition);
            }
            Located::NotOwner(_) | Located::NoHost(_) => {}
        }
    }

    fn live_some(&mut self) {
        let views = self.authority.views.clone();
        let leaves = |node: &Node| node.applied > 0 && !active(&views[node.applied - 1]).contains(&node.id);
        if let Some(id) = self.some_node(leaves) {
            self.propose_to_leave(id);
        }
        let Some(id) = self.some_node(|node| !node.lives.is_empty()) else { return };
        let lives: Vec<_> = self.nodes[&id].lives.keys().cloned().collect();
        if let Some(life) = self.chance.pick(&lives) {
            self.live(id, &life);
        }
    }

    fn propose_to_leave(&mut self, id: MemberId) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.proposes_to_leave |= node.host.empty() || self.broken == Broken::LeaveWhenEmpty;
    }

    /// An activation goes one step on.
    fn live(&mut self, id: MemberId, life: &(GrainId, ActivationId)) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let Some(phase) = node.lives.get_mut(life) else { return };
        let (grain, activation) = life;
        let was = *phase;
        let early = self.broken == Broken::GoneAfterLastTurn;
        let mut actions = Vec::new();
        match was {
            Phase::Starting => *phase = Phase::Active,
            Phase::Active => {
                *phase = Phase::Stopping;
                if early {
                    actions = node.host.ended(self.now, grain, *activation);
                }
            }
            Phase::Stopping => {
                node.lives.remove(life);
                if !early {
                    actions = node.host.ended(self.now, grain, *activation);
                }
            }
        }
        self.note(|| format!("{id} {activation} of {grain} after {was:?}"));
        self.act(id, actions);
    }

    fn pass_time(&mut self, millis: u64) {
        self.now = self.now + std::time::Duration::from_millis(millis);
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            let Some(node) = self.nodes.get_mut(&id) else { continue };
            let mut actions = node.directory.tick(self.now);
            actions.extend(node.host.tick(self.now));
            self.act(id, actions);
        }
    }

    fn deliver_some(&mut self) {
        if self.flights.is_empty() {
            return;
        }
        let at = self.chance.below(self.flights.len());
        let flight =
            if self.chance.percent(self.again) { self.flights[at].clone() } else { self.flights.swap_remove(at) };
        if !self.chance.percent(self.loss) {
            self.deliver(flight);
        }
    }

    /// Whatever life of the node is there gets it.
    fn deliver(&mut self, Flight { from, to, what }: Flight) {
        let Some((&id, node)) = self.nodes.iter_mut().find(|(id, _)| id.node == to) else { return };
        let noted = self.trace.is_some().then(|| format!("{id} <- {from}: {what:?}"));
        match what {
            What::Message(message) => {
                let host = message.is_for_host();
                let actions =
                    if host { node.host.handle(from, message) } else { node.directory.handle(self.now, from, message) };
                self.note(|| noted.unwrap_or_default());
                self.act(id, actions);
            }
            What::Order(order) => {
                let activation = order.activation();
                let verdict = node.host.accept(&order);
                self.note(|| format!("{} -> {verdict:?}", noted.unwrap_or_default()));
                match verdict {
                    Verdict::Start => {
                        let node = self.nodes.get_mut(&id).expect("just found");
                        node.lives.insert((order.grain.clone(), activation), Phase::Starting);
                        self.reached.insert(order.grain);
                    }
                    Verdict::Here => {
                        self.reached.insert(order.grain);
                    }
                    Verdict::Refuse(_) if self.broken == Broken::RefusalsAreTold => {}
                    Verdict::Refuse(_) => self.send(id, from.node, What::Refused(order.grain, activation)),
                }
            }
            What::Refused(grain, activation) => {
                node.directory.gone(&grain, activation);
                self.note(|| noted.unwrap_or_default());
            }
        }
    }

    fn act(&mut self, id: MemberId, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Send { to, mut message } => {
                    if self.broken == Broken::ReportStarting {
                        self.hide_starting(id, &mut message);
                    }
                    self.send(id, to.node, What::Message(message));
                }
                Action::Serving(partitions) | Action::Lost(partitions) => {
                    if let Some(node) = self.nodes.get_mut(&id) {
                        node.waiting.retain(|partition| !partitions.contains(partition));
                    }
                }
            }
        }
    }

    fn hide_starting(&self, id: MemberId, message: &mut Message) {
        let (Message::RecoverAnswer { pages, .. }, Some(node)) = (message, self.nodes.get(&id)) else { return };
        for page in pages {
            let phase = |grain: &GrainId, activation| node.lives.get(&(grain.clone(), activation));
            page.lives.retain(|life| phase(&life.grain, life.activation) != Some(&Phase::Starting));
        }
    }

    fn send(&mut self, from: MemberId, to: NodeId, what: What) {
        if self.flights.len() >= FLIGHTS_MAX {
            let at = self.chance.below(self.flights.len());
            self.flights.swap_remove(at);
        }
        self.flights.push(Flight { from, to, what });
    }

    fn some_node(&mut self, fits: impl Fn(&Node) -> bool) -> Option<MemberId> {
        let ids: Vec<_> = self.nodes.iter().filter(|(_, node)| fits(node)).map(|(id, _)| *id).collect();
        self.chance.pick(&ids)
    }

    /// Any node, but more often one that matters.
    fn some_id(&mut self) -> Option<NodeId> {
        let partition = PartitionId(self.chance.below(usize::from(self.partitions())) as u16);
        let owner = self.authority.last().partition(partition).and_then(|partition| partition.owner);
        match owner {
            Some(owner) if self.chance.percent(50) => Some(owner.node),
            _ => self.chance.pick(&self.ids),
        }
    }

    fn partitions(&self) -> u16 {
        self.authority.last().partitions.len() as u16
    }

    fn check(&self) -> Result<(), Violation> {
        let mut living: BTreeMap<&GrainId, (MemberId, ActivationId)> = BTreeMap::new();
        for (id, node) in &self.nodes {
            for (grain, activation) in node.lives.keys() {
                if let Some(other) = living.insert(grain, (*id, *activation)) {
                    return Err(Violation::Unsafe(format!(
                        "{grain} lives twice: {other:?} and {:?}",
                        (id, activation)
                    )));
                }
            }
        }
        for partition in (0..self.partitions()).map(PartitionId) {
            let mut serving = self.nodes.iter().filter_map(|(id, node)| Some((id, node.directory.served(partition)?)));
            let Some((id, entries)) = serving.next() else { continue };
            if let Some((other, _)) = serving.next() {
                return Err(Violation::Unsafe(format!("{partition} is served by {id} and {other}")));
            }
            for (grain, (_, activation)) in &living {
                let here = partition_of(grain, self.partitions()) == partition;
                if here && entries.get(*grain).is_none_or(|entry| entry.activation != *activation) {
                    return Err(Violation::Unsafe(format!("{id} serves {partition} without {activation} of {grain}")));
                }
            }
        }
        Ok(())
    }
}

//! Founding by the real code in a small world: every interleaving of three nodes that start when they like, with a restart,
//! a lost or a late answer; and larger lists at random, with all of them at once.

use std::{
    collections::{BTreeSet, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
};

use super::*;

/// All nodes, in the order of the list.
#[derive(Clone)]
struct World {
    nodes: Vec<Node>,
    /// Answers on their way: who asked, the place that answered, and what.
    late: BTreeSet<(usize, usize, Answer)>,
    /// What may still go wrong.
    mishaps: Mishaps,
}

/// How often each may still happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Mishaps {
    restarts: usize,
    lost: usize,
    late: usize,
}

const NO_MISHAPS: Mishaps = Mishaps { restarts: 0, lost: 0, late: 0 };
const A_RESTART: Mishaps = Mishaps { restarts: 1, ..NO_MISHAPS };
const A_LOSS: Mishaps = Mishaps { lost: 1, ..NO_MISHAPS };
const A_DELAY: Mishaps = Mishaps { late: 1, ..NO_MISHAPS };

impl Mishaps {
    /// What is left after `other`, if there was enough of it.
    fn without(self, other: Self) -> Option<Self> {
        Some(Self {
            restarts: self.restarts.checked_sub(other.restarts)?,
            lost: self.lost.checked_sub(other.lost)?,
            late: self.late.checked_sub(other.late)?,
        })
    }
}

#[derive(Clone)]
struct Node {
    fresh: Founding,
    disk: Option<Promise>,
    /// Who founded the cluster that it belongs to.
    cluster: Option<usize>,
    /// Who waits until its promise is on its disk. There is no other one meanwhile.
    asker: Option<usize>,
    /// Before its first start nobody can reach it.
    started: bool,
}

/// What kind of disks the nodes have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Disks {
    Good,
    /// They say that they have none.
    None,
    /// They say that they have one, and forget.
    Forgetful,
}

impl Disks {
    fn memory(self) -> Memory {
        if self == Self::None { Memory::None } else { Memory::Disk }
    }
}

/// How an exchange of question and answer goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Exchange {
    Good,
    Lost,
    Late,
}

impl Node {
    /// Whether it was told to found, and its cluster has no name yet.
    fn founds(&self) -> bool {
        self.fresh.founded && self.cluster.is_none()
    }
}

impl World {
    fn new(count: usize, disks: Disks, mishaps: Mishaps) -> Self {
        let started = |place| Node {
            fresh: start(place, count, disks, None),
            disk: None,
            cluster: None,
            asker: None,
            started: false,
        };
        Self { nodes: (0..count).map(started).collect(), late: BTreeSet::new(), mishaps }
    }

    fn clusters(&self) -> usize {
        self.nodes.iter().filter_map(|node| node.cluster).collect::<BTreeSet<_>>().len()
    }

    /// The steps of a node that is still fresh, and what it is after it said them.
    fn steps(&self, at: usize) -> (Self, Vec<Step>) {
        let mut next = self.clone();
        let fresh = self.nodes[at].started && self.nodes[at].cluster.is_none();
        let steps = if fresh { next.nodes[at].fresh.steps() } else { Vec::new() };
        (next, steps)
    }

    fn exchange(&mut self, from: usize, to: usize, question: &Question, how: Exchange) {
        if how == Exchange::Lost || !self.nodes[to].started {
            return self.nodes[from].fresh.silent(to);
        }
        let founder = self.nodes[to].cluster;
        let answer = match founder {
            Some(founder) => Some(Answer::Member { node: node(to), cluster: name(), generation: founder as u64 }),
            None => match self.nodes[to].fresh.asked(question) {
                Reply::Now(answer) => Some(answer),
                Reply::After(_) => {
                    self.nodes[to].asker = Some(from);
                    None
                }
            },
        };
        match (answer, how) {
            (Some(answer), Exchange::Late) => drop(self.late.insert((from, to, answer))),
            (Some(answer), _) => self.nodes[from].fresh.answered(to, answer),
            (None, _) => {}
        }
    }

    fn persist(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.disk = node.fresh.writing.clone().or(node.disk.take());
        // It dials itself at once: what others hear later, it knows.
        let itself = node.fresh.persisted();
        node.fresh.answered(at, itself.clone());
        if let Some(asker) = node.asker.take() {
            self.nodes[asker].fresh.answered(at, itself);
        }
    }

    fn become_member(&mut self, at: usize, founder: usize) {
        self.nodes[at].cluster = Some(founder);
        // Nothing asks it any more what it thought before, so worlds that differ in that are one.
        let count = self.nodes.len();
        self.nodes[at].fresh = start(at, count, Disks::Good, None);
        self.nodes[at].asker = None;
        self.forget_asked(at);
    }

    /// Nothing that was said to this life of a node reaches it any more: answers come by connections, which end with it.
    fn forget_asked(&mut self, at: usize) {
        self.late.retain(|(asked, _, _)| *asked != at);
        for node in &mut self.nodes {
            node.asker.take_if(|asker| *asker == at);
        }
    }

    fn join(&mut self, at: usize, by: usize) {
        match self.nodes[by].cluster {
            Some(founder) => self.become_member(at, founder),
            None => self.nodes[at].fresh.silent(by),
        }
    }

    /// A crash, and a start at once: that it is down for a while is what lost answers are for.
    fn restart(&mut self, at: usize, disks: Disks) {
        let count = self.nodes.len();
        let memory_only = disks != Disks::Good;
        let alone = self.nodes.iter().filter(|node| node.cluster == Some(at)).count() == 1;
        let node = &mut self.nodes[at];
        if memory_only {
            node.disk = None;
        }
        // A cluster that was only in the memory of its founder is gone with it.
        if disks == Disks::None && node.cluster == Some(at) && alone {
            node.cluster = None;
        }
        node.fresh = start(at, count, disks, node.disk.clone());
        node.asker = None;
        self.forget_asked(at);
    }

    /// All worlds that may come next.
    fn next(&self, disks: Disks) -> Vec<Self> {
        let mut all = Vec::new();
        let mut add = |world: &Self, mishaps: Mishaps, act: &dyn Fn(&mut Self)| {
            if let Some(left) = world.mishaps.without(mishaps) {
                let mut next = world.clone();
                next.mishaps = left;
                act(&mut next);
                all.push(next);
            }
        };
        for at in 0..self.nodes.len() {
            if !self.nodes[at].started {
                add(self, NO_MISHAPS, &|world| world.nodes[at].started = true);
                continue;
            }
            add(self, A_RESTART, &|world| world.restart(at, disks));
            if self.nodes[at].fresh.writing.is_some() {
                add(self, NO_MISHAPS, &|world| world.persist(at));
                add(self, A_RESTART, &|world| {
                    world.persist(at);
                    world.restart(at, disks);
                });
            }
            if self.nodes[at].founds() {
                add(self, NO_MISHAPS, &|world| world.become_member(at, at));
            }
            let (stepped, steps) = self.steps(at);
            for step in &steps {
                match step {
                    Step::Ask { place, .. } if *place == at => {}
                    Step::Ask { place, question, .. } => {
                        add(&stepped, NO_MISHAPS, &|world| world.exchange(at, *place, question, Exchange::Good));
                        add(&stepped, A_DELAY, &|world| world.exchange(at, *place, question, Exchange::Late));
                        add(&stepped, A_LOSS, &|world| world.exchange(at, *place, question, Exchange::Lost));
                    }
                    // That it has begun to found is not on its disk yet.
                    Step::Persist(_) | Step::Found => add(&stepped, NO_MISHAPS, &|_| {}),
                    Step::Join { place, .. } => add(&stepped, NO_MISHAPS, &|world| world.join(at, *place)),
                }
            }
        }
        for (from, place, answer) in &self.late {
            add(self, NO_MISHAPS, &|world| {
                world.late.remove(&(*from, *place, answer.clone()));
                world.nodes[*from].fresh.answered(*place, answer.clone());
            });
        }
        all
    }
}

/// A process that has found itself in the list already.
fn start(place: usize, count: usize, disks: Disks, promise: Option<Promise>) -> Founding {
    let mut fresh = Founding::new(node(place), disks.memory(), name(), addresses(count), promise);
    let itself = fresh.answer();
    fresh.answered(place, itself);
    fresh
}

/// Walks through all worlds that can come of `first`. Gives the most clusters seen at once, and how many worlds.
fn explore(first: World, disks: Disks) -> (usize, usize) {
    // Hashes of worlds, not worlds: that two of a million are the same by chance is not to be expected.
    let mut seen = HashSet::from([digest(&first)]);
    let mut left = vec![first];
    let mut most = 0;
    while let Some(world) = left.pop() {
        most = most.max(world.clusters());
        if most > 1 {
            break;
        }
        left.extend(world.next(disks).into_iter().filter(|next| seen.insert(digest(next))));
    }
    (most, seen.len())
}

fn digest(world: &World) -> u64 {
    let mut hasher = DefaultHasher::new();
    (world.mishaps, &world.late).hash(&mut hasher);
    for Node { fresh, disk, cluster, asker, started } in &world.nodes {
        // All promises are of one list and name, so the founder says it all, and is quicker to hash.
        let founders = [disk, &fresh.promise, &fresh.writing].map(|promise| promise.as_ref().map(|it| it.founder));
        (founders, &fresh.heard, fresh.founded, cluster, asker, started).hash(&mut hasher);
    }
    hasher.finish()
}

#[test]
fn three_nodes_never_found_two_clusters() {
    for mishaps in [A_RESTART, A_LOSS] {
        let (most, worlds) = explore(World::new(3, Disks::Good, mishaps), Disks::Good);
        assert!(most == 1 && worlds > 10_000, "{most} clusters in {worlds} worlds");
    }
}

#[test]
fn three_nodes_without_disks_never_found_two_clusters() {
    for mishaps in [A_RESTART, A_DELAY] {
        let (most, worlds) = explore(World::new(3, Disks::None, mishaps), Disks::None);
        assert!(most == 1 && worlds > 10_000, "{most} clusters in {worlds} worlds");
    }
}

/// The search finds two clusters where there can be two.
#[test]
fn promises_that_are_forgotten_found_two_clusters() {
    assert_eq!(explore(World::new(3, Disks::Forgetful, A_RESTART), Disks::Forgetful).0, 2);
}

/// Numbers that look random, the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound
    }
}

/// `chaos` steps with everything that can happen, then rounds in which all goes well.
fn run(seed: u64, count: usize, chaos: usize) -> World {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut world = World::new(count, Disks::Good, NO_MISHAPS);
    world.nodes.iter_mut().for_each(|node| node.started = true);
    let trouble = [3, 10, 60][dice.below(3)];
    for turn in 0..chaos + 40 * count {
        let calm = turn >= chaos;
        let at = if calm { turn % count } else { dice.below(count) };
        if !calm && dice.below(trouble) == 0 {
            world.restart(at, Disks::Good);
        }
        if world.nodes[at].fresh.writing.is_some() && (calm || dice.below(3) == 0) {
            world.persist(at);
        }
        if world.nodes[at].founds() && (calm || dice.below(4) > 0) {
            world.become_member(at, at);
        }
        let (next, steps) = world.steps(at);
        world = next;
        for step in steps {
            match step {
                Step::Ask { place, question, .. } => {
                    let how = match dice.below(if calm { 1 } else { 6 }) {
                        4 => Exchange::Lost,
                        5 => Exchange::Late,
                        _ => Exchange::Good,
                    };
                    world.exchange(at, place, &question, how);
                }
                Step::Persist(_) | Step::Found => {}
                Step::Join { place, .. } => world.join(at, place),
            }
        }
        if let Some(answer) = world.late.iter().nth(dice.below(4)).cloned() {
            world.late.remove(&answer);
            world.nodes[answer.0].fresh.answered(answer.1, answer.2);
        }
        assert!(world.clusters() <= 1, "two clusters with seed {seed}");
    }
    world
}

#[test]
fn lists_of_any_length_found_one_cluster_in_the_end() {
    for count in [1, 2, 3, 4, 5, 7] {
        for seed in 0..150 {
            let world = run(seed, count, 60);
            let waiting: Vec<_> = world.nodes.iter().filter(|node| node.cluster.is_none()).collect();
            let why: Vec<_> = waiting.iter().map(|node| node.fresh.waiting().to_string()).collect();
            assert!(why.is_empty(), "{count} nodes, seed {seed}: {why:?}");
        }
    }
}

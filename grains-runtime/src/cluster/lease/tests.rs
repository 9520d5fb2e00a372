//! Both halves together, with clocks that drift apart, messages that take their time, nodes that stop, processes that end and
//! are started again, and leaders that change. What must hold: when the removal of a member is committed, that member does not act. Each rule, when broken,
//! breaks that.

use std::{collections::BTreeMap, sync::Arc};

use grains_core::Instant;
use litemap::LiteMap;

use super::*;
use crate::cluster::{
    command::Ended,
    member::{Joiner, Member, MemberState},
    names::{Incarnation, MemberId, NodeId, ViewVersion},
    state::tests::joiner,
    view::View,
};

const NODES: usize = 3;
/// What comes between reading the clock and acting: less than the guard.
const MOMENT: Duration = Duration::from_millis(45);
const MS: u64 = 1_000_000;

/// The rule that this world breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// 1: members count from the receipt of the answer.
    CountFromReceipt,
    /// 2: members count as much as the leader.
    NoMargin,
    /// 3: a new leader goes by what it knows, which is nothing, and ends all leases.
    NoWait,
    /// 4: acknowledged without asking a quorum.
    NoQuorum,
    /// 4: a quorum is asked, and then nobody looks who is a member.
    NoConfirm,
    /// A certificate of death removes whoever has the node's number by then.
    AnyProcess,
    /// It is made while the process lives.
    TooSoon,
    /// A removal that is on its way is given up when anything else changes.
    Forgiving,
}

#[derive(Clone, Debug)]
enum Event {
    Renew(usize),
    Tick(usize),
    Elect(usize),
    /// Node `at` hears of the leader's term.
    Learn {
        at: usize,
        leader: usize,
        term: u64,
    },
    /// A renewal comes to node `to`.
    Renewal {
        to: usize,
        from: MemberId,
        number: RenewalNumber,
    },
    /// The quorum that node `at` asked has answered, if it still follows it.
    Quorum {
        at: usize,
        term: u64,
        to: MemberId,
        number: RenewalNumber,
    },
    Answer {
        to: MemberId,
        number: RenewalNumber,
    },
    Commit(Proposal),
    /// Node `at` applies the view.
    Apply {
        at: usize,
        view: Arc<View>,
    },
    Rejoin(usize),
    /// Only where that is taken for a lease: otherwise it changes nothing.
    Joined {
        at: usize,
        me: MemberId,
    },
    /// Node `to` hears of a death.
    Certificate {
        to: usize,
        ending: Ending,
    },
}

#[derive(Clone, Copy, Debug)]
struct Proposal {
    /// The term of its entry.
    term: u64,
    ended: Ended,
}

struct Node {
    /// Its clock shows `offset + true time * rate / 1000`.
    offset: u64,
    rate: u64,
    /// It does nothing before.
    stopped_until: u64,
    /// Nothing it sends arrives before.
    cut_until: u64,
    /// Who leads, as far as it has heard.
    leader: usize,
    me: MemberId,
    process: u64,
    lease: Lease,
    grants: Grants,
    view: Arc<View>,
}

struct World {
    broken: Broken,
    dice: u64,
    now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    events: u64,
    nodes: Vec<Node>,
    /// What is committed.
    view: Arc<View>,
    index: u64,
    leader: usize,
    term: u64,
    /// From when on the leader has committed an entry of its own, and so all before it.
    ready: u64,
    evictions: u64,
    /// How many certificates have found their member.
    certified: u64,
    /// The first instant at which a removed member could act.
    violation: Option<u64>,
}

impl World {
    fn new(seed: u64, broken: Broken) -> Self {
        let rules = match broken {
            Broken::NoMargin => LeaseRules { drift_permille: 0, guard: Duration::ZERO, ..LeaseRules::default() },
            _ => LeaseRules::default(),
        };
        let mut world = Self {
            broken,
            dice: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            now: 0,
            queue: BTreeMap::new(),
            events: 0,
            nodes: Vec::new(),
            view: Arc::default(),
            index: 0,
            leader: 0,
            term: 1,
            ready: 0,
            evictions: 0,
            certified: 0,
            violation: None,
        };
        for at in 0..NODES {
            let me = MemberId { node: NodeId(at as u64), incarnation: Incarnation(0) };
            let (offset, rate) = (world.below(1_000_000) * MS, [990, 1_010][world.below(2) as usize]);
            let (lease, grants, view) = (Lease::new(rules), Grants::new(LeaseRules::default()), Arc::default());
            world.nodes.push(Node {
                offset,
                rate,
                stopped_until: 0,
                cut_until: 0,
                leader: 0,
                me,
                process: at as u64,
                lease,
                grants,
                view,
            });
            world.after(0, Event::Rejoin(at));
            world.after(0, Event::Tick(at));
            world.after(0, Event::Renew(at));
        }
        world.after(0, Event::Learn { at: 0, leader: 0, term: 1 });
        world.after(3_000, Event::Elect(1));
        world
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice >> 16) % bound
    }

    /// How long a message takes, in milliseconds: mostly little, now and then longer than a lease.
    fn delay(&mut self) -> u64 {
        match self.below(40) {
            0 => self.below(4_000),
            1..=8 => self.below(300),
            _ => self.below(5),
        }
    }

    fn after(&mut self, millis: u64, event: Event) {
        self.at(self.now + millis * MS, event);
    }

    fn at(&mut self, at: u64, event: Event) {
        self.events += 1;
        self.queue.insert((at, self.events), event);
    }

    fn clock(&self, at: usize) -> Instant {
        Instant::from_nanos(self.nodes[at].offset + self.now / 1_000 * self.nodes[at].rate)
    }

    fn run(&mut self, seconds: u64) {
        while let Some(((at, _), event)) = self.queue.pop_first() {
            if at > seconds * 1_000 * MS || self.violation.is_some() {
                return;
            }
            self.now = at;
            let stopped = self.actor(&event).map_or(0, |node| self.nodes[node].stopped_until);
            match stopped > at {
                true => self.at(stopped, event),
                false => self.handle(event),
            }
            self.check();
        }
    }

    /// The node that has to run for this to happen.
    fn actor(&self, event: &Event) -> Option<usize> {
        match event {
            Event::Renew(at) | Event::Tick(at) | Event::Rejoin(at) | Event::Joined { at, .. } => Some(*at),
            Event::Learn { at, .. } | Event::Quorum { at, .. } | Event::Apply { at, .. } => Some(*at),
            Event::Renewal { to, .. } | Event::Certificate { to, .. } => Some(*to),
            Event::Answer { to, .. } => Some(to.node.0 as usize),
            Event::Elect(_) | Event::Commit(_) => None,
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Renew(at) => self.renew(at),
            Event::Tick(at) => self.tick(at),
            Event::Elect(next) => self.elect(next),
            Event::Learn { at, leader, term } => self.learn(at, leader, term),
            Event::Renewal { to, from, number } => self.renewal(to, from, number),
            Event::Quorum { at, term, to, number } => self.quorum(at, term, to, number),
            Event::Answer { to, number } => self.answer(to, number),
            Event::Commit(proposal) => self.commit(proposal),
            Event::Apply { at, view } => self.apply(at, view),
            Event::Rejoin(at) => self.rejoin(at),
            Event::Joined { at, me } => self.joined(at, me),
            Event::Certificate { to, ending } => self.certificate(to, ending),
        }
    }

    /// Whoever has read its clock acts a moment later.
    fn check(&mut self) {
        for at in 0..NODES {
            let (node, now) = (&self.nodes[at], self.clock(at));
            let read = Instant::from_nanos(now.as_nanos().saturating_sub(MOMENT.as_nanos() as u64));
            if self.view.member(node.me).is_none() && node.lease.may_act(read) {
                self.violation = Some(self.now);
            }
        }
    }

    fn renew(&mut self, at: usize) {
        let now = self.clock(at);
        let node = &mut self.nodes[at];
        let (number, from, to) = (node.lease.sent(now), node.me, node.leader);
        let (cut, delay) = (node.cut_until > self.now, self.delay());
        if !cut {
            self.after(delay, Event::Renewal { to, from, number });
        }
        let mishap = (self.below(20), self.now + self.below(5_000) * MS);
        match mishap {
            (0, until) => self.nodes[at].stopped_until = until,
            (1, until) => self.nodes[at].cut_until = until,
            (2, until) => self.end_process(at, until),
            _ => {}
        }
        let period = 300 + self.below(400);
        self.after(period, Event::Renew(at));
    }

    /// The process of a node ends, and another one is started some time later. Its watchdog tells, sooner or later, twice or
    /// never; some hear of it when the next process is a member long since.
    fn end_process(&mut self, at: usize, until: u64) {
        let ending = Ending { node: NodeId(at as u64), process: self.nodes[at].process };
        for _ in 0..self.below(3) {
            let (delay, to) = (self.delay() + [0, self.below(4_000)][self.below(2) as usize], self.below(NODES as u64));
            self.after(delay, Event::Certificate { to: to as usize, ending });
        }
        if self.broken == Broken::TooSoon {
            return;
        }
        let rules = self.nodes[at].lease_rules(self.broken);
        let node = &mut self.nodes[at];
        (node.stopped_until, node.process) = (until, node.process + NODES as u64);
        // The next process is no member, whoever was.
        node.me.incarnation = Incarnation(0);
        // All that it knew is lost, above all until when it may act. What it had sent is on its way.
        (node.lease, node.grants, node.view) = (Lease::new(rules), Grants::new(LeaseRules::default()), Arc::default());
        self.at(until, Event::Apply { at, view: self.view.clone() });
    }

    fn certificate(&mut self, to: usize, ending: Ending) {
        // It has asked a quorum, so it knows what is committed.
        if self.leader != to || self.now < self.ready {
            return;
        }
        let (now, view) = (self.clock(to), self.view.clone());
        let is = view.members.get(&ending.node).map(|member| member.joiner.process);
        let ending = match self.broken {
            Broken::AnyProcess => Ending { process: is.unwrap_or_default(), ..ending },
            _ => ending,
        };
        self.nodes[to].view = view.clone();
        self.nodes[to].grants.members(now, &view);
        if let Found::Ended(ended) = self.nodes[to].grants.process_ended(now, ending) {
            self.certified += 1;
            self.propose(to, ended);
        }
    }

    fn tick(&mut self, at: usize) {
        let now = self.clock(at);
        let ended = self.nodes[at].grants.tick(now);
        ended.into_iter().for_each(|ended| self.propose(at, ended));
        let period = 5 + self.below(50);
        self.after(period, Event::Tick(at));
    }

    /// What a node that does not lead proposes comes to nothing.
    fn propose(&mut self, at: usize, ended: Ended) {
        if self.leader == at && self.term == ended.term {
            let delay = if self.below(2) == 0 { self.below(5) } else { self.below(400) };
            self.after(delay, Event::Commit(Proposal { term: self.term, ended }));
        }
    }

    fn elect(&mut self, next: usize) {
        (self.leader, self.term) = (next, self.term + 1);
        self.ready = self.now + self.below(400) * MS;
        // What the old leader had in its log is lost, or committed before the new leader's first entry.
        let (ready, lost) = (self.ready, self.below(2) == 0);
        let on_the_way: Vec<_> =
            self.queue.iter().filter(|(_, event)| matches!(event, Event::Commit(_))).map(|(key, _)| *key).collect();
        for key in on_the_way {
            let event = self.queue.remove(&key).expect("it was just there");
            if !lost {
                self.at(key.0.min(ready.saturating_sub(1)).max(self.now), event);
            }
        }
        for at in 0..NODES {
            let delay = match self.below(4) {
                0 if at != next => self.below(8_000),
                _ => self.below(50),
            };
            self.after(delay, Event::Learn { at, leader: next, term: self.term });
        }
        let (wait, other) = (1_000 + self.below(6_000), self.below(NODES as u64) as usize);
        self.after(wait, Event::Elect(other));
    }

    fn learn(&mut self, at: usize, leader: usize, term: u64) {
        let now = self.clock(at);
        self.nodes[at].leader = leader;
        let view = self.nodes[at].view.clone();
        let grants = &mut self.nodes[at].grants;
        if leader != at || term != self.term {
            return grants.stop();
        }
        grants.lead(now, term);
        grants.members(now, &view);
        if self.broken == Broken::NoWait {
            let ids = view.members.values().map(|member| member.id);
            ids.collect::<Vec<_>>().into_iter().for_each(|member| self.propose(at, Ended { member, term }));
        }
    }

    fn renewal(&mut self, to: usize, from: MemberId, number: RenewalNumber) {
        let now = self.clock(to);
        let applied = self.nodes[from.node.0 as usize].view.version;
        let Ok(term) = self.nodes[to].grants.renewed(now, from, applied) else { return };
        let delay = if self.broken == Broken::NoQuorum { 0 } else { self.delay() };
        self.after(delay, Event::Quorum { at: to, term, to: from, number });
    }

    fn quorum(&mut self, at: usize, term: u64, to: MemberId, number: RenewalNumber) {
        let follows = self.leader == at && self.term == term && self.now >= self.ready;
        if !follows && self.broken != Broken::NoQuorum {
            return;
        }
        // A read of the log comes after everything committed before it.
        let (now, view) = (self.clock(at), self.view.clone());
        if follows {
            self.nodes[at].view = view.clone();
            self.nodes[at].grants.members(now, &view);
        }
        if self.nodes[at].grants.confirm(to, term).is_ok() || self.broken == Broken::NoConfirm {
            let delay = self.delay();
            self.after(delay, Event::Answer { to, number });
        }
    }

    fn answer(&mut self, to: MemberId, number: RenewalNumber) {
        let at = to.node.0 as usize;
        let now = self.clock(at);
        let node = &mut self.nodes[at];
        if node.me != to {
            return;
        }
        match self.broken {
            Broken::CountFromReceipt => {
                let number = node.lease.sent(now);
                node.lease.acknowledged(now, number);
            }
            _ => node.lease.acknowledged(now, number),
        }
    }

    fn commit(&mut self, Proposal { term, ended }: Proposal) {
        self.index += 1;
        if term != ended.term || self.view.member(ended.member).is_none() {
            return;
        }
        self.evictions += 1;
        self.publish(|members| drop(members.remove(&ended.member.node)));
    }

    fn publish(&mut self, change: impl FnOnce(&mut LiteMap<NodeId, Arc<Member>>)) {
        let mut view = View::clone(&self.view);
        view.version = ViewVersion(view.version.0 + 1);
        change(&mut view.members);
        self.view = Arc::new(view);
        for at in 0..NODES {
            let (delay, view) = (self.delay(), self.view.clone());
            self.after(delay, Event::Apply { at, view });
        }
    }

    fn apply(&mut self, at: usize, view: Arc<View>) {
        let now = self.clock(at);
        if view.version <= self.nodes[at].view.version {
            return;
        }
        let node = &mut self.nodes[at];
        node.view = view;
        node.grants.members(now, &node.view);
        if self.broken == Broken::Forgiving {
            let ids: Vec<_> = node.view.members.values().map(|member| member.id).collect();
            ids.into_iter().for_each(|id| node.grants.eviction_failed(id));
        }
        self.after(1, Event::Rejoin(at));
    }

    /// A node that is no member, or whose lease has ended, becomes a member anew once its old life is out of the way.
    /// It hears that it has joined, maybe long after it has, and takes that for a lease.
    fn joined(&mut self, at: usize, me: MemberId) {
        let (now, node) = (self.clock(at), &mut self.nodes[at]);
        if node.me == me {
            let number = node.lease.sent(now);
            node.lease.acknowledged(now, number);
        }
    }

    fn rejoin(&mut self, at: usize) {
        let (now, node) = (self.clock(at), &self.nodes[at]);
        let (id, is_member) = (node.me.node, self.view.members.contains_key(&node.me.node));
        if !is_member {
            self.index += 1;
            let me = MemberId { node: id, incarnation: Incarnation(self.index) };
            let rules = self.nodes[at].lease_rules(self.broken);
            (self.nodes[at].me, self.nodes[at].lease) = (me, Lease::new(rules));
            // Some are first heard of when they are about to be given up.
            self.nodes[at].cut_until = self.now + [0, 1_700 + self.below(900)][self.below(2) as usize] * MS;
            let joiner = Joiner { process: self.nodes[at].process, ..joiner(id.0, &format!("m{id}")) };
            let member = Member { id: me, joiner, state: MemberState::Active };
            self.publish(|members| drop(members.insert(id, Arc::new(member))));
            if !on(Mechanism::ActsAfterFirstAck) {
                let delay = self.delay();
                self.after(delay, Event::Joined { at, me });
            }
        } else if node.lease.has_ended(now) {
            self.after(50, Event::Rejoin(at));
        }
    }
}

impl Node {
    fn lease_rules(&self, broken: Broken) -> LeaseRules {
        match broken {
            Broken::NoMargin => LeaseRules { drift_permille: 0, guard: Duration::ZERO, ..LeaseRules::default() },
            _ => LeaseRules::default(),
        }
    }
}

const SEEDS: u64 = 200;

fn world(seed: u64, broken: Broken) -> World {
    let mut world = World::new(seed, broken);
    world.run(30);
    world
}

/// What goes wrong in one world that breaks no rule itself.
#[cfg(feature = "switches")]
pub(crate) fn harm(seed: u64) -> Option<String> {
    let violation = world(seed, Broken::Nothing).violation;
    violation.map(|at| format!("a removed member could act after {:?}", Duration::from_nanos(at)))
}

#[test]
fn nobody_acts_once_its_removal_is_committed() {
    let (mut evictions, mut certified) = (0, 0);
    for seed in 1..=SEEDS {
        let world = world(seed, Broken::Nothing);
        assert_eq!(world.violation, None, "seed {seed}");
        evictions += world.evictions;
        certified += world.certified;
    }
    assert!(certified > SEEDS / 2, "only {certified} certificates have found anybody");
    assert!(evictions > 5 * SEEDS, "only {evictions} removals: the worlds are too quiet to show anything");
}

#[test]
fn every_rule_is_needed() {
    for broken in [
        Broken::CountFromReceipt,
        Broken::NoMargin,
        Broken::NoWait,
        Broken::NoQuorum,
        Broken::NoConfirm,
        Broken::AnyProcess,
        Broken::TooSoon,
        Broken::Forgiving,
    ] {
        let seed = (1..=SEEDS).find(|seed| world(*seed, broken).violation.is_some());
        assert!(seed.is_some(), "{broken:?} breaks nothing");
    }
}

#[test]
fn a_lease_is_shorter_for_its_holder_than_for_the_leader_on_any_clocks() {
    let rules = LeaseRules::default();
    let held_on_a_slow_clock = rules.at_holder().as_secs_f64() / 0.99;
    let granted_on_a_fast_one = rules.length.as_secs_f64() / 1.01;
    assert!(held_on_a_slow_clock < granted_on_a_fast_one - 0.04);
    assert_eq!(rules.renewal_interval(), Duration::from_millis(500));
}

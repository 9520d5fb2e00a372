//! The side of a call that it comes to: the owner that says where it goes, and the host that takes it.

use super::{
    Event, Happens,
    configurations::Standing,
    state::{Copied, Node, NodeNumber, Order, Serves, Stage, State, Target, Told, Word},
};

/// Where a call goes, as one node sees it.
pub(super) enum Way {
    /// Its grain lives here, or starts to.
    Here,
    /// To the host of this order, another node.
    At(Order),
    /// The owner is another node.
    Owner(NodeNumber),
    /// It owns the partition and does not serve it yet.
    Wait,
    /// Nobody can host it.
    NoHost,
}

/// How often a call is placed anew in one look.
pub(super) const PLACED_MAX: u8 = 2;

impl Happens<'_> {
    /// What a node does as a host.
    pub(super) fn hosts(&mut self, node: NodeNumber) {
        let Node { lives, active, .. } = *self.state.node(node);
        if !lives.is_some() {
            return;
        }
        let waiting = |copy: &Copied| copy.stage == Stage::There { to: node };
        if active {
            for (number, copy) in self.state.copies.iter().enumerate() {
                if let Some(copy) = copy.filter(waiting) {
                    self.execute(node, number, copy);
                }
            }
        } else {
            self.progress(Event::IsReady { node }, |next| next.node_mut(node).active = true);
            let one_way = self.model.one_way;
            self.fault(Event::FailsToStart { node }, |next| next.fail_to_start(one_way, node));
        }
        let rules = self.rules;
        self.fault(Event::Ends { node }, |next| next.end_life(rules, node));
        if !self.rules.bounce_takes_out {
            for (number, copy) in self.state.copies.iter().enumerate() {
                if let Some(copy) = copy.filter(|copy| waiting(copy) && copy.waits && copy.at != node) {
                    self.fault(Event::SendsBackWaiting { node }, |next| {
                        next.set(number, Some(Copied { waits: false, ..copy }));
                        next.add(Copied { stage: Stage::Back { from: node, word: Word::NotNow }, ..copy });
                    });
                }
            }
        }
        self.fault(Event::Learns { host: node }, |next| next.place = lives);
    }

    fn execute(&mut self, node: NodeNumber, number: usize, copy: Copied) {
        let one_way = self.model.one_way;
        self.progress(Event::Executes { node }, |next| {
            next.executed += 1;
            let answered = Copied { stage: Stage::Back { from: node, word: Word::Answer }, ..copy };
            let here = copy.at == node;
            next.set(number, (!one_way && !here).then_some(answered));
            if here && copy.waits {
                next.tell(one_way, Told::Answer);
            }
        });
    }

    /// A call arrives at the node to which it was sent.
    pub(super) fn receive(&mut self, number: usize, copy: Copied, to: NodeNumber) {
        if self.state.node(to).view == 0 {
            return;
        }
        match copy.target {
            Target::Whoever => self.asked_as_owner(number, copy, to),
            Target::Ordered(order) => {
                let mut next = *self.state;
                let word = (!self.model.obey(&mut next, to, order)).then_some(Word::NotHere);
                self.answer(number, copy, to, next, word);
            }
            Target::Known(activation) => {
                let here = self.state.node(to).lives == activation;
                self.answer(number, copy, to, *self.state, (!here).then_some(Word::NotHere));
            }
        }
    }

    fn asked_as_owner(&mut self, number: usize, copy: Copied, to: NodeNumber) {
        let mut told = *self.state;
        told.drop_void(to, copy.void);
        for (mut next, way) in self.model.ways(&told, to, PLACED_MAX) {
            match way {
                Way::Here => self.answer(number, copy, to, next, None),
                Way::At(order) => self.answer(number, copy, to, next, Some(Word::Redirect(order))),
                Way::NoHost => self.answer(number, copy, to, next, Some(Word::Failed)),
                Way::Owner(on) if !self.rules.asks_no_third && !self.model.view_of(&next, to).is_gone(on) => {
                    next.set(number, Some(Copied { stage: Stage::Going { to: on }, ..copy }));
                    self.hop(Event::Passes { to, on }, next);
                }
                Way::Owner(_) | Way::Wait => self.answer(number, copy, to, next, Some(Word::NotNow)),
            }
        }
    }

    /// What the call comes to at `to`: it is taken, or goes back with a word.
    fn answer(&mut self, number: usize, copy: Copied, to: NodeNumber, mut next: State, word: Option<Word>) {
        if let Some(word) = word {
            next.set(number, Some(Copied { stage: Stage::Back { from: to, word }, ..copy }));
            return self.arrives(Event::Answers { to, word }, next);
        }
        // Its activation may be closing at this very moment.
        let mut closing = next;
        closing.end_life(self.rules, to);
        closing.set(number, Some(Copied { stage: Stage::Back { from: to, word: Word::NotNow }, ..copy }));
        self.fault(Event::Ends { node: to }, |end| *end = closing);
        // Whoever has taken a one-way call says so, and has it from now on.
        let adopted = if self.model.one_way { Copied::ready(to) } else { copy };
        next.set(number, Some(Copied { stage: Stage::There { to }, ..adopted }));
        self.arrives(Event::Takes { to }, next);
    }
}

impl super::Calls {
    /// Where the grain is, as `node` knows it. A grain that is nowhere is placed: on any host there is. What this node orders of
    /// itself and refuses is placed anew, so many times.
    pub(super) fn ways(&self, state: &State, node: NodeNumber, times: u8) -> Vec<(State, Way)> {
        let mut ways = Vec::new();
        for (mut next, way) in self.located(state, node) {
            match way {
                Way::At(order) if order.host == node => {
                    if self.obey(&mut next, node, order) {
                        ways.push((next, Way::Here));
                        continue;
                    }
                    next.drop_void(node, order);
                    match times {
                        0 => ways.push((next, Way::Wait)),
                        _ => ways.extend(self.ways(&next, node, times - 1)),
                    }
                }
                way => ways.push((next, way)),
            }
        }
        ways
    }

    fn located(&self, state: &State, node: NodeNumber) -> Vec<(State, Way)> {
        let view = self.view_of(state, node);
        let owner = state.node(node);
        match owner.serves {
            Serves::Acquiring => return vec![(*state, Way::Wait)],
            Serves::Serving => {}
            Serves::Sealed | Serves::No => return vec![(*state, Way::Owner(view.owner))],
        }
        if owner.entry.is_some() {
            return vec![(*state, Way::At(owner.entry))];
        }
        let active = (0..).zip(self.hosts).filter(|&(host, hosts)| hosts && view.standing(host) == Standing::Active);
        let placed: Vec<_> = active
            .map(|(host, _)| {
                let mut next = *state;
                let order = next.next_order(owner.epoch, host);
                next.node_mut(node).entry = order;
                (next, Way::At(order))
            })
            .collect();
        if placed.is_empty() { vec![(*state, Way::NoHost)] } else { placed }
    }

    /// A host decides about an order: whether its activation is here, from now on if it is not. If not, it never will be.
    pub(super) fn obey(&self, state: &mut State, node: NodeNumber, order: Order) -> bool {
        let view = self.view_of(state, node);
        let host = state.node_mut(node);
        if host.lives == order {
            return true;
        }
        let mark = (host.mark.epoch, host.mark.counter);
        let refused = view.standing(node) != Standing::Active
            || order.epoch < view.epoch
            || (order.epoch, order.counter) <= mark
            || host.lives.is_some();
        if (order.epoch, order.counter) > mark {
            host.mark = Order { host: 0, ..order };
        }
        if !refused {
            (host.lives, host.active) = (order, false);
        }
        !refused
    }
}

impl State {
    /// An owner hears that an order is void.
    pub(super) fn drop_void(&mut self, node: NodeNumber, void: Order) {
        let owner = self.node_mut(node);
        if owner.serves == Serves::Serving && void.is_some() && owner.entry == void {
            owner.entry = Order::default();
        }
    }

    /// The last turn is over. What waits in the mailbox goes on: calls of this node as such, calls of others back to them.
    fn end_life(&mut self, rules: &super::Rules, node: NodeNumber) {
        self.say_farewell(node);
        for number in 0..self.copies.len() {
            let Some(copy) = self.copies[number].filter(|copy| copy.stage == Stage::There { to: node }) else {
                continue;
            };
            if !rules.waiting_goes_on {
                self.set(number, Some(Copied { stage: Stage::Lost { to: node }, ..copy }));
            } else if copy.at != node {
                let back = Stage::Back { from: node, word: Word::NotNow };
                self.set(number, Some(Copied { stage: back, ..copy }));
            } else {
                self.set(number, copy.waits.then_some(Copied::ready(node)));
                if !rules.taken_is_adopted && node != super::state::CALLER {
                    let back = Stage::Back { from: node, word: Word::NotNow };
                    self.add(Copied { stage: back, ..Copied::ready(super::state::CALLER) });
                }
            }
        }
    }

    fn fail_to_start(&mut self, one_way: bool, node: NodeNumber) {
        self.say_farewell(node);
        for number in 0..self.copies.len() {
            let Some(copy) = self.copies[number].filter(|copy| copy.stage == Stage::There { to: node }) else {
                continue;
            };
            let failed = Stage::Back { from: node, word: Word::Failed };
            self.set(number, (copy.at != node).then_some(Copied { stage: failed, ..copy }));
            if copy.at == node && copy.waits {
                self.tell(one_way, Told::DidNotRun);
            }
        }
    }

    fn say_farewell(&mut self, node: NodeNumber) {
        let host = self.node_mut(node);
        host.farewell = std::mem::take(&mut host.lives);
        host.active = false;
    }
}

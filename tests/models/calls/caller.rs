//! The side of a call that brings it somewhere: it is sent, comes back, waits, or is cut.

use super::{
    AT_ONCE, Event, Happens, Told,
    host::{PLACED_MAX, Way},
    state::{CALLER, Copied, NodeNumber, Order, Stage, State, Target, Word},
};

impl Happens<'_> {
    /// What can happen to one copy.
    pub(super) fn goes_on(&mut self, number: usize, copy: Copied) {
        let at = copy.at;
        match copy.stage {
            Stage::Ready => self.try_it(number, copy),
            Stage::Parked => {
                let ready = Copied { tries: 0, stage: Stage::Ready, ..copy };
                self.progress(Event::Retries { at }, |next| next.set(number, Some(ready)));
            }
            Stage::Going { to } => {
                self.receive(number, copy, to);
                if copy.waits {
                    self.never_left(number, copy, to);
                    self.link_ends(number, copy, to);
                }
            }
            Stage::There { to } if to != at && copy.waits => self.link_ends(number, copy, to),
            Stage::Back { from, word } if copy.waits => {
                self.hear(number, copy, word);
                self.link_ends(number, copy, from);
            }
            Stage::There { .. } | Stage::Back { .. } | Stage::Lost { .. } => {}
        }
        // A link to a node that is gone may stay open, until the view tells.
        if let Stage::Lost { to } = copy.stage
            && copy.waits
        {
            self.link_ends(number, copy, to);
        }
    }

    fn try_it(&mut self, number: usize, copy: Copied) {
        let at = copy.at;
        let copy = Copied { tries: (copy.tries + 1).min(AT_ONCE), ..copy };
        let mut looks = *self.state;
        if at == CALLER && looks.place.is_some() {
            let place = looks.place;
            if !self.model.view_of(&looks, at).is_gone(place.host) {
                return self.send(number, copy, looks, place.host, Target::Known(place));
            }
            looks.place = Order::default();
        }
        looks.drop_void(at, copy.void);
        for (mut next, way) in self.model.ways(&looks, at, PLACED_MAX) {
            match way {
                Way::Here => {
                    next.set(number, Some(Copied { stage: Stage::There { to: at }, ..copy }));
                    self.hop(Event::RunsHere { at }, next);
                }
                Way::At(order) => self.send(number, copy, next, order.host, Target::Ordered(order)),
                Way::Owner(owner) if owner == at || self.model.view_of(&next, at).is_gone(owner) => {
                    self.park(number, copy, next);
                }
                Way::Owner(owner) => self.send(number, copy, next, owner, Target::Whoever),
                Way::Wait => self.park(number, copy, next),
                Way::NoHost => {
                    next.set(number, None);
                    next.tell(self.model.one_way, Told::DidNotRun);
                    self.arrives(Event::FindsNoHost { at }, next);
                }
            }
        }
    }

    fn send(&mut self, number: usize, copy: Copied, mut next: State, to: NodeNumber, target: Target) {
        next.begun = true;
        next.set(number, Some(Copied { target, stage: Stage::Going { to }, ..copy }));
        self.hop(Event::Sends { at: copy.at, to, target }, next);
    }

    fn park(&mut self, number: usize, copy: Copied, mut next: State) {
        next.set(number, Some(Copied { tries: 0, stage: Stage::Parked, ..copy }));
        self.arrives(Event::Waits { at: copy.at }, next);
    }

    fn hear(&mut self, number: usize, copy: Copied, word: Word) {
        let at = copy.at;
        let one_way = self.model.one_way;
        let mut next = *self.state;
        match word {
            Word::Answer | Word::Failed => {
                next.set(number, None);
                next.tell(one_way, if word == Word::Answer { Told::Answer } else { Told::DidNotRun });
            }
            Word::NotHere => {
                next.forget_place(self.rules, at);
                let told = self.rules.void_is_told;
                let void = if told { copy.target.activation() } else { copy.void };
                let waits = copy.tries >= AT_ONCE && self.rules.refused_waits;
                let stage = if waits { Stage::Parked } else { Stage::Ready };
                next.set(number, Some(Copied { void, stage, ..copy }));
            }
            Word::NotNow => {
                next.forget_place(self.rules, at);
                let stage = if self.rules.not_now_waits { Stage::Parked } else { Stage::Ready };
                next.set(number, Some(Copied { stage, ..copy }));
            }
            Word::Redirect(order) => {
                let known = !self.model.view_of(&next, at).is_gone(order.host);
                let stage = if known { Stage::Going { to: order.host } } else { Stage::Parked };
                let (void, target) = (Order::default(), Target::Ordered(order));
                next.set(number, Some(Copied { void, target, stage, ..copy }));
            }
        }
        self.arrives(Event::Hears { at, word }, next);
    }

    /// The link to `to` ends, and the call is behind what it took. It waits and is sent again.
    fn never_left(&mut self, number: usize, copy: Copied, to: NodeNumber) {
        let parked = Copied { stage: Stage::Parked, tries: 0, ..copy };
        self.fault(Event::NeverLeft { at: copy.at, to }, |next| next.set(number, Some(parked)));
    }

    /// A link between the two ends: that by which the call went, or its answer comes.
    fn link_ends(&mut self, number: usize, copy: Copied, to: NodeNumber) {
        let (rules, one_way, at) = (self.rules, self.model.one_way, copy.at);
        self.fault(Event::LinkEnds { at, to }, |next| {
            if !rules.link_end_is_told {
                next.set(number, Some(Copied { stage: Stage::Lost { to }, ..copy }));
            } else if !rules.unanswered_is_unknown {
                next.set(number, Some(Copied { waits: false, ..copy }));
                next.tell(one_way, Told::DidNotRun);
            } else if !rules.resends_only_unsent {
                next.set(number, Some(Copied { waits: false, ..copy }));
                next.add(Copied { stage: Stage::Parked, tries: 0, ..copy });
            } else {
                next.cut(one_way, number, copy);
            }
        });
    }

    /// The caller's deadline, or it is dropped: a call that has left nobody takes back.
    pub(super) fn gives_up(&mut self) {
        let state = self.state;
        if self.model.one_way || state.told != Told::Nothing {
            return;
        }
        let begun = state.begun && self.rules.sent_is_begun;
        self.fault(Event::GivesUp, |next| {
            next.told = if begun { Told::MayHaveRun } else { Told::DidNotRun };
            for copy in &mut next.copies {
                let Some(given_up) = copy else { continue };
                given_up.waits = false;
                // Not sent, or in a mailbox of its own node: it is taken back there.
                if given_up.with().is_none_or(|with| with == CALLER && !begun) {
                    *copy = None;
                }
            }
        });
    }
}

impl State {
    fn forget_place(&mut self, rules: &super::Rules, at: NodeNumber) {
        if at == CALLER && rules.place_is_forgotten {
            self.place = Order::default();
        }
    }
}

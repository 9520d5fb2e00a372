//! What the node does.

use super::{
    Event, Happens, LEASE, Lease,
    state::{DRIFT_MARGIN, Mail, Place, State},
};
use crate::explore::Kind;

impl Lease {
    /// Whether the node takes its lease for good.
    fn believes_in_its_lease(&self, state: &State) -> bool {
        if self.rules.clock_is_read { state.lease > 0 } else { !state.fenced }
    }

    /// Whether a poll of the node's can begin.
    pub(super) fn may_act(&self, state: &State) -> bool {
        let asked = state.runs && self.believes_in_its_lease(state);
        if !self.turns {
            return asked;
        }
        state.turn && (asked || !self.rules.every_poll_asks)
    }

    fn lease_by_node(&self) -> u8 {
        if self.rules.drift_margin { LEASE - DRIFT_MARGIN } else { LEASE }
    }
}

impl Happens<'_> {
    pub(super) fn node(&mut self) {
        self.take_acknowledgements();
        if !self.state.runs {
            return;
        }
        self.renew();
        self.fence();
        self.join();
        if self.model.turns {
            self.take_turns();
        }
    }

    fn renew(&mut self) {
        let room = self.state.mails[..].iter().flatten().count() < self.model.mails_max;
        if self.state.knows_it_joined && room {
            // Sorted, the empty places are in front.
            let mail = Mail { age: 0, place: Place::ToLeader };
            self.add(Event::SendRenewal, Kind::Progress, |next| next.mails[0] = Some(mail));
        }
    }

    fn take_acknowledgements(&mut self) {
        for place in 0..self.state.mails.len() {
            let Some(mail) = self.state.mails[place] else { continue };
            // Progress, as the node gives up waiting and sends another one.
            self.add(Event::GiveUp { age: mail.age }, Kind::Progress, |next| next.mails[place] = None);
            if mail.place == Place::ToNode && self.state.runs {
                let rules = &self.model.rules;
                let full = self.model.lease_by_node();
                let lease = if rules.count_from_sending { full.saturating_sub(mail.age) } else { full };
                self.add(Event::TakeAcknowledgement { age: mail.age }, Kind::Progress, |next| {
                    next.mails[place] = None;
                    next.lease = next.lease.max(lease);
                    if next.lease > 0 {
                        next.fenced = false;
                    }
                });
            }
        }
    }

    fn fence(&mut self) {
        if !self.model.rules.clock_is_read && self.state.lease == 0 && !self.state.fenced {
            self.add(Event::FlagIsSet, Kind::Progress, |next| next.fenced = true);
        }
    }

    fn join(&mut self) {
        let state = self.state;
        if !state.knows_it_joined {
            let lease = if self.model.rules.acts_after_first_ack { state.lease } else { self.model.lease_by_node() };
            self.add(Event::HearsItJoined, Kind::Progress, |next| {
                next.knows_it_joined = true;
                next.lease = lease;
            });
        } else if self.model.rejoins && !state.member && state.lease == 0 && !state.poll {
            self.add(Event::Rejoin, Kind::Progress, State::rejoin);
        }
        if !self.model.rules.join_needs_proof && state.member {
            self.add(Event::AnotherJoinsInItsPlace, Kind::Fault, |next| next.member = false);
        }
    }

    fn take_turns(&mut self) {
        let state = self.state;
        if !state.turn && self.model.believes_in_its_lease(state) {
            self.add(Event::BeginTurn, Kind::Progress, |next| next.turn = true);
        }
        if !state.poll && self.model.may_act(state) {
            self.add(Event::BeginPoll, Kind::Progress, |next| next.poll = true);
        }
        if state.poll {
            let refused = state.newer_wrote && self.model.rules.token_is_checked;
            self.add(Event::Write { refused }, Kind::Progress, |next| next.overwritten |= next.newer_wrote && !refused);
            self.add(Event::EndPoll, Kind::Progress, |next| next.poll = false);
        } else if state.turn {
            self.add(Event::EndTurn, Kind::Progress, |next| next.turn = false);
        }
    }
}

impl State {
    /// The node is a member again, under a new incarnation; it does not know yet.
    pub(super) fn rejoin(&mut self) {
        self.member = true;
        self.knows_it_joined = false;
        self.turn = false;
        self.newer_wrote = false;
        self.mails = Default::default();
        if let Some(evict) = &mut self.evict {
            evict.this_incarnation = false;
        }
        let leader = &mut self.leaders[usize::from(self.leader)];
        if !leader.stopped {
            leader.until = LEASE;
        }
    }
}

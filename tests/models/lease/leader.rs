//! What leaders do, and what is done to them.

use super::{
    Event, Happens, LEASE, Rules,
    state::{Belief, Evict, LEADERS, Mail, Place, State},
};
use crate::explore::Kind;

impl Happens<'_> {
    pub(super) fn leaders(&mut self) {
        for leader in 0..LEADERS {
            if !self.state.leaders[leader].stopped {
                self.answer_renewals(leader);
                self.decide_eviction(leader);
                self.hear_of_successor(leader);
            }
            self.lead(leader);
        }
        self.carry_out_eviction();
    }

    fn answer_renewals(&mut self, leader: usize) {
        let state = self.state;
        let by = leader as u8;
        if self.model.rules.ack_after_quorum_round && !self.model.rules.round_after_receipt && state.confirms(leader) {
            self.add(Event::QuorumConfirms { leader: by }, Kind::Progress, |next| {
                next.leaders[leader].old_round = true
            });
        }
        for place in 0..state.mails.len() {
            let Some(mail) = state.mails[place] else { continue };
            match mail.place {
                Place::ToLeader if self.accepts(leader) => {
                    let confirmed = state.leaders[leader].old_round;
                    self.add(Event::ReceiveRenewal { leader: by, age: mail.age }, Kind::Progress, |next| {
                        next.mails[place] = Some(Mail { place: Place::Held { by, confirmed }, ..mail });
                        next.leaders[leader].until = LEASE;
                        next.leaders[leader].old_round = false;
                    });
                }
                Place::Held { by: holder, confirmed } if usize::from(holder) == leader => {
                    if !confirmed && state.confirms(leader) {
                        // The leader has applied what was committed when the round began, and looks for the node in that.
                        let known = state.member || !self.model.rules.member_checked_after_round;
                        let held = Mail { place: Place::Held { by, confirmed: true }, ..mail };
                        self.add(Event::QuorumConfirms { leader: by }, Kind::Progress, |next| {
                            next.mails[place] = known.then_some(held);
                        });
                    }
                    if confirmed || !self.model.rules.ack_after_quorum_round {
                        self.add(Event::Acknowledge { leader: by, age: mail.age }, Kind::Progress, |next| {
                            next.mails[place] = Some(Mail { place: Place::ToNode, ..mail });
                        });
                    }
                }
                _ => {}
            }
        }
    }

    /// Whether `leader` takes a renewal. One that was deposed may not know that the node is no member any more.
    fn accepts(&self, leader: usize) -> bool {
        let state = self.state;
        let known = match state.leaders[leader].belief {
            Belief::No => false,
            Belief::Deposed => true,
            Belief::Leads => state.member,
        };
        let about_to_evict = state.evict.is_some_and(|evict| usize::from(evict.by) == leader && evict.this_incarnation);
        known && !(about_to_evict && self.model.rules.evict_blocks_renewal)
    }

    fn decide_eviction(&mut self, leader: usize) {
        let state = self.state;
        let this_term = match state.leaders[leader].belief {
            Belief::No => return,
            Belief::Deposed => false,
            Belief::Leads => true,
        };
        let over = state.leaders[leader].until == 0 || !self.model.rules.evict_waits;
        let gone = this_term && !state.member;
        if over && !gone && state.evict.is_none() {
            let by = leader as u8;
            let evict = Evict { by, logged: false, this_term, this_incarnation: true };
            // Of a node that has ended, nothing else will come.
            let kind = if state.runs { Kind::Fault } else { Kind::Progress };
            self.add(Event::DecideEviction { leader: by }, kind, |next| next.evict = Some(evict));
        }
    }

    fn carry_out_eviction(&mut self) {
        let Some(evict) = self.state.evict else { return };
        if evict.logged {
            let meant = evict.this_incarnation || !self.model.rules.evict_names_incarnation;
            let again = Evict { logged: false, ..evict };
            for (heard, left) in [(true, None), (false, Some(again))] {
                self.add(Event::EvictionApplied { meant, heard }, Kind::Progress, |next| {
                    next.member &= !meant;
                    next.evict = left;
                });
            }
        } else if evict.this_term || !self.model.rules.evict_checks_term {
            let logged = Evict { logged: true, this_term: true, ..evict };
            self.add(Event::EvictionLogged { leader: self.state.leader }, Kind::Progress, |next| {
                next.evict = Some(logged);
            });
        }
        // An entry of the present term stays in the log; anything else may come to nothing.
        if !(evict.logged && evict.this_term) {
            self.add(Event::EvictionComesToNothing, Kind::Progress, |next| next.evict = None);
        }
    }

    fn hear_of_successor(&mut self, leader: usize) {
        if self.state.leaders[leader].belief == Belief::Deposed {
            let event = Event::HearOfSuccessor { leader: leader as u8 };
            self.add(event, Kind::Progress, |next| next.leaders[leader].belief = Belief::No);
        }
    }

    fn lead(&mut self, leader: usize) {
        let rules = &self.model.rules;
        let by = leader as u8;
        if self.model.elections && self.state.leader != by {
            self.add(Event::Election { leader: by }, Kind::Fault, |next| next.elect(leader, rules));
        }
        if self.state.leaders[leader].stopped {
            self.add(Event::GoesOn { leader: by }, Kind::Progress, |next| next.go_on(leader, rules));
        } else if self.model.stops && leader == 0 {
            self.add(Event::Stopped { leader: by }, Kind::Fault, |next| next.leaders[leader].stopped = true);
        }
    }
}

impl State {
    /// Whether a quorum would confirm that `leader` leads: it does, and what its predecessors left in the log is applied.
    fn confirms(&self, leader: usize) -> bool {
        let left = self.evict.is_some_and(|evict| evict.logged && !evict.this_term);
        usize::from(self.leader) == leader && !left
    }

    fn elect(&mut self, leader: usize, rules: &Rules) {
        self.leader = leader as u8;
        for other in self.leaders.iter_mut().filter(|other| other.belief == Belief::Leads) {
            other.belief = Belief::Deposed;
        }
        if let Some(evict) = &mut self.evict {
            evict.this_term = false;
        }
        // One that is stopped hears of it when it goes on.
        if !self.leaders[leader].stopped {
            self.begin_to_lead(leader, rules);
        }
    }

    fn begin_to_lead(&mut self, leader: usize, rules: &Rules) {
        self.leaders[leader].belief = Belief::Leads;
        if rules.new_leader_waits {
            self.leaders[leader].until = LEASE;
        }
    }

    fn go_on(&mut self, leader: usize, rules: &Rules) {
        self.leaders[leader].stopped = false;
        if usize::from(self.leader) != leader {
            return;
        }
        if self.leaders[leader].belief == Belief::No {
            self.begin_to_lead(leader, rules);
            return;
        }
        // It led before and leads now: that another one led meanwhile is not to be seen.
        self.leaders[leader].belief = Belief::Leads;
        if rules.stopped_leader_waits {
            self.leaders[leader].until = LEASE;
        }
    }
}

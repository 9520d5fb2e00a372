//! The end of the node's process, and the certificate of its death: no lease is waited for, whoever leads.

use super::{
    Event, Happens,
    state::{Belief, Certificate, Evict, LEADERS, State},
};
use crate::explore::Kind;

impl Happens<'_> {
    pub(super) fn death(&mut self) {
        if !self.model.deaths {
            return;
        }
        let state = self.state;
        if state.runs {
            self.add(Event::ProcessEnds, Kind::Fault, State::end);
            if !self.model.rules.certificate_means_death {
                let told = Certificate::OfThis;
                self.add(Event::SocketCloses, Kind::Fault, |next| next.certificate = told);
            }
        } else if self.model.rejoins && !state.member {
            self.add(Event::Restarts, Kind::Progress, State::restart);
        }
        if state.late_write {
            let refused = state.newer_wrote && self.model.rules.token_is_checked;
            self.add(Event::LateWrite { refused }, Kind::Progress, |next| {
                next.late_write = false;
                next.overwritten |= next.newer_wrote && !refused;
            });
        }
        if state.certificate != Certificate::None {
            self.add(Event::CertificateLost, Kind::Progress, |next| next.certificate = Certificate::None);
            (0..LEADERS).for_each(|leader| self.hear_of_death(leader));
        }
    }

    /// Whoever leads, or takes itself for the leader, looks for the process among the members that it knows.
    fn hear_of_death(&mut self, leader: usize) {
        let state = self.state;
        let this_term = match state.leaders[leader].belief {
            Belief::No => return,
            Belief::Deposed => false,
            Belief::Leads => true,
        };
        let is_member = state.certificate == Certificate::OfThis || !self.model.rules.certificate_names_process;
        let known = state.member || !this_term;
        if is_member && known && !state.leaders[leader].stopped && state.evict.is_none() {
            let by = leader as u8;
            let evict = Evict { by, logged: false, this_term, this_incarnation: true };
            self.add(Event::HearOfDeath { leader: by }, Kind::Progress, |next| next.evict = Some(evict));
        }
    }
}

impl State {
    /// What the process has sent before goes on: messages to leaders, and a write of a poll.
    fn end(&mut self) {
        self.runs = false;
        self.late_write = self.poll;
        (self.turn, self.poll, self.fenced) = (false, false, false);
        (self.lease, self.until_slow) = (0, 0);
        self.knows_it_joined = true;
        self.certificate = Certificate::OfThis;
    }

    /// Another process of the node is a member, and does not know yet. What is told of the one before may come late.
    fn restart(&mut self) {
        self.rejoin();
        self.runs = true;
        self.late_write = false;
        if self.certificate == Certificate::OfThis {
            self.certificate = Certificate::OfEarlier;
        }
    }
}

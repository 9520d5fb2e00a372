//! A watchdog says that the process of a node has ended: a certificate of death. What the lease of a member is waited for is
//! that it does not act any more; of a process that has ended that is certain at once, whoever leads. It holds for exactly the
//! incarnations of that process: a node that was started again has another one.

use super::Driver;
use crate::{
    activation::lock,
    cluster::{
        consensus::Consensus,
        control::Answer,
        lease::{Ending, Found},
        member::MemberState,
    },
    watchdog::{
        Watched,
        ward::{MEMBERS_TOLD_MAX, Ward},
    },
};

impl Driver {
    /// Removes the member of a process that has ended, if this node leads Raft. If that one did, it is not waited for.
    pub(super) async fn hear_of_end(&self, ending: Ending) -> Answer {
        if ending.node == self.node_id() && ending.process == lock(&self.joiner).process {
            return Answer::Refused("this process lives".to_owned());
        }
        self.end_leadership_of(ending);
        if !self.consensus.leadership().borrow().is_me || self.consensus.read_index().await.is_err() {
            return self.not_leader();
        }
        self.mind_company();
        let found = {
            let now = self.world.clock.now();
            let mut grants = lock(&self.grants);
            grants.members(now, self.consensus.applied().borrow().state.view());
            grants.process_ended(now, ending)
        };
        match found {
            Found::Nobody => Answer::Gone,
            Found::Ended(ended) => {
                self.evict(ended, "process").await;
                let view = self.consensus.applied().borrow().state.view().clone();
                if view.member(ended.member).is_none() { Answer::Gone } else { Answer::Unknown }
            }
            // It is asked again.
            Found::Ending | Found::NotLeading => Answer::Unknown,
        }
    }

    /// Both groups of Raft do without it at once, if it leads them.
    fn end_leadership_of(&self, ending: Ending) {
        let state = self.latest();
        // It may have been started again, and lead.
        let is_it = state.view().members.get(&ending.node).is_none_or(|member| member.joiner.process == ending.process);
        if !is_it || ending.node == self.node_id() {
            return;
        }
        let of_states = self.states.store.consensus();
        for group in [Some(Consensus::clone(&self.consensus)), of_states].into_iter().flatten() {
            let leads = group.leadership().borrow().leader.as_ref().is_some_and(|(leader, _)| *leader == ending.node);
            if leads {
                self.tasks.spawn(async move { group.leader_ended(ending.node).await });
            }
        }
    }

    /// As its watchdog is to know it.
    pub(crate) fn ward(&self) -> Ward {
        self.ward.clone().with_members(self.to_be_told())
    }

    /// From now on, this node is watched.
    pub(crate) fn watched_by(&self, watched: Watched) {
        *lock(&self.watched) = Some((watched, Vec::new()));
        self.tell_watchdog();
    }

    /// Its watchdog knows where the others are.
    pub(super) fn tell_watchdog(&self) {
        if lock(&self.watched).is_none() {
            return;
        }
        let members = self.to_be_told();
        if let Some((watched, known)) = &mut *lock(&self.watched)
            && *known != members
        {
            watched.members(&members);
            *known = members;
        }
    }

    /// Those who vote, then those who know who does.
    fn to_be_told(&self) -> Vec<String> {
        let voters = self.voters().into_iter().map(|(_, address)| address);
        let state = self.latest();
        let active = state.view().members.values().filter(|member| member.state == MemberState::Active);
        let active = active.map(|member| member.joiner.address.clone());
        let mut members = self.addresses_to_ask(voters.chain(active));
        members.truncate(MEMBERS_TOLD_MAX);
        members
    }
}

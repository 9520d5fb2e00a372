//! Leaving: everything that is here is finished or handed on, in an order that lets no call fail.

use std::{sync::atomic::Ordering, time::Duration};

use grains_core::{DeactivationReason, Instant};

use super::Driver;
use crate::{
    activation::lock,
    cluster::{
        clustered::parting,
        command::{Command, LEADERSHIP},
        member::MemberState,
        names::{MemberId, NodeId},
    },
    node::NodeInner,
    timeout::timeout,
};

/// How often a leaving node looks whether it is empty.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// How much of the time to leave is kept for the last word.
const LAST_WORD: Duration = Duration::from_secs(1);
/// How long a leaving node waits for the others to hear its farewell: the calls of one that does not are not worth more.
const PART_MAX: Duration = Duration::from_millis(500);
/// How long until a farewell is said again, in case a connection has ended under it.
const FAREWELL_AGAIN: Duration = Duration::from_millis(100);

impl Driver {
    /// Leaves the cluster, until `limit` at the latest. Gives how many activations were still busy then and were dropped,
    /// because they would have been in the way of those to come.
    pub(crate) async fn leave(&self, node: &NodeInner, limit: Instant) -> usize {
        self.leaving.store(true, Ordering::Release);
        let Some(me) = self.incarnation() else { return 0 };
        let company = self.has_company();
        if company {
            // Without a majority it is never said; what is left of the time is for what lives here.
            let say_by = self.world.clock.now() + limit.since(self.world.clock.now()) / 2;
            let is_said = || self.is_leaving(me) || self.incarnation() != Some(me);
            while !is_said() && self.world.clock.now() < say_by {
                let next = say_by.min(self.world.clock.now() + LAST_WORD);
                self.propose_until(Command::Leave(me), next).await;
                self.until(next, is_said).await;
            }
            // If it does not work out, the others notice soon enough that nobody leads.
            let time = limit.since(self.world.clock.now()) / 2;
            let handing = async {
                self.hand_over_states().await;
                self.hand_over_raft().await;
            };
            let _handed = timeout(&self.world.clock, time, Box::pin(handing)).await;
        }
        let empty_by = limit - LAST_WORD;
        self.empty(node, me, empty_by.max(self.world.clock.now())).await;
        if company && node.catalog.len() == 0 {
            self.part(limit.min(self.world.clock.now() + PART_MAX)).await;
        }
        let mut dropped = 0;
        if company && self.incarnation() == Some(me) {
            // Once it has left, its grains may live elsewhere, and another node may lead: here both have ended before.
            self.clustered.renounce();
            dropped = node.catalog.len();
            if dropped > 0 {
                self.clustered.fence();
            }
            // If all are leaving, those that are gone may be missing in a majority, and nobody waits for these words.
            let limit = if self.has_company() { limit } else { limit.min(self.world.clock.now() + LAST_WORD) };
            if self.leads(me) {
                let command = Command::Release { grain_type: LEADERSHIP.to_owned(), holder: me };
                self.propose_until(command, limit).await;
            }
            self.propose_until(Command::Left(me), limit).await;
        }
        dropped
    }

    /// Ends or hands on what is here.
    async fn empty(&self, node: &NodeInner, me: MemberId, until: Instant) {
        let clock = &self.world.clock;
        while clock.now() < until && self.incarnation() == Some(me) {
            for activation in node.catalog.shards().flatten() {
                activation.send_away(DeactivationReason::Stopping);
            }
            // Only if there is somebody to take it: otherwise there may be no majority to agree on it, either.
            let released = if self.has_company() { self.clustered.to_release() } else { Vec::new() };
            for grain_type in released {
                let soon = until.min(clock.now() + LAST_WORD);
                self.propose_until(Command::Release { grain_type, holder: me }, soon).await;
            }
            let (empty, handed_over) = match &lock(&self.clustered.table).standing {
                Some(standing) => (standing.host.empty(), standing.directory.is_handed_over()),
                None => (true, true),
            };
            if empty
                && (handed_over || !self.has_company())
                && node.catalog.len() == 0
                && lock(&self.clustered.pending).len() == 0
                && self.clustered.answers_waiting() == 0
                && self.has_given_its_seat()
                && self.states_can_do_without(until.min(clock.now() + LAST_WORD)).await
            {
                return;
            }
            clock.sleep_until((clock.now() + LOOK_AGAIN).min(until)).await;
        }
    }

    /// Sees to it that nothing is on its way between this node, which is empty, and the others.
    async fn part(&self, until: Instant) {
        let clock = &self.world.clock;
        for round in 1..=parting::ROUNDS {
            while !self.clustered.all_have_heard(round) && clock.now() < until {
                self.clustered.say_farewell(round);
                let again = until.min(clock.now() + FAREWELL_AGAIN);
                self.until(again, || self.clustered.all_have_heard(round)).await;
            }
        }
    }

    /// Another voter takes over Raft, so that nobody has to notice that this one is gone.
    async fn hand_over_raft(&self) {
        if !self.consensus.leadership().borrow().is_me {
            return;
        }
        let state = self.latest();
        let active =
            |node: &NodeId| state.view().members.get(node).is_some_and(|member| member.state == MemberState::Active);
        for voter in self.consensus.voters().keys().copied().filter(|voter| *voter != self.node_id() && active(voter)) {
            match self.consensus.hand_over(voter).await {
                Ok(()) => return,
                Err(why) => tracing::debug!(%voter, %why, "it does not take over Raft"),
            }
        }
    }

    /// Whether it does not vote, or nobody is there who could instead. Several voters that left one after the other would
    /// leave too few behind for a majority.
    fn has_given_its_seat(&self) -> bool {
        let (state, voters) = (self.latest(), self.voters());
        let others = || state.view().members.values().filter(|member| !voters.contains_key(&member.id.node));
        !voters.contains_key(&self.node_id()) || !others().any(|member| member.state == MemberState::Active)
    }

    fn is_leaving(&self, me: MemberId) -> bool {
        let state = self.latest();
        state.view().member(me).is_none_or(|member| member.state == MemberState::Leaving)
    }

    fn leads(&self, me: MemberId) -> bool {
        self.latest().view().leader.is_some_and(|grant| grant.holder == me)
    }

    async fn until(&self, limit: Instant, done: impl Fn() -> bool) {
        let clock = &self.world.clock;
        while clock.now() < limit && !done() {
            clock.sleep_until(clock.now() + LOOK_AGAIN).await;
        }
    }
}

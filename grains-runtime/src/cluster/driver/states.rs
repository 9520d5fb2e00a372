//! The group that keeps the states of grains, as a part of the cluster: one member begins it, its voters are those of the
//! cluster, and a node that leaves hands its leadership on.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use grains_core::{Instant, store::Store};
use grains_store::{
    consensus::Timing,
    replicated::{Opening, ReplicatedStore, StoreMetrics},
};

use super::{Driver, links::StatePeers};
use crate::{
    activation::lock,
    cluster::{command::Command, control::Answer, state::StatesGroup},
};

/// How often a node looks whether the group is begun, and its leader who should vote.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long until files that could not be opened are tried again.
const OPEN_AGAIN: Duration = Duration::from_secs(1);

/// The states of the cluster on this node.
pub(crate) struct States {
    pub(crate) store: ReplicatedStore,
    pub(crate) peers: Arc<StatePeers>,
    /// The stores that the program has given, by name: the cluster does not know what is in them.
    pub(crate) given: BTreeMap<String, Arc<dyn Store>>,
}

impl Driver {
    /// Keeps this node's part in the group as the cluster says.
    pub(super) async fn keep_states(self: Arc<Self>) {
        let states = &self.states;
        let clock = &self.world.clock;
        loop {
            let pause = match self.latest().states() {
                _ if self.incarnation().is_none() => LOOK_EVERY,
                Some(group) if self.is_ours(&group) => self.take_part(states, group).await,
                // Nobody needs it yet.
                None if !self.is_needed() => LOOK_EVERY,
                // Nobody has begun it, or who wanted to is gone.
                _ => {
                    self.claim_states().await;
                    LOOK_EVERY
                }
            };
            clock.sleep_until(clock.now() + pause).await;
        }
    }

    fn is_needed(&self) -> bool {
        self.latest().view().members.values().any(|member| member.joiner.uses_states)
    }

    /// Whether the group stands, or this node is the one to begin it, or another is at it.
    fn is_ours(&self, group: &StatesGroup) -> bool {
        group.is_founded || self.latest().view().member(group.by).is_some()
    }

    /// The leader begins it, because it certainly can reach a majority.
    async fn claim_states(&self) {
        let Some(me) = self.incarnation().filter(|_| self.consensus.leadership().borrow().is_me) else { return };
        self.put(self.numbered(Command::ClaimStates(me))).await;
    }

    async fn take_part(&self, states: &States, group: StatesGroup) -> Duration {
        let is_mine = self.incarnation() == Some(group.by);
        if !group.is_founded && !is_mine {
            return LOOK_EVERY;
        }
        if states.store.group() != Some(group.number) {
            // Of a group that came to nothing.
            states.store.leave().await;
            if let Err(why) = states.store.open(self.opening(states, group.number)).await {
                tracing::error!(node = %self.clustered.name, %why, "the states of grains cannot be opened; it is tried again");
                return OPEN_AGAIN;
            }
        }
        let Some(consensus) = states.store.consensus() else { return OPEN_AGAIN };
        if !group.is_founded {
            let address = lock(&self.joiner).address.clone();
            if consensus.is_pristine()
                && let Err(why) = consensus.found(&address).await
            {
                tracing::warn!(%why, "the group of states was not begun; it is tried again");
                return LOOK_EVERY;
            }
            let until = self.world.clock.now() + OPEN_AGAIN;
            self.propose_until(Command::StatesFounded { group: group.number }, until).await;
            return LOOK_EVERY;
        }
        states.store.serve();
        if consensus.leadership().borrow().is_me {
            let unfinished = consensus.unfinished();
            let is_whole = unfinished.is_none();
            let wanted = unfinished.unwrap_or_else(|| self.voters());
            if !(wanted.is_empty() || is_whole && wanted == consensus.voters())
                && let Err(why) = consensus.set_voters(wanted).await
            {
                tracing::debug!(%why, "the voters of the states were not changed; it is tried again");
            }
        }
        LOOK_EVERY
    }

    fn opening(&self, states: &States, group: u64) -> Opening {
        let config = &self.clustered.config;
        Opening {
            folder: self.data_dir.clone(),
            name: self.clustered.name.clone(),
            node: self.node_id(),
            group,
            // Half as fast as the cluster itself: a heartbeat waits behind megabytes of states, and a grain whose node is
            // gone is activated again only after the lease.
            timing: Timing {
                heartbeat: config.heartbeat * 2,
                election_min: config.election,
                election_max: config.election * 2,
            },
            peers: states.peers.clone(),
        }
    }

    /// How the states do; none before anybody has needed them.
    pub(crate) fn states_metrics(&self) -> Option<StoreMetrics> {
        self.latest().states().map(|_| self.states.store.metrics())
    }

    /// Has another voter lead the group.
    pub(super) async fn hand_over_states(&self) {
        let Some(consensus) = self.states.store.consensus() else { return };
        if !consensus.leadership().borrow().is_me {
            return;
        }
        for voter in consensus.voters().keys().copied().filter(|voter| *voter != self.node_id()) {
            if consensus.hand_over(voter).await.is_ok() {
                return;
            }
        }
    }

    /// Whether this node need not stay for the sake of the states: it has no vote there that another node is to have.
    pub(super) async fn states_can_do_without(&self, until: Instant) -> bool {
        // Nobody tells a voter that it is none any more, so its own part may say for ever that it is.
        let is_voter = self.states.store.consensus().is_some_and(|part| part.voters().contains_key(&self.node_id()));
        if !is_voter || self.voters().contains_key(&self.node_id()) {
            return true;
        }
        self.states.store.voters(until).await.is_some_and(|voters| !voters.contains(&self.node_id()))
    }

    /// Answers what another node asks of this one's part.
    pub(super) async fn answer_states(&self, body: Vec<u8>) -> Answer {
        Answer::States(self.states.store.handle(body).await)
    }
}

//! What the cluster agrees on, as it comes to this node: from its own log if it votes, otherwise from a voter.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{Driver, JoinError, Progress};
use crate::{
    activation::lock,
    cluster::{
        clustered::turning::Turned,
        command::Numbered,
        consensus::AppliedCommand,
        control::{Answer, Ask},
        member::MemberState,
        names::NodeId,
        state::ClusterState,
    },
    timeout::timeout,
};

/// How long a node waits before it says what for, and how often it does, if that has changed.
const SAID_EVERY: Duration = Duration::from_secs(2);

/// The latest state that this node knows of.
#[derive(Default)]
pub(super) struct Followed {
    pub(super) index: u64,
    pub(super) state: Arc<ClusterState>,
}

/// How long a voter lets a follower wait for a change before it says that there is none. A follower that hears nothing
/// for twice that asks another voter.
const CHANGE_WAIT: Duration = Duration::from_millis(500);
/// How often a node looks whether it votes now.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// The most changes in one answer; the rest comes with the next.
const CHANGES_MAX: usize = 256;

impl Driver {
    /// Takes what this node's own log says.
    pub(super) async fn follow_log(self: Arc<Self>) {
        let mut applied = self.consensus.applied();
        loop {
            let latest = applied.borrow_and_update().clone();
            self.know(latest.index, latest.state);
            if applied.changed().await.is_err() {
                return;
            }
        }
    }

    /// Takes what a voter says. A voter does so too: its own log may be that of a voter which was replaced while it was
    /// away, and it would never be told.
    pub(super) async fn follow_voters(self: Arc<Self>) {
        let clock = self.world.clock.clone();
        loop {
            let addresses = self.where_voters_may_be();
            let turn = self.followed_voter.load(Ordering::Relaxed);
            let leads = self.consensus.leadership().borrow().is_me;
            let Some(address) = addresses.get(turn % addresses.len().max(1)).filter(|_| !leads) else {
                clock.sleep_until(clock.now() + LOOK_AGAIN).await;
                continue;
            };
            let after = lock(&self.followed).index;
            match self.ask(address, &Ask::Follow { after }, CHANGE_WAIT * 2).await {
                // Whoever knows less than this node may be a voter of long ago: what it says of voters does not count.
                Some(Answer::State { index, state, voters, leader }) if index >= after => {
                    self.heard_of(voters, leader);
                    self.know(index, Arc::from(state));
                }
                Some(Answer::Changes { changes, upto, voters, leader }) if upto >= after => {
                    self.heard_of(voters, leader);
                    self.apply(after, changes, upto);
                }
                answer => {
                    if let Some(Answer::NotVoter { voters, upto }) = answer
                        && upto >= after
                    {
                        self.heard_of(voters, None);
                    }
                    self.follow_another();
                    clock.sleep_until(clock.now() + LOOK_AGAIN / 5).await;
                }
            }
        }
    }

    /// The voter that this node follows cannot be reached, or knows too little: it may be cut off itself.
    pub(super) fn follow_another(&self) {
        self.followed_voter.fetch_add(1, Ordering::Relaxed);
    }

    /// Voters as others have said, as this node's own log says, and any node that may know one.
    fn where_voters_may_be(&self) -> Vec<String> {
        let heard = lock(&self.voters).values().cloned().collect::<Vec<_>>();
        let logged = self.consensus.voters().into_iter().map(|(_, address)| address);
        self.addresses_to_ask(heard.into_iter().chain(logged))
    }

    pub(super) fn heard_of(&self, voters: Vec<(NodeId, String)>, leader: Option<String>) {
        if !voters.is_empty() {
            *lock(&self.voters) = voters.into_iter().collect();
        }
        if leader.is_some() {
            *lock(&self.leader_hint) = leader;
        }
        self.tell_watchdog();
    }

    fn apply(&self, after: u64, changes: Vec<AppliedCommand<Numbered>>, upto: u64) {
        let state = {
            let mut followed = lock(&self.followed);
            if followed.index != after {
                return;
            }
            if changes.is_empty() {
                // Or it would be asked for again at once, and again.
                followed.index = followed.index.max(upto);
                return;
            }
            let mut state = ClusterState::clone(&followed.state);
            for (index, term, command) in changes {
                state.apply(index, term, command);
            }
            Arc::new(state)
        };
        self.know(upto, state);
    }

    /// The state at a log index, if it is newer than what is known.
    fn know(&self, index: u64, state: Arc<ClusterState>) {
        {
            let mut followed = lock(&self.followed);
            if index <= followed.index {
                return;
            }
            *followed = Followed { index, state: state.clone() };
        }
        if let Some(kept) = state.cluster().filter(|kept| **kept != self.cluster) {
            let error = JoinError::OtherCluster { kept: kept.clone(), wanted: self.cluster.clone() };
            self.standing.send_replace(Progress::Failed(error));
            return;
        }
        if let (Some(generation), Some(wire)) = (state.generation(), self.wire.get()) {
            wire.set_generation(generation);
        }
        self.turn();
    }

    /// Applies the latest state to this node.
    pub(super) fn turn(&self) {
        let (index, state) = {
            let followed = lock(&self.followed);
            (followed.index, followed.state.clone())
        };
        let view = state.view();
        self.mind_company();
        if self.consensus.leadership().borrow().is_me {
            lock(&self.grants).members(self.world.clock.now(), view);
        }
        self.tell_watchdog();
        if self.clustered.turn_to(index, view) == Turned::Removed {
            self.removed.store(true, Ordering::Release);
            self.stirred.notify_one();
        }
    }

    /// The state that this node knows of.
    pub(super) fn latest(&self) -> Arc<ClusterState> {
        lock(&self.followed).state.clone()
    }

    /// Tells a follower what has changed since.
    pub(super) async fn tell_changes(&self, after: u64) -> Answer {
        if !self.consensus.voters().contains_key(&self.node_id()) {
            // Before the voters: they may be newer than it says, never older.
            let upto = lock(&self.followed).index;
            return Answer::NotVoter { voters: self.voters().into_iter().collect(), upto };
        }
        let mut applied = self.consensus.applied();
        let newer = applied.wait_for(|applied| applied.index > after);
        drop(timeout(&self.world.clock, CHANGE_WAIT, Box::pin(newer)).await);
        let latest = applied.borrow().clone();
        let voters = self.consensus.agreed_voters().into_iter().collect();
        let leader = self.consensus.leadership().borrow().leader.as_ref().map(|(_, address)| address.clone());
        match self.consensus.since(after) {
            Some(mut changes) if after > 0 => {
                let all = changes.len() <= CHANGES_MAX;
                changes.truncate(CHANGES_MAX);
                let last = changes.last().map_or(0, |(index, ..)| *index);
                // More may have been applied since `latest`, or less than `after`.
                let upto = if all { latest.index.max(last) } else { last };
                Answer::Changes { changes, upto, voters, leader }
            }
            _ => Answer::State {
                index: latest.index,
                state: Box::new(ClusterState::clone(&latest.state)),
                voters,
                leader,
            },
        }
    }

    /// Whether another member is active: somebody who can take over.
    pub(crate) fn has_company(&self) -> bool {
        let state = self.latest();
        let others = state.view().members.values();
        others.into_iter().any(|member| member.id.node != self.node_id() && member.state == MemberState::Active)
    }

    /// Whoever looks at a node that does nothing wants to know what for.
    pub(super) async fn say_what_it_waits_for(self: Arc<Self>) {
        let mut standing = self.standing.subscribe();
        let mut said = String::new();
        let waits = |progress: &Progress| matches!(progress, Progress::Waiting(_));
        while standing.wait_for(waits).await.map(drop).is_ok() {
            let done = async { standing.wait_for(|progress| !waits(progress)).await.map(drop) };
            match timeout(&self.world.clock, SAID_EVERY, done).await {
                Some(_) => said.clear(),
                None => {
                    if let Progress::Waiting(waiting) = &*standing.borrow()
                        && *waiting != said
                    {
                        tracing::warn!(node = %self.clustered.name, waiting, "not a member yet");
                        said.clone_from(waiting);
                    }
                }
            }
        }
    }

    pub(super) fn waits_for(&self, what: impl Into<String>) {
        let mut what = what.into();
        if let Some(refused) = &*lock(&self.refused) {
            what = format!("{refused}; {what}");
        }
        self.standing.send_if_modified(|progress| {
            let next = Progress::Waiting(what);
            let changed = *progress != next && !matches!(progress, Progress::Failed(_));
            if changed {
                *progress = next;
            }
            changed
        });
    }
}

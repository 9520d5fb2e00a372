//! What the leader of Raft does for the cluster: takes nodes in, renews leases, removes members whose lease has ended, and
//! sees that the right nodes vote. What it grants it grants in its term only.

use std::{sync::Arc, time::Duration};

use grains_core::{
    Instant,
    switches::{Mechanism, on},
};
use litemap::LiteMap;

use super::Driver;
use crate::{
    activation::lock,
    cluster::{
        command::{Command, Ended, Numbered, Outcome},
        control::{Answer, Ask},
        lease::RenewRefused,
        member::Joiner,
        names::{MemberId, NodeId, NodeName, ViewVersion},
        voters::{self, VoterRules},
    },
    timeout::timeout,
};

/// How often the leader looks at its clock and whose lease has ended.
const TICK: Duration = Duration::from_millis(50);
/// Why a member is removed of which nothing else is known.
const LEASE_ENDED: &str = "lease";
/// How often it looks who should vote.
const VOTERS_EVERY: Duration = Duration::from_millis(250);

impl Driver {
    /// Leads whenever Raft says that this node does.
    pub(super) async fn lead(self: Arc<Self>) {
        let clock = self.world.clock.clone();
        let mut leadership = self.consensus.leadership();
        let mut gone_since: LiteMap<NodeId, Instant> = LiteMap::default();
        let mut voters_due = Instant::default();
        let mut voters_chosen_for = ViewVersion::default();
        loop {
            let (is_me, term) = {
                let known = leadership.borrow_and_update();
                (known.is_me, known.term)
            };
            // After it is known who leads: the leases that a new leader gives begin now, not before it was one.
            let now = clock.now();
            if !is_me {
                lock(&self.grants).stop();
                gone_since.clear();
                if leadership.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let view = self.consensus.applied().borrow().state.view().clone();
            self.mind_company();
            let ended = {
                let mut grants = lock(&self.grants);
                grants.lead(now, term);
                grants.members(now, &view);
                grants.tick(now)
            };
            // A cluster with one voter does not survive that one: no need to leave it so for longer.
            if std::mem::replace(&mut voters_chosen_for, view.version) != view.version {
                voters_due = now;
            }
            for ended in ended {
                let me = self.clone();
                self.tasks.spawn(async move { me.evict(ended, LEASE_ENDED).await });
            }
            if now >= voters_due {
                voters_due = now + VOTERS_EVERY;
                self.choose_voters(now, &mut gone_since);
            }
            let _changed = timeout(&clock, TICK, leadership.changed()).await;
        }
    }

    /// Has a member removed that certainly does not act any more, and why it does not.
    pub(super) async fn evict(&self, ended: Ended, why: &str) {
        let name = self.latest().view().member(ended.member).map(|member| member.joiner.name.clone());
        let name = name.as_ref().map_or("?", NodeName::as_str);
        let command = self.numbered(Command::Evict(ended));
        // In this term only, and under one number. While its fate is unknown no renewal may come between: the member stays
        // marked.
        let mut certain = true;
        loop {
            match self.put(command.clone()).await {
                Answer::Committed(Outcome::Done) => {
                    tracing::warn!(name, member = %ended.member, "removed: its {why} has ended");
                    return;
                }
                Answer::Committed(Outcome::Stale) => return,
                Answer::Unknown if self.consensus.leadership().borrow().term == ended.term => {
                    certain = false;
                    self.world.clock.sleep_until(self.world.clock.now() + TICK).await;
                }
                _ if !on(Mechanism::EvictStaysInTerm) => {
                    let ask = Ask::Propose { command: command.clone() };
                    let next = self.consensus.leadership().borrow().leader.clone();
                    if let Some((_, address)) = next
                        && let Some(Answer::Committed(_)) = self.ask(&address, &ask, VOTERS_EVERY * 4).await
                    {
                        return;
                    }
                    self.world.clock.sleep_until(self.world.clock.now() + TICK).await;
                }
                answer => {
                    tracing::debug!(?answer, "it was not removed");
                    if certain && !matches!(answer, Answer::Unknown) {
                        lock(&self.grants).eviction_failed(ended.member);
                    }
                    return;
                }
            }
        }
    }

    /// A member asks for its lease.
    pub(super) async fn renew(&self, member: MemberId, applied: ViewVersion) -> Answer {
        let granted = lock(&self.grants).renewed(self.world.clock.now(), member, applied);
        let term = match granted {
            Ok(term) => term,
            Err(why) => return self.not_renewed(&why).await,
        };
        // A leader that was deposed meanwhile must not acknowledge: asked after the renewal came, a majority says.
        if on(Mechanism::AckAfterQuorumRound) && !self.was_confirmed(term) && self.consensus.read_index().await.is_err()
        {
            return self.not_leader();
        }
        self.confirmed(term);
        self.mind_company();
        let confirmed = {
            let mut grants = lock(&self.grants);
            grants.members(self.world.clock.now(), self.consensus.applied().borrow().state.view());
            grants.confirm(member, term)
        };
        match confirmed {
            Ok(()) => Answer::Renewed,
            Err(why) => self.not_renewed(&why).await,
        }
    }

    async fn not_renewed(&self, why: &RenewRefused) -> Answer {
        match why {
            RenewRefused::NotLeading => self.not_leader(),
            // Certain only if a majority says that this node still leads; otherwise it may be what knows too little.
            RenewRefused::NotMember { .. } if self.consensus.read_index().await.is_ok() => {
                let RenewRefused::NotMember { member } = why else { return self.not_leader() };
                match self.consensus.applied().borrow().state.view().member(*member) {
                    None => Answer::Gone,
                    Some(_) => Answer::Refused(why.to_string()),
                }
            }
            _ => Answer::Refused(why.to_string()),
        }
    }

    /// A node asks to become a member.
    pub(super) async fn take_in(&self, joiner: Joiner, request: u64) -> Answer {
        let is_me = self.consensus.leadership().borrow().is_me;
        if !is_me || self.consensus.read_index().await.is_err() {
            return self.not_leader();
        }
        let state = self.consensus.applied().borrow().state.clone();
        let members = || state.view().members.values();
        let same = members().find(|member| member.id.node == joiner.node);
        let namesake = members().find(|member| member.joiner.name == joiner.name);
        let Some(earlier) = same.or(namesake) else { return self.add(joiner, None, request).await };
        let now = self.world.clock.now();
        let term = self.consensus.leadership().borrow().term;
        let process = lock(&self.joiner).process;
        let is_this_process = joiner.node == self.node_id() && joiner.process == process;
        let was_this_node = earlier.id.node == self.node_id() && earlier.joiner.process != process;
        let ended = match is_this_process && was_this_node {
            // This very node in an earlier process, which is dead: this one holds the lock of its data directory. (For
            // another node that would be its word only, and a directory may have been copied.)
            true => Some(Ended { member: earlier.id, term }),
            false if on(Mechanism::JoinNeedsProof) => lock(&self.grants).ended(now, earlier.id),
            false => Some(Ended { member: earlier.id, term }),
        };
        match ended {
            Some(ended) => self.add(joiner, Some(ended), request).await,
            None => Answer::Taken {
                by: earlier.id,
                address: earlier.joiner.address.clone(),
                left_ms: millis(lock(&self.grants).lease_left(now, earlier.id)),
            },
        }
    }

    async fn add(&self, joiner: Joiner, over: Option<Ended>, request: u64) -> Answer {
        let name = joiner.name.clone();
        let answer = self.put(Numbered { client: request, serial: 1, command: Command::Join { joiner, over } }).await;
        match answer {
            Answer::Committed(Outcome::Joined(incarnation)) => {
                tracing::info!(%name, %incarnation, "joined");
                Answer::Joined(incarnation)
            }
            Answer::Committed(Outcome::Taken { by, address }) => {
                if let Some(ended) = over {
                    lock(&self.grants).eviction_failed(ended.member);
                }
                let left = lock(&self.grants).lease_left(self.world.clock.now(), by);
                Answer::Taken { by, address, left_ms: millis(left) }
            }
            Answer::Committed(Outcome::Refused(why)) => Answer::Refused(why),
            Answer::Committed(outcome) => Answer::Refused(format!("the join came to {outcome:?}")),
            answer => {
                // Whether the earlier one is gone is not known, and it cannot renew any more: it is removed in any case.
                if let Some(ended) = over {
                    let me = self.arc();
                    self.tasks.spawn(async move { me.evict(ended, LEASE_ENDED).await });
                }
                answer
            }
        }
    }

    /// Takes one step towards the voters that there should be.
    fn choose_voters(&self, now: Instant, gone_since: &mut LiteMap<NodeId, Instant>) {
        // First the end of a change that an earlier leader began, or this one in an earlier life: until then every
        // decision needs a majority of the old voters as well.
        if let Some(voters) = self.consensus.unfinished() {
            return self.change_voters(voters);
        }
        let state = self.consensus.applied().borrow().state.clone();
        let current = self.consensus.voters();
        gone_since.retain(|node, _| current.contains_key(node) && !state.view().members.contains_key(node));
        for node in current.keys().filter(|node| !state.view().members.contains_key(*node)) {
            gone_since.entry(*node).or_insert(now);
        }
        let config = &self.clustered.config;
        let rules = VoterRules { target: config.voters, replace_after: config.voter_replace_after };
        let wanted = voters::wanted(state.view(), &state.former(), &current, gone_since, now, rules);
        if let Some(wanted) = wanted {
            self.change_voters(wanted);
        }
    }

    fn change_voters(&self, wanted: LiteMap<NodeId, String>) {
        let me = self.arc();
        self.tasks.spawn(async move {
            if let Err(why) = me.consensus.set_voters(wanted).await {
                tracing::debug!(%why, "the voters were not changed; it is tried again");
            }
        });
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

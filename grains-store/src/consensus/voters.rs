//! Changing who votes and who leads.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use grains_core::world::BoxFuture;
use litemap::LiteMap;
use openraft::{
    BasicNode, ChangeMembers, Instant as _, RaftMetrics, async_runtime::watch::WatchReceiver,
    raft::TransferLeaderRequest, rt::AsyncRuntime,
};
use tokio::sync::oneshot;

use super::{
    Changing, Consensus,
    machine::Driven,
    network::Sent,
    propose::{ProposeError, of_fatal, of_write},
    runtime::{WorldInstant, WorldRuntime},
    types::{LogId, Types},
};
use crate::NodeId;

/// How far a node has come in what is agreed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogProgress {
    /// The number of the last entry in its log.
    pub logged: u64,
    /// The number of the last entry that it has applied.
    pub applied: u64,
    /// How many entries each of the others lacks, if this node leads.
    pub lag: BTreeMap<NodeId, u64>,
}

/// How long until a change is tried again that another one stands in the way of.
const BUSY_AGAIN: Duration = Duration::from_millis(20);

/// How long before the first voter stands after a leader whose process has ended: the others are told at about the same time.
/// The next one does a heartbeat later, if that was for nothing: its log was too short, or the others had yet to hear.
const FIRST_TURN: Duration = Duration::from_millis(5);

/// How often each of them stands. Later, elections time out anyway.
const ROUNDS_MAX: usize = 2;

/// How many entries a new voter may lack when it gets its vote.
const CATCH_UP_ENTRIES_MAX: u64 = 64;

/// A change takes at most: clean up, addresses, learners, joint and final voters, twice over.
const STEPS_MAX: usize = 10;

impl Consensus {
    /// The voters with their addresses, as far as this node knows; a change counts before it is committed.
    pub fn voters(&self) -> LiteMap<NodeId, String> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        with_addresses(membership, membership.voter_ids())
    }

    /// The voters of whom a majority is certainly enough, as far as this node knows: while a change is under way, those
    /// before it.
    pub fn agreed_voters(&self) -> LiteMap<NodeId, String> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.committed_membership_config.membership();
        let voters = membership.get_joint_config().first();
        with_addresses(membership, voters.into_iter().flatten().copied())
    }

    /// The voters with which a change that was begun, by whomever, is to end; none if there is no such change.
    pub fn unfinished(&self) -> Option<LiteMap<NodeId, String>> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let groups = membership.get_joint_config();
        let is_whole = groups.len() < 2 && membership.learner_ids().next().is_none();
        let voters = groups.last().filter(|_| !is_whole)?;
        Some(with_addresses(membership, voters.iter().copied()))
    }

    /// How far this node has come.
    pub fn progress(&self) -> LogProgress {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let logged = metrics.last_log_index.unwrap_or(0);
        let has = |at: &Option<_>| at.as_ref().map_or(0, |at: &LogId| at.index);
        let lag = |(node, at): (&u64, &Option<_>)| (NodeId(*node), logged.saturating_sub(has(at)));
        LogProgress {
            logged,
            applied: has(&metrics.last_applied),
            lag: metrics.replication.iter().flatten().map(lag).collect(),
        }
    }

    /// Makes exactly these nodes the voters, at these addresses, with joint consensus. New ones first get the log without
    /// a vote. One change at a time; one that was begun goes on when this future is dropped. After an error ask again for
    /// the same: what is done already is not done twice.
    pub fn set_voters(&self, voters: LiteMap<NodeId, String>) -> BoxFuture<'_, Result<(), ProposeError>> {
        Box::pin(self.set_voters_now(voters))
    }

    async fn set_voters_now(&self, voters: LiteMap<NodeId, String>) -> Result<(), ProposeError> {
        if voters.is_empty() {
            return Err(ProposeError::Refused("a cluster needs at least one voter".into()));
        }
        if let Some(why) = self.inner.over() {
            return Err(ProposeError::Closed { why });
        }
        let leadership = self.leadership().borrow().clone();
        if !leadership.is_me {
            return Err(ProposeError::NotLeader { leader: leadership.leader });
        }
        let changing = Changing::begin(&self.inner.changing).ok_or(ProposeError::Busy)?;
        let (answer, answered) = oneshot::channel();
        let change = Change {
            raft: self.inner.raft.clone(),
            wanted: voters.into_iter().map(|(node, address)| (node.0, BasicNode::new(address))).collect(),
            step_max: self.inner.timing.answer_max(),
            lag_max: self.inner.timing.answer_max() * 2,
            sent: self.inner.sent.clone(),
        };
        let work = async move {
            let result = change.run().await;
            // Free before the answer, or whoever asks next at once would be told that it is busy.
            drop(changing);
            drop(answer.send(result));
        };
        self.inner.world.tasks.spawn(Box::pin(self.inner.run(work)));
        answered.await.unwrap_or(Err(ProposeError::Unknown))
    }

    /// Has `to`, another voter, take over the leadership of this node.
    pub fn hand_over(&self, to: NodeId) -> BoxFuture<'_, Result<(), ProposeError>> {
        Box::pin(self.inner.run(self.hand_over_now(to)))
    }

    async fn hand_over_now(&self, to: NodeId) -> Result<(), ProposeError> {
        let leadership = self.leadership().borrow().clone();
        if let Some(why) = self.inner.over() {
            return Err(ProposeError::Closed { why });
        }
        if !leadership.is_me {
            return Err(ProposeError::NotLeader { leader: leadership.leader });
        }
        if to == self.inner.node {
            return Ok(());
        }
        if !self.hears(to) {
            return Err(ProposeError::Refused(format!("node {to} is no voter that answers now")));
        }
        self.inner.raft.trigger().transfer_leader(to.0).await.map_err(of_fatal)?;
        let mut watched = self.leadership();
        let handed = watched.wait_for(|now| now.term > leadership.term && now.leader.is_some() || now.fatal.is_some());
        // From now on this node takes no proposals and sends no heartbeats, so that if `to` does not stand, another will.
        match WorldRuntime::timeout(self.inner.timing.election_max * 4, handed).await {
            Ok(Ok(now)) if now.leader.as_ref().is_some_and(|(leader, _)| *leader == to) => Ok(()),
            Ok(Ok(now)) => Err(ProposeError::NotLeader { leader: now.leader.clone() }),
            Ok(Err(_)) | Err(_) => Err(ProposeError::Unknown),
        }
    }

    /// The process of `leader` has ended, for certain: whoever still takes it for the leader waits for it no longer, but
    /// has another one elected, by turns, so that votes are not split. Every voter is to be told, as each refuses
    /// its vote until it is. Returns when there is another leader, or when it is up to the time-outs of elections again.
    pub fn leader_ended(&self, leader: NodeId) -> BoxFuture<'_, ()> {
        Box::pin(self.inner.run(self.leader_ended_now(leader)))
    }

    async fn leader_ended_now(&self, leader: NodeId) {
        let voters = self.voters();
        let mut others = voters.keys().filter(|voter| **voter != leader);
        // Without one it only gives its vote: others may know that it has one by now.
        let place = others.position(|voter| *voter == self.inner.node);
        // As long as others may take to answer.
        let turn = self.inner.timing.heartbeat;
        let times = |turns: usize| turn * u32::try_from(turns).unwrap_or(u32::MAX);
        // Told again and again, it does this once at a time.
        let Some(_standing) = Changing::begin(&self.inner.standing) else { return };
        // At once, or it would refuse its vote to those whose turn comes before.
        if !self.gives_up(leader).await {
            return;
        }
        let Some(place) = place else { return };
        WorldRuntime::sleep(FIRST_TURN + times(place)).await;
        for _ in 0..ROUNDS_MAX {
            // Asks the others first whether they would: one with too short a log, or too early, changes nothing.
            if !self.gives_up(leader).await || self.inner.raft.trigger().elect(true).await.is_err() {
                return;
            }
            WorldRuntime::sleep(times(voters.len())).await;
        }
    }

    /// Waits for `leader` no longer. False if it does not take that one for the leader, or takes no part any more.
    async fn gives_up(&self, leader: NodeId) -> bool {
        let metrics = self.inner.raft.metrics().borrow_watched().clone();
        if metrics.current_leader != Some(leader.0) {
            return false;
        }
        // As if that one handed over: to itself, so that nobody stands for it without being asked. What the word means to
        // openraft is that its lease is over.
        let handed = TransferLeaderRequest::new(metrics.vote, leader.0, None);
        self.inner.raft.handle_transfer_leader(handed).await.is_ok()
    }

    /// Whether `node` is a voter that has answered not long ago.
    fn hears(&self, node: NodeId) -> bool {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let heard = metrics.heartbeat.as_ref().and_then(|heard| heard.get(&node.0)?.as_ref());
        let lately = heard.is_some_and(|at| at.elapsed() <= self.inner.timing.election_max);
        lately && metrics.membership_config.voter_ids().any(|id| id == node.0)
    }
}

/// One change of voters.
struct Change {
    raft: openraft::Raft<Types, Driven>,
    wanted: BTreeMap<u64, BasicNode>,
    /// How long one change may take.
    step_max: Duration,
    /// How long a new voter may get no further before it has caught up and gets its vote.
    lag_max: Duration,
    sent: Sent,
}

/// What is to be done next.
enum Step {
    /// Other nodes or voters.
    Members(ChangeMembers<u64, BasicNode>),
    /// The new ones do not have the log yet.
    CatchUp,
    Nothing,
}

type Metrics = RaftMetrics<Types>;

impl Change {
    async fn run(&self) -> Result<(), ProposeError> {
        let mut caught_up = false;
        for _ in 0..STEPS_MAX {
            let step = self.next(&self.raft.metrics().borrow_watched(), caught_up);
            match step {
                Step::Members(members) => self.change(members).await?,
                Step::CatchUp => {
                    if let Err(node) = self.catch_up().await {
                        self.give_up().await;
                        return Err(ProposeError::Lagging { node });
                    }
                    caught_up = true;
                }
                Step::Nothing => return self.committed().await,
            }
        }
        Err(ProposeError::Unknown)
    }

    /// Looks at what is, so that a change that was begun by an earlier leader is finished, too.
    fn next(&self, metrics: &Metrics, caught_up: bool) -> Step {
        let now = metrics.membership_config.membership();
        let voters: BTreeSet<u64> = now.voter_ids().collect();
        let wanted: BTreeSet<u64> = self.wanted.keys().copied().collect();
        let is_joint = now.get_joint_config().len() > 1;
        let known: BTreeMap<u64, BasicNode> = now.nodes().map(|(id, node)| (*id, node.clone())).collect();
        let moved = |id: &u64, node: &BasicNode| known.get(id).is_some_and(|known| known != node);
        let new: BTreeMap<_, _> = self.wanted.iter().filter(|(id, _)| !known.contains_key(id)).map(owned).collect();
        let moved: BTreeMap<_, _> = self.wanted.iter().filter(|(id, node)| moved(id, node)).map(owned).collect();
        let left_over: BTreeSet<u64> =
            known.keys().filter(|id| !voters.contains(id) && !wanted.contains(id)).copied().collect();
        if is_joint {
            // The second half of a change whose leader was lost: the same voters again, without the old ones.
            return Step::Members(ChangeMembers::AddVoterIds(BTreeSet::new()));
        }
        if !left_over.is_empty() {
            return Step::Members(ChangeMembers::RemoveNodes(left_over));
        }
        if !moved.is_empty() {
            return Step::Members(ChangeMembers::SetNodes(moved));
        }
        if !new.is_empty() {
            return Step::Members(ChangeMembers::AddNodes(new));
        }
        if voters == wanted {
            return Step::Nothing;
        }
        if !caught_up && !wanted.is_subset(&voters) {
            return Step::CatchUp;
        }
        Step::Members(ChangeMembers::ReplaceAllVoters(wanted))
    }

    /// One change in the log, or two if voters change. Old voters are dropped and not kept as learners. It waits until
    /// an earlier change is committed, such as that of a leader before this one.
    async fn change(&self, members: ChangeMembers<u64, BasicNode>) -> Result<(), ProposeError> {
        let until = WorldInstant::now() + self.step_max;
        loop {
            let change = self.raft.change_membership(members.clone(), false);
            let Ok(changed) = WorldRuntime::timeout_at(until, change).await else { return Err(ProposeError::Unknown) };
            match changed.map_err(of_write) {
                Ok(_) => return Ok(()),
                Err(ProposeError::Busy) => {}
                Err(error) => return Err(error),
            }
            if WorldInstant::now() >= until {
                return Err(ProposeError::Busy);
            }
            // By time, not by what openraft reports: being asked is something it reports, too.
            WorldRuntime::sleep(BUSY_AGAIN).await;
        }
    }

    /// Waits until what this node takes for the voters is agreed on.
    async fn committed(&self) -> Result<(), ProposeError> {
        let until = WorldInstant::now() + self.step_max;
        let mut metrics = self.raft.metrics();
        loop {
            let is_committed = {
                let now = metrics.borrow_and_update();
                now.committed_membership_config == now.membership_config
            };
            if is_committed {
                return Ok(());
            }
            let Ok(Ok(())) = WorldRuntime::timeout_at(until, metrics.changed()).await else {
                return Err(ProposeError::Unknown);
            };
        }
    }

    /// Waits until all new voters have nearly all of the log, or gives one that has not and gets no further. A large state
    /// takes as long as it takes.
    async fn catch_up(&self) -> Result<(), NodeId> {
        self.wanted.keys().for_each(|id| self.sent.forget(NodeId(*id)));
        let mut metrics = self.raft.metrics();
        let (mut best, mut until) = (None, WorldInstant::now() + self.lag_max);
        loop {
            let behind = self.behind(&metrics.borrow_and_update());
            let Some((node, lag)) = behind else { return Ok(()) };
            let parts = self.sent.parts(node);
            let is_better = |(of, least, most)| of != node || lag < least || parts > most;
            if best.is_none_or(is_better) {
                (best, until) = (Some((node, lag, parts)), WorldInstant::now() + self.lag_max);
            }
            if WorldInstant::now() >= until {
                return Err(node);
            }
            // What a snapshot does is not reported.
            let again = until.min(WorldInstant::now() + self.lag_max / 4);
            if let Ok(Err(_)) = WorldRuntime::timeout_at(again, metrics.changed()).await {
                return Err(node);
            }
        }
    }

    /// The first new voter that lacks too many entries, and how many.
    fn behind(&self, metrics: &Metrics) -> Option<(NodeId, u64)> {
        // Not the leader any more: the next step will say so.
        let replication = metrics.replication.as_ref()?;
        let voters: BTreeSet<u64> = metrics.membership_config.voter_ids().collect();
        let last = metrics.last_log_index.unwrap_or_default();
        let mut new = self.wanted.keys().filter(|id| !voters.contains(id));
        new.find_map(|id| match replication.get(id).and_then(|at| at.as_ref()) {
            Some(at) => Some((NodeId(*id), last - at.index.min(last))).filter(|(_, lag)| *lag > CATCH_UP_ENTRIES_MAX),
            // It has answered nothing.
            None => Some((NodeId(*id), last)),
        })
    }

    /// Forgets the new nodes again.
    async fn give_up(&self) {
        let learners = self.raft.metrics().borrow_watched().membership_config.membership().learner_ids().collect();
        if let Err(error) = self.change(ChangeMembers::RemoveNodes(learners)).await {
            tracing::warn!("nodes that were not made voters still get the log: {error}");
        }
    }
}

fn with_addresses(
    membership: &openraft::Membership<u64, BasicNode>,
    nodes: impl Iterator<Item = u64>,
) -> LiteMap<NodeId, String> {
    let address = |id| membership.get_node(&id).map(|node| node.addr.clone()).unwrap_or_default();
    nodes.map(|id| (NodeId(id), address(id))).collect()
}

fn owned((id, node): (&u64, &BasicNode)) -> (u64, BasicNode) {
    (*id, node.clone())
}

//! Asking the group: proposals, reads, and who is told what when it does not work out.

use std::{
    future::{Future, poll_fn},
    time::Duration,
};

use grains_core::world::BoxFuture;
use openraft::{
    BasicNode, Instant as _, ReadPolicy,
    errors::{
        ChangeMembershipError, ClientWriteError, Fatal, ForwardReason, ForwardToLeader, LinearizableReadError,
        RaftError,
    },
    raft::WriteResponse,
    rt::AsyncRuntime,
};

use super::{
    COMMAND_BYTES_MAX, Consensus,
    runtime::{WorldInstant, WorldRuntime},
    types::{Proposal, Types, term_of},
};
use crate::NodeId;

/// A command that was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed<O> {
    /// Its place in the log.
    pub index: u64,
    /// The term of the leader that proposed it.
    pub term: u64,
    /// What it came to.
    pub outcome: O,
}

/// Why a proposal, a read or a change of voters has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// This node does not lead: nothing was proposed. A change of voters may have been done in part; the leader finishes
    /// it when it is asked for the same.
    #[error("this node does not lead the cluster{}", led_by(.leader))]
    NotLeader {
        /// Who does, if known.
        leader: Option<(NodeId, String)>,
    },
    /// It may be applied, now or later: send it again with the same serial.
    #[error("there was no answer in time, so whether it will be done is not known")]
    Unknown,
    /// Another change of voters is under way.
    #[error("another change of voters is under way")]
    Busy,
    /// A new voter did not catch up in time; the voters are as before.
    #[error("node {node} does not keep up with the log, so it was not made a voter")]
    Lagging {
        /// Which.
        node: NodeId,
    },
    /// It cannot be asked for; nothing was done.
    #[error("{0}")]
    Refused(String),
    /// This node takes no part any more: nothing was proposed.
    #[error("this node takes no part in the cluster any more: {why}")]
    Closed {
        /// Why.
        why: String,
    },
}

/// What became of a proposal: its outcome, encoded.
pub type Proposed = Result<Committed<Vec<u8>>, ProposeError>;

type Written = Result<WriteResponse<Types>, ProposeError>;

/// Whether it may be proposed.
pub(crate) fn check_size(command: &[u8]) -> Result<(), ProposeError> {
    let bytes = command.len();
    match bytes <= COMMAND_BYTES_MAX {
        true => Ok(()),
        false => Err(ProposeError::Refused(format!("a command has {bytes} bytes, of at most {COMMAND_BYTES_MAX}"))),
    }
}

fn committed(WriteResponse { log_id, response }: WriteResponse<Types>) -> Proposed {
    let outcome = response.ok_or_else(|| ProposeError::Refused("it was no command".into()))?;
    Ok(Committed { index: log_id.index, term: term_of(&log_id), outcome })
}

fn led_by(leader: &Option<(NodeId, String)>) -> String {
    leader.as_ref().map_or_else(String::new, |(node, address)| format!(", node {node} at {address} does"))
}

impl Consensus {
    /// Has `command` applied by all voters and gives what their machines made of it. Whether it was sent before is for the
    /// machine to see.
    pub fn propose_bytes(&self, command: Vec<u8>) -> BoxFuture<'_, Proposed> {
        Box::pin(async move {
            let proposed = self.propose_all(vec![command]).await.pop();
            proposed.unwrap_or(Err(ProposeError::Unknown))
        })
    }

    /// Has these commands applied one after the other, as [`propose_bytes`](Self::propose_bytes) does, with one write to the log of
    /// each voter. Gives one result for each.
    pub fn propose_all(&self, commands: Vec<Vec<u8>>) -> BoxFuture<'_, Vec<Proposed>> {
        Box::pin(async move {
            if commands.is_empty() {
                return Vec::new();
            }
            let checked = match self.inner.over() {
                Some(why) => Err(ProposeError::Closed { why }),
                None => commands.iter().try_for_each(|command| check_size(command)),
            };
            let len = commands.len();
            let written = match checked {
                Ok(()) => {
                    let proposals: Vec<_> = commands.into_iter().map(|command| Proposal(command.into())).collect();
                    self.in_time(self.write(proposals)).await
                }
                Err(error) => Err(error),
            };
            match written {
                Ok(written) => written.into_iter().map(|one| committed(one?)).collect(),
                Err(error) => vec![Err(error); len],
            }
        })
    }

    /// A leader that was just elected takes nothing before a majority has answered it: that is waited for.
    async fn write(&self, proposals: Vec<Proposal>) -> Result<Vec<Written>, ProposeError> {
        let until = WorldInstant::now() + self.inner.timing.election_max;
        loop {
            let results = self.inner.raft.client_write_many(proposals.iter().cloned()).await;
            let mut results = results.map_err(|fatal| of_write(RaftError::Fatal(fatal)))?;
            let mut written = Vec::with_capacity(proposals.len());
            let mut unanswered = 0;
            while let Some(result) = poll_fn(|cx| results.as_mut().poll_next(cx)).await {
                unanswered += usize::from(matches!(
                    &result,
                    Ok(Err(ClientWriteError::ForwardToLeader(forward)))
                        if forward.reason == ForwardReason::LeaseExpired
                ));
                written.push(match result {
                    Ok(result) => result.map_err(|error| of_write(RaftError::APIError(error))),
                    Err(fatal) => Err(of_write(RaftError::Fatal(fatal))),
                });
            }
            // It ends early when this node stops.
            written.resize_with(proposals.len(), || Err(ProposeError::Unknown));
            if unanswered < proposals.len() || WorldInstant::now() >= until {
                return Ok(written);
            }
            WorldRuntime::sleep(self.inner.timing.heartbeat / 8).await;
        }
    }

    /// Asks a majority whether this node still leads, and gives an index that everything acknowledged before the question
    /// is at or before; it is applied here.
    pub fn read_index(&self) -> BoxFuture<'_, Result<u64, ProposeError>> {
        Box::pin(self.in_time(async {
            let raft = &self.inner.raft;
            let read = raft.get_read_linearizer(ReadPolicy::ReadIndex).await.map_err(of_read)?;
            Ok(read.await_ready(raft).await.map_err(of_fatal)?.read_log_id().index())
        }))
    }

    /// Bounds a question to the group.
    async fn in_time<T>(
        &self,
        asking: impl Future<Output = Result<T, ProposeError>> + Send,
    ) -> Result<T, ProposeError> {
        let ttl = self.inner.timing.answer_max();
        self.inner.run(async { WorldRuntime::timeout(ttl, asking).await.unwrap_or(Err(ProposeError::Unknown)) }).await
    }
}

impl super::Timing {
    /// Long enough for one change of leader, so that most proposals in that time get their answer.
    pub(super) fn answer_max(self) -> Duration {
        self.election_max * 10
    }
}

pub(super) fn of_write(error: RaftError<Types, ClientWriteError<Types>>) -> ProposeError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => not_leader(forward),
        // It was in this node's log, and perhaps in that of others.
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => ProposeError::Unknown,
        RaftError::APIError(ClientWriteError::ChangeMembershipError(
            ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_),
        )) => ProposeError::Busy,
        RaftError::APIError(error) => ProposeError::Refused(error.to_string()),
        // This node stopped meanwhile, and may have sent the proposal to others before.
        RaftError::Fatal(_) => ProposeError::Unknown,
    }
}

fn of_read(error: RaftError<Types, LinearizableReadError<Types>>) -> ProposeError {
    match error {
        RaftError::APIError(LinearizableReadError::ForwardToLeader(forward)) => not_leader(forward),
        RaftError::APIError(LinearizableReadError::QuorumNotEnough(_)) => ProposeError::Unknown,
        RaftError::Fatal(fatal) => of_fatal(fatal),
    }
}

pub(super) fn of_fatal(fatal: Fatal<Types>) -> ProposeError {
    ProposeError::Closed { why: fatal.to_string() }
}

fn not_leader(forward: ForwardToLeader<Types>) -> ProposeError {
    let leader = forward.leader_id.zip(forward.leader_node);
    ProposeError::NotLeader { leader: leader.map(|(node, BasicNode { addr })| (NodeId(node), addr)) }
}

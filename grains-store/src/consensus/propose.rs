//! Asking the group: proposals, reads, and who is told what when it does not work out.

use std::{future::Future, time::Duration};

use grains_core::world::BoxFuture;
use openraft::{
    BasicNode, Instant as _, ReadPolicy,
    errors::{
        ChangeMembershipError, ClientWriteError, Fatal, ForwardReason, ForwardToLeader, LinearizableReadError,
        RaftError,
    },
    raft::ClientWriteResponse,
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

fn led_by(leader: &Option<(NodeId, String)>) -> String {
    leader.as_ref().map_or_else(String::new, |(node, address)| format!(", node {node} at {address} does"))
}

impl Consensus {
    /// Has `command` applied by all voters and gives what their machines made of it. Whether it was sent before is for the
    /// machine to see.
    pub fn propose_bytes(&self, command: Vec<u8>) -> BoxFuture<'_, Result<Committed<Vec<u8>>, ProposeError>> {
        Box::pin(async move {
            if let Some(why) = self.inner.over() {
                return Err(ProposeError::Closed { why });
            }
            let bytes = command.len();
            if bytes > COMMAND_BYTES_MAX {
                return Err(ProposeError::Refused(format!(
                    "the command has {bytes} bytes, of at most {COMMAND_BYTES_MAX}"
                )));
            }
            self.in_time(async {
                let response = self.write(Proposal(command.into())).await?;
                let outcome = response.data.ok_or_else(|| ProposeError::Refused("it was no command".into()))?;
                Ok(Committed { index: response.log_id.index, term: term_of(&response.log_id), outcome })
            })
            .await
        })
    }

    /// A leader that was just elected takes nothing before a majority has answered it: that is waited for.
    async fn write(&self, proposal: Proposal) -> Result<ClientWriteResponse<Types>, ProposeError> {
        let until = WorldInstant::now() + self.inner.timing.election_max;
        loop {
            let error = match self.inner.raft.client_write(proposal.clone()).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            let unanswered = matches!(
                &error,
                RaftError::APIError(ClientWriteError::ForwardToLeader(forward))
                    if forward.reason == ForwardReason::LeaseExpired
            );
            if !unanswered || WorldInstant::now() >= until {
                return Err(of_write(error));
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

//! What other voters send and what the files of the log hold, as functions of bytes: see `crate::fuzzing`.

use openraft::{
    alias::StoredMembershipOf,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
    },
};

pub(crate) use super::log::fuzzing::journal;
use super::{
    body::{Body, Kind, Reply, join_snapshot, split_snapshot},
    snapshot::PartHead,
    types::{Entry, LogId, SnapshotMeta, Types, Vote},
};
use crate::fuzzing::same;

/// A message of Raft, or its answer.
pub(crate) fn raft(bytes: &[u8]) {
    if let Ok(reply) = Reply::decode(bytes) {
        assert_eq!(Reply::decode(&reply.encode()), Ok(reply.clone()), "an answer means something else");
        if let Reply::Done(result) = reply {
            same::<AppendEntriesResponse<Types>>(result);
            same::<VoteResponse<Types>>(result);
            same::<SnapshotResponse<Types>>(result);
        }
    }
    let Ok(body) = Body::decode(bytes) else { return };
    assert_eq!(body.encode(), bytes, "a message means something else");
    match body.kind {
        Kind::Append => same::<AppendEntriesRequest<Types>>(body.arguments),
        Kind::Vote | Kind::PreVote => same::<VoteRequest<Types>>(body.arguments),
        Kind::Transfer => same::<TransferLeaderRequest<Types>>(body.arguments),
        Kind::Snapshot => {
            let Ok((head, part)) = split_snapshot(body.arguments) else { return };
            assert_eq!(join_snapshot(head, part), body.arguments, "a part of a snapshot means something else");
            same::<PartHead>(head);
        }
    }
}

/// A row of the log: an entry or a fact.
pub(crate) fn log(bytes: &[u8]) {
    same::<Entry>(bytes);
    same::<Vote>(bytes);
    same::<Option<LogId>>(bytes);
    same::<SnapshotMeta>(bytes);
    same::<(Option<LogId>, StoredMembershipOf<Types>)>(bytes);
}

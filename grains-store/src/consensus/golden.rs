//! The messages of voters, byte for byte: see `tests/golden/compare.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::Arc,
};

use openraft::{
    BasicNode, EntryPayload,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, VoteRequest, VoteResponse,
    },
};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    body::{Body, Kind, Reply, join_snapshot, split_snapshot},
    snapshot::PartHead,
    types::{Entry, LogId, Membership, Proposal, SnapshotMeta, Types, Vote},
};
use crate::{
    NodeId,
    compare::{Sample, check},
    fuzzing::encoded,
};

#[test]
fn every_message_of_voters_is_as_it_was() {
    check("raft.txt", &messages());
}

pub(super) fn id(index: u64) -> LogId {
    LogId::new_term_index(3, index)
}

pub(super) fn vote() -> Vote {
    Vote::new_committed(3, 7)
}

pub(super) fn membership() -> openraft::Membership<u64, BasicNode> {
    let node = |at: &str| BasicNode { addr: at.to_owned() };
    let nodes = BTreeMap::from([(7, node("10.0.0.1:7101")), (8, node("10.0.0.2:7101"))]);
    openraft::Membership::new(vec![BTreeSet::from([7]), BTreeSet::from([7, 8])], nodes).unwrap()
}

pub(super) fn entries() -> [Entry; 3] {
    [
        Entry { log_id: id(4), payload: EntryPayload::Blank },
        Entry { log_id: id(5), payload: EntryPayload::Normal(Proposal(Arc::from([1, 2, 0xff]))) },
        Entry { log_id: id(6), payload: EntryPayload::Membership(membership()) },
    ]
}

pub(super) fn meta() -> SnapshotMeta {
    SnapshotMeta { last_log_id: Some(id(6)), last_membership: Membership::new(Some(id(6)), membership()) }
}

fn asked<A: Serialize + DeserializeOwned + Debug + 'static>(name: &'static str, kind: Kind, arguments: &A) -> Sample {
    let (to, from) = (NodeId(8), NodeId(7));
    let written = Body { kind, to, from, arguments: &encoded(arguments) }.encode();
    Sample::new(name, written, format!("{:?}", (kind, to, from, arguments)), |bytes| {
        let Body { kind, to, from, arguments } = Body::decode(bytes)?;
        let arguments: A = grains_core::codec::decode(arguments).map_err(|why| why.to_string())?;
        Ok(format!("{:?}", (kind, to, from, arguments)))
    })
}

fn answered<A: Serialize + DeserializeOwned + Debug + 'static>(name: &'static str, answer: &A) -> Sample {
    Sample::new(name, Reply::Done(&encoded(answer)).encode(), format!("{answer:?}"), |bytes| {
        match Reply::decode(bytes)? {
            Reply::Done(result) => {
                let answer: Result<A, _> = grains_core::codec::decode(result);
                answer.map(|answer| format!("{answer:?}")).map_err(|why| why.to_string())
            }
            Reply::Refused(why) => Err(why.to_owned()),
        }
    })
}

fn messages() -> Vec<Sample> {
    let append = AppendEntriesRequest::<Types> {
        vote: vote(),
        prev_log_id: Some(id(3)),
        entries: entries().into(),
        leader_commit: Some(id(4)),
    };
    let ask = VoteRequest::<Types> { vote: Vote::new(4, 7), last_log_id: Some(id(6)), leadership_transfer: true };
    let transfer = TransferLeaderRequest::<Types>::new(vote(), 8, Some(id(6)));
    let head = PartHead { vote: vote(), meta: meta(), sending: 11, part: 2, last: false };
    let arguments = join_snapshot(&encoded(&head), b"rows");
    let part = Body { kind: Kind::Snapshot, to: NodeId(8), from: NodeId(7), arguments: &arguments };
    let part = Sample::new("snapshot", part.encode(), format!("{:?}", (head, b"rows".to_vec())), |bytes| {
        let (head, rows) = split_snapshot(Body::decode(bytes)?.arguments)?;
        let head: PartHead = grains_core::codec::decode(head).map_err(|why| why.to_string())?;
        Ok(format!("{:?}", (head, rows.to_vec())))
    });
    let refused =
        Sample::new("reply.refused", Reply::Refused("no").encode(), "no".into(), |bytes| match Reply::decode(bytes)? {
            Reply::Refused(why) => Ok(why.to_owned()),
            Reply::Done(_) => Err("it was done".into()),
        });
    let granted = VoteResponse::<Types> { vote: vote(), vote_granted: true, last_log_id: Some(id(6)) };
    vec![
        asked("append", Kind::Append, &append),
        asked("vote", Kind::Vote, &ask),
        asked("pre_vote", Kind::PreVote, &VoteRequest::<Types> { leadership_transfer: false, ..ask.clone() }),
        asked("transfer", Kind::Transfer, &transfer),
        part,
        refused,
        answered("reply.appended", &AppendEntriesResponse::<Types>::Success),
        answered("reply.appended_part", &AppendEntriesResponse::<Types>::PartialSuccess(Some(id(5)))),
        answered("reply.conflict", &AppendEntriesResponse::<Types>::Conflict),
        answered("reply.higher_vote", &AppendEntriesResponse::<Types>::HigherVote(Vote::new(9, 8))),
        answered("reply.vote", &granted),
        answered("reply.snapshot", &SnapshotResponse::<Types> { vote: vote() }),
        // What voters of an openraft before 0.10 sent, and with a field that this one does not know.
        Sample::of_others("vote.first_version", &VoteRequest::<Types> { leadership_transfer: false, ..ask.clone() }),
        Sample::of_others("vote.later_version", &ask),
    ]
}

//! `GET /status.json`: what a node knows of its cluster, for people and for tests.

use std::collections::BTreeMap;

use grains::{ClusterStatus, MemberStatus, StatesStatus};
use serde::Serialize;

/// The status of a node. The keys up to `singletons` stay as they are; more may follow.
#[derive(Serialize)]
pub struct Status {
    node: String,
    leader: Option<String>,
    term: u64,
    view: u64,
    members: Vec<Member>,
    activations: BTreeMap<String, usize>,
    singletons: BTreeMap<String, String>,
    ready: bool,
    waiting_for: Option<String>,
    incarnation: u64,
    voters: Vec<String>,
    states: Option<StatesStatus>,
    partitions: usize,
}

#[derive(Serialize)]
struct Member {
    name: String,
    incarnation: u64,
    state: &'static str,
}

impl From<ClusterStatus> for Status {
    fn from(status: ClusterStatus) -> Self {
        Self {
            node: status.node,
            leader: status.leader,
            term: status.term,
            view: status.view,
            members: status.members.into_iter().map(Member::from).collect(),
            activations: status.activations,
            singletons: status.singletons,
            ready: status.ready,
            waiting_for: status.waiting_for,
            incarnation: status.incarnation,
            voters: status.voters,
            states: status.states,
            partitions: status.partitions,
        }
    }
}

impl From<MemberStatus> for Member {
    fn from(MemberStatus { name, incarnation, state, .. }: MemberStatus) -> Self {
        Self { name, incarnation, state }
    }
}

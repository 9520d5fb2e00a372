//! What a node shows of its cluster: for status pages, tests and people.

use std::collections::BTreeMap;

use serde::Serialize;

/// The cluster as one node sees it now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ClusterStatus {
    /// This node's name.
    pub node: String,
    /// Which life of it; 0 while it is not a member.
    pub incarnation: u64,
    /// Whether it may act: it is a member and its lease holds.
    pub ready: bool,
    /// What has to happen before it may act, or why it never will: a sentence for people. None while it may.
    pub waiting_for: Option<String>,
    /// The name of the cluster's leader.
    pub leader: Option<String>,
    /// The leader's term: the token of its grant, which grows with every new leader.
    pub term: u64,
    /// The version of the view.
    pub view: u64,
    /// The members, by name.
    pub members: Vec<MemberStatus>,
    /// The names of the members that vote in Raft.
    pub voters: Vec<String>,
    /// The name of the member that leads Raft, as far as this node knows. It puts what the cluster agrees on into the log,
    /// and may be another one than the cluster's leader. Nodes without a vote may not know it.
    pub raft_leader: Option<String>,
    /// The term of Raft this node is in: it grows with every election.
    pub raft_term: u64,
    /// How many activations of each grain type live on this node.
    pub activations: BTreeMap<String, usize>,
    /// The name of the member that holds each singleton, by grain type.
    pub singletons: BTreeMap<String, String>,
    /// How many partitions this node owns.
    pub partitions: usize,
    /// The states that the cluster keeps, once anybody has needed them.
    pub states: Option<StatesStatus>,
    /// The nodes that this one has or had connections with, by name.
    pub links: Vec<LinkStatus>,
}

/// What went to and came from another node since this one started, over all connections together, in a [`ClusterStatus`]. With
/// the feature `metrics` the same goes to the `metrics` facade, as `grains_link_..`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LinkStatus {
    /// Its name.
    pub name: String,
    /// How many frames were written: calls, answers, questions, signs of life.
    pub frames_sent: u64,
    /// Their bytes, before encryption.
    pub bytes_sent: u64,
    /// In how many batches they were written.
    pub batches_sent: u64,
    /// How long the first frames of batches waited to be written, all together, in microseconds. Connections for calls only.
    pub queued_us: u64,
    /// How many frames were read.
    pub frames_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// How many connections this node has made to it: more than three, one for calls and two for questions, are reconnects.
    pub dialled: u64,
    /// How many it has made to this node.
    pub accepted: u64,
    /// How long the last ping took there and back, in microseconds; it waits behind what leaves before it.
    pub round_trip_us: Option<u64>,
}

/// What the cluster keeps, in a [`ClusterStatus`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct StatesStatus {
    /// The name of the member that takes commits and loads, as far as this node knows.
    pub leader: Option<String>,
    /// The names of the members that have all states, as far as this node has been told.
    pub voters: Vec<String>,
    /// The number of the last entry in this node's log; 0 if it has none.
    pub logged: u64,
    /// The number of the last entry that this node has applied.
    pub applied: u64,
    /// How many entries each other voter lacks, if this node leads.
    pub lag: BTreeMap<String, u64>,
    /// How many commits of this node were answered since it started.
    pub commits: u64,
    /// In how many batches they went.
    pub batches: u64,
    /// How long these batches took to be agreed on, all together, in microseconds.
    pub batches_us: u64,
    /// How many commits wait on this node now.
    pub waiting: usize,
}

/// One member in a [`ClusterStatus`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct MemberStatus {
    /// Its name.
    pub name: String,
    /// Which life of it.
    pub incarnation: u64,
    /// `"active"` or `"leaving"`.
    pub state: &'static str,
    /// Where other nodes reach it.
    pub address: String,
}

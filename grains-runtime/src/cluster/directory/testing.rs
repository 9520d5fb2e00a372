//! Small views for tests.

use std::{sync::Arc, time::Duration};

use grains_core::{GrainId, Instant};

use crate::cluster::{
    member::{Joiner, Member, MemberState},
    names::{Epoch, Incarnation, MemberId, NodeId, NodeName, PartitionId, ViewVersion},
    view::{Partition, View},
};

/// A grain's key is a number, and its partition the remainder.
pub(crate) fn partition_of(grain: &GrainId, count: u16) -> PartitionId {
    let key: u64 = grain.key().parse().expect("keys are numbers");
    PartitionId((key % u64::from(count)) as u16)
}

pub(crate) fn at(millis: u64) -> Instant {
    Instant::default() + Duration::from_millis(millis)
}

/// The first life of a node.
pub(crate) fn member_id(node: u64) -> MemberId {
    MemberId { node: NodeId(node), incarnation: Incarnation(1) }
}

pub(crate) fn member(id: MemberId) -> Member {
    let joiner = Joiner {
        node: id.node,
        name: NodeName::new(&id.node.to_string()).expect("letters and digits"),
        address: String::new(),
        process: 0,
        roles: Default::default(),
        capacity: 1,
        grain_types: Default::default(),
        singletons: Default::default(),
        uses_states: false,
        kept_elsewhere: Default::default(),
        workers: Default::default(),
        clients: None,
    };
    Member { id, joiner, state: MemberState::Active }
}

/// A view of nodes in their first life, and of partitions: owner, epoch, and the owner and epoch before.
#[allow(clippy::type_complexity, reason = "a table of numbers: a name would say no more")]
pub(crate) fn view(version: u64, nodes: &[u64], partitions: &[(Option<u64>, u64, Option<(u64, u64)>)]) -> Arc<View> {
    let partitions = partitions.iter().map(|(owner, epoch, previous)| Partition {
        owner: owner.map(member_id),
        epoch: Epoch(*epoch),
        previous: previous.map(|(node, epoch)| (member_id(node), Epoch(epoch))),
    });
    Arc::new(View {
        version: ViewVersion(version),
        members: nodes.iter().map(|node| (NodeId(*node), Arc::new(member(member_id(*node))))).collect(),
        partitions: Arc::new(partitions.collect()),
        ..View::default()
    })
}

/// The same with this node leaving.
pub(crate) fn leaving(mut view: Arc<View>, node: u64) -> Arc<View> {
    let member = Arc::make_mut(&mut view).members.get_mut(&NodeId(node)).expect("it is a member");
    Arc::make_mut(member).state = MemberState::Leaving;
    view
}

/// The same with this node in its second life.
pub(crate) fn reborn(mut view: Arc<View>, node: u64) -> Arc<View> {
    let member = Arc::make_mut(&mut view).members.get_mut(&NodeId(node)).expect("it is a member");
    Arc::make_mut(member).id.incarnation = Incarnation(2);
    view
}

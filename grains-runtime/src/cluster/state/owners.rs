//! Who owns each partition.

use std::sync::Arc;

use grains_core::switches::{Mechanism, on};

use crate::cluster::{
    member::MemberState,
    names::{Epoch, MemberId, NodeId, PartitionId},
    partition::Slot,
    view::{Partition, View},
};

/// Gives each partition to the active member it falls to. Only what changes its owner gets a new epoch.
pub(super) fn settle(view: &mut View, token: u64) {
    let active: Vec<_> = view.members.values().filter(|member| member.state == MemberState::Active).collect();
    let active: Vec<_> = active.into_iter().map(|member| (member.id.node, member.joiner.capacity)).collect();
    let moved: Vec<_> = (0..)
        .zip(view.partitions.iter())
        .map(|(place, old)| (usize::from(place), old.owner, owner(view, &active, PartitionId(place), old)))
        .filter(|(_, old, new)| old != new)
        .collect();
    if moved.is_empty() {
        return;
    }
    let partitions = Arc::make_mut(&mut view.partitions);
    for (place, _, owner) in moved {
        let old = partitions[place];
        // The directly preceding ownership, even if it never served: only its owner knows whether it did. Anybody
        // further back may have handed over already, and its memory may be old. If nobody owned it, the last owner was
        // removed, and members that are leaving may still host what it had placed: it is asked for, and then everybody.
        let previous = old.owner.map(|owner| (owner, old.epoch)).or(old.previous);
        let is_rejoin = old.owner.zip(owner).is_some_and(|(old, new)| old.node == new.node);
        partitions[place] = match is_rejoin && !on(Mechanism::RejoinMakesEpoch) {
            true => Partition { owner, ..old },
            false => Partition { owner, epoch: Epoch(token), previous },
        };
    }
}

fn owner(view: &View, active: &[(NodeId, u32)], id: PartitionId, old: &Partition) -> Option<MemberId> {
    match Slot::of_partition(id).falls_to(active.iter().copied()) {
        Some(node) => view.members.get(&node).map(|member| member.id),
        // Nobody to hand over to: who is leaving keeps what it has, and no one else gets it.
        None => old.owner.filter(|owner| view.member(*owner).is_some()),
    }
}

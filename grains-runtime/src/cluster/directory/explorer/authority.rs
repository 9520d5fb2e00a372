//! Views, as the replicated state of a cluster would make them, but with owners chosen by chance.

use std::sync::Arc;

use super::chance::Chance;
use crate::cluster::{
    directory::testing::member,
    member::MemberState,
    names::{Epoch, Incarnation, MemberId, NodeId, ViewVersion},
    view::{Partition, View},
};

pub(crate) struct Authority {
    /// All views there were; the one of version `n` is at `n - 1`.
    pub(crate) views: Vec<Arc<View>>,
    /// Whether a node that joins anew and keeps a partition gets a new epoch for it. A rule.
    pub(crate) rejoin_renews: bool,
    index: u64,
}

impl Authority {
    pub(crate) fn new(partitions: usize) -> Self {
        let view = View {
            version: ViewVersion(1),
            partitions: Arc::new(vec![Partition::default(); partitions]),
            ..View::default()
        };
        Self { views: vec![Arc::new(view)], rejoin_renews: true, index: 1 }
    }

    pub(crate) fn last(&self) -> &Arc<View> {
        self.views.last().expect("there is a first view")
    }

    /// Joins, in place of its earlier life if that is still a member.
    pub(crate) fn join(&mut self, chance: &mut Chance, node: NodeId) -> MemberId {
        let id = MemberId { node, incarnation: Incarnation(self.index + 1) };
        let rejoin_renews = self.rejoin_renews;
        self.change(chance, |view, chance, index| {
            view.members.insert(node, Arc::new(member(id)));
            let partitions = Arc::make_mut(&mut view.partitions);
            for partition in partitions {
                let stays = partition.owner.is_some_and(|owner| owner.node == node);
                if stays && !rejoin_renews {
                    partition.owner = Some(id);
                } else if !stays && chance.percent(50) {
                    assign(partition, Some(id), index);
                }
            }
        });
        id
    }

    /// Removes a member whose lease has ended, or that has left.
    pub(crate) fn remove(&mut self, chance: &mut Chance, member: MemberId) {
        self.change(chance, |view, _, _| {
            view.members.remove(&member.node);
        });
    }

    /// Marks a member as leaving.
    pub(crate) fn leave(&mut self, chance: &mut Chance, member: MemberId) {
        self.change(chance, |view, _, _| {
            if let Some(member) = view.members.get_mut(&member.node) {
                Arc::make_mut(member).state = MemberState::Leaving;
            }
        });
    }

    fn change(&mut self, chance: &mut Chance, change: impl FnOnce(&mut View, &mut Chance, u64)) {
        self.index += 1;
        let mut view = View::clone(self.last());
        view.version.0 += 1;
        change(&mut view, chance, self.index);
        let active = active(&view);
        for partition in Arc::make_mut(&mut view.partitions) {
            if partition.owner.is_none_or(|owner| !active.contains(&owner))
                && (partition.owner.is_some() || !active.is_empty())
            {
                assign(partition, chance.pick(&active), self.index);
            }
        }
        self.index += chance.below(3) as u64;
        self.views.push(Arc::new(view));
    }
}

pub(crate) fn active(view: &View) -> Vec<MemberId> {
    view.members.values().filter(|member| member.state == MemberState::Active).map(|member| member.id).collect()
}

/// The previous owner is the last one there was, also if there was none for a while.
fn assign(partition: &mut Partition, owner: Option<MemberId>, index: u64) {
    if let Some(last) = partition.owner {
        partition.previous = Some((last, partition.epoch));
    }
    (partition.owner, partition.epoch) = (owner, Epoch(index));
}

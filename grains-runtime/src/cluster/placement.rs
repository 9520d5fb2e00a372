//! Which member gets a new activation: pure, asked by the owner of the grain's partition, honoured whoever calls first.

use super::{
    member::{Member, MemberState, Placement, Strategy},
    names::{MemberId, NodeId, PartitionId},
    partition::Slot,
    view::View,
};

/// No member can host a new activation. The call was not executed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum NoHost {
    /// No member hosts this grain type: it is registered nowhere, or those that host it are not there yet.
    #[error("no member of the cluster hosts grain type \"{grain_type}\"")]
    NotHosted {
        /// The grain type.
        grain_type: String,
    },
    /// Members host this grain type, and all of them are about to leave.
    #[error("all members that host grain type \"{grain_type}\" are leaving")]
    AllLeaving {
        /// The grain type.
        grain_type: String,
    },
    /// Members host this grain type, but none of them has the role that it asks for.
    #[error("no member that hosts grain type \"{grain_type}\" has role \"{role}\"")]
    NoneWithRole {
        /// The grain type.
        grain_type: String,
        /// The role.
        role: String,
    },
}

/// Chooses the member for a new activation of a grain of `grain_type` in `partition`. `caller` is the node whose call
/// needs it, `draw` a random number.
pub(crate) fn choose(
    view: &View,
    grain_type: &str,
    partition: PartitionId,
    caller: Option<NodeId>,
    draw: u64,
) -> Result<MemberId, NoHost> {
    let hosts = Hosts::of(view, grain_type)?;
    let owner = || view.partition(partition).and_then(|partition| partition.owner);
    let chosen = match hosts.strategy {
        Strategy::Hash => hosts.find(|host| Some(host.id) == owner()).or_else(|| hosts.by_hash(partition)),
        Strategy::Random => hosts.by_draw(draw),
        Strategy::PreferLocal => hosts.find(|host| Some(host.id.node) == caller).or_else(|| hosts.by_draw(draw)),
    };
    chosen.ok_or_else(|| NoHost::NotHosted { grain_type: grain_type.to_owned() })
}

/// The members that can host a grain type, at least one.
struct Hosts<'a> {
    strategy: Strategy,
    members: Vec<&'a Member>,
}

impl<'a> Hosts<'a> {
    fn of(view: &'a View, grain_type: &str) -> Result<Self, NoHost> {
        let types = |member: &&Member| member.joiner.grain_types.contains_key(grain_type);
        let all: Vec<_> = view.members.values().map(|member| &**member).filter(types).collect();
        if all.is_empty() {
            return Err(NoHost::NotHosted { grain_type: grain_type.to_owned() });
        }
        let mut members: Vec<_> = all.into_iter().filter(|member| member.state == MemberState::Active).collect();
        // During an upgrade members may disagree on how the type is placed: the one that has been here longest decides.
        let oldest = members.iter().min_by_key(|member| member.id.incarnation);
        let Some(Placement { strategy, role }) = oldest.and_then(|member| member.joiner.grain_types.get(grain_type))
        else {
            return Err(NoHost::AllLeaving { grain_type: grain_type.to_owned() });
        };
        if let Some(role) = role {
            members.retain(|member| member.joiner.roles.contains(role));
            if members.is_empty() {
                return Err(NoHost::NoneWithRole { grain_type: grain_type.to_owned(), role: role.clone() });
            }
        }
        Ok(Self { strategy: *strategy, members })
    }

    fn find(&self, is: impl Fn(&Member) -> bool) -> Option<MemberId> {
        self.members.iter().find(|member| is(member)).map(|member| member.id)
    }

    fn by_hash(&self, partition: PartitionId) -> Option<MemberId> {
        let candidates = self.members.iter().map(|member| (member.id.node, member.joiner.capacity));
        let node = Slot::of_partition(partition).falls_to(candidates)?;
        self.find(|host| host.id.node == node)
    }

    /// Each as likely as its capacity says.
    fn by_draw(&self, draw: u64) -> Option<MemberId> {
        let capacity = |member: &Member| u64::from(member.joiner.capacity.max(1));
        let total: u64 = self.members.iter().map(|member| capacity(member)).sum();
        let mut left = ((u128::from(draw) * u128::from(total)) >> 64) as u64;
        let hit = |member: &&&Member| match left.checked_sub(capacity(member)) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        };
        self.members.iter().find(hit).map(|member| member.id)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use litemap::LiteMap;

    use super::*;
    use crate::cluster::{
        names::{Epoch, Incarnation},
        state::tests::joiner,
        view::Partition,
    };

    /// Members 1, 2 .. in the order in which they joined; `edit` makes each what a test needs.
    fn view(count: u64, edit: impl Fn(u64, &mut Member)) -> View {
        let member = |node| {
            let id = MemberId { node: NodeId(node), incarnation: Incarnation(node) };
            let mut member = Member { id, joiner: joiner(node, &format!("m{node}")), state: MemberState::Active };
            member.joiner.grain_types = LiteMap::from_iter([("cart".to_owned(), Placement::default())]);
            edit(node, &mut member);
            (id.node, Arc::new(member))
        };
        let members: LiteMap<_, _> = (1..=count).map(member).collect();
        let owned = |node| Partition { owner: Some(members[&node].id), epoch: Epoch(1), previous: None };
        View { partitions: Arc::new((1..=count).map(|node| owned(NodeId(node))).collect()), members, ..View::default() }
    }

    fn placed(strategy: Strategy, role: Option<&str>) -> LiteMap<String, Placement> {
        [("cart".to_owned(), Placement { strategy, role: role.map(str::to_owned) })].into_iter().collect()
    }

    fn chosen(view: &View, partition: u16, caller: u64, draw: u64) -> Result<u64, NoHost> {
        choose(view, "cart", PartitionId(partition), Some(NodeId(caller)), draw).map(|id| id.node.0)
    }

    #[test]
    fn by_hash_the_owner_hosts_and_otherwise_always_the_same_one() {
        let mut view = view(3, |_, _| {});
        assert_eq!((chosen(&view, 0, 3, 9), chosen(&view, 2, 1, 9)), (Ok(1), Ok(3)));
        let owner = Arc::make_mut(view.members.get_mut(&NodeId(2)).unwrap());
        owner.joiner.grain_types.clear();
        let other = chosen(&view, 1, 1, 0);
        assert!(other == Ok(1) || other == Ok(3));
        assert!((0..50).all(|draw| chosen(&view, 1, draw % 4, u64::MAX / 50 * draw) == other));
    }

    #[test]
    fn at_random_each_is_as_likely_as_its_capacity_says() {
        let view = view(3, |node, member| {
            member.joiner.capacity = node as u32;
            member.joiner.grain_types = placed(Strategy::Random, None);
        });
        let mut counts = [0; 4];
        for draw in 0..600 {
            counts[chosen(&view, 0, 1, u64::MAX / 600 * draw + u64::MAX / 1_200).unwrap() as usize] += 1;
        }
        assert_eq!(counts, [0, 100, 200, 300]);
        assert_eq!(chosen(&view, 0, 1, u64::MAX), Ok(3));
    }

    #[test]
    fn the_caller_hosts_if_it_can_when_local_is_preferred() {
        let view = view(3, |node, member| {
            member.joiner.grain_types = placed(Strategy::PreferLocal, None);
            if node == 2 {
                member.state = MemberState::Leaving;
            }
        });
        assert_eq!((chosen(&view, 0, 3, 0), chosen(&view, 0, 1, u64::MAX)), (Ok(3), Ok(1)));
        assert_eq!((chosen(&view, 0, 2, 0), chosen(&view, 0, 2, u64::MAX)), (Ok(1), Ok(3)));
        assert_eq!(choose(&view, "cart", PartitionId(0), None, 0).map(|id| id.node.0), Ok(1));
    }

    #[test]
    fn only_members_with_the_role_host() {
        let view = view(3, |node, member| {
            member.joiner.grain_types = placed(Strategy::Hash, Some("game"));
            if node == 2 {
                member.joiner.roles.insert("game".into());
            }
        });
        assert!((0..3).all(|partition| chosen(&view, partition, 1, 0) == Ok(2)));
    }

    #[test]
    fn the_oldest_host_says_how_a_type_is_placed() {
        let view = view(3, |node, member| match node {
            1 => member.joiner.grain_types.clear(),
            2 => member.joiner.grain_types = placed(Strategy::PreferLocal, None),
            _ => member.joiner.grain_types = placed(Strategy::Hash, Some("nobody")),
        });
        assert_eq!(chosen(&view, 0, 3, 0), Ok(3));
    }

    #[test]
    fn a_refusal_says_what_is_missing() {
        let grain_type = || "cart".to_owned();
        let nowhere = view(2, |_, member| member.joiner.grain_types.clear());
        assert_eq!(chosen(&nowhere, 0, 1, 0), Err(NoHost::NotHosted { grain_type: grain_type() }));
        let leaving = view(2, |_, member| member.state = MemberState::Leaving);
        assert_eq!(chosen(&leaving, 0, 1, 0), Err(NoHost::AllLeaving { grain_type: grain_type() }));
        let roleless = view(2, |_, member| member.joiner.grain_types = placed(Strategy::Random, Some("game")));
        let missing = NoHost::NoneWithRole { grain_type: grain_type(), role: "game".into() };
        assert_eq!(chosen(&roleless, 0, 1, 0), Err(missing));
    }
}

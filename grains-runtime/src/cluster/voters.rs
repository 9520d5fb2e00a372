//! Who should vote in Raft: pure, asked by the leader whenever the view has changed and now and then.

use std::{collections::BTreeSet, time::Duration};

use grains_core::Instant;
use litemap::LiteMap;

use super::{
    member::{Member, MemberState},
    names::{NodeId, NodeName},
    view::View,
};

/// How seats are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VoterRules {
    /// How many voters there should be: 1, 3 or 5. More cost every write, an even number helps nobody.
    pub(crate) target: usize,
    /// For how long the holder of a seat is gone before another one gets it.
    pub(crate) replace_after: Duration,
}

impl Default for VoterRules {
    fn default() -> Self {
        Self { target: 3, replace_after: Duration::from_secs(60) }
    }
}

/// The next step towards the voters that there should be, with their addresses; none if all is well.
///
/// `former` are the names of earlier members ([`ClusterState::former`](super::state::ClusterState::former)), `gone_since`
/// says since when the caller has not seen a voter among the members. One change at a time: addresses first, then one
/// seat, then more seats. Voters never become fewer: a small group forgets sooner than a large one blocks.
pub(crate) fn wanted(
    view: &View,
    former: &LiteMap<NodeId, NodeName>,
    voters: &LiteMap<NodeId, String>,
    gone_since: &LiteMap<NodeId, Instant>,
    now: Instant,
    rules: VoterRules,
) -> Option<LiteMap<NodeId, String>> {
    let election = Election { view, former, voters, gone_since, now, rules };
    election.moved().or_else(|| election.replaced()).or_else(|| election.grown())
}

struct Election<'a> {
    view: &'a View,
    former: &'a LiteMap<NodeId, NodeName>,
    voters: &'a LiteMap<NodeId, String>,
    gone_since: &'a LiteMap<NodeId, Instant>,
    now: Instant,
    rules: VoterRules,
}

impl Election<'_> {
    /// Voters that members reach elsewhere now.
    fn moved(&self) -> Option<LiteMap<NodeId, String>> {
        let address = |node: &NodeId| self.view.members.get(node).map(|member| member.joiner.address.clone());
        let current = |(node, old): (&NodeId, &String)| (*node, address(node).unwrap_or_else(|| old.clone()));
        let current: LiteMap<_, _> = self.voters.iter().map(current).collect();
        (current != *self.voters).then_some(current)
    }

    /// One seat given to another member: first that of a node that cannot come back, then that of one that leaves, then
    /// that of one that has been gone for long.
    fn replaced(&self) -> Option<LiteMap<NodeId, String>> {
        let seats = || self.voters.keys().copied();
        let lost = || seats().find_map(|node| self.successor(node).map(|successor| (node, Some(successor))));
        let leaving = || seats().find(|node| self.is_leaving(*node)).map(|node| (node, None));
        let gone = || seats().find(|node| self.is_long_gone(*node)).map(|node| (node, None));
        let (seat, successor) = lost().or_else(leaving).or_else(gone)?;
        let free = self.free();
        let next = free.iter().find(|member| Some(member.id.node) == successor).or(free.first())?;
        let mut voters = self.voters.clone();
        voters.remove(&seat);
        voters.insert(next.id.node, next.joiner.address.clone());
        Some(voters)
    }

    /// The node that has come back under the name of `seat`: it lost its directory, and `seat` will never vote again.
    fn successor(&self, seat: NodeId) -> Option<NodeId> {
        let name = self.former.get(&seat).filter(|_| !self.view.members.contains_key(&seat))?;
        self.view.members.values().find(|member| member.joiner.name == *name).map(|member| member.id.node)
    }

    fn is_leaving(&self, seat: NodeId) -> bool {
        self.view.members.get(&seat).is_some_and(|member| member.state == MemberState::Leaving)
    }

    fn is_long_gone(&self, seat: NodeId) -> bool {
        let since = self.gone_since.get(&seat).filter(|_| !self.view.members.contains_key(&seat));
        since.is_some_and(|since| self.now.since(*since) >= self.rules.replace_after)
    }

    /// As many more seats as make an odd number that there are members for.
    fn grown(&self) -> Option<LiteMap<NodeId, String>> {
        let free = self.free();
        let active = self.active().count();
        let odd = |count: usize| if count.is_multiple_of(2) { count.saturating_sub(1) } else { count };
        let missing =
            odd(self.rules.target.min(active)).checked_sub(self.voters.len()).filter(|missing| *missing > 0)?;
        // With too few for all of the missing seats, an even number would be the result: wait for one more.
        let more = free.get(..missing)?.iter().map(|member| (member.id.node, member.joiner.address.clone()));
        Some(self.voters.clone().into_iter().chain(more).collect())
    }

    /// The active members without a seat, the oldest first: they have shown that they stay.
    fn free(&self) -> Vec<&Member> {
        let seats: BTreeSet<_> = self.voters.keys().collect();
        let mut free: Vec<_> = self.active().filter(|member| !seats.contains(&member.id.node)).collect();
        free.sort_by_key(|member| member.id.incarnation);
        free
    }

    fn active(&self) -> impl Iterator<Item = &Member> {
        self.view.members.values().map(|member| &**member).filter(|member| member.state == MemberState::Active)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cluster::{
        names::{Incarnation, MemberId},
        state::tests::joiner,
    };

    fn view(members: &[(u64, MemberState)]) -> View {
        let member = |(node, state): &(u64, MemberState)| {
            let id = MemberId { node: NodeId(*node), incarnation: Incarnation(100 - node) };
            (id.node, Arc::new(Member { id, joiner: joiner(*node, &format!("m{node}")), state: *state }))
        };
        View { members: members.iter().map(member).collect(), ..View::default() }
    }

    fn active(nodes: &[u64]) -> View {
        view(&nodes.iter().map(|node| (*node, MemberState::Active)).collect::<Vec<_>>())
    }

    fn voters(nodes: &[u64]) -> LiteMap<NodeId, String> {
        nodes.iter().map(|node| (NodeId(*node), joiner(*node, "x").address)).collect()
    }

    fn target(target: usize) -> VoterRules {
        VoterRules { target, ..VoterRules::default() }
    }

    fn step(view: &View, seats: &[u64], rules: VoterRules) -> Option<LiteMap<NodeId, String>> {
        wanted(view, &LiteMap::default(), &voters(seats), &LiteMap::default(), Instant::default(), rules)
    }

    #[test]
    fn voters_grow_by_odd_numbers_with_the_oldest_members() {
        assert_eq!(step(&active(&[1]), &[1], target(3)), None);
        assert_eq!(step(&active(&[1, 2]), &[1], target(3)), None);
        assert_eq!(step(&active(&[1, 2, 3]), &[1], target(3)), Some(voters(&[1, 2, 3])));
        assert_eq!(step(&active(&[1, 2, 3, 4]), &[1], target(3)), Some(voters(&[1, 3, 4])), "4 and 3 are the oldest");
        assert_eq!(step(&active(&[1, 2, 3, 4]), &[1], target(5)), Some(voters(&[1, 3, 4])));
        assert_eq!(step(&active(&[1, 2, 3, 4, 5]), &[1, 2, 3], target(5)), Some(voters(&[1, 2, 3, 4, 5])));
        assert_eq!(step(&active(&[1, 2, 3, 4, 5]), &[1, 2, 3], target(3)), None);
        assert_eq!(step(&active(&[1, 2, 3]), &[1], target(1)), None);
    }

    #[test]
    fn voters_never_become_fewer() {
        assert_eq!(step(&active(&[1]), &[1, 2, 3], target(3)), None);
        assert_eq!(step(&active(&[1, 2, 3, 4, 5]), &[1, 2, 3, 4, 5], target(3)), None);
        let leaving = view(&[(1, MemberState::Active), (2, MemberState::Leaving), (3, MemberState::Active)]);
        assert_eq!(step(&leaving, &[1, 2, 3], target(3)), None, "there is nobody to take its seat");
    }

    #[test]
    fn the_seat_of_a_leaving_member_is_given_away_at_once() {
        let leaving = view(&[(1, MemberState::Active), (2, MemberState::Leaving), (3, MemberState::Active)]);
        assert_eq!(step(&leaving, &[1, 2], target(1)), Some(voters(&[1, 3])));
    }

    #[test]
    fn a_seat_is_given_away_when_its_holder_has_been_gone_for_long() {
        let view = active(&[1, 2, 4]);
        let gone = LiteMap::from_iter([(NodeId(3), Instant::from_nanos(0))]);
        let at = |secs| Instant::default() + Duration::from_secs(secs);
        let step = |now| wanted(&view, &LiteMap::default(), &voters(&[1, 2, 3]), &gone, now, target(3));
        assert_eq!(step(at(59)), None);
        assert_eq!(step(at(60)), Some(voters(&[1, 2, 4])));
        let back = active(&[1, 2, 3, 4]);
        assert_eq!(wanted(&back, &LiteMap::default(), &voters(&[1, 2, 3]), &gone, at(99), target(3)), None);
    }

    #[test]
    fn a_node_that_lost_its_directory_takes_its_old_seat_at_once() {
        let mut view = active(&[1, 2, 4, 5]);
        let renamed = Arc::make_mut(view.members.get_mut(&NodeId(4)).unwrap());
        renamed.joiner.name = NodeName::new("m3").unwrap();
        let former = LiteMap::from_iter([(NodeId(3), NodeName::new("m3").unwrap())]);
        let step = |seats| wanted(&view, &former, &voters(seats), &LiteMap::default(), Instant::default(), target(3));
        assert_eq!(step(&[1, 2, 3]), Some(voters(&[1, 2, 4])), "although 5 is older");
        assert_eq!(step(&[1, 4, 3]), Some(voters(&[1, 4, 5])), "it votes already");
    }

    #[test]
    fn voters_follow_their_members_addresses_before_anything_else() {
        let view = active(&[1, 2, 3]);
        let old = LiteMap::from_iter([(NodeId(1), "old:1".to_owned())]);
        let next = wanted(&view, &LiteMap::default(), &old, &LiteMap::default(), Instant::default(), target(3));
        assert_eq!(next, Some(voters(&[1])));
    }
}

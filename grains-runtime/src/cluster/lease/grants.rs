//! The leader's half: until when each member may believe that it holds a lease, and whose has ended.

use std::{collections::BTreeMap, time::Duration};

use grains_core::{
    Instant,
    switches::{Mechanism, on},
};

use super::LeaseRules;
use crate::cluster::{
    command::Ended,
    member::Member,
    names::{MemberId, NodeId, ViewVersion},
    view::View,
};

/// What the leader has granted. Lives in memory only: a new leader begins with a whole lease for everybody.
#[derive(Clone, Debug)]
pub(crate) struct Grants {
    rules: LeaseRules,
    leads: bool,
    term: u64,
    /// When it last looked at its clock.
    noticed: Instant,
    members: BTreeMap<MemberId, Granted>,
    /// Since when each of the latest views has been known here, the oldest being what every member must have applied.
    views: BTreeMap<ViewVersion, Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Granted {
    /// The process that this incarnation is of.
    process: u64,
    until: Instant,
    /// Its end has been told to the log: there is no way back, whatever it sends.
    ending: bool,
}

/// A certificate of death: this process of this node has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    /// Which node.
    pub(crate) node: NodeId,
    /// The number of the process, as in [`Joiner::process`](crate::cluster::member::Joiner::process).
    pub(crate) process: u64,
}

/// Whom a certificate of death is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// No member.
    Nobody,
    /// This one. Propose to evict it, in this term.
    Ended(Ended),
    /// One whose removal is on its way.
    Ending,
    /// This node does not lead.
    NotLeading,
}

/// A renewal extends nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum RenewRefused {
    /// This node does not lead, or no longer as it did when the renewal came. Another node may.
    #[error("this node does not lead the cluster")]
    NotLeading,
    /// No view that this leader knows has this incarnation: it was removed, or the leader has yet to hear of it.
    #[error("{member} is not a member of the cluster")]
    NotMember {
        /// Who asks.
        member: MemberId,
    },
    /// Its lease has ended, and its removal is on its way.
    #[error("the lease of {member} has ended")]
    Ended {
        /// Who asks.
        member: MemberId,
    },
    /// It follows the cluster too slowly: nothing could be taken over from a member that does not hear of it.
    #[error("{member} has applied view {applied}, and {needed} is long known")]
    Behind {
        /// Who asks.
        member: MemberId,
        /// What it has.
        applied: ViewVersion,
        /// What it should have.
        needed: ViewVersion,
    },
}

/// More views than there are during one lease; of more, the latest count.
const VIEWS_MAX: usize = 1_024;

impl Grants {
    /// Of a node that does not lead.
    pub(crate) fn new(rules: LeaseRules) -> Self {
        let noticed = Instant::from_nanos(0);
        Self { rules, leads: false, term: 0, noticed, members: BTreeMap::new(), views: BTreeMap::new() }
    }

    /// This node leads in `term`. Every member has a whole lease from now; say who they are by [`members`](Self::members).
    ///
    /// Leading again in the same term forgets nothing that was ended in it: those commands are on their way.
    pub(crate) fn lead(&mut self, now: Instant, term: u64) {
        if term < self.term || (self.leads && term == self.term) {
            return;
        }
        if term > self.term {
            self.members.clear();
        }
        (self.leads, self.term) = (true, term);
        self.start_anew(now);
    }

    /// This node does not lead: it grants nothing and ends nothing.
    pub(crate) fn stop(&mut self) {
        self.leads = false;
    }

    /// A view has been applied here. New members have a whole lease from now; those that are gone need none.
    pub(crate) fn members(&mut self, now: Instant, view: &View) {
        if !self.leads {
            return;
        }
        self.notice(now);
        // Who was alone did not renew, or nobody minded: see `Lease::ends_again`.
        if self.members.len() == 1 {
            self.extend_all(now);
        }
        // All that a leader sees first in its term held leases of others, but one that is alone.
        let is_new = self.members.is_empty() && view.members.len() > 1;
        let waits = !is_new || on(Mechanism::NewLeaderWaits);
        let until = if waits { now + self.granted() } else { now };
        let granted = |member: &Member| {
            let whole = Granted { process: member.joiner.process, until, ending: false };
            self.members.get(&member.id).copied().unwrap_or(whole)
        };
        self.members = view.members.values().map(|member| (member.id, granted(member))).collect();
        self.views.entry(view.version).or_insert(now);
        while self.views.len() > VIEWS_MAX {
            self.views.pop_first();
        }
    }

    /// A renewal has come from `member`, which has applied the view `applied`. Gives the term in which it was granted.
    ///
    /// It must not be acknowledged yet: ask a quorum first, then [`confirm`](Self::confirm).
    pub(crate) fn renewed(
        &mut self,
        now: Instant,
        member: MemberId,
        applied: ViewVersion,
    ) -> Result<u64, RenewRefused> {
        self.notice(now);
        self.may_renew(member, self.term)?;
        let needed = self.needed(now);
        if applied < needed {
            return Err(RenewRefused::Behind { member, applied, needed });
        }
        let length = self.granted();
        if let Some(granted) = self.members.get_mut(&member) {
            granted.until = granted.until.max(now + length);
        }
        Ok(self.term)
    }

    /// A quorum, asked after the renewal came, has confirmed that this node leads, and every entry that was committed
    /// until then has been applied and told to [`members`](Self::members). Whether the renewal may be acknowledged: the
    /// member may have been removed by an earlier leader's entry in the meantime.
    pub(crate) fn confirm(&self, member: MemberId, term: u64) -> Result<(), RenewRefused> {
        if on(Mechanism::MemberCheckedAfterRound) { self.may_renew(member, term) } else { Ok(()) }
    }

    fn may_renew(&self, member: MemberId, term: u64) -> Result<(), RenewRefused> {
        if !self.leads || term != self.term {
            return Err(RenewRefused::NotLeading);
        }
        match self.members.get(&member) {
            None => Err(RenewRefused::NotMember { member }),
            Some(granted) if granted.ending && on(Mechanism::EvictBlocksRenewal) => Err(RenewRefused::Ended { member }),
            Some(_) => Ok(()),
        }
    }

    /// Whose lease has ended since the last time. Propose to evict them, in this term; from now on they cannot renew.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Ended> {
        self.notice(now);
        let ids: Vec<_> = self.members.iter().filter(|(_, granted)| !granted.ending).map(|(id, _)| *id).collect();
        ids.into_iter().filter_map(|id| self.ended(now, id)).collect()
    }

    /// The proof that the lease of `member` has ended, if it has, for whoever joins in its place. From then on it cannot
    /// renew.
    pub(crate) fn ended(&mut self, now: Instant, member: MemberId) -> Option<Ended> {
        self.notice(now);
        let granted = self.members.get_mut(&member).filter(|granted| self.leads && now >= granted.until)?;
        granted.ending = true;
        Some(Ended { member, term: self.term })
    }

    /// A process has ended, for certain: none of its incarnations acts any more, however long its lease is and whoever has
    /// granted it. The proof of that for the one that is a member, if any is; from now on it cannot renew.
    ///
    /// Ask a quorum first, and tell [`members`](Self::members): a leader that has yet to hear of a member finds nobody.
    pub(crate) fn process_ended(&mut self, now: Instant, Ending { node, process }: Ending) -> Found {
        if !self.leads {
            return Found::NotLeading;
        }
        self.notice(now);
        let exactly = on(Mechanism::CertificateNamesProcess);
        let is_it = |id: &MemberId, granted: &Granted| id.node == node && (granted.process == process || !exactly);
        match self.members.iter_mut().find(|(id, granted)| is_it(id, granted)) {
            None => Found::Nobody,
            Some((_, granted)) if granted.ending => Found::Ending,
            Some((member, granted)) => {
                granted.ending = true;
                Found::Ended(Ended { member: *member, term: self.term })
            }
        }
    }

    /// What was proposed to remove `member` has been applied and has not removed it, or has certainly not entered the
    /// log. *Not* for a proposal whose fate is unknown: it may yet be applied, and must not find a lease renewed.
    pub(crate) fn eviction_failed(&mut self, member: MemberId) {
        if let Some(granted) = self.members.get_mut(&member) {
            granted.ending = false;
        }
    }

    /// How long it takes at most until the lease of `member` has ended, if it does not renew.
    pub(crate) fn lease_left(&self, now: Instant, member: MemberId) -> Duration {
        if !self.leads {
            return self.rules.length;
        }
        self.members.get(&member).map_or(Duration::ZERO, |granted| granted.until.since(now))
    }

    /// The view that every member must have applied: the latest of those known for longer than a lease.
    fn needed(&mut self, now: Instant) -> ViewVersion {
        let old = self.views.iter().filter(|(_, since)| now.since(**since) > self.rules.length);
        let needed = old.map(|(version, _)| *version).max();
        let Some(needed) = needed else { return ViewVersion(0) };
        self.views = self.views.split_off(&needed);
        needed
    }

    /// How long nobody is evicted whose renewal has come.
    fn granted(&self) -> Duration {
        if on(Mechanism::EvictWaits) { self.rules.length } else { self.rules.length / 2 }
    }

    /// A leader that was itself stopped has heard of no renewal meanwhile: what it granted before says nothing.
    fn notice(&mut self, now: Instant) {
        if now.since(self.noticed) > self.rules.tick_interval_max() && on(Mechanism::StoppedLeaderWaits) {
            self.start_anew(now);
        }
        self.noticed = self.noticed.max(now);
    }

    /// Nobody could have told this leader anything until now.
    fn start_anew(&mut self, now: Instant) {
        self.noticed = self.noticed.max(now);
        self.extend_all(now);
        self.views.values_mut().for_each(|since| *since = now);
    }

    fn extend_all(&mut self, now: Instant) {
        let until = now + self.granted();
        self.members.values_mut().for_each(|granted| granted.until = granted.until.max(until));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cluster::{member::MemberState, names::Incarnation, state::tests::joiner};

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    fn id(node: u64) -> MemberId {
        MemberId { node: NodeId(node), incarnation: Incarnation(node) }
    }

    fn view(version: u64, nodes: &[u64]) -> View {
        let member = |node: &u64| {
            let joiner = joiner(*node, &format!("m{node}"));
            (NodeId(*node), Arc::new(Member { id: id(*node), joiner, state: MemberState::Active }))
        };
        View { version: ViewVersion(version), members: nodes.iter().map(member).collect(), ..View::default() }
    }

    /// Leads members 1 and 2 in term 3 from 1 s on, at view 10.
    fn leading() -> Grants {
        let mut grants = Grants::new(LeaseRules::default());
        grants.lead(at(1_000), 3);
        grants.members(at(1_000), &view(10, &[1, 2]));
        grants
    }

    /// Ticks as often as a driver does, and gives what ended at the last one.
    fn ticks(grants: &mut Grants, from: u64, to: u64) -> Vec<Ended> {
        let last = (from..to).step_by(200).map(|now| grants.tick(at(now))).collect::<Vec<_>>();
        assert!(last.iter().all(Vec::is_empty), "{last:?}");
        grants.tick(at(to))
    }

    const VIEW: ViewVersion = ViewVersion(10);

    #[test]
    fn a_new_leader_ends_nothing_before_a_whole_lease_is_over() {
        let mut grants = leading();
        assert_eq!(ticks(&mut grants, 1_000, 2_999), []);
        let ended = [1, 2].map(|node| Ended { member: id(node), term: 3 });
        assert_eq!(grants.tick(at(3_000)), ended);
        assert_eq!(grants.tick(at(3_100)), [], "told once");
    }

    #[test]
    fn a_renewal_moves_the_end_and_an_ended_lease_is_not_renewed() {
        let mut grants = leading();
        ticks(&mut grants, 1_000, 2_000);
        assert_eq!(grants.renewed(at(2_000), id(1), VIEW), Ok(3));
        assert_eq!(grants.lease_left(at(2_500), id(1)), Duration::from_millis(1_500));
        assert_eq!(ticks(&mut grants, 2_100, 3_000), [Ended { member: id(2), term: 3 }]);
        assert_eq!(grants.renewed(at(3_000), id(2), VIEW), Err(RenewRefused::Ended { member: id(2) }));
        grants.members(at(3_010), &view(11, &[1, 2, 3]));
        let refused = grants.renewed(at(3_020), id(2), VIEW);
        assert_eq!(
            refused,
            Err(RenewRefused::Ended { member: id(2) }),
            "another change is not the end of its eviction"
        );
        grants.eviction_failed(id(2));
        assert_eq!(grants.renewed(at(3_030), id(2), VIEW), Ok(3));
    }

    /// The process of member `node`, as `joiner` numbers them.
    fn ending(node: u64) -> Ending {
        Ending { node: NodeId(node), process: node }
    }

    #[test]
    fn of_a_process_that_has_ended_no_lease_is_waited_for() {
        let mut grants = leading();
        assert_eq!(grants.renewed(at(1_100), id(2), VIEW), Ok(3));
        assert_eq!(grants.process_ended(at(1_100), ending(2)), Found::Ended(Ended { member: id(2), term: 3 }));
        assert_eq!(grants.renewed(at(1_110), id(2), VIEW), Err(RenewRefused::Ended { member: id(2) }));
        assert_eq!(
            grants.confirm(id(2), 3),
            Err(RenewRefused::Ended { member: id(2) }),
            "nor is the first acknowledged"
        );
        assert_eq!(grants.process_ended(at(1_120), ending(2)), Found::Ending, "told once");
        assert_eq!(grants.tick(at(1_130)), []);
        grants.members(at(1_140), &view(11, &[1]));
        assert_eq!(grants.process_ended(at(1_150), ending(2)), Found::Nobody);
        grants.stop();
        assert_eq!(grants.process_ended(at(1_160), ending(1)), Found::NotLeading);
    }

    #[test]
    fn a_certificate_is_about_one_process_of_a_node() {
        let mut grants = leading();
        let earlier = Ending { process: 77, ..ending(2) };
        assert_eq!(grants.process_ended(at(1_100), earlier), Found::Nobody, "it was started again meanwhile");
        let namesake = Ending { node: NodeId(9), ..ending(2) };
        assert_eq!(grants.process_ended(at(1_100), namesake), Found::Nobody);
        assert_eq!(grants.renewed(at(1_110), id(2), VIEW), Ok(3));
    }

    #[test]
    fn strangers_and_followers_grant_nothing() {
        let mut grants = leading();
        assert_eq!(grants.renewed(at(1_100), id(9), VIEW), Err(RenewRefused::NotMember { member: id(9) }));
        assert_eq!(grants.lease_left(at(1_100), id(9)), Duration::ZERO);
        grants.stop();
        assert_eq!(grants.renewed(at(1_100), id(1), VIEW), Err(RenewRefused::NotLeading));
        assert_eq!((grants.tick(at(9_000)), grants.ended(at(9_000), id(1))), (vec![], None));
        assert_eq!(grants.lease_left(at(9_000), id(1)), Duration::from_secs(2));
    }

    #[test]
    fn an_acknowledgement_needs_the_same_term_and_a_member_that_is_still_there() {
        let mut grants = leading();
        let term = grants.renewed(at(1_100), id(1), VIEW).unwrap();
        assert_eq!(grants.confirm(id(1), term), Ok(()));
        grants.members(at(1_200), &view(11, &[2]));
        assert_eq!(grants.confirm(id(1), term), Err(RenewRefused::NotMember { member: id(1) }));
        let term = grants.renewed(at(1_300), id(2), VIEW).unwrap();
        grants.stop();
        assert_eq!(grants.confirm(id(2), term), Err(RenewRefused::NotLeading));
        grants.lead(at(1_400), 4);
        grants.members(at(1_400), &view(11, &[2]));
        assert_eq!(grants.confirm(id(2), term), Err(RenewRefused::NotLeading));
    }

    #[test]
    fn a_leader_that_was_stopped_believes_nothing_it_granted_before() {
        let mut grants = leading();
        assert_eq!(grants.tick(at(60_000)), []);
        assert_eq!(ticks(&mut grants, 60_200, 61_999), []);
        assert_eq!(grants.tick(at(62_000)).len(), 2);
    }

    #[test]
    fn no_call_hides_from_the_next_that_the_leader_was_stopped() {
        for first in [
            (|grants| drop(grants.renewed(at(60_000), id(1), VIEW))) as fn(&mut Grants),
            |grants| {
                grants.ended(at(60_000), id(1));
            },
            |grants| grants.members(at(60_000), &view(11, &[1, 2])),
        ] {
            let mut grants = leading();
            first(&mut grants);
            assert_eq!(grants.tick(at(60_001)), []);
        }
    }

    #[test]
    fn leading_again_in_one_term_forgets_no_eviction() {
        let mut grants = leading();
        assert_eq!(ticks(&mut grants, 1_000, 3_000).len(), 2);
        grants.stop();
        grants.lead(at(3_100), 3);
        grants.members(at(3_100), &view(10, &[1, 2]));
        assert_eq!(grants.renewed(at(3_100), id(1), VIEW), Err(RenewRefused::Ended { member: id(1) }));
        grants.lead(at(3_200), 4);
        grants.members(at(3_200), &view(10, &[1, 2]));
        assert_eq!(grants.renewed(at(3_200), id(1), VIEW), Ok(4));
    }

    #[test]
    fn a_member_that_does_not_follow_the_views_is_refused_after_a_lease() {
        let mut grants = leading();
        let renew = |grants: &mut Grants, now, applied| {
            grants.tick(at(now));
            grants.renewed(at(now), id(1), ViewVersion(applied))
        };
        for now in (1_000..=1_400).step_by(100) {
            assert_eq!(renew(&mut grants, now, 10), Ok(3));
        }
        grants.members(at(1_500), &view(11, &[1, 2]));
        for now in (1_600..=3_400).step_by(100) {
            grants.members(at(now), &view(now / 100, &[1, 2]));
            assert_eq!(renew(&mut grants, now, 10), Ok(3), "at {now}");
        }
        let refused = renew(&mut grants, 3_501, 10);
        let (applied, needed) = (ViewVersion(10), ViewVersion(11));
        assert_eq!(refused, Err(RenewRefused::Behind { member: id(1), applied, needed }));
        assert_eq!(renew(&mut grants, 3_502, 11), Ok(3));
    }

    #[test]
    fn a_proof_for_a_joiner_ends_the_lease_it_speaks_of() {
        let mut grants = leading();
        ticks(&mut grants, 1_000, 2_900);
        assert_eq!(grants.renewed(at(2_900), id(1), VIEW), Ok(3));
        assert_eq!(grants.ended(at(3_000), id(1)), None);
        assert_eq!(grants.ended(at(3_000), id(2)), Some(Ended { member: id(2), term: 3 }));
        assert_eq!(grants.renewed(at(3_000), id(2), VIEW), Err(RenewRefused::Ended { member: id(2) }));
        assert_eq!(grants.tick(at(3_001)), [], "its eviction is on its way already");
    }

    #[test]
    fn who_was_alone_has_a_whole_lease_when_a_second_one_joins() {
        let mut grants = Grants::new(LeaseRules::default());
        grants.lead(at(0), 1);
        grants.members(at(0), &view(1, &[1]));
        ticks(&mut grants, 0, 1_900);
        grants.members(at(1_950), &view(2, &[1, 2]));
        assert_eq!(grants.lease_left(at(1_950), id(1)), Duration::from_secs(2));
    }
}

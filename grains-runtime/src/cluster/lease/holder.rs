//! A member's own lease: may it act? One for each incarnation.

use std::collections::BTreeMap;
#[cfg(test)]
use std::time::Duration;

use grains_core::{
    Instant,
    switches::{Mechanism, on},
};
use serde::{Deserialize, Serialize};

use super::LeaseRules;

/// Tells renewals of one lease apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct RenewalNumber(pub(crate) u64);

/// The lease of one incarnation of this node.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    rules: LeaseRules,
    standing: Standing,
    /// The renewals that may still be acknowledged, with the instant of their sending.
    open: BTreeMap<RenewalNumber, Instant>,
    last: Option<(RenewalNumber, Instant)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// No renewal has been acknowledged: it may not act yet.
    Waiting,
    Until(Instant),
    /// The only member and voter: there is nobody who could remove it.
    Endless,
    /// For good: what this incarnation did is at its end, others may be doing it. Only a new incarnation goes on.
    Ended(Instant),
}

/// More than are sent during a lease. The answer to an older one could extend nothing.
const RENEWALS_OPEN_MAX: usize = 64;

impl Lease {
    /// The lease of an incarnation that has just joined. It may act from its first acknowledged renewal on.
    pub(crate) fn new(rules: LeaseRules) -> Self {
        Self { rules, standing: Standing::Waiting, open: BTreeMap::new(), last: None }
    }

    /// A renewal is sent now. Call it before the renewal leaves: all of its way counts.
    pub(crate) fn sent(&mut self, now: Instant) -> RenewalNumber {
        let number = RenewalNumber(self.last.map_or(0, |(last, _)| last.0) + 1);
        self.last = Some((number, now));
        self.open.insert(number, now);
        while self.open.len() > RENEWALS_OPEN_MAX {
            self.open.pop_first();
        }
        number
    }

    /// The leader has acknowledged this renewal. Extends the lease, unless it has ended: an answer that comes after the
    /// end finds others who may have been told that this incarnation no longer acts.
    pub(crate) fn acknowledged(&mut self, now: Instant, number: RenewalNumber) {
        self.notice(now);
        let Some(sent) = self.open.remove(&number) else { return };
        // Renewals sent before it can extend nothing any more.
        self.open = self.open.split_off(&number);
        let from = if on(Mechanism::CountFromSending) { sent } else { now };
        let until = from + self.rules.at_holder();
        self.standing = match self.standing {
            Standing::Waiting if now < until => Standing::Until(until),
            Standing::Until(old) => Standing::Until(old.max(until)),
            unchanged => unchanged,
        };
    }

    /// From now on the lease does not end: this node is the only member, and the only voter, so nobody can remove it, and
    /// it may be suspended for as long as its owner likes. It goes on renewing with itself.
    pub(crate) fn never_ends(&mut self, now: Instant) {
        self.notice(now);
        if !matches!(self.standing, Standing::Ended(_)) {
            self.standing = Standing::Endless;
        }
    }

    /// This node is no longer the only member: its lease ends again, the first time a whole one from now. Call it before
    /// [`Grants::members`](super::Grants::members) hears of the second member, and before another node becomes a voter.
    pub(crate) fn ends_again(&mut self, now: Instant) {
        if self.standing == Standing::Endless && on(Mechanism::CompanyEndsEndlessLease) {
            self.standing = Standing::Until(now + self.rules.at_holder());
        }
    }

    /// Whether a turn may run, a call or a reply leave, a commit begin.
    pub(crate) fn may_act(&self, now: Instant) -> bool {
        now < self.until()
    }

    /// Whether it once held and does no longer: everything of this incarnation ends.
    pub(crate) fn has_ended(&self, now: Instant) -> bool {
        self.standing != Standing::Waiting && !self.may_act(now)
    }

    /// Until when the lease holds, for whoever compares it with the clock itself: the origin of time before it begins,
    /// [`Instant::NEVER`] if it does not end.
    pub(crate) fn until(&self) -> Instant {
        match self.standing {
            Standing::Waiting => Instant::from_nanos(0),
            Standing::Until(until) | Standing::Ended(until) => until,
            Standing::Endless => Instant::NEVER,
        }
    }

    /// How much of the lease is left.
    #[cfg(test)]
    pub(crate) fn left(&self, now: Instant) -> Duration {
        self.until().since(now)
    }

    /// When the next renewal is due.
    #[cfg(test)]
    pub(crate) fn next_renewal(&self) -> Instant {
        self.last.map_or(Instant::from_nanos(0), |(_, sent)| sent + self.rules.renewal_interval())
    }

    fn notice(&mut self, now: Instant) {
        if let Standing::Until(until) = self.standing
            && now >= until
        {
            self.standing = Standing::Ended(until);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    fn lease() -> Lease {
        Lease::new(LeaseRules::default())
    }

    /// 2 s * 0.99 / 1.01 - 50 ms.
    const LEFT_MS: u64 = 1_910;

    #[test]
    fn it_holds_from_the_sending_and_only_once_acknowledged() {
        let mut lease = lease();
        let number = lease.sent(at(100));
        assert!(!lease.may_act(at(100)) && !lease.has_ended(at(100)));
        lease.acknowledged(at(1_000), number);
        assert!(lease.may_act(at(100 + LEFT_MS)));
        assert!(!lease.may_act(at(101 + LEFT_MS)));
        assert_eq!(lease.next_renewal(), at(600));
        assert!(lease.left(at(1_000)) < Duration::from_millis(LEFT_MS - 899));
    }

    #[test]
    fn it_never_shrinks_and_unknown_numbers_change_nothing() {
        let mut lease = lease();
        let (first, second) = (lease.sent(at(0)), lease.sent(at(500)));
        lease.acknowledged(at(510), second);
        let until = lease.until();
        lease.acknowledged(at(520), first);
        lease.acknowledged(at(530), second);
        lease.acknowledged(at(530), RenewalNumber(99));
        assert_eq!(lease.until(), until);
    }

    #[test]
    fn an_ended_lease_never_comes_back() {
        let mut lease = lease();
        let (first, second) = (lease.sent(at(0)), lease.sent(at(1_500)));
        lease.acknowledged(at(1), first);
        assert!(lease.has_ended(at(2_000)));
        lease.acknowledged(at(2_000), second);
        lease.never_ends(at(2_001));
        lease.ends_again(at(2_001));
        assert!(!lease.may_act(at(2_001)) && lease.has_ended(at(2_001)));
    }

    #[test]
    fn an_answer_that_comes_after_its_own_lease_begins_nothing() {
        let mut lease = lease();
        let (late, good) = (lease.sent(at(0)), lease.sent(at(2_000)));
        lease.acknowledged(at(2_100), late);
        assert!(!lease.may_act(at(2_100)) && !lease.has_ended(at(2_100)));
        lease.acknowledged(at(2_200), good);
        assert!(lease.may_act(at(2_200)));
    }

    #[test]
    fn a_sole_member_never_ends_until_it_is_sole_no_more() {
        let mut lease = lease();
        lease.never_ends(at(0));
        assert!(lease.may_act(at(1 << 40)));
        assert_eq!(lease.until(), Instant::NEVER);
        lease.ends_again(at(1 << 40));
        assert!(lease.may_act(at((1 << 40) + LEFT_MS)) && !lease.may_act(at((1 << 40) + LEFT_MS + 1)));
    }

    #[test]
    fn renewals_without_answer_do_not_pile_up() {
        let mut lease = lease();
        let first = lease.sent(at(0));
        for _ in 0..RENEWALS_OPEN_MAX {
            lease.sent(at(1));
        }
        assert_eq!(lease.open.len(), RENEWALS_OPEN_MAX);
        lease.acknowledged(at(2), first);
        assert!(!lease.may_act(at(2)));
    }
}

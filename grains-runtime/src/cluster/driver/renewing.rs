//! One incarnation of this node: from its join until its lease has ended, it was removed, or it has left.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use grains_core::{
    Instant,
    switches::{Mechanism, on},
};

use super::{Driver, Progress};
use crate::{
    activation::lock,
    cluster::{
        control::{Answer, Ask},
        lease::{Lease, RenewalNumber},
        names::{MemberId, ViewVersion},
    },
    tenure::Tenure,
    timeout::timeout,
};

/// How long until a renewal that failed is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// How many renewals may be under way: one for each interval of a lease, and some to spare.
const RENEWALS_MAX: usize = 8;

impl Driver {
    /// Acts as `me` until that is over.
    pub(super) async fn serve(&self, me: MemberId) {
        let tenure = Tenure::until(&self.world, Instant::default());
        *lock(&self.lease) = Some(Lease::new(self.rules));
        self.removed.store(false, Ordering::Release);
        self.clustered.begin(me, tenure.clone());
        if !on(Mechanism::ActsAfterFirstAck)
            && let Some(lease) = &mut *lock(&self.lease)
        {
            let (now, number) = (self.world.clock.now(), lease.sent(self.world.clock.now()));
            lease.acknowledged(now, number);
            tenure.set(lease.until());
        }
        *lock(&self.refused) = None;
        if let Some(wire) = self.wire.get() {
            wire.set_incarnation(Some(me.incarnation));
        }
        self.turn();
        let clock = self.world.clock.clone();
        while !self.is_over(&tenure) {
            let now = clock.now();
            if !on(Mechanism::ActsAfterFirstAck) && self.knows(me) {
                self.now_ready(&tenure);
            }
            if self.renewing.fetch_add(1, Ordering::AcqRel) < RENEWALS_MAX {
                let number = lock(&self.lease).as_mut().map(|lease| lease.sent(now));
                let (me_too, tenure) = (self.arc(), tenure.clone());
                self.tasks.spawn(async move {
                    if let Some(number) = number {
                        me_too.renew_once(me, &tenure, number).await;
                    }
                    me_too.renewing.fetch_sub(1, Ordering::AcqRel);
                });
            } else {
                self.renewing.fetch_sub(1, Ordering::AcqRel);
            }
            let next = now + self.rules.renewal_interval();
            let _stirred = timeout(&clock, next.min(tenure.ends()).since(now), self.stirred.notified()).await;
        }
    }

    /// Whether what `tenure` allows is over for good.
    fn is_over(&self, tenure: &Tenure) -> bool {
        let ended = lock(&self.lease).as_ref().is_some_and(|lease| lease.has_ended(self.world.clock.now()));
        ended || tenure.is_over() || self.removed.load(Ordering::Acquire)
    }

    /// Whether the view that is applied has this node.
    fn knows(&self, me: MemberId) -> bool {
        self.latest().view().member(me).is_some()
    }

    fn now_ready(&self, tenure: &Tenure) {
        let newly = self.standing.send_if_modified(|progress| {
            let newly = matches!(progress, Progress::Waiting(_));
            if newly {
                *progress = Progress::Ready;
            }
            newly
        });
        if newly && tenure.may_act() {
            tracing::info!(node = %self.clustered.name, "ready");
            self.clustered.look_after_singletons();
            self.clustered.retry_parked();
        }
    }

    /// Asks for a whole lease, counted from when it asks. Each renewal goes on for as long as its answer could extend
    /// anything, beside later ones: one that is slow holds up none.
    async fn renew_once(&self, me: MemberId, tenure: &Tenure, number: RenewalNumber) {
        let clock = &self.world.clock;
        let until = clock.now() + self.rules.length;
        while !self.is_over(tenure) && clock.now() < until {
            let view = self.applied_version();
            match self.ask_leader(&Ask::Renew { member: me, view }, until.since(clock.now())).await {
                Some(Answer::Renewed) => return self.extended(me, tenure, number),
                Some(Answer::Gone) => {
                    if self.incarnation() == Some(me) {
                        self.removed.store(true, Ordering::Release);
                        self.stirred.notify_one();
                    }
                    return;
                }
                Some(Answer::Refused(why)) => {
                    tracing::debug!(why, "the lease was not renewed");
                    self.follow_another();
                }
                _ => {}
            }
            clock.sleep_until(clock.now() + AGAIN_AFTER).await;
        }
    }

    fn extended(&self, me: MemberId, tenure: &Tenure, number: RenewalNumber) {
        {
            let mut lease = lock(&self.lease);
            // Asked under the lock that the next incarnation takes to put its own lease there.
            let Some(lease) = lease.as_mut().filter(|_| self.incarnation() == Some(me)) else { return };
            lease.acknowledged(self.world.clock.now(), number);
            tenure.set(lease.until());
        }
        self.mind_company();
        if tenure.may_act() && self.knows(me) {
            self.now_ready(tenure);
        }
    }

    fn applied_version(&self) -> ViewVersion {
        self.clustered.view_version()
    }

    /// A node that is the only member and the only voter keeps its lease for ever: nobody could remove it. With company
    /// that ends.
    pub(super) fn mind_company(&self) {
        let (now, me) = (self.world.clock.now(), self.node_id());
        // All of it under one lock: whoever comes later has seen no less.
        let mut lease = lock(&self.lease);
        let Some(lease) = lease.as_mut() else { return };
        let (latest, voters) = (self.latest(), self.consensus.voters());
        let members = &latest.view().members;
        // What this node's own log has applied, but has yet to tell, counts too: it may lead by it.
        let applied = self.consensus.applied().borrow().state.view().members.len();
        let alone = applied <= 1
            && members.len() == 1
            && members.contains_key(&me)
            && voters.len() == 1
            && voters.contains_key(&me);
        if !alone {
            lease.ends_again(now);
        } else if lease.may_act(now) {
            lease.never_ends(now);
        }
        if let Some(tenure) = self.tenure() {
            tenure.set(lease.until());
        }
    }

    fn tenure(&self) -> Option<Arc<Tenure>> {
        lock(&self.clustered.table).standing.as_ref().map(|standing| standing.tenure.clone())
    }
}

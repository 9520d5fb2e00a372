//! One incarnation of this node: from its join until its lease has ended, it was removed, or it has left.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use grains_core::Instant;

use super::{Driver, Progress};
use crate::{
    activation::lock,
    cluster::{
        control::{Answer, Ask},
        lease::Lease,
        names::{MemberId, ViewVersion},
        view::View,
    },
    tenure::Tenure,
    timeout::timeout,
};

/// How long until a renewal that failed is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// What a renewal came to.
enum Renewal {
    Extended,
    /// This incarnation is no more.
    Gone,
    Failed,
}

impl Driver {
    /// Acts as `me` until that is over.
    pub(super) async fn serve(&self, me: MemberId) {
        let tenure = Tenure::until(&self.world, Instant::default());
        *lock(&self.lease) = Some(Lease::new(self.rules));
        self.removed.store(false, Ordering::Release);
        self.clustered.begin(me, tenure.clone());
        *lock(&self.refused) = None;
        if let Some(wire) = self.wire.get() {
            wire.set_incarnation(Some(me.incarnation));
        }
        self.turn();
        let clock = self.world.clock.clone();
        loop {
            let (sent, number) = {
                let now = clock.now();
                let number = lock(&self.lease).as_mut().map(|lease| lease.sent(now));
                (now, number)
            };
            let renewal = self.renew_once(me).await;
            if self.is_over(&tenure) {
                return;
            }
            let next = match (renewal, number) {
                (Renewal::Gone, _) => return,
                (Renewal::Extended, Some(number)) => {
                    let until = {
                        let mut lease = lock(&self.lease);
                        let Some(lease) = lease.as_mut() else { return };
                        lease.acknowledged(clock.now(), number);
                        lease.until()
                    };
                    tenure.set(until);
                    self.mind_company(self.latest().view());
                    if tenure.may_act() && self.knows(me) {
                        self.now_ready(&tenure);
                    }
                    sent + self.rules.renewal_interval()
                }
                _ => clock.now() + AGAIN_AFTER,
            };
            self.sleep_or_stir(next.min(tenure.ends())).await;
            if self.is_over(&tenure) {
                return;
            }
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

    /// Sleeps until `at`, or until something has happened that may end this incarnation.
    async fn sleep_or_stir(&self, at: Instant) {
        let left = at.since(self.world.clock.now());
        drop(timeout(&self.world.clock, left, self.stirred.notified()).await);
    }

    async fn renew_once(&self, me: MemberId) -> Renewal {
        let view = self.applied_version();
        let interval = self.rules.renewal_interval();
        let left = match lock(&self.lease).as_ref().map(Lease::until) {
            Some(until) if until > Instant::default() => until.since(self.world.clock.now()),
            _ => interval,
        };
        match self.ask_leader(&Ask::Renew { member: me, view }, interval.min(left)).await {
            Some(Answer::Renewed) => Renewal::Extended,
            Some(Answer::Gone) => Renewal::Gone,
            Some(Answer::Refused(why)) => {
                tracing::debug!(why, "the lease was not renewed");
                self.follow_another();
                Renewal::Failed
            }
            _ => Renewal::Failed,
        }
    }

    fn applied_version(&self) -> ViewVersion {
        self.clustered.view_version()
    }

    /// A node that is the only member and the only voter keeps its lease for ever: nobody could remove it. With company
    /// that ends.
    pub(super) fn mind_company(&self, view: &View) {
        let (now, me) = (self.world.clock.now(), self.node_id());
        let voters = self.consensus.voters();
        let alone =
            view.members.len() == 1 && view.members.contains_key(&me) && voters.len() == 1 && voters.contains_key(&me);
        let until = {
            let mut lease = lock(&self.lease);
            let Some(lease) = lease.as_mut() else { return };
            if !alone {
                lease.ends_again(now);
            } else if lease.may_act(now) {
                lease.never_ends(now);
            }
            lease.until()
        };
        if let Some(tenure) = self.tenure() {
            tenure.set(until);
        }
    }

    fn tenure(&self) -> Option<Arc<Tenure>> {
        lock(&self.clustered.table).standing.as_ref().map(|standing| standing.tenure.clone())
    }
}

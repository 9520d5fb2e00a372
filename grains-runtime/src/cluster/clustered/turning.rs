//! What changes with a view, and what ends with a lease.
//!
//! Several tasks hear of views. `turning` is held from the first to the last of what a view changes, so the tail of an older
//! one never comes after a newer one, and by whoever looks after singletons or begins an incarnation. It comes before every
//! other lock. Users' code may run under it, where a singleton begins or an early call takes its turn: so nothing that users
//! can call takes it, `fence` and `stop` neither, but the tasks of the driver and of connections only.

#[cfg(test)]
mod tests;

use std::sync::{Arc, atomic::Ordering};

use grains_core::{DeactivationReason, GrainId};

use super::{
    Clustered,
    envelope::DIRECTORY,
    pending::unanswered,
    streaming::StreamWay,
    table::{Standing, Table},
};
use crate::{
    activation::{AnyActivation, lock},
    catalog::Made,
    cluster::{
        directory::Action,
        leader::{Known, Leader},
        names::MemberId,
        streams::{StreamLimits, Streams},
        view::{Assignment, View},
    },
    node::NodeInner,
    tenure::{Tenure, fenced},
    wire::Order,
};

/// What a view says of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turned {
    /// It goes on.
    Member,
    /// It was removed: others may have its grains.
    Removed,
    /// The view is older than what is applied.
    Older,
}

impl Clustered {
    /// This node has become a member; it acts once its first lease is acknowledged.
    pub(crate) fn begin(&self, me: MemberId, tenure: Arc<Tenure>) {
        let _turning = lock(&self.turning);
        self.incarnation.store(me.incarnation.0, Ordering::Release);
        let way = Arc::new(StreamWay(self.weak()));
        let streams = Arc::new(Streams::new(&self.world, tenure.clone(), way, StreamLimits::default()));
        *lock(&self.streams) = Some(streams.clone());
        let mut table = lock(&self.table);
        // That of an earlier incarnation would make every older member look like one that is gone, and what it says is
        // thrown away, until the first view comes.
        self.view_index.store(0, Ordering::Release);
        self.view_version.store(0, Ordering::Release);
        table.begin(me, tenure, streams);
        self.next_era(&mut table);
    }

    /// What the ways of calls rest on has changed. What was found before is looked at again, wherever it is not acted on yet.
    pub(super) fn next_era(&self, table: &mut Table) {
        let footing = table.next_footing();
        self.era.store(footing.era, Ordering::Release);
        lock(&self.pending).stand_on(footing);
    }

    /// The cluster has agreed on a newer view.
    pub(crate) fn turn_to(&self, index: u64, view: &Arc<View>) -> Turned {
        let _turning = lock(&self.turning);
        let (actions, me, removed, early) = {
            let mut table = lock(&self.table);
            let Table { standing: Some(standing), .. } = &mut *table else { return Turned::Older };
            if view.version <= standing.view.version || index < standing.me.incarnation.0 {
                return Turned::Older;
            }
            if view.member(standing.me).is_none() {
                return Turned::Removed;
            }
            self.view_index.store(index, Ordering::Release);
            self.view_version.store(view.version.0, Ordering::Release);
            let before = standing.view.clone();
            let removed = before.members.values().map(|member| member.id).filter(|id| view.member(*id).is_none());
            let removed: Vec<MemberId> = removed.collect();
            // From here on what these members say counts: so what they said before is taken out under the same lock.
            let (actions, me) = (standing.apply(self.world.clock.now(), view), standing.me);
            let early = table.early.take(index, view);
            self.next_era(&mut table);
            (actions, me, removed, early)
        };
        // The end of each link tells which calls certainly never left: those wait for the new place of their grain.
        let closed = self.wire().map(|wire| wire.keep_links(|member| view.has_or_awaits(index, member)));
        let closed = closed.unwrap_or_default();
        let (gone, links) = lock(&self.pending).gone(|member| view.member(member).is_some(), &closed);
        drop(links);
        for call in gone {
            let failure = unanswered(&call.grain, "its node was removed from the cluster");
            call.fail(failure);
        }
        for removed in removed {
            self.streams_gone(removed);
            self.callers_gone(removed);
        }
        self.carry_out(actions);
        self.turn_singletons(view, me);
        self.show_leader(view, me);
        self.hear_early(early);
        self.retry_parked();
        Turned::Member
    }

    /// Sends what owners and hosts have to say to each other.
    pub(crate) fn carry_out(&self, actions: Vec<Action>) {
        let mut actions = std::collections::VecDeque::from(actions);
        let mut retry = false;
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Send { to, message } => {
                    let mut table = lock(&self.table);
                    if let Some(standing) = table.standing.as_mut().filter(|standing| standing.me == to) {
                        actions.extend(standing.handle(self.world.clock.now(), to, message));
                        continue;
                    }
                    drop(table);
                    let body = grains_core::codec::encode(&message).expect("messages are made of texts and numbers");
                    if let Err(why) = self.send_frame(to, Order::Free, DIRECTORY, |out| out.extend_from_slice(&body)) {
                        tracing::debug!(%to, %why, "a message of the directory was not sent; it is sent again");
                    }
                }
                Action::Serving(_) | Action::Lost(_) => retry = true,
            }
        }
        if retry {
            self.retry_parked();
        }
    }

    /// What is due: messages that were not answered, calls that nobody waits for any more.
    pub(crate) fn tick(&self) {
        let now = self.world.clock.now();
        let actions = {
            let mut table = lock(&self.table);
            let Some(standing) = &mut table.standing else { return };
            let mut actions = standing.directory.tick(now);
            actions.extend(standing.host.tick(now));
            actions
        };
        self.carry_out(actions);
        // Bound first: what they hold may take locks of its own when it is dropped.
        let (over, unwanted) = lock(&self.pending).forget_over(now);
        self.say_cancelled(unwanted);
        drop(over);
        self.retry_parked();
    }

    /// Starts the singletons that this node holds, and ends those it does not.
    fn turn_singletons(&self, view: &View, me: MemberId) {
        let Some(node) = self.node() else { return };
        for grain_type in &self.singletons {
            let grain = GrainId::new(grain_type, String::new());
            let hash = node.hash_of(&grain);
            let held = match view.singletons.get(*grain_type) {
                Some(Assignment::Held(grant)) if grant.holder == me => Some(grant.token),
                _ => None,
            };
            let lives = node.catalog.find_entered(hash, &grain);
            match (held, lives) {
                (Some(token), None) => self.live(&node, &grain, hash, token),
                (None, Some(activation)) => activation.send_away(DeactivationReason::Stopping),
                (Some(_), Some(_)) | (None, None) => {}
            }
        }
    }

    fn live(&self, node: &NodeInner, grain: &GrainId, hash: u64, token: u64) {
        let made = match &lock(&self.table).standing {
            // Asked again under the lock: the view that led here may be an older one by now.
            Some(standing)
                if standing.tenure.has_begun()
                    && matches!(standing.view.singletons.get(grain.grain_type()), Some(Assignment::Held(grant))
                        if grant.holder == standing.me && grant.token == token) =>
            {
                standing.singleton(node, grain, hash, token)
            }
            // It is begun once this node is ready.
            _ => return,
        };
        match made {
            Ok(Made::New(activation)) => activation.live(),
            Ok(Made::Found(_)) => {}
            Err(failure) => tracing::error!(%grain, %failure, "the singleton cannot live here"),
        }
    }

    /// Whether the singletons that live here are those that this node holds. Those that failed to activate are tried again.
    pub(crate) fn look_after_singletons(&self) {
        let _turning = lock(&self.turning);
        let (view, me) = match &lock(&self.table).standing {
            Some(standing) if standing.tenure.may_begin() => (standing.view.clone(), standing.me),
            _ => return,
        };
        self.turn_singletons(&view, me);
    }

    /// Which singletons this node has to release, because it is leaving and they have ended.
    pub(crate) fn to_release(&self) -> Vec<String> {
        let Some(node) = self.node() else { return Vec::new() };
        let (view, me) = match &lock(&self.table).standing {
            Some(standing) => (standing.view.clone(), standing.me),
            None => return Vec::new(),
        };
        let releasing = view.singletons.iter().filter(|(_, assignment)| match assignment {
            Assignment::Releasing(grant) => grant.holder == me,
            _ => false,
        });
        let ended = |grain_type: &&String| {
            let Some(grain_type) = self.singletons.get(grain_type.as_str()) else { return true };
            let grain = GrainId::new(grain_type, String::new());
            node.catalog.find_entered(node.hash_of(&grain), &grain).is_none()
        };
        releasing.map(|(grain_type, _)| grain_type).filter(ended).cloned().collect()
    }

    fn show_leader(&self, view: &View, me: MemberId) {
        let leader = view.leader.and_then(|grant| {
            let name = view.member(grant.holder)?.joiner.name.clone();
            Some((grant.holder, Leader { name, term: grant.token }))
        });
        let mine = match &lock(&self.table).standing {
            // A newer view has been shown meanwhile.
            Some(standing) if standing.me != me || standing.view.version != view.version => return,
            Some(standing) if leader.as_ref().is_some_and(|(holder, _)| *holder == me) => Some(standing.tenure.clone()),
            _ => None,
        };
        let leader = leader.map(|(_, leader)| leader);
        self.known.send_if_modified(|known| {
            // Asked inside, where neither a newer view nor `renounce` can come between.
            if known.view > view.version {
                return false;
            }
            let mine = mine.filter(|_| !self.renounced.load(Ordering::Acquire));
            let same = known.leader == leader && known.mine.is_some() == mine.is_some();
            *known = Known { leader, mine, view: view.version };
            !same
        });
    }

    /// The incarnation of this node is over: its lease has ended, or it was removed, or it has left. Nothing of it acts any
    /// more, and nothing of it is heard.
    pub(crate) fn fence(&self) {
        let standing = {
            let mut table = lock(&self.table);
            let standing = table.standing.take();
            self.next_era(&mut table);
            standing
        };
        let Some(Standing { tenure, streams, .. }) = standing else { return };
        self.incarnation.store(0, Ordering::Release);
        tenure.end();
        if let Some(wire) = self.wire() {
            wire.set_incarnation(None);
        }
        if let Some(node) = self.node.get().and_then(std::sync::Weak::upgrade) {
            for shard in node.catalog.shards() {
                let of_it = |activation: &Arc<dyn AnyActivation>| Arc::ptr_eq(activation.tenure(), &tenure);
                shard.into_iter().filter(of_it).for_each(AnyActivation::drop_now);
            }
        }
        lock(&self.streams).take();
        streams.end();
        let wanted = lock(&self.wanted).clear();
        drop(wanted);
        let (sent, parked) = lock(&self.pending).take_all();
        for call in sent {
            let failure = unanswered(&call.grain, "the lease of this node has ended");
            call.fail(failure);
        }
        for call in parked {
            call.fail(fenced());
        }
        self.known.send_replace(Known::default());
    }

    /// Fails what still waits: the node has stopped.
    pub(crate) fn stop(&self) {
        self.fence();
        self.fail_parked();
    }
}

//! Where calls of grains with workers go: no directory knows those. Each node that hosts the type has workers of its own, and
//! calls of other nodes are spread over the members that do. Asked by the table; pure but for what it remembers.

#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use grains_core::Instant;
use litemap::LiteMap;

use crate::{
    activation::lock,
    cluster::{
        member::{Member, MemberState},
        names::MemberId,
        view::View,
    },
};

/// How long a member is passed over that could not be reached, or has sent a call back: a few times the 25 ms after which that call
/// is tried again, short beside the lease after which a member that is gone is in no view.
const PASSED_OVER: Duration = Duration::from_millis(500);

/// The members that host each grain type with workers.
#[derive(Default)]
pub(crate) struct WorkerHosts {
    types: LiteMap<String, Hosts>,
}

#[derive(Default)]
struct Hosts {
    /// In the order of their numbers.
    members: Vec<Arc<Member>>,
    /// Whose turn it is, of those that can be chosen then.
    next: usize,
}

/// Where such a call goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WorkerWay {
    /// To a worker of this node.
    Here,
    /// To a worker of that one.
    Away(Arc<Member>),
    /// Nowhere yet: a view is about to say.
    Wait,
    /// Nowhere: all that host the type are leaving.
    AllLeaving,
}

impl WorkerHosts {
    /// Takes over who hosts what.
    pub(crate) fn turn_to(&mut self, view: &View) {
        let before = std::mem::take(&mut self.types);
        for member in view.members.values() {
            for grain_type in &member.joiner.workers {
                let hosts = self.types.entry(grain_type.clone()).or_insert_with(|| Hosts {
                    members: Vec::new(),
                    next: before.get(grain_type.as_str()).map_or(0, |hosts| hosts.next),
                });
                hosts.members.push(member.clone());
            }
        }
    }

    /// Whether a member hosts this grain type with workers.
    pub(crate) fn has(&self, grain_type: &str) -> bool {
        self.types.contains_key(grain_type)
    }

    /// Where a call from this node, `me`, goes, as often as it is asked; `None` if nobody hosts the type with workers. Not to a member that `parts`, and to
    /// one that `is_passed_over` only if all are.
    pub(crate) fn choose(
        &self,
        grain_type: &str,
        me: MemberId,
        parts: impl Fn(MemberId) -> bool,
        is_passed_over: impl Fn(MemberId) -> bool,
    ) -> Option<WorkerWay> {
        let hosts = self.types.get(grain_type)?;
        let active: Vec<_> = hosts.members.iter().filter(|host| host.state == MemberState::Active).collect();
        if active.iter().any(|host| host.id == me) {
            return Some(WorkerWay::Here);
        }
        if active.is_empty() {
            return Some(WorkerWay::AllLeaving);
        }
        let staying: Vec<_> = active.into_iter().filter(|host| !parts(host.id)).collect();
        let reached: Vec<_> = staying.iter().copied().filter(|host| !is_passed_over(host.id)).collect();
        let candidates = if reached.is_empty() { staying } else { reached };
        let Some(turn) = hosts.next.checked_rem(candidates.len()) else { return Some(WorkerWay::Wait) };
        Some(WorkerWay::Away(candidates[turn].clone()))
    }

    /// A call of this grain type goes where [`choose`](Self::choose) said: the next one goes on to the next.
    pub(crate) fn went(&mut self, grain_type: &str) {
        if let Some(hosts) = self.types.get_mut(grain_type) {
            hosts.next = hosts.next.wrapping_add(1);
        }
    }
}

/// Members that could not be reached, or have sent a call back, and until when they are passed over. Apart from the table, because
/// the end of a link may be told while that is locked. As many as have failed
/// within that time.
#[derive(Default)]
pub(crate) struct PassedOver(Mutex<LiteMap<MemberId, Instant>>);

impl PassedOver {
    /// Passes over `member` for a while.
    pub(crate) fn add(&self, now: Instant, member: MemberId) {
        let mut passed_over = lock(&self.0);
        passed_over.retain(|_, until| *until > now);
        passed_over.insert(member, now + PASSED_OVER);
    }

    /// Whether it is passed over now.
    pub(crate) fn has(&self, now: Instant, member: MemberId) -> bool {
        lock(&self.0).get(&member).is_some_and(|until| *until > now)
    }
}

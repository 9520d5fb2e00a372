//! Calls of other members that wait here, in a mailbox or in their turn, so that they can be taken back: `CANCEL`, the end of
//! the link by which they came, or of their member. Calls that are answered on the spot never come here.
//!
//! All of it is a hint. A word for a call that is not here any more, or came twice, changes nothing.

use std::{collections::BTreeMap, sync::Arc};

use grains_core::cancel::Cancellation;

use super::{
    Clustered,
    envelope::{CANCEL, write_cancel},
    pending::Unwanted,
};
use crate::{activation::lock, ambient::Link, cluster::names::MemberId};

/// How many such calls are known; those beyond are not taken back, and end by their deadline as all do. A quarter of a
/// million are what four members may have under way with the default of `calls_max`, and take some 30 MB.
const WANTED_MAX: usize = 256 * 1024;

pub(crate) struct Wanted {
    /// By who made them, and its number for them.
    calls: BTreeMap<(MemberId, u64), Call>,
    calls_max: usize,
}

struct Call {
    /// The number of the link on which it came.
    link: u64,
    cancellation: Arc<Cancellation>,
    /// The turn there that made it, if one did.
    caller: Option<Arc<Link>>,
}

/// Calls that are wanted no more. They are told by [`Taken::fire`], where nothing is locked.
#[must_use]
pub(super) struct Taken(Vec<Call>);

impl Taken {
    fn fire(self) {
        for call in &self.0 {
            // First: the callee may go on with calls of its own, and is not part of a cycle through its caller any more.
            if let Some(caller) = &call.caller {
                caller.given_up();
            }
            call.cancellation.fire();
        }
    }
}

impl Default for Wanted {
    fn default() -> Self {
        Self::new(WANTED_MAX)
    }
}

impl Wanted {
    fn new(calls_max: usize) -> Self {
        Self { calls: BTreeMap::new(), calls_max }
    }

    /// A call has to wait.
    fn enter(&mut self, call: (MemberId, u64), what: Call) {
        if self.calls.len() < self.calls_max {
            self.calls.insert(call, what);
        }
    }

    /// A call is wanted no more, or has ended.
    fn take(&mut self, from: MemberId, number: u64) -> Taken {
        Taken(self.calls.remove(&(from, number)).into_iter().collect())
    }

    /// All calls of a member are wanted no more.
    fn take_all(&mut self, from: MemberId) -> Taken {
        self.take_if(from, |_| true)
    }

    /// So are those that came by this link.
    fn take_link(&mut self, from: MemberId, link: u64) -> Taken {
        self.take_if(from, |call| call.link == link)
    }

    fn take_if(&mut self, from: MemberId, which: impl Fn(&Call) -> bool) -> Taken {
        let taken = self.calls.extract_if((from, 0)..=(from, u64::MAX), |_, call| which(call));
        Taken(taken.map(|(_, call)| call).collect())
    }

    /// This node is no member any more: its turns are cut.
    pub(super) fn clear(&mut self) -> Self {
        std::mem::replace(self, Self::new(self.calls_max))
    }
}

impl Clustered {
    /// A call of another member, with its number there, has to wait.
    pub(super) fn waits_here(
        &self,
        call: (MemberId, u64),
        link: u64,
        cancellation: Arc<Cancellation>,
        caller: Option<Arc<Link>>,
    ) {
        lock(&self.wanted).enter(call, Call { link, cancellation, caller });
    }

    /// It has ended.
    pub(super) fn no_longer_waits_here(&self, from: MemberId, number: u64) {
        let taken = lock(&self.wanted).take(from, number);
        drop(taken);
    }

    /// A member says that it does not want a call any more.
    pub(super) fn cancelled(&self, from: MemberId, number: u64) {
        let taken = lock(&self.wanted).take(from, number);
        taken.fire();
    }

    /// The link by which calls came has ended: nobody hears their answers.
    pub(super) fn callers_cut(&self, from: MemberId, link: u64) {
        let taken = lock(&self.wanted).take_link(from, link);
        taken.fire();
    }

    /// A member is gone, and all who called from it.
    pub(super) fn callers_gone(&self, from: MemberId) {
        let taken = lock(&self.wanted).take_all(from);
        taken.fire();
    }

    /// Tells other members that calls of this node are wanted no more. Over the link by which each has gone, behind it: the
    /// end of that link says the same.
    pub(super) fn say_cancelled(&self, calls: impl IntoIterator<Item = Unwanted>) {
        let Some(wire) = self.wire() else { return };
        for Unwanted { number, to, link, order } in calls {
            if let Some(link) = wire.known_link(to).filter(|known| known.id() == link)
                && let Err(why) = link.send_small(order, CANCEL, |out| write_cancel(out, number))
            {
                tracing::debug!(%to, %why, "not told that a call is wanted no more");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::names::{Incarnation, NodeId};

    fn member(node: u64) -> MemberId {
        MemberId { node: NodeId(node), incarnation: Incarnation(1) }
    }

    fn waits(link: u64) -> Call {
        Call { link, cancellation: Arc::default(), caller: None }
    }

    /// Four calls: two of one member by one link, one by its next, one of another member with the same number and link.
    fn some() -> (Wanted, Vec<Arc<Cancellation>>) {
        let mut wanted = Wanted::default();
        let calls = [(1, 1, 7), (1, 2, 7), (1, 3, 8), (2, 1, 7)].map(|(node, number, link)| {
            let call: Arc<Cancellation> = Arc::default();
            wanted.enter((member(node), number), Call { link, cancellation: call.clone(), caller: None });
            call
        });
        (wanted, calls.into())
    }

    fn fired(calls: &[Arc<Cancellation>]) -> Vec<bool> {
        calls.iter().map(|call| call.has_fired()).collect()
    }

    #[test]
    fn exactly_what_is_wanted_no_more_is_told() {
        let (mut wanted, calls) = some();
        wanted.take(member(1), 2).fire();
        assert_eq!(fired(&calls), [false, true, false, false]);
        wanted.take_link(member(1), 7).fire();
        assert_eq!(fired(&calls), [true, true, false, false]);
        wanted.take_all(member(1)).fire();
        assert_eq!(fired(&calls), [true, true, true, false]);
        assert_eq!(wanted.calls.len(), 1, "what was told is forgotten");
    }

    #[test]
    fn a_word_for_an_unknown_call_or_a_second_one_changes_nothing() {
        let (mut wanted, calls) = some();
        for (node, number) in [(1, 1), (1, 1), (1, 9), (3, 1)] {
            wanted.take(member(node), number).fire();
        }
        assert_eq!(fired(&calls), [true, false, false, false]);
    }

    #[test]
    fn calls_beyond_the_limit_are_not_known() {
        let mut wanted = Wanted::new(2);
        for number in 1..=3 {
            wanted.enter((member(1), number), waits(7));
        }
        assert_eq!(wanted.take_all(member(1)).0.len(), 2);
        wanted.enter((member(1), 4), waits(7));
        assert_eq!(wanted.calls.len(), 1, "there is room again");
    }
}

//! The last words between a node that leaves and the others, so that no call is lost between them. What was sent to it goes
//! by one way, and that it has left comes by another: without these words a call, or its answer, could come too late.
//!
//! The leaving node, empty, says farewell to each member, in two rounds. From the first on a member sends it no more calls,
//! and says that it has heard, behind whatever it sent before. When that arrives, the leaving node has sent back or
//! answered all calls; when the second round is over, all members have read this. Only then does it leave.

use super::{
    Clustered,
    envelope::{FAREWELL, HEARD, write_round},
};
use crate::{activation::lock, cluster::names::MemberId, wire::Order};

/// One farewell for what the others have sent, one for what this node has said to it.
pub(crate) const ROUNDS: u64 = 2;

impl Clustered {
    /// Says farewell to every other member that has not heard it in this round.
    pub(crate) fn say_farewell(&self, round: u64) {
        for member in self.not_heard(round) {
            if let Err(why) = self.send_frame(member, Order::BehindAll, FAREWELL, |out| write_round(out, round)) {
                tracing::debug!(to = %member, %why, "a farewell was not sent; it is said again");
            }
        }
    }

    /// Whether every other member has heard it.
    pub(crate) fn all_have_heard(&self, round: u64) -> bool {
        self.not_heard(round).is_empty()
    }

    fn not_heard(&self, round: u64) -> Vec<MemberId> {
        let table = lock(&self.table);
        let Some(standing) = &table.standing else { return Vec::new() };
        let others = standing.view.members.values().map(|member| member.id).filter(|id| *id != standing.me);
        others.filter(|id| standing.heard.get(id).is_none_or(|heard| *heard < round)).collect()
    }

    /// A member leaves: no more calls to it from here.
    pub(super) fn farewell(&self, from: MemberId, round: u64) {
        {
            // Under the lock under which calls are handed to links: what comes after goes elsewhere.
            let mut table = lock(&self.table);
            let Some(standing) = &mut table.standing else { return };
            if standing.parted.insert(from) {
                self.next_era(&mut table);
            }
        }
        if let Err(why) = self.send_frame(from, Order::BehindAll, HEARD, |out| write_round(out, round)) {
            tracing::debug!(to = %from, %why, "not told that its farewell was heard; it says it again");
        }
    }

    /// A member has heard this node's farewell.
    pub(super) fn heard(&self, from: MemberId, round: u64) {
        if let Some(standing) = &mut lock(&self.table).standing {
            let heard = standing.heard.entry(from).or_default();
            *heard = round.max(*heard);
        }
    }
}

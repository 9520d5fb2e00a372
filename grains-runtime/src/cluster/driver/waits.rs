//! Calls that wait for each other on several nodes: all members report to the first one, which says what to break.

use std::time::Duration;

use grains_core::Instant;

use super::Driver;
use crate::{
    activation::lock,
    cluster::{
        control::{Answer, Ask},
        member::MemberState,
        names::MemberId,
    },
    deadlock::{
        Watch,
        detector::{Break, Report, WaitingCall},
    },
};

/// How long a report may take. It is said again with what waits then.
const ANSWER_MAX: Duration = Duration::from_millis(500);

impl Driver {
    /// What is to be broken of the calls that have waited for long on this node, as they were `looked` at.
    pub(crate) async fn report_waiting(&self, watch: &Watch, looked: Instant, calls: Vec<WaitingCall>) -> Vec<Break> {
        if calls.is_empty() {
            return Vec::new();
        }
        let Some((me, first, address)) = self.who_looks() else { return Vec::new() };
        if first == me {
            let now = self.world.clock.now();
            return lock(&watch.detector).report_here(now, looked, me.incarnation.0, calls);
        }
        let (number, answered) = watch.next_report(first.incarnation.0);
        let ask = Ask::Waits { member: me, report: Report { number, answered, calls } };
        match self.ask(&address, &ask, ANSWER_MAX).await {
            Some(Answer::Break(breaks)) => {
                watch.report_answered(number);
                breaks
            }
            _ => Vec::new(),
        }
    }

    /// This node, and the member to which all report: each node of one view finds the same.
    fn who_looks(&self) -> Option<(MemberId, MemberId, String)> {
        let table = lock(&self.clustered.table);
        let standing = table.standing.as_ref()?;
        let first = standing.view.members.values().find(|member| member.state == MemberState::Active)?;
        Some((standing.me, first.id, first.joiner.address.clone()))
    }

    /// Another member says what has waited for long there.
    pub(super) fn look_for_cycles(&self, member: MemberId, report: Report) -> Answer {
        let known = lock(&self.clustered.table).standing.as_ref().is_some_and(|s| s.view.member(member).is_some());
        match self.clustered.node() {
            Some(node) if known => {
                let now = self.world.clock.now();
                Answer::Break(lock(&node.watch.detector).report(now, member.incarnation.0, report))
            }
            _ => Answer::Refused("this node does not know the member yet, or has stopped".into()),
        }
    }
}

//! Calls of this node that have no answer yet, because they are under way to another node or wait until it is known where
//! they go.
//!
//! Invariants: a call is here, or with whoever took it out, never both; a call that was sent is failed as unknown when its
//! link ends, unless it certainly never left, and when the link ends on which its answer would have come.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use grains_core::{ActivationId, CallError, Failure, GrainId, Instant, MethodId, RequestContext, route::ReplySink};

use super::super::names::MemberId;
use super::envelope::Target;
use crate::ambient::{Inherited, Link};

/// One such call.
pub(crate) struct Call {
    pub(crate) grain: GrainId,
    /// What the grain is looked up by on this node.
    pub(crate) hash: u64,
    pub(crate) method: MethodId,
    pub(crate) args: Arc<[u8]>,
    /// Where the answer goes; nowhere for a one-way call.
    pub(crate) sink: Option<Box<dyn ReplySink>>,
    pub(crate) request: RequestContext,
    /// The turn that made it.
    pub(crate) caller: Option<Arc<Link>>,
    pub(crate) deadline: Instant,
    pub(crate) timeout: Duration,
    /// An activation that turned out not to be where it was looked for.
    pub(crate) void: Option<ActivationId>,
    /// How often this node has tried.
    pub(crate) tries: u32,
}

impl Call {
    pub(crate) fn fail(self, failure: Failure) {
        match self.sink {
            Some(sink) => sink.failed(failure),
            None => tracing::warn!(grain = %self.grain, %failure, "a one-way call failed"),
        }
    }

    /// Whether nobody waits for it any more. A caller on this node gives up by itself, and knows why.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        self.deadline + GRACE <= now || self.sink.as_ref().is_some_and(|sink| sink.is_withdrawn())
    }

    /// What its turn takes over.
    pub(crate) fn inherited(&self) -> Inherited {
        let (caller, request) = (self.caller.clone(), self.request.clone());
        Inherited { caller, request, deadline: Some(self.deadline), timeout: self.timeout }
    }
}

/// A call that was sent.
struct Sent {
    call: Call,
    to: MemberId,
    link: u64,
    sequence: u64,
    target: Target,
}

/// A call that was sent and whose answer nobody wants any more.
pub(crate) struct Unwanted {
    /// This node's number for it.
    pub(crate) number: u64,
    pub(crate) to: MemberId,
    /// On which link it was sent.
    pub(crate) link: u64,
}

impl Unwanted {
    /// Nobody waits for a one-way call.
    fn of(number: u64, sent: &Sent) -> Option<Self> {
        sent.call.sink.as_ref().map(|_| Self { number, to: sent.to, link: sent.link })
    }
}

/// What became of a call that was sent.
pub(crate) struct Returned {
    pub(crate) call: Call,
    pub(crate) target: Target,
    /// On which link it was sent.
    pub(crate) link: u64,
}

pub(crate) struct Pending {
    next: u64,
    sent: BTreeMap<u64, Sent>,
    parked: BTreeMap<u64, Call>,
    calls_max: usize,
}

impl Pending {
    pub(crate) fn new(calls_max: usize) -> Self {
        Self { next: 0, sent: BTreeMap::new(), parked: BTreeMap::new(), calls_max }
    }

    pub(crate) fn len(&self) -> usize {
        self.sent.len() + self.parked.len()
    }

    /// A number for a call that is about to be sent; none if there are too many.
    pub(crate) fn number(&mut self) -> Option<u64> {
        (self.len() < self.calls_max).then(|| {
            self.next += 1;
            self.next
        })
    }

    /// The call was handed to a link under this number.
    pub(crate) fn sent(&mut self, number: u64, call: Call, to: MemberId, link: u64, sequence: u64, target: Target) {
        self.sent.insert(number, Sent { call, to, link, sequence, target });
    }

    /// Keeps a call until it is tried again. Gives it back if there are too many.
    pub(crate) fn park(&mut self, call: Call) -> Option<Call> {
        let Some(number) = self.number() else { return Some(call) };
        self.parked.insert(number, call);
        None
    }

    /// All parked calls, in the order they came.
    pub(crate) fn unpark(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.parked).into_values().collect()
    }

    /// The answer to a call that was sent to this member.
    pub(crate) fn answered(&mut self, number: u64, by: MemberId) -> Option<Returned> {
        if self.sent.get(&number)?.to != by {
            return None;
        }
        let Sent { call, target, link, .. } = self.sent.remove(&number)?;
        Some(Returned { call, target, link })
    }

    /// A link has ended; frames up to `written` may have arrived. Gives the calls that may have, and those that have not.
    pub(crate) fn link_ended(&mut self, link: u64, written: u64) -> (Vec<Call>, Vec<Call>) {
        let (mut unknown, mut unsent) = (Vec::new(), Vec::new());
        for (_, sent) in self.sent.extract_if(.., |_, sent| sent.link == link) {
            match sent.sequence <= written {
                true => unknown.push(sent.call),
                false => unsent.push(sent.call),
            }
        }
        (unknown, unsent)
    }

    /// Answers to frames of this link up to `sequence` may be lost. Gives the calls among them.
    pub(crate) fn answers_lost(&mut self, link: u64, sequence: u64) -> (Vec<Call>, Vec<Unwanted>) {
        let lost = |_: &u64, sent: &mut Sent| sent.link == link && sent.sequence <= sequence;
        given_up(self.sent.extract_if(.., lost))
    }

    /// Members are gone: nothing that was sent to them will be answered, but for what `keep` says of member and link.
    pub(crate) fn gone(&mut self, keep: impl Fn(MemberId, u64) -> bool) -> Vec<Call> {
        self.sent.extract_if(.., |_, sent| !keep(sent.to, sent.link)).map(|(_, sent)| sent.call).collect()
    }

    /// Everything: what was sent, and what was not.
    pub(crate) fn take_all(&mut self) -> (Vec<Call>, Vec<Call>) {
        let sent = std::mem::take(&mut self.sent).into_values().map(|sent| sent.call).collect();
        (sent, self.unpark())
    }

    /// Calls that nobody waits for any more. Those that were sent are to be cancelled.
    pub(crate) fn forget_over(&mut self, now: Instant) -> (Vec<Call>, Vec<Unwanted>) {
        let (mut over, unwanted) = given_up(self.sent.extract_if(.., |_, sent| sent.call.is_over(now)));
        over.extend(self.parked.extract_if(.., |_, call| call.is_over(now)).map(|(_, call)| call));
        (over, unwanted)
    }

    /// The turn that made a call, while it waits for it.
    pub(crate) fn caller_of(&self, number: u64) -> Option<Arc<Link>> {
        self.sent.get(&number)?.call.caller.clone().filter(|link| link.still_waits())
    }
}

fn given_up(calls: impl Iterator<Item = (u64, Sent)>) -> (Vec<Call>, Vec<Unwanted>) {
    let (mut over, mut unwanted) = (Vec::new(), Vec::new());
    for (number, sent) in calls {
        unwanted.extend(Unwanted::of(number, &sent));
        over.push(sent.call);
    }
    (over, unwanted)
}

/// How much longer than its caller a call is remembered.
const GRACE: Duration = Duration::from_secs(1);

/// What the caller of a call is told whose link or node is gone.
pub(crate) fn unanswered(grain: &GrainId, why: &str) -> Failure {
    CallError::Unanswered { grain: grain.to_string().into(), why: why.into() }
}

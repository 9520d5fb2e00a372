//! Calls of this node that have no answer yet, because they are under way to another node or wait until it is known where
//! they go.
//!
//! Invariants: a call is here, or with whoever took it out, never both; a call that was sent is failed as unknown when its
//! link ends, unless it certainly never left, and when the link ends on which its answer would have come.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use grains_core::{
    ActivationId, CallError, Failure, GrainId, Instant, MethodId, RequestContext,
    route::ReplySink,
    switches::{Mechanism, on},
};
use hashbrown::HashTable;
use litemap::LiteMap;

use super::super::names::MemberId;
use super::envelope::Target;
use crate::{
    ambient::{Inherited, Link},
    tenure::Tenure,
    wire::{self, Company, Marks},
};

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
    /// It came from outside of the cluster: whoever hosts the grain asks whether that may be.
    pub(crate) of_client: bool,
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
    number: u64,
    call: Call,
    to: MemberId,
    link: u64,
    sequence: wire::Sent,
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
    fn of(sent: &Sent) -> Option<Self> {
        sent.call.sink.as_ref().map(|_| Self { number: sent.number, to: sent.to, link: sent.link })
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
    /// By number. No tree: its nodes would have eleven of these each, to be moved about and allocated.
    sent: HashTable<Sent>,
    parked: BTreeMap<u64, Call>,
    peers: LiteMap<MemberId, Peer>,
    footing: Footing,
    calls_max: usize,
}

/// A member to which calls were sent.
#[derive(Default)]
struct Peer {
    /// How many are under way to it.
    under_way: usize,
    /// By which the last one went.
    link: Option<Arc<wire::Link>>,
}

/// What a way rests on that was found under the lock of the table: changed under both locks, so that whoever holds either may
/// rely on it.
#[derive(Default)]
pub(crate) struct Footing {
    /// Its number. Another one: other members, or other ones that take calls, or another incarnation of this node.
    pub(crate) era: u64,
    /// The incarnation of this node, and its right to act, while it is a member.
    pub(crate) acts: Option<(u64, Arc<Tenure>)>,
}

/// Why one more call cannot be under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// So many are, or wait for where they go.
    All(usize),
    /// So many are under way to that member. It may answer nobody: others still have the rest.
    Member(usize),
}

impl Pending {
    pub(crate) fn new(calls_max: usize) -> Self {
        Self {
            next: 0,
            sent: HashTable::new(),
            parked: BTreeMap::new(),
            peers: LiteMap::new(),
            footing: Footing::default(),
            calls_max,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.sent.len() + self.parked.len()
    }

    /// Whether several calls are under way to a member, so that others are likely to follow one that is about to be sent.
    pub(crate) fn company(&self, to: MemberId) -> Company {
        let under_way = self.under_way(to);
        if under_way >= COMPANY { Company::Of(under_way) } else { Company::Alone }
    }

    /// A number for a call that is about to be sent to this member.
    pub(crate) fn number(&mut self, to: MemberId) -> Result<u64, Full> {
        let member_max = self.calls_max.div_ceil(2);
        match self.under_way(to) >= member_max {
            true => Err(Full::Member(member_max)),
            false => self.next_number().ok_or(Full::All(self.calls_max)),
        }
    }

    fn under_way(&self, to: MemberId) -> usize {
        self.peers.get(&to).map_or(0, |peer| peer.under_way)
    }

    /// From now on calls rest on this.
    pub(crate) fn stand_on(&mut self, footing: Footing) {
        self.footing = footing;
    }

    /// Whether a way that was found in that era leads there still, and this node may act. `now` is of after this was locked.
    pub(crate) fn stands(&self, era: u64, now: Instant) -> bool {
        self.footing.era == era && self.footing.acts.as_ref().is_some_and(|(_, tenure)| tenure.may_act_at(now))
    }

    /// The incarnation of this node.
    pub(crate) fn incarnation(&self) -> u64 {
        self.footing.acts.as_ref().map_or(0, |(incarnation, _)| *incarnation)
    }

    /// The link by which calls go to a member, if it takes any.
    pub(crate) fn link(&self, to: MemberId) -> Option<Arc<wire::Link>> {
        self.peers.get(&to)?.link.clone().filter(|link| !link.is_closed())
    }

    /// From now on they go by this one. Gives the one before, to be dropped where nothing is locked.
    pub(crate) fn set_link(&mut self, to: MemberId, link: Arc<wire::Link>) -> Option<Arc<wire::Link>> {
        self.peers.entry(to).or_default().link.replace(link)
    }

    fn next_number(&mut self) -> Option<u64> {
        (self.len() < self.calls_max).then(|| {
            self.next += 1;
            self.next
        })
    }

    /// One that was sent to it is under way no more.
    fn came_back(&mut self, from: MemberId) {
        if let Some(peer) = self.peers.get_mut(&from) {
            peer.under_way -= 1;
        }
    }

    /// The call was handed to a link under this number.
    pub(crate) fn sent(
        &mut self,
        number: u64,
        call: Call,
        to: MemberId,
        link: u64,
        sequence: wire::Sent,
        target: Target,
    ) {
        let sent = Sent { number, call, to, link, sequence, target };
        self.sent.insert_unique(hash(number), sent, |sent| hash(sent.number));
        self.peers.entry(to).or_default().under_way += 1;
    }

    /// Keeps a call until it is tried again. Gives it back if there are too many.
    pub(crate) fn park(&mut self, call: Call) -> Option<Call> {
        let Some(number) = self.next_number() else { return Some(call) };
        self.parked.insert(number, call);
        None
    }

    /// All parked calls, in the order they came.
    pub(crate) fn unpark(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.parked).into_values().collect()
    }

    /// The answer to a call that was sent to this member.
    pub(crate) fn answered(&mut self, number: u64, by: MemberId) -> Option<Returned> {
        let sent = self.sent.find_entry(hash(number), |sent| sent.number == number).ok()?;
        if sent.get().to != by {
            return None;
        }
        let (Sent { call, target, link, .. }, _) = sent.remove();
        self.came_back(by);
        Some(Returned { call, target, link })
    }

    /// Takes out those calls that were sent of which `which` is true, in the order they were sent.
    fn take_sent(&mut self, mut which: impl FnMut(&Sent) -> bool) -> Vec<Sent> {
        let mut taken: Vec<_> = self.sent.extract_if(|sent| which(sent)).collect();
        taken.sort_unstable_by_key(|sent| sent.number);
        taken.iter().for_each(|sent| self.came_back(sent.to));
        taken
    }

    /// A link has ended; of its frames `written` may have arrived. Gives the calls that may have, and those that have not.
    pub(crate) fn link_ended(&mut self, link: u64, written: Marks) -> (Vec<Call>, Vec<Call>) {
        let (mut unknown, mut unsent) = (Vec::new(), Vec::new());
        for sent in self.take_sent(|sent| sent.link == link) {
            match written.have(sent.sequence) && on(Mechanism::ResendsOnlyUnsent) {
                true => unknown.push(sent.call),
                false => unsent.push(sent.call),
            }
        }
        (unknown, unsent)
    }

    /// Answers to what was sent on this link until then may be lost. Gives the calls among that.
    pub(crate) fn answers_lost(&mut self, link: u64, asked: Marks) -> (Vec<Call>, Vec<Unwanted>) {
        given_up(self.take_sent(|sent| sent.link == link && asked.have(sent.sequence)))
    }

    /// Members are gone, all but those of which `stays` is true: nothing that was sent to them will be answered, but for what
    /// went by the links `closed`, whose ends are told. Gives those calls, and links to be dropped where nothing is locked.
    pub(crate) fn gone(
        &mut self,
        stays: impl Fn(MemberId) -> bool,
        closed: &[u64],
    ) -> (Vec<Call>, Vec<Arc<wire::Link>>) {
        let sent = self.take_sent(|sent| !stays(sent.to) && !closed.contains(&sent.link));
        let mut links = Vec::new();
        for (_, peer) in self.peers.iter_mut().filter(|(member, _)| !stays(**member)) {
            links.extend(peer.link.take());
        }
        self.peers.retain(|member, peer| stays(*member) || peer.under_way > 0);
        (sent.into_iter().map(|sent| sent.call).collect(), links)
    }

    /// Everything: what was sent, and what was not.
    pub(crate) fn take_all(&mut self) -> (Vec<Call>, Vec<Call>) {
        let sent = self.take_sent(|_| true).into_iter().map(|sent| sent.call).collect();
        (sent, self.unpark())
    }

    /// Calls that nobody waits for any more. Those that were sent are to be cancelled.
    pub(crate) fn forget_over(&mut self, now: Instant) -> (Vec<Call>, Vec<Unwanted>) {
        let (mut over, unwanted) = given_up(self.take_sent(|sent| sent.call.is_over(now)));
        over.extend(self.parked.extract_if(.., |_, call| call.is_over(now)).map(|(_, call)| call));
        (over, unwanted)
    }

    /// The turn that made a call, while it waits for it.
    pub(crate) fn caller_of(&self, number: u64) -> Option<Arc<Link>> {
        self.sent
            .find(hash(number), |sent| sent.number == number)?
            .call
            .caller
            .clone()
            .filter(|link| link.still_waits())
    }
}

/// Numbers come one after the other; the table wants all bits of its hashes to differ.
fn hash(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_right(32)
}

fn given_up(calls: Vec<Sent>) -> (Vec<Call>, Vec<Unwanted>) {
    let (mut over, mut unwanted) = (Vec::new(), Vec::new());
    for sent in calls {
        unwanted.extend(Unwanted::of(&sent));
        over.push(sent.call);
    }
    (over, unwanted)
}

/// From how many calls under way a write waits for more of them. With fewer there is little to gain, and a lone call would wait for
/// nothing.
const COMPANY: usize = 8;

/// How much longer than its caller a call is remembered.
const GRACE: Duration = Duration::from_secs(1);

/// What the caller of a call is told whose link or node is gone.
pub(crate) fn unanswered(grain: &GrainId, why: &str) -> Failure {
    CallError::Unanswered { grain: grain.to_string().into(), why: why.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Incarnation, NodeId};

    fn member(node: u64) -> MemberId {
        MemberId { node: NodeId(node), incarnation: Incarnation(1) }
    }

    /// One-way: nobody waits for it.
    fn call(key: u64) -> Call {
        Call {
            grain: GrainId::new("g", key.to_string()),
            hash: key,
            method: MethodId(1),
            args: [].into(),
            sink: None,
            request: RequestContext::new(),
            caller: None,
            deadline: Instant::default() + Duration::from_secs(key),
            timeout: Duration::ZERO,
            void: None,
            tries: 0,
            of_client: false,
        }
    }

    /// Calls 1 to 100, each second one to another member over another link.
    fn hundred() -> Pending {
        let mut pending = Pending::new(100);
        for n in 1..=100 {
            let number = pending.number(member(n % 2)).unwrap();
            pending.sent(number, call(n), member(n % 2), n % 2, wire::Sent::Short(n), Target::Whoever);
        }
        pending
    }

    fn keys(calls: &[Call]) -> Vec<u64> {
        calls.iter().map(|call| call.hash).collect()
    }

    #[test]
    fn calls_come_back_in_the_order_in_which_they_were_sent() {
        let mut pending = hundred();
        assert_eq!(pending.number(member(2)), Err(Full::All(100)));
        assert_eq!(pending.number(member(1)), Err(Full::Member(50)));
        let (unknown, unsent) = pending.link_ended(0, Marks { short: 50, long: 0 });
        assert_eq!(keys(&unknown), (2..=50).step_by(2).collect::<Vec<_>>());
        assert_eq!(keys(&unsent), (52..=100).step_by(2).collect::<Vec<_>>());
        assert_eq!(
            keys(&pending.answers_lost(1, Marks { short: 21, long: 0 }).0),
            (1..=21).step_by(2).collect::<Vec<_>>()
        );
        let over = Instant::default() + Duration::from_secs(31) + GRACE;
        assert_eq!(keys(&pending.forget_over(over).0), (23..=31).step_by(2).collect::<Vec<_>>());
        assert_eq!(keys(&pending.gone(|member| member.node == NodeId(1), &[]).0), []);
        assert_eq!(keys(&pending.take_all().0), (33..=99).step_by(2).collect::<Vec<_>>());
        assert_eq!((pending.len(), pending.peers.len()), (0, 1), "of members that are gone nothing is left");
        assert_eq!(pending.under_way(member(1)), 0);
    }

    #[test]
    fn a_call_is_answered_once_and_by_the_member_it_was_sent_to() {
        let mut pending = hundred();
        assert!(pending.answered(7, member(0)).is_none());
        let returned = pending.answered(7, member(1)).unwrap();
        assert_eq!((returned.call.hash, returned.link), (7, 1));
        assert!(pending.answered(7, member(1)).is_none());
        assert_eq!(pending.len(), 99);
        assert!(pending.number(member(1)).is_ok(), "there is room for one more");
    }

    #[test]
    fn one_of_several_calls_has_company() {
        let mut pending = Pending::new(100);
        for n in 1..=COMPANY as u64 {
            assert_eq!(pending.company(member(1)), Company::Alone);
            pending.sent(n, call(n), member(1), 1, wire::Sent::Short(n), Target::Whoever);
        }
        assert_eq!((pending.company(member(1)), pending.company(member(2))), (Company::Of(COMPANY), Company::Alone));
    }
}

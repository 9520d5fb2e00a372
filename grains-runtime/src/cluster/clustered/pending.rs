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
    wire::{self, Company, Marks, Order},
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
pub(crate) struct Sent {
    /// This node's number for it.
    pub(crate) number: u64,
    pub(crate) call: Call,
    pub(crate) to: MemberId,
    /// By which link it went, and which of its frames it was.
    pub(crate) link: u64,
    pub(crate) sequence: wire::Sent,
    pub(crate) target: Target,
}

/// A call that was sent and whose answer nobody wants any more.
pub(crate) struct Unwanted {
    /// This node's number for it.
    pub(crate) number: u64,
    pub(crate) to: MemberId,
    /// On which link it was sent.
    pub(crate) link: u64,
    /// In which order: the word for it must not overtake it.
    pub(crate) order: Order,
}

impl Unwanted {
    /// Nobody waits for a one-way call.
    fn of(sent: &Sent) -> Option<Self> {
        let Sent { number, call, to, link, target, .. } = sent;
        let order = order(call.hash, *target);
        call.sink.as_ref().map(|_| Self { number: *number, to: *to, link: *link, order })
    }
}

/// In which order a call to the grain of this hash leaves.
pub(super) fn order(hash: u64, target: Target) -> Order {
    match target {
        // Behind all earlier ones to that host: it takes no order that is older than another one.
        Target::Ordered(_) => Order::Key(ORDERS),
        Target::Known(_) | Target::Whoever => Order::Key(hash),
    }
}

/// The key of calls that carry orders, among those of grains: that one of these may have the same only delays it.
const ORDERS: u64 = 0;

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
    /// Those of their arguments.
    parked_bytes: usize,
    parked_bytes_max: usize,
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
            parked_bytes: 0,
            parked_bytes_max: PARKED_BYTES_MAX,
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

    /// How many calls there may be for one like this to be taken. What clients do leaves half of them to the calls of grains,
    /// those among them that are made on behalf of clients.
    fn calls_max(&self, call: &Call) -> usize {
        if call.of_client { self.calls_max.div_ceil(2) } else { self.calls_max }
    }

    /// A number for a call that is about to be sent to this member.
    pub(crate) fn number(&mut self, to: MemberId, call: &Call) -> Result<u64, Full> {
        let member_max = self.calls_max(call).div_ceil(2);
        match self.under_way(to) >= member_max {
            true => Err(Full::Member(member_max)),
            false => self.next_number(call).ok_or(Full::All(self.calls_max(call))),
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

    fn next_number(&mut self, call: &Call) -> Option<u64> {
        (self.len() < self.calls_max(call)).then(|| {
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

    /// A call was handed to a link.
    pub(crate) fn sent(&mut self, sent: Sent) {
        self.peers.entry(sent.to).or_default().under_way += 1;
        self.sent.insert_unique(hash(sent.number), sent, |sent| hash(sent.number));
    }

    /// Keeps a call until it is tried again. If there are too many, gives it back with the limit that is reached.
    pub(crate) fn park(&mut self, call: Call) -> Option<(Call, String)> {
        let bytes = self.parked_bytes + call.args.len();
        if !self.parked.is_empty() && bytes > self.parked_bytes_max {
            let limit = format!("{} bytes of calls that wait until it is known where they go", self.parked_bytes_max);
            return Some((call, limit));
        }
        let Some(number) = self.next_number(&call) else {
            let limit = format!("calls_max = {}", self.calls_max(&call));
            return Some((call, limit));
        };
        self.parked_bytes = bytes;
        self.parked.insert(number, call);
        None
    }

    /// All parked calls, in the order they came.
    pub(crate) fn unpark(&mut self) -> Vec<Call> {
        self.parked_bytes = 0;
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
        self.parked_bytes = self.parked.values().map(|call| call.args.len()).sum();
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

/// The bytes of the arguments of calls that wait until it is known where they go; a lone one may have more. What three links may
/// have had in their queues when they ended has room. Beyond it the memory of a node that looks for its cluster would fill up with
/// what it is asked.
const PARKED_BYTES_MAX: usize = 256 << 20;

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

    /// Sent to the member of this number, by a link of the same: with frames that have the numbers of the calls.
    fn sent(number: u64, call: Call, to: u64) -> Sent {
        let sequence = wire::Sent::Short(number);
        Sent { number, call, to: member(to), link: to, sequence, target: Target::Whoever }
    }

    /// Calls 1 to 100, each second one to another member over another link.
    fn hundred() -> Pending {
        let mut pending = Pending::new(100);
        for n in 1..=100 {
            let number = pending.number(member(n % 2), &call(n)).unwrap();
            pending.sent(sent(number, call(n), n % 2));
        }
        pending
    }

    fn keys(calls: &[Call]) -> Vec<u64> {
        calls.iter().map(|call| call.hash).collect()
    }

    #[test]
    fn calls_come_back_in_the_order_in_which_they_were_sent() {
        let mut pending = hundred();
        assert_eq!(pending.number(member(2), &call(1)), Err(Full::All(100)));
        assert_eq!(pending.number(member(1), &call(1)), Err(Full::Member(50)));
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
        assert!(pending.number(member(1), &call(1)).is_ok(), "there is room for one more");
    }

    fn of_client(call: Call) -> Call {
        Call { of_client: true, ..call }
    }

    #[test]
    fn clients_leave_half_of_all_calls_to_grains() {
        let mut pending = Pending::new(10);
        for n in 0..5 {
            assert!(pending.park(of_client(call(n))).is_none());
        }
        let (returned, limit) = pending.park(of_client(call(5))).unwrap();
        assert_eq!((returned.hash, &*limit), (5, "calls_max = 5"));
        assert_eq!(pending.number(member(1), &of_client(call(5))), Err(Full::All(5)));
        for n in 5..10 {
            assert!(pending.park(call(n)).is_none());
        }
        assert_eq!(pending.park(call(10)).unwrap().1, "calls_max = 10");
        assert_eq!(pending.unpark().len(), 10);
        // And half of what may be under way to one member.
        for n in 1..=3 {
            let number = pending.number(member(1), &of_client(call(n))).unwrap();
            pending.sent(sent(number, of_client(call(n)), 1));
        }
        assert_eq!(pending.number(member(1), &of_client(call(4))), Err(Full::Member(3)));
        assert!(pending.number(member(1), &call(4)).is_ok() && pending.number(member(2), &of_client(call(4))).is_ok());
    }

    #[test]
    fn what_is_parked_is_bounded_in_bytes_and_one_alone_may_have_more() {
        let long = |key, bytes: usize| Call { args: vec![0; bytes].into(), ..call(key) };
        let mut pending = Pending { parked_bytes_max: 1000, ..Pending::new(100) };
        assert!(pending.park(long(1, 1001)).is_none());
        assert!(pending.park(long(2, 1)).unwrap().1.contains("1000 bytes"));
        assert_eq!(pending.unpark().len(), 1);
        for n in 1..=4 {
            assert!(pending.park(long(n, 250)).is_none());
        }
        assert!(pending.park(long(5, 1)).is_some());
        // Calls 1 and 2 are over, and make room.
        let over = Instant::default() + Duration::from_secs(2) + GRACE;
        assert_eq!(pending.forget_over(over).0.len(), 2);
        assert!(pending.park(long(6, 500)).is_none());
        assert!(pending.park(long(7, 1)).is_some());
        assert_eq!(pending.len(), 3);
    }

    #[test]
    fn one_of_several_calls_has_company() {
        let mut pending = Pending::new(100);
        for n in 1..=COMPANY as u64 {
            assert_eq!(pending.company(member(1)), Company::Alone);
            pending.sent(sent(n, call(n), 1));
        }
        assert_eq!((pending.company(member(1)), pending.company(member(2))), (Company::Of(COMPANY), Company::Alone));
    }
}

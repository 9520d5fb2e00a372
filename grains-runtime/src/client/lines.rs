//! What a client knows at one moment: its connections, its calls under way, and those that wait for a connection. No task and no
//! clock: `running` brings them. What ends here is given back, to be dropped or told where nothing is locked.
//!
//! Invariants: a call is in one place; one that was handed to a connection is sent again only if it certainly never left, or came
//! back unrun; calls to one grain go by one connection while that lives, and for a moment after its gateway has said goodbye.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use grains_core::{CallError, Failure, GrainId, Instant, MethodInfo, Outcome, RequestContext, route::ReplySink};

use super::choice::Gateways;
use crate::wire::{
    Line, Marks, SendError, Sent,
    clients::words::{CALL, CANCEL, CallWords, write_number},
};

/// One call of this client.
pub(super) struct Call {
    pub(super) grain: GrainId,
    pub(super) hash: u64,
    pub(super) method: &'static MethodInfo,
    pub(super) args: Arc<[u8]>,
    /// Where the answer goes; nowhere for a one-way call.
    pub(super) sink: Option<Box<dyn ReplySink>>,
    pub(super) request: RequestContext,
    pub(super) deadline: Instant,
    pub(super) timeout: Duration,
    /// Why it came back unrun, and by which connection.
    pub(super) returned: Option<(Failure, u64)>,
    /// Not before.
    pub(super) retry_at: Instant,
}

impl Call {
    pub(super) fn fail(self, failure: Failure) {
        match self.sink {
            Some(sink) => sink.failed(failure),
            None => tracing::warn!(grain = %self.grain, %failure, "a one-way call failed"),
        }
    }

    fn is_withdrawn(&self) -> bool {
        self.sink.as_ref().is_some_and(|sink| sink.is_withdrawn())
    }

    /// When it fails that waits: a little before its caller gives up, who would not know why.
    fn due(&self) -> Instant {
        let early = (self.timeout / 10).min(Duration::from_millis(50));
        Instant::from_nanos(self.deadline.as_nanos().saturating_sub(u64::try_from(early.as_nanos()).unwrap_or(0)))
    }
}

/// One connection to a gateway.
pub(super) struct Open {
    pub(super) address: String,
    pub(super) line: Line,
    pub(super) since: Instant,
    /// It wants no new calls.
    pub(super) leaving: bool,
    sent: BTreeMap<u64, UnderWay>,
}

struct UnderWay {
    call: Call,
    sent: Sent,
}

/// The grains whose hashes fall to it go by its connection.
#[derive(Default)]
struct Slot {
    line: Option<u64>,
    /// The one before, and until when calls go by it to grains that have calls under way there.
    before: Option<(u64, Instant)>,
    /// When to move to a better gateway.
    move_at: Option<Instant>,
}

/// How long calls to a grain go by the connection before, while calls to it are under way there.
const HOLD: Duration = Duration::from_secs(1);
/// Over how long clients spread their moves to a gateway that is new.
const MOVE_WITHIN: Duration = Duration::from_secs(2);
/// How long a call rests that came back unrun.
pub(super) const REST: Duration = Duration::from_millis(25);
/// How much longer than its caller a call is remembered.
const GRACE: Duration = Duration::from_secs(1);

pub(super) struct Lines {
    cluster: String,
    pub(super) gateways: Gateways,
    slots: Vec<Slot>,
    open: BTreeMap<u64, Open>,
    waiting: VecDeque<Call>,
    next: u64,
    calls_max: usize,
    /// Whether there is a sweep to come.
    swept: bool,
    closed: bool,
}

/// What a slot is to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Nothing,
    /// Ask again then.
    At(Instant),
    Dial(String),
}

/// What is left of calls, to be dealt with where nothing is locked.
#[derive(Default)]
pub(super) struct Ends {
    pub(super) failed: Vec<(Call, Failure)>,
    pub(super) dropped: Vec<Call>,
    /// Slots that have lost their connection.
    pub(super) lost: bool,
    /// There is something to sweep that nobody sweeps, or not soon enough.
    pub(super) unswept: bool,
}

impl Ends {
    pub(super) fn settle(self) {
        self.failed.into_iter().for_each(|(call, failure)| call.fail(failure));
        drop(self.dropped);
    }
}

impl Lines {
    pub(super) fn new(cluster: String, gateways: Gateways, connections: usize, calls_max: usize) -> Self {
        let slots = (0..connections.max(1)).map(|_| Slot::default()).collect();
        let (open, waiting) = (BTreeMap::new(), VecDeque::new());
        Self { cluster, gateways, slots, open, waiting, next: 0, calls_max, swept: false, closed: false }
    }

    /// The addresses of its gateways.
    pub(super) fn addresses(&self) -> Vec<String> {
        let mut addresses: Vec<_> = self.open.values().map(|open| open.address.clone()).collect();
        addresses.sort();
        addresses.dedup();
        addresses
    }

    pub(super) fn is_connected(&self) -> bool {
        self.open.values().any(|open| !open.line.is_closed())
    }

    /// How many calls there are.
    pub(super) fn calls(&self) -> usize {
        self.waiting.len() + self.open.values().map(|open| open.sent.len()).sum::<usize>()
    }

    /// A call that was just made.
    pub(super) fn submit(&mut self, call: Call, now: Instant) -> Ends {
        let mut ends = Ends::default();
        if self.closed {
            ends.failed.push((call, CallError::Stopped { outcome: Outcome::NotExecuted }));
        } else if self.calls() >= self.calls_max {
            let limit = format!("calls_max = {} of this client", self.calls_max).into();
            let grain = call.grain.to_string().into();
            ends.failed.push((call, CallError::Overloaded { grain, limit }));
        } else {
            let waited = self.waiting.len();
            self.hand(call, now, &mut ends);
            ends.unswept = !self.swept || self.waiting.len() > waited;
        }
        ends
    }

    /// Gives a call to the connection that is right for it, or keeps it until there is one.
    fn hand(&mut self, call: Call, now: Instant, ends: &mut Ends) {
        if call.is_withdrawn() {
            return ends.dropped.push(call);
        }
        let Some(id) = self.line_for(&call, now) else { return self.waiting.push_back(call) };
        if call.sink.as_ref().is_some_and(|sink| !sink.begin()) {
            return ends.dropped.push(call);
        }
        self.next += 1;
        let number = self.next;
        let words = CallWords {
            call: number,
            one_way: call.sink.is_none(),
            left_us: u64::try_from(call.deadline.since(now).as_micros()).unwrap_or(u64::MAX),
            grain_type: call.grain.grain_type(),
            key: call.grain.key(),
            method: call.method.name,
            request: call.request.clone(),
            args: &call.args,
        };
        let Some(open) = self.open.get_mut(&id) else { return self.waiting.push_back(call) };
        match open.line.send(CALL, |out| words.write(out)) {
            Ok(sent) => drop(open.sent.insert(number, UnderWay { call, sent })),
            // Its end is told next.
            Err(SendError::Closed) => self.waiting.push_back(call),
            Err(SendError::Overloaded { limit }) => {
                let grain = call.grain.to_string().into();
                let limit = format!("{limit} bytes that wait for {}", open.address).into();
                ends.failed.push((call, CallError::Overloaded { grain, limit }));
            }
            Err(too_large @ SendError::TooLarge { .. }) => {
                let why = format!("arguments for {}.{}: {too_large}", call.grain, call.method.name).into();
                ends.failed.push((call, CallError::Codec { why, outcome: Outcome::NotExecuted }));
            }
        }
    }

    fn line_for(&self, call: &Call, now: Instant) -> Option<u64> {
        let slot = &self.slots[usize::try_from(call.hash % self.slots.len() as u64).unwrap_or(0)];
        let takes = |id: &u64| self.open.get(id).is_some_and(|open| !open.line.is_closed());
        if let Some((_, by)) = &call.returned
            && let Some(other) = self.open.keys().find(|id| *id != by && takes(id))
        {
            return Some(*other);
        }
        if let Some((before, until)) = slot.before
            && now < until
            && takes(&before)
            && self.open[&before].sent.values().any(|sent| sent.call.hash == call.hash)
        {
            return Some(before);
        }
        slot.line.filter(takes)
    }

    /// What slot `n` is to do now.
    pub(super) fn wish(&mut self, n: usize, now: Instant, random: u64) -> Wish {
        if self.closed {
            return Wish::Nothing;
        }
        let taken: Vec<u64> =
            self.slots.iter().enumerate().filter(|(m, _)| *m != n).filter_map(|(_, s)| s.line).collect();
        let of_others: Vec<&str> = taken.iter().filter_map(|id| self.open.get(id)).map(|open| &*open.address).collect();
        let mine = self.slots[n].line.and_then(|id| Some((id, self.open.get(&id)?)));
        let next = |leaving| match self.gateways.next(&of_others, leaving, now) {
            None => Wish::At(now + MOVE_WITHIN / 4),
            Some((_, from)) if from > now => Wish::At(from),
            Some((address, _)) => Wish::Dial(address),
        };
        let Some((id, open)) = mine else {
            // Until the first slot has heard which gateways there are, the others would only guess.
            let may = n == 0 || self.slots[..n].iter().any(|slot| slot.line.is_some());
            return if may { next(None) } else { Wish::Nothing };
        };
        if open.leaving {
            return next(Some(&open.address));
        }
        let wanted = self.gateways.wanted(self.slots.len(), now);
        let shares = taken.contains(&id) && self.slots[..n].iter().any(|slot| slot.line == Some(id));
        let free = wanted.iter().find(|address| !of_others.contains(address) && ***address != *open.address);
        let is_well_placed =
            wanted.is_empty() || (wanted.contains(&&*open.address) && !of_others.contains(&&*open.address));
        let move_to = free.filter(|_| !is_well_placed).map(|address| (*address).to_owned());
        let rested = self.gateways.next_rested(now);
        let slot = &mut self.slots[n];
        match move_to {
            None => {
                slot.move_at = None;
                rested.map_or(Wish::Nothing, Wish::At)
            }
            Some(address) => {
                // Whoever has lost a connection does it at once. For those that only change to a better one there is no hurry.
                let within = u64::try_from(MOVE_WITHIN.as_nanos()).unwrap_or(1);
                let pause = if shares { Duration::ZERO } else { Duration::from_nanos(random % within) };
                let at = *slot.move_at.get_or_insert(now + pause);
                if at > now { Wish::At(at) } else { Wish::Dial(address) }
            }
        }
    }

    /// A gateway could not be reached.
    pub(super) fn unreachable(&mut self, address: &str, why: String, now: Instant, random: u64) {
        self.gateways.failed(address, why, now, random);
    }

    /// Slot `n` has a new connection. Gives its number.
    pub(super) fn connected(&mut self, n: usize, address: String, line: Line, now: Instant) -> (u64, Ends) {
        self.gateways.reached(&address);
        self.next += 1;
        let id = self.next;
        self.open.insert(id, Open { address, line, since: now, leaving: false, sent: BTreeMap::new() });
        for (m, slot) in self.slots.iter_mut().enumerate() {
            if m == n {
                slot.before = slot.line.replace(id).map(|before| (before, now + HOLD));
                slot.move_at = None;
            } else if slot.line.is_none() {
                slot.line = Some(id);
            }
        }
        let mut ends = Ends { unswept: true, ..Ends::default() };
        self.hand_waiting(now, &mut ends);
        (id, ends)
    }

    /// A connection has ended: what may have arrived is unknown, what certainly has not goes by another.
    pub(super) fn ended(&mut self, id: u64, why: &str, now: Instant, random: u64) -> Ends {
        let mut ends = Ends { lost: true, unswept: true, ..Ends::default() };
        let Some(open) = self.open.remove(&id) else { return ends };
        let lived = now.since(open.since);
        match open.leaving || lived >= Duration::from_secs(1) {
            true if !open.leaving => self.gateways.worked(&open.address),
            _ => self.gateways.failed(&open.address, format!("the connection ended: {why}"), now, random),
        }
        let another = self.another().or_else(|| self.open.keys().next().copied());
        for slot in &mut self.slots {
            if slot.line == Some(id) {
                slot.line = another;
            }
            slot.before = slot.before.filter(|(before, _)| *before != id);
        }
        let written = open.line.written().unwrap_or(Marks::ALL);
        let mut unsent = VecDeque::new();
        for UnderWay { call, sent } in open.sent.into_values() {
            if !written.have(sent) {
                unsent.push_back(call);
                continue;
            }
            let (grain, address) = (call.grain.to_string().into(), &open.address);
            let why = format!("the connection to gateway {address} was lost: {why}").into();
            ends.failed.push((call, CallError::Unanswered { grain, why }));
        }
        unsent.append(&mut self.waiting);
        self.waiting = unsent;
        self.hand_waiting(now, &mut ends);
        ends
    }

    fn hand_waiting(&mut self, now: Instant, ends: &mut Ends) {
        for call in std::mem::take(&mut self.waiting) {
            match call.retry_at <= now {
                true => self.hand(call, now, ends),
                false => self.waiting.push_back(call),
            }
        }
    }

    /// An answer, or that there is none, has come for this call.
    pub(super) fn answered(&mut self, id: u64, number: u64) -> Option<Call> {
        Some(self.open.get_mut(&id)?.sent.remove(&number)?.call)
    }

    /// A call that came back unrun is tried again, by another gateway if there is one.
    pub(super) fn returned(&mut self, id: u64, mut call: Call, why: Failure, now: Instant) -> Ends {
        let mut ends = Ends::default();
        if self.closed {
            ends.failed.push((call, CallError::Stopped { outcome: Outcome::NotExecuted }));
            return ends;
        }
        (call.returned, call.retry_at) = (Some((why, id)), now + REST);
        self.waiting.push_back(call);
        ends.unswept = true;
        ends
    }

    /// A gateway tells which ones there are, itself first.
    pub(super) fn told(&mut self, id: u64, gateways: Vec<String>) {
        if let (Some(open), Some(itself)) = (self.open.get_mut(&id), gateways.first()) {
            open.address.clone_from(itself);
            open.leaving = false;
            self.gateways.reached(itself);
        }
        if !gateways.is_empty() {
            self.gateways.learn(gateways);
        }
    }

    /// A gateway wants no new calls: they go by another connection from now on, if there is one.
    pub(super) fn goodbye(&mut self, id: u64, now: Instant) {
        let Some(open) = self.open.get_mut(&id) else { return };
        open.leaving = true;
        let Some(another) = self.another() else { return };
        for slot in &mut self.slots {
            if slot.line == Some(id) {
                (slot.line, slot.before) = (Some(another), Some((id, now + HOLD)));
            }
        }
    }

    /// A connection by which calls can go.
    fn another(&self) -> Option<u64> {
        self.open.iter().find(|(_, open)| !open.line.is_closed() && !open.leaving).map(|(id, _)| *id)
    }

    /// Ends what is over, tries what waits again, and gives the instant to look again, if there is anything to look at.
    pub(super) fn sweep(&mut self, now: Instant) -> (Ends, Option<Instant>) {
        let mut ends = Ends::default();
        for open in self.open.values_mut() {
            let over =
                open.sent.extract_if(.., |_, sent| sent.call.is_withdrawn() || sent.call.deadline + GRACE <= now);
            for (number, sent) in over.collect::<Vec<_>>() {
                if sent.call.sink.is_some() {
                    // A hint, which may be lost.
                    open.line.send(CANCEL, |out| write_number(out, number)).ok();
                }
                ends.dropped.push(sent.call);
            }
        }
        let (over, waiting): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.waiting).into_iter().partition(|call| call.is_withdrawn() || call.due() <= now);
        self.waiting = waiting;
        for mut call in over {
            if call.is_withdrawn() {
                ends.dropped.push(call);
                continue;
            }
            let failure = match call.returned.take() {
                Some((failure, _)) => failure,
                None => CallError::NoGateway { cluster: self.cluster.clone().into(), why: self.gateways.told().into() },
            };
            ends.failed.push((call, failure));
        }
        self.hand_waiting(now, &mut ends);
        self.close_unused(now);
        let due = self.waiting.iter().map(Call::due).min();
        let is_used = |id: &u64| self.slots.iter().any(|slot| slot.line == Some(*id));
        let goes_on = self.calls() > 0 || self.open.keys().any(|id| !is_used(id));
        let again = goes_on.then(|| due.map_or(now + REST, |due| due.min(now + REST)));
        self.swept = again.is_some();
        (ends, again)
    }

    /// Connections that no slot uses any more end with their last call.
    fn close_unused(&mut self, now: Instant) {
        let used: Vec<u64> = self.slots.iter().filter_map(|slot| slot.line).collect();
        let held = |id: &u64| {
            self.slots.iter().any(|slot| slot.before.is_some_and(|(before, until)| before == *id && now < until))
        };
        for (id, open) in &self.open {
            if !used.contains(id) && open.sent.is_empty() && (open.leaving || !held(id)) {
                open.line.close();
            }
        }
    }

    /// Nothing more is taken; what there is fails.
    pub(super) fn close(&mut self) -> Ends {
        self.closed = true;
        let mut ends = Ends::default();
        for call in std::mem::take(&mut self.waiting) {
            ends.failed.push((call, CallError::Stopped { outcome: Outcome::NotExecuted }));
        }
        for open in std::mem::take(&mut self.open).into_values() {
            open.line.close();
            for sent in open.sent.into_values() {
                ends.failed.push((sent.call, CallError::Stopped { outcome: Outcome::Unknown }));
            }
        }
        ends
    }
}

#[cfg(test)]
mod tests;

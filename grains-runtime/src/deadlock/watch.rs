//! A node's part in finding cycles: which activations have calls of turns waiting, and since when.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    ops::ControlFlow,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use grains_core::{ActivationId, GrainId, MethodInfo};
use tokio::sync::Notify;

use super::detector::{Break, Detector, WAITED_MIN, WaitingCall, WaitingTurn};
use crate::{
    activation::{AnyActivation, lock},
    ambient::Link,
};

/// How often what waits is looked at, while anything does: several times in the second that finding a cycle may take.
pub(crate) const ROUND: Duration = Duration::from_millis(50);

/// After how many rounds a call has surely waited for [`WAITED_MIN`]: the first began before it came.
const ROUNDS_MIN: u32 = (WAITED_MIN.as_millis() / ROUND.as_millis()) as u32 + 1;

/// The most calls in one report, and the bytes of their names: those that have waited longest come first, so that what will
/// wait for ever is among them.
const CALLS_MAX: usize = 1024;
const REPORT_BYTES_MAX: usize = 256 * 1024;

/// How many turns of a chain are looked at. Longer cycles are ended by the deadline.
const CHAIN_MAX: usize = 1024;

#[derive(Default)]
pub(crate) struct Watch {
    /// The number of this round.
    round: AtomicU32,
    watched: Mutex<Vec<Weak<dyn AnyActivation>>>,
    stirred: Notify,
    long: Mutex<Long>,
    #[cfg(feature = "cluster")]
    sent: Mutex<Sent>,
    /// Of the node itself, or of the whole cluster if this is where its members report to.
    pub(crate) detector: Mutex<Detector>,
}

/// The calls in the last report, by the address of their links, which are kept so that no other one gets it.
#[derive(Default)]
struct Long {
    last_id: u64,
    calls: BTreeMap<usize, Known>,
}

/// The reports to another member.
#[cfg(feature = "cluster")]
#[derive(Default)]
struct Sent {
    /// Which member.
    to: u64,
    /// The last one that was sent, and the last one that was answered.
    last: u64,
    answered: u64,
}

struct Known {
    id: u64,
    link: Arc<Link>,
    activation: Weak<dyn AnyActivation>,
}

/// A call of a turn that waits.
pub(crate) struct LongCall {
    /// The turn that made it, and those before.
    link: Arc<Link>,
    grain: GrainId,
    /// Which of its workers, if it has any.
    worker: Option<ActivationId>,
    method: &'static MethodInfo,
    /// In which round it came.
    round: u32,
}

/// What an activation has waiting.
pub(crate) enum Look {
    /// No call of a turn: it is watched no more.
    Nothing,
    /// Some, but none for long.
    Moves,
    /// These for long.
    Long(Vec<LongCall>),
}

/// A look at what waits in one mailbox, in its order.
pub(crate) struct Looking<'w> {
    watch: &'w Watch,
    grain: &'w GrainId,
    worker: Option<ActivationId>,
    /// What is in front has not waited for long. Not known before the first.
    moves: Option<bool>,
    any: bool,
    long: Vec<LongCall>,
}

impl<'w> Looking<'w> {
    pub(crate) fn new(watch: &'w Watch, grain: &'w GrainId, worker: Option<ActivationId>) -> Self {
        Self { watch, grain, worker, moves: None, any: false, long: Vec::new() }
    }

    /// Sees one that came in `round`, and by which turn it was made, if it is a call of one.
    pub(crate) fn see(
        &mut self,
        round: Option<u32>,
        made_by: Option<(&Arc<Link>, &'static MethodInfo)>,
    ) -> ControlFlow<()> {
        // Whoever is served in time has nothing long in front.
        let is_new = || round.is_some_and(|round| !self.watch.is_long(round));
        let moves = *self.moves.get_or_insert_with(is_new);
        let Some((link, method)) = made_by else { return ControlFlow::Continue(()) };
        self.any = true;
        match round.filter(|round| !moves && self.watch.is_long(*round)) {
            Some(round) => {
                let (grain, worker) = (self.grain.clone(), self.worker);
                self.long.push(LongCall { link: link.clone(), grain, worker, method, round });
                ControlFlow::Continue(())
            }
            None => ControlFlow::Break(()), // nor is anything behind it
        }
    }

    /// Whether there was any call of a turn.
    pub(crate) fn has_seen_any(&self) -> bool {
        self.any
    }

    /// What there was.
    pub(crate) fn seen(self) -> Look {
        match self.any {
            false => Look::Nothing,
            true if self.long.is_empty() => Look::Moves,
            true => Look::Long(self.long),
        }
    }
}

impl Watch {
    /// The number of this round, to be kept by what begins to wait.
    pub(crate) fn round(&self) -> u32 {
        self.round.load(Ordering::Relaxed)
    }

    /// Whether something that came in `round` may have waited for long.
    pub(crate) fn is_long(&self, round: u32) -> bool {
        self.round().wrapping_sub(round) >= ROUNDS_MIN
    }

    /// An activation has a call of a turn waiting, and is not watched yet.
    pub(crate) fn add(&self, activation: Weak<dyn AnyActivation>) {
        lock(&self.watched).push(activation);
        self.stirred.notify_one();
    }

    /// Waits until there is something to watch.
    pub(crate) async fn stirred(&self) {
        self.stirred.notified().await;
    }

    /// Begins the next round, and says which calls have waited for long. `None` if nothing is watched any more.
    pub(crate) fn next_round(&self) -> Option<Vec<WaitingCall>> {
        self.round.fetch_add(1, Ordering::Relaxed);
        let mut watched = std::mem::take(&mut *lock(&self.watched));
        let mut found = Vec::new();
        watched.retain(|activation| {
            // Not under the lock: the last reference to it may go here.
            let Some(activation) = activation.upgrade() else { return false };
            match activation.look(self) {
                Look::Nothing => false,
                Look::Moves => true,
                Look::Long(calls) => {
                    found.extend(calls.into_iter().map(|call| (call, Arc::downgrade(&activation))));
                    true
                }
            }
        });
        let mut now = lock(&self.watched);
        now.append(&mut watched);
        let nothing = now.is_empty();
        drop(now);
        if nothing {
            lock(&self.long).calls.clear();
            return None;
        }
        Some(self.report(found))
    }

    fn report(&self, mut found: Vec<(LongCall, Weak<dyn AnyActivation>)>) -> Vec<WaitingCall> {
        let round = self.round();
        let waited = |call: &LongCall| round.wrapping_sub(call.round);
        // Stable: those of one activation stay in the order they came.
        found.sort_by_key(|(call, _)| Reverse(waited(call)));
        found.truncate(CALLS_MAX);
        let mut long = lock(&self.long);
        let mut before = std::mem::take(&mut long.calls);
        let mut bytes = 0;
        let mut report = Vec::new();
        for (call, activation) in found {
            let waited_ms = u64::from(waited(&call) - 1) * ROUND.as_millis() as u64;
            let turns = call.link.waiting_turns(CHAIN_MAX);
            let chain = turns.map(|turn| WaitingTurn {
                grain: turn.grain.to_string(),
                worker: turn.worker(),
                method: turn.method.name().to_owned(),
            });
            let chain = chain.collect();
            let address = Arc::as_ptr(&call.link) as usize;
            let known = before.remove(&address).unwrap_or_else(|| {
                long.last_id += 1;
                Known { id: long.last_id, link: call.link, activation }
            });
            let call = WaitingCall {
                id: known.id,
                waited_ms,
                grain: call.grain.to_string(),
                worker: call.worker,
                method: call.method.name.to_owned(),
                chain,
            };
            long.calls.insert(address, known);
            bytes += call.bytes();
            if bytes > REPORT_BYTES_MAX {
                break;
            }
            report.push(call);
        }
        report
    }

    /// The number of the next report to a member, and that of the last one it has answered.
    #[cfg(feature = "cluster")]
    pub(crate) fn next_report(&self, to: u64) -> (u64, u64) {
        let mut sent = lock(&self.sent);
        if sent.to != to {
            (sent.to, sent.answered) = (to, 0);
        }
        sent.last += 1;
        (sent.last, sent.answered)
    }

    /// That report was answered.
    #[cfg(feature = "cluster")]
    pub(crate) fn report_answered(&self, number: u64) {
        lock(&self.sent).answered = number;
    }

    /// Fails the calls that a detector has chosen, if they still wait.
    pub(crate) fn break_calls(&self, breaks: Vec<Break>) {
        for Break { id, cycle } in breaks {
            let known = {
                let long = lock(&self.long);
                let known = long.calls.values().find(|known| known.id == id);
                known.and_then(|known| Some((known.activation.upgrade()?, known.link.clone())))
            };
            if let Some((activation, link)) = known {
                tracing::warn!(cycle = cycle.join(" -> "), "calls waited for each other: the last one fails");
                activation.break_call(&link, cycle);
            }
        }
    }
}

impl WaitingCall {
    /// The bytes of its names.
    fn bytes(&self) -> usize {
        let turns = self.chain.iter().map(|turn| turn.grain.len() + turn.method.len() + 8);
        self.grain.len() + self.method.len() + 32 + turns.sum::<usize>()
    }
}

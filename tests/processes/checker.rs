//! What must be true of all that the processes of a cluster have written down: they are judged by the judge of simulated
//! worlds, [`grains::sim::check`]. This room knows what is different about real processes: their facts come out of order, a
//! frozen one ends what it was in the middle of, a killed one leaves calls open, and calls have to end in time.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use grains::{
    ActivationId,
    sim::check::{Counter, CounterOp, Judge},
};

use crate::record::{Asked, Did, Fact, Told};

/// A process that was frozen goes on.
#[derive(Clone, Debug)]
pub struct Thaw {
    pub process: String,
    /// Not later than it was frozen.
    pub frozen: u64,
    /// Not later than it went on, and not before it was frozen.
    pub at: u64,
}

/// A process that must not act for a while: it cannot hear from a majority, and its lease is over.
#[derive(Clone, Debug)]
pub struct Silence {
    pub process: String,
    pub from: u64,
    pub until: u64,
}

/// How long, in nanoseconds, a thread may take to go on: on a busy machine others go first.
const GOES_ON_MAX: u64 = 1_000_000_000;

/// How much later than its deadline a call may end, in nanoseconds: a machine may be busy, and calls that hang do so for good.
const LATE_MAX: u64 = 2_000_000_000;

/// In nanoseconds: a call with a shorter one may have ended because of it.
const LONG_LIMIT: u64 = 10_000_000_000;

/// More broken promises than anybody reads.
const BROKEN_MAX: usize = 50;

/// The facts so far.
#[derive(Default)]
pub struct Checker {
    judge: Judge,
    thaws: BTreeMap<String, Vec<Thaw>>,
    silences: Vec<Silence>,
    /// The threads that have ended what they were frozen in: the process, the thaw, the thread.
    went_on: BTreeSet<(String, u64, u64)>,
    counters: BTreeMap<(String, String), u64>,
    /// Calls that have not ended.
    open: BTreeMap<u64, Open>,
    /// What this chapter's callers asked of ledgers, and when, to be put in order at its end.
    ledgers: Vec<Ledger>,
    /// When the activations of each grain of this chapter began, and in which process.
    begun: BTreeMap<String, Vec<Begun>>,
    /// The answers of this chapter.
    heard: Vec<Heard>,
    /// Calls of unknown outcome that might have waited for longer: from when to when, and whose.
    pub unknown: Vec<(u64, u64, String)>,
    pub tally: Tally,
    broken: Vec<String>,
}

/// How much there was.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub calls: u64,
    pub answered: u64,
    pub not_executed: u64,
    pub unknown: u64,
    pub turns: u64,
}

struct Open {
    process: String,
    at: u64,
    key: String,
    what: Asked,
    limit: u64,
}

struct Begun {
    at: u64,
    activation: String,
    process: String,
}

/// An answer, as its caller heard it.
struct Heard {
    at: u64,
    key: String,
    by: String,
    caller: String,
}

struct Ledger {
    key: String,
    input: CounterOp,
    begun: u64,
    ended: Option<(u64, Told)>,
}

impl Checker {
    /// To be said before what the process writes afterwards is taken.
    pub fn thawed(&mut self, thaw: Thaw) {
        self.thaws.entry(thaw.process.clone()).or_default().push(thaw);
    }

    /// To be said before what the process writes afterwards is taken.
    pub fn is_silent(&mut self, silence: Silence) {
        self.silences.push(silence);
    }

    /// A fact; those of one process in the order in which it wrote them.
    pub fn take(&mut self, process: &str, fact: Fact) {
        match fact {
            Fact::Turn { at, thread, key, activation, did } => {
                self.tally.turns += 1;
                match did {
                    Did::Count { call, counter } => {
                        self.judge.once.executed(call, &key, Duration::from_nanos(at));
                        self.counts(&key, &activation, counter);
                    }
                    Did::Enter { call } => self.judge.once.executed(call, &key, Duration::from_nanos(at)),
                    Did::Begin | Did::End | Did::Tick | Did::Slow | Did::Block => {}
                }
                if !self.ends_what_it_was_frozen_in(process, thread, at) {
                    self.speaks(process, at, &key);
                    if did == Did::Begin {
                        let (activation, process) = (activation.clone(), process.to_owned());
                        self.begun.entry(key.clone()).or_default().push(Begun { at, activation, process });
                    }
                    self.judge.lives.turn(&key, activation_id(&activation), process, Duration::from_nanos(at));
                }
            }
            Fact::Leads { at, term } => {
                self.speaks(process, at, "the leader");
                self.judge.grants.acts("leader", term, process, Duration::from_nanos(at));
            }
            Fact::Asks { at, number, key, what, limit_ms } => {
                self.tally.calls += 1;
                let limit = limit_ms * 1_000_000;
                self.open.insert(number, Open { process: process.to_owned(), at, key, what, limit });
            }
            Fact::Told { at, number, answer } => self.told(at, number, answer),
        }
    }

    /// From the check at the start of a poll to the next await nothing can hold a thread up. So each thread may write one
    /// moment as soon as its process goes on: its answer is not heard and its writes are fenced, which other rules look at.
    /// Everything after it comes from polls that begin with a check.
    fn ends_what_it_was_frozen_in(&mut self, process: &str, thread: u64, at: u64) -> bool {
        let Some(thaws) = self.thaws.get(process) else { return false };
        let goes_on = |thaw: &&Thaw| (thaw.at..thaw.at + GOES_ON_MAX).contains(&at);
        let Some(thaw) = thaws.iter().rfind(goes_on) else { return false };
        self.went_on.insert((process.to_owned(), thaw.at, thread))
    }

    fn speaks(&mut self, process: &str, at: u64, who: &str) {
        let silent = self.silences.iter().find(|s| s.process == process && (s.from..s.until).contains(&at));
        if let Some(silence) = silent {
            let late = (at - silence.from) / 1_000_000;
            self.breaks(format!("{who} acts on {process} {late} ms after its node may have had a lease, cut off"));
        }
    }

    fn counts(&mut self, key: &str, activation: &str, counter: u64) {
        let before = self.counters.entry((key.to_owned(), activation.to_owned())).or_default();
        *before += 1;
        let ran = *before;
        if counter != ran {
            self.breaks(format!("{key}: {activation} counts {counter}, and has run {ran}"));
        }
    }

    fn told(&mut self, at: u64, number: u64, answer: Told) {
        let Some(call) = self.open.remove(&number) else {
            return self.breaks(format!("call {number} ended, and had not begun or has ended before"));
        };
        if at > call.at + call.limit + self.frozen(&call.process, call.at, at) + LATE_MAX {
            let late = (at - call.at - call.limit) / 1_000_000;
            self.breaks(format!("{}: a call of {} ended {late} ms after its deadline", call.key, call.process));
        }
        match &answer {
            Told::Answered { by, .. } => {
                self.tally.answered += 1;
                let (key, by, caller) = (call.key.clone(), by.clone(), call.process.clone());
                self.heard.push(Heard { at, key, by, caller });
            }
            Told::NotExecuted { .. } => {
                self.tally.not_executed += 1;
                self.judge.once.never_ran(number);
            }
            Told::Unknown { .. } => {
                self.tally.unknown += 1;
                if call.limit >= LONG_LIMIT {
                    self.unknown.push((call.at, at, call.process.clone()));
                }
            }
        }
        self.asked_a_ledger(call, Some((at, answer)));
    }

    fn asked_a_ledger(&mut self, call: Open, ended: Option<(u64, Told)>) {
        let input = match call.what {
            Asked::Enter => CounterOp::Add(1),
            Asked::Sum => CounterOp::Read,
            Asked::Count | Asked::Slow => return,
        };
        self.ledgers.push(Ledger { key: call.key, input, begun: call.at, ended });
    }

    /// How long, in nanoseconds, a process was frozen between two times.
    fn frozen(&self, process: &str, from: u64, until: u64) -> u64 {
        let thaws = self.thaws.get(process).map(Vec::as_slice).unwrap_or_default();
        thaws.iter().map(|thaw| thaw.at.min(until).saturating_sub(thaw.frozen.max(from))).sum()
    }

    /// Nobody calls the grains of this chapter any more: what they answered is judged.
    pub fn chapter_ends(&mut self) {
        self.judge_heard();
        self.judge_ledgers();
    }

    /// A process that was replaced while it was frozen is heard by no other one when it goes on.
    fn judge_heard(&mut self) {
        let (begun, heard) = (std::mem::take(&mut self.begun), std::mem::take(&mut self.heard));
        for Heard { at, key, by, caller } in heard {
            let lives = begun.get(&key).map(Vec::as_slice).unwrap_or_default();
            let Some(life) = lives.iter().find(|life| life.activation == by) else {
                continue;
            };
            let Some(next) = lives.iter().filter(|other| other.at > life.at).min_by_key(|other| other.at) else {
                continue;
            };
            let thaws = self.thaws.get(&life.process).map(Vec::as_slice).unwrap_or_default();
            let slept_through = thaws.iter().any(|thaw| (thaw.frozen..thaw.at).contains(&next.at) && thaw.at <= at);
            if slept_through && self.frozen(&caller, next.at, at) == 0 {
                let late = (at - next.at) / 1_000_000;
                self.breaks(format!("{key}: {caller} heard {by} {late} ms after {} had replaced it", next.activation));
            }
        }
    }

    fn judge_ledgers(&mut self) {
        for (_, call) in std::mem::take(&mut self.open) {
            self.asked_a_ledger(call, None);
        }
        let judge = Judge::new();
        let history = judge.history::<Counter, String>();
        let mut ledgers = std::mem::take(&mut self.ledgers);
        ledgers.sort_by_key(|ledger| ledger.begun);
        let mut ends: Vec<(u64, usize)> =
            ledgers.iter().enumerate().filter_map(|(n, ledger)| Some((ledger.ended.as_ref()?.0, n))).collect();
        ends.sort_unstable();
        let mut ends = ends.into_iter().peekable();
        let mut begun = Vec::new();
        let end = |(at, n): (u64, usize), begun: &[_]| match &ledgers[n].ended {
            Some((_, Told::Answered { value, .. })) => history.end(begun[n], *value, Duration::from_nanos(at)),
            Some((_, Told::NotExecuted { .. })) => history.never_ran(begun[n]),
            Some((_, Told::Unknown { .. })) | None => history.unknown(begun[n]),
        };
        for ledger in &ledgers {
            while let Some(ended) = ends.next_if(|(at, _)| *at < ledger.begun) {
                end(ended, &begun);
            }
            begun.push(history.begin(ledger.key.clone(), ledger.input, Duration::from_nanos(ledger.begun)));
        }
        ends.for_each(|ended| end(ended, &begun));
        judge.verdict().iter().for_each(|violation| self.breaks(violation.to_string()));
    }

    /// Calls that have not ended although they should have, by processes that live.
    pub fn hanging(&mut self, now: u64, lives: impl Fn(&str) -> bool) {
        let late = |call: &&Open| {
            now > call.at + call.limit + self.frozen(&call.process, call.at, now) + LATE_MAX && lives(&call.process)
        };
        let hanging: Vec<String> = self.open.values().filter(late).map(|call| call.key.clone()).collect();
        hanging.into_iter().for_each(|key| self.breaks(format!("{key}: a call hangs")));
    }

    fn breaks(&mut self, what: String) {
        if self.broken.len() < BROKEN_MAX {
            self.broken.push(what);
        }
    }

    /// What is broken so far.
    pub fn broken(&self) -> Vec<String> {
        self.broken.iter().cloned().chain(self.judge.verdict().iter().map(ToString::to_string)).collect()
    }
}

fn activation_id(text: &str) -> ActivationId {
    let (epoch, counter) = text.split_once('.').unwrap_or_else(|| panic!("{text:?} is no activation"));
    ActivationId { epoch: epoch.parse().unwrap(), counter: counter.parse().unwrap() }
}

#[cfg(test)]
#[path = "checker_tests.rs"]
mod tests;

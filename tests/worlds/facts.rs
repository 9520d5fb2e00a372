//! What is recorded of a world while it runs. A simulation has one thread, so its facts are a thread's.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use grains::{ActivationId, sim::Sim};

#[derive(Default)]
pub(crate) struct Facts {
    sim: Option<Sim>,
    lives: BTreeMap<String, Vec<(ActivationId, Duration, Duration)>>,
    executed: BTreeMap<u64, Vec<Duration>>,
    never: BTreeSet<u64>,
    acts: BTreeMap<String, Vec<(u64, Duration)>>,
    sums: BTreeMap<(String, u64), u64>,
    pub(crate) violations: Vec<String>,
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

thread_local! {
    static FACTS: RefCell<Facts> = RefCell::default();
}

pub(crate) struct Handle;

pub(crate) fn facts() -> Handle {
    Handle
}

pub(crate) fn begin(sim: &Sim) {
    FACTS.set(Facts { sim: Some(sim.clone()), ..Facts::default() });
}

pub(crate) fn take() -> Facts {
    FACTS.take()
}

impl Handle {
    fn with<R>(&self, f: impl FnOnce(&mut Facts, Duration) -> R) -> R {
        FACTS.with_borrow_mut(|facts| {
            let now = facts.sim.as_ref().map(Sim::now).unwrap_or_default();
            f(facts, now)
        })
    }

    pub(crate) fn turn(&self, grain: &str, activation: ActivationId) {
        self.with(|facts, now| {
            let lives = facts.lives.entry(grain.to_owned()).or_default();
            match lives.last_mut() {
                Some((last, _, until)) if *last == activation => *until = now,
                Some((last, _, until)) if *last > activation => facts.violations.push(format!(
                    "{grain}: activation {activation} runs at {now:?} after {last}, which ran until {until:?}"
                )),
                _ => lives.push((activation, now, now)),
            }
        });
    }

    pub(crate) fn executed(&self, call: u64) {
        self.with(|facts, now| {
            let times = facts.executed.entry(call).or_default();
            times.push(now);
            if times.len() > 1 {
                facts.violations.push(format!("call {call} ran twice: {times:?}"));
            }
            if facts.never.contains(&call) {
                facts
                    .violations
                    .push(format!("call {call} ran at {now:?}, and its caller was told that it never would"));
            }
        });
    }

    pub(crate) fn never_ran(&self, call: u64) {
        self.with(|facts, _| {
            facts.never.insert(call);
            if facts.executed.contains_key(&call) {
                facts.violations.push(format!("call {call} has run, and its caller is told that it has not"));
            }
        });
    }

    pub(crate) fn acts(&self, kind: &str, token: u64) {
        self.with(|facts, now| {
            let acts = facts.acts.entry(kind.to_owned()).or_default();
            match acts.last() {
                Some((last, at)) if *last > token => {
                    facts.violations.push(format!("{kind}: token {token} acts at {now:?} after {last} at {at:?}"))
                }
                _ => acts.push((token, now)),
            }
        });
    }

    pub(crate) fn added(&self, key: &str, sum: u64, call: u64) {
        self.with(|facts, _| {
            if let Some(other) = facts.sums.insert((key.to_owned(), sum), call) {
                facts.violations.push(format!("{key}: calls {other} and {call} were both answered {sum}"));
            }
        });
    }

    pub(crate) fn violation(&self, what: String) {
        self.with(|facts, now| facts.violations.push(format!("{now:?}: {what}")));
    }

    pub(crate) fn count(&self, what: &'static str) {
        self.with(|facts, _| *facts.counts.entry(what).or_default() += 1);
    }
}

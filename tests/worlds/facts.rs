//! What is recorded of a world while it runs. A simulation has one thread, so its facts are a thread's.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use grains::{
    ActivationId, FencingToken, GrainId,
    sim::{
        Sim,
        check::{Counter, CounterOp, History, Judge, OpId},
    },
};

use crate::mill;

/// The facts of one world.
#[derive(Clone)]
pub(crate) struct Facts {
    sim: Sim,
    pub(crate) judge: Judge,
    history: History<String, CounterOp, u64>,
}

#[derive(Default)]
struct Told {
    facts: Option<Facts>,
    counts: BTreeMap<&'static str, u64>,
    habits: Habits,
    /// What no checker can see: a cluster that does not come back to itself.
    stuck: Vec<String>,
}

thread_local! {
    static TOLD: RefCell<Told> = RefCell::default();
}

/// What a world came to.
pub(crate) struct Verdict {
    pub(crate) violations: Vec<String>,
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

/// The facts of the world that runs on this thread.
pub(crate) fn facts() -> Facts {
    TOLD.with_borrow(|told| told.facts.clone()).expect("facts are asked for while a world runs")
}

/// Begins a world.
pub(crate) fn begin(sim: &Sim) {
    let judge = Judge::new();
    judge.lives.workers("mill", mill::WORKERS);
    let history = judge.history::<Counter, String>();
    let facts = Some(Facts { sim: sim.clone(), judge, history });
    TOLD.set(Told { facts, ..Told::default() });
}

/// Ends it.
pub(crate) fn verdict() -> Verdict {
    let Told { facts, counts, stuck, .. } = TOLD.take();
    let judge = facts.expect("a world has begun").judge;
    let judged = judge.verdict();
    let mut violations: Vec<_> = judged.iter().map(ToString::to_string).chain(stuck).collect();
    let tally = judge.tally();
    // A world in which nothing happened shows nothing.
    if violations.is_empty() && (tally.answered < 20 || tally.turns == 0 || tally.acts == 0) {
        violations.push(format!("too little happened: {tally:?}"));
    }
    Verdict { violations, counts }
}

impl Facts {
    fn now(&self) -> Duration {
        self.sim.now()
    }

    /// User code of an activation runs.
    pub(crate) fn turn(&self, grain: &str, activation: ActivationId) {
        self.judge.lives.turn(grain, activation, &self.sim.here(), self.now());
    }

    /// Whether something that has this chance happens.
    pub(crate) fn happens(&self, chance: f64) -> bool {
        chance > 0.0 && self.sim.happens(chance)
    }

    /// The machine whose code runs.
    pub(crate) fn here(&self) -> String {
        self.sim.here()
    }

    /// The caller of a call that is in no history was told that it has not run and never will.
    pub(crate) fn never_executed(&self, call: u64) {
        self.judge.once.never_ran(call);
    }

    /// A call has begun to run.
    pub(crate) fn executed(&self, call: u64, grain: &str) {
        self.judge.once.executed(call, grain, self.now());
    }

    /// A call begins.
    pub(crate) fn begin(&self, key: &str, input: CounterOp) -> OpId {
        self.history.begin(key.to_owned(), input, self.now())
    }

    pub(crate) fn answered(&self, op: OpId, sum: u64) {
        self.history.end(op, sum, self.now());
    }

    /// Its caller was told that it has not run and never will.
    pub(crate) fn never_ran(&self, op: OpId, call: u64) {
        self.history.never_ran(op);
        self.judge.once.never_ran(call);
    }

    pub(crate) fn unknown(&self, op: OpId) {
        self.history.unknown(op);
    }

    /// A store has taken a write by this activation, and `newest` is the newest that has written.
    pub(crate) fn wrote(&self, grain: &GrainId, token: FencingToken, newest: FencingToken) {
        if token < newest {
            stuck(&self.sim, &format!("{grain} was written by {token:?} after {newest:?}"));
        }
    }

    /// A holder of a right uses it.
    pub(crate) fn acts(&self, kind: &str, token: u64) {
        self.judge.grants.acts(kind, token, &self.sim.here(), self.now());
    }
}

/// Counts something, for people who look at how much a world does.
pub(crate) fn count(what: &'static str) {
    TOLD.with_borrow_mut(|told| *told.counts.entry(what).or_default() += 1);
}

/// How those behave that are no part of the cluster.
#[derive(Clone, Copy, Default)]
pub(crate) struct Habits {
    /// The chance of a write to a database to be on its way for seconds.
    pub(crate) stuck_chance: f64,
    /// The chance of a counter to end after a call.
    pub(crate) ends_chance: f64,
}

pub(crate) fn habits() -> Habits {
    TOLD.with_borrow(|told| told.habits)
}

pub(crate) fn set_habits(habits: Habits) {
    TOLD.with_borrow_mut(|told| told.habits = habits);
}

/// The cluster is not as it should be.
pub(crate) fn stuck(sim: &Sim, what: &str) {
    TOLD.with_borrow_mut(|told| told.stuck.push(format!("{:?}: {what}", sim.now())));
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it is held")
}

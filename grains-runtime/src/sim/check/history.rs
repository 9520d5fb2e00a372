//! What callers asked, when, and what became of it.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc, time::Duration};

use super::{
    linear::{self, Stats},
    spec::Spec,
    violation::Violation,
};
use crate::sync::{Mutex, lock};

/// This records operations on keys as their callers saw them. Clones share one record.
///
/// An operation that nobody ended is open: it may take effect at any later time, or never. What counts as "before" is the
/// order in which operations are begun and ended here; the times are for the reader of a violation.
///
/// ```
/// use std::time::Duration;
/// use grains_runtime::sim::check::{History, Register, RegisterOp, RegisterOutput};
///
/// let history = History::<&str, RegisterOp<u64>, RegisterOutput<u64>>::default();
/// let lost = history.begin("x", RegisterOp::Write(1), Duration::from_secs(1));
/// history.unknown(lost); // the connection closed: nobody knows whether it was written
/// let read = history.begin("x", RegisterOp::Read, Duration::from_secs(2));
/// history.end(read, RegisterOutput::Value(1), Duration::from_secs(3)); // it was
/// let again = history.begin("x", RegisterOp::Read, Duration::from_secs(4));
/// history.end(again, RegisterOutput::Value(0), Duration::from_secs(5)); // and cannot be undone
/// assert_eq!(history.verdict::<Register<u64>>().len(), 1);
/// ```
pub struct History<K, I, O> {
    record: Arc<Mutex<Record<K, I, O>>>,
}

/// One operation in its [`History`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an operation that is never ended stays open"]
pub struct OpId(usize);

struct Record<K, I, O> {
    operations: Vec<(K, Operation<I, O>)>,
    /// How many begins and ends there were.
    events: u64,
}

/// One operation. Events are numbered within the history.
#[derive(Clone, Debug)]
pub(super) struct Operation<I, O> {
    pub(super) input: I,
    pub(super) begun: u64,
    pub(super) begun_at: Duration,
    pub(super) outcome: Outcome<O>,
}

#[derive(Clone, Debug)]
pub(super) enum Outcome<O> {
    /// There is none yet: as good as unknown.
    Open,
    /// It may take effect at any later time, or never.
    Unknown,
    Ended {
        event: u64,
        at: Duration,
        output: O,
    },
    /// The caller was told that it was not executed.
    NeverRan,
}

impl<K: Clone + Ord + Debug, I: Clone, O: Clone> History<K, I, O> {
    /// The operation `input` on `key` is about to be asked for.
    pub fn begin(&self, key: K, input: I, at: Duration) -> OpId {
        let mut record = lock(&self.record);
        let begun = record.event();
        record.operations.push((key, Operation { input, begun, begun_at: at, outcome: Outcome::Open }));
        OpId(record.operations.len() - 1)
    }

    /// The answer came.
    ///
    /// # Panics
    /// If the operation has an outcome already: the test mixed up its operations.
    #[track_caller]
    pub fn end(&self, op: OpId, output: O, at: Duration) {
        let mut record = lock(&self.record);
        let event = record.event();
        record.decide(op, Outcome::Ended { event, at, output });
    }

    /// The caller was told that it was *not executed*: it must not have had an effect, and must never have one.
    ///
    /// # Panics
    /// If the operation has an outcome already: the test mixed up its operations.
    #[track_caller]
    pub fn never_ran(&self, op: OpId) {
        lock(&self.record).decide(op, Outcome::NeverRan);
    }

    /// Nobody can tell: it may take effect at any later time, or never. The same holds for an operation that nobody ended.
    ///
    /// # Panics
    /// If the operation has an outcome already: the test mixed up its operations.
    #[track_caller]
    pub fn unknown(&self, op: OpId) {
        lock(&self.record).decide(op, Outcome::Unknown);
    }

    /// How many operations were begun.
    pub fn len(&self) -> usize {
        lock(&self.record).operations.len()
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many of them were answered.
    pub fn answered(&self) -> usize {
        let record = lock(&self.record);
        record.operations.iter().filter(|(_, operation)| matches!(operation.outcome, Outcome::Ended { .. })).count()
    }

    /// Looks for an order of the operations on `key`, each within the time it took, in which `S` gives all their answers.
    pub fn check<S: Spec<Input = I, Output = O>>(&self, key: &K) -> Result<Stats, Violation> {
        let operations = self.by_key().remove(key).unwrap_or_default();
        linear::check::<S>(key, &operations)
    }

    /// What [`check`](Self::check) finds wrong, for all keys.
    pub fn verdict<S: Spec<Input = I, Output = O>>(&self) -> Vec<Violation> {
        self.by_key().iter().filter_map(|(key, operations)| linear::check::<S>(key, operations).err()).collect()
    }

    pub(super) fn by_key(&self) -> BTreeMap<K, Vec<Operation<I, O>>> {
        let mut keys = BTreeMap::<K, Vec<_>>::new();
        for (key, operation) in &lock(&self.record).operations {
            keys.entry(key.clone()).or_default().push(operation.clone());
        }
        keys
    }
}

impl<K, I, O> Record<K, I, O> {
    fn event(&mut self) -> u64 {
        self.events += 1;
        self.events
    }

    #[track_caller]
    fn decide(&mut self, op: OpId, outcome: Outcome<O>) {
        let decided = &mut self.operations[op.0].1.outcome;
        assert!(matches!(decided, Outcome::Open), "operation {} has an outcome already", op.0);
        *decided = outcome;
    }
}

impl<K, I, O> Default for History<K, I, O> {
    fn default() -> Self {
        History { record: Arc::new(Mutex::new(Record { operations: Vec::new(), events: 0 })) }
    }
}

impl<K, I, O> Clone for History<K, I, O> {
    fn clone(&self) -> Self {
        History { record: Arc::clone(&self.record) }
    }
}

//! No call twice: which calls a workload made, and which of them grains executed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    sync::Arc,
    time::Duration,
};

use super::violation::{Rule, Violation};
use crate::sync::{Mutex, lock};

/// This watches single calls. The workload gives each a number of its own and passes it as an argument. Clones share one
/// record.
///
/// ```
/// use std::time::Duration;
/// use grains_runtime::sim::check::Once;
///
/// let once = Once::default();
/// once.executed(1, "cart/ada", Duration::from_secs(1));
/// assert!(once.verdict().is_empty());
/// once.never_ran(1); // the caller was told so, and may have asked again
/// assert_eq!(once.verdict().len(), 1);
/// ```
#[derive(Clone, Default)]
pub struct Once {
    record: Arc<Mutex<Record>>,
}

#[derive(Default)]
struct Record {
    executed: BTreeMap<u64, Vec<(String, Duration)>>,
    never_ran: BTreeSet<u64>,
}

impl Once {
    /// `grain` executes `call`.
    pub fn executed(&self, call: u64, grain: &str, at: Duration) {
        lock(&self.record).executed.entry(call).or_default().push((grain.to_owned(), at));
    }

    /// The caller was told that `call` was not executed. It must never be, now or later.
    pub fn never_ran(&self, call: u64) {
        lock(&self.record).never_ran.insert(call);
    }

    /// How many calls were executed.
    pub fn calls(&self) -> usize {
        lock(&self.record).executed.len()
    }

    /// Which calls broke the rule so far.
    pub fn verdict(&self) -> Vec<Violation> {
        let record = lock(&self.record);
        record.executed.iter().filter_map(|(&call, runs)| record.judge(call, runs)).collect()
    }
}

impl Record {
    fn judge(&self, call: u64, runs: &[(String, Duration)]) -> Option<Violation> {
        let mut message = match (self.never_ran.contains(&call), runs.len()) {
            (true, _) => format!("call {call} was executed though its caller was told that it was not:"),
            (false, 1) => return None,
            (false, times) => format!("call {call} was executed {times} times:"),
        };
        for (position, (grain, at)) in runs.iter().enumerate() {
            let comma = if position == 0 { "" } else { "," };
            // Writing to a String cannot fail.
            let _ = write!(message, "{comma} by {grain} at {at:?}");
        }
        Some(Violation::new(Rule::AtMostOnce, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn calls_that_run_once_or_not_at_all_are_fine() {
        let once = Once::default();
        once.executed(1, "g", AT(1));
        once.executed(2, "g", AT(1));
        once.never_ran(3);
        assert_eq!(once.verdict(), []);
        assert_eq!(once.calls(), 2);
    }

    #[test]
    fn a_call_that_runs_twice_is_told_with_both_runs() {
        let once = Once::default();
        once.executed(1, "g", AT(1));
        once.executed(2, "g", AT(2));
        once.executed(1, "h", AT(3));
        let told: Vec<_> = once.verdict().iter().map(Violation::to_string).collect();
        assert_eq!(told, ["at most once: call 1 was executed 2 times: by g at 1ms, by h at 3ms"]);
    }

    #[test]
    fn a_call_that_runs_after_its_caller_was_told_it_did_not_is_seen() {
        let once = Once::default();
        once.never_ran(1);
        once.executed(1, "g", AT(1));
        let told: Vec<_> = once.verdict().iter().map(Violation::to_string).collect();
        assert_eq!(told, ["at most once: call 1 was executed though its caller was told that it was not: by g at 1ms"]);
    }
}

//! What a test holds: all rules at once.

use std::{
    fmt::{self, Debug},
    sync::Arc,
};

use super::{Grants, History, Lives, Once, Spec, Views, Violation};
use crate::sync::{Mutex, lock};

/// This collects the facts of one world and judges them. Clones share everything, so hand one to each grain and caller.
///
/// ```
/// use std::time::Duration;
/// use grains_runtime::sim::check::{Judge, Register, RegisterOp, RegisterOutput};
///
/// let judge = Judge::new();
/// let values = judge.history::<Register<u64>, String>();
/// let write = values.begin("x".to_owned(), RegisterOp::Write(1), Duration::from_secs(1));
/// judge.once.executed(1, "register/x", Duration::from_secs(2));
/// values.end(write, RegisterOutput::Written, Duration::from_secs(3));
/// judge.views.seen("a", 1, ["a"], Some("a"));
///
/// let violations = judge.verdict();
/// assert!(violations.is_empty(), "{} violations, first: {}", violations.len(), violations[0]);
/// assert_eq!(judge.tally().operations, 1);
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Judge {
    /// One activation at a time.
    pub lives: Lives,
    /// No call twice.
    pub once: Once,
    /// No old leader.
    pub grants: Grants,
    /// Everybody agrees in the end.
    pub views: Views,
    histories: Arc<Mutex<Vec<Arc<dyn Judged>>>>,
}

/// How much there was to judge: a world in which nothing happened breaks no rule either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// Operations in all histories.
    pub operations: usize,
    /// Those of them that were answered.
    pub answered: usize,
    /// How often user code ran.
    pub turns: u64,
    /// Calls that were executed.
    pub calls: usize,
    /// How often somebody acted by a grant.
    pub acts: u64,
    /// Nodes that told their last view.
    pub views: usize,
}

/// A history with its spec.
trait Judged: Send + Sync {
    fn verdict(&self) -> Vec<Violation>;
    fn operations(&self) -> usize;
    fn answered(&self) -> usize;
}

struct Against<S: Spec, K> {
    history: History<K, S::Input, S::Output>,
}

impl Judge {
    /// A judge that knows nothing yet.
    pub fn new() -> Self {
        Judge::default()
    }

    /// A new history whose answers must be those of `S`.
    pub fn history<S, K>(&self) -> History<K, S::Input, S::Output>
    where
        S: Spec<Input: Send, Output: Send> + 'static,
        K: Clone + Ord + Debug + Send + 'static,
    {
        let history = History::default();
        lock(&self.histories).push(Arc::new(Against::<S, K> { history: history.clone() }));
        history
    }

    /// Every broken rule. Empty if the world was good.
    pub fn verdict(&self) -> Vec<Violation> {
        let histories = self.histories().into_iter().flat_map(|history| history.verdict());
        let mut violations = self.lives.verdict();
        violations.extend(self.once.verdict());
        violations.extend(self.grants.verdict());
        violations.extend(self.views.verdict());
        violations.extend(histories);
        violations
    }

    /// How much there was to judge.
    pub fn tally(&self) -> Tally {
        let histories = self.histories();
        Tally {
            operations: histories.iter().map(|history| history.operations()).sum(),
            answered: histories.iter().map(|history| history.answered()).sum(),
            turns: self.lives.turns(),
            calls: self.once.calls(),
            acts: self.grants.count(),
            views: self.views.count(),
        }
    }

    fn histories(&self) -> Vec<Arc<dyn Judged>> {
        lock(&self.histories).clone()
    }
}

impl<S, K> Judged for Against<S, K>
where
    S: Spec<Input: Send, Output: Send>,
    K: Clone + Ord + Debug + Send,
{
    fn verdict(&self) -> Vec<Violation> {
        self.history.verdict::<S>()
    }

    fn operations(&self) -> usize {
        self.history.len()
    }

    fn answered(&self) -> usize {
        self.history.answered()
    }
}

impl Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Judge").field("tally", &self.tally()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use grains_core::ActivationId;

    use super::*;
    use crate::sim::check::{Counter, CounterOp, Rule};

    const AT: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn a_world_without_facts_is_good_and_its_tally_says_why() {
        let judge = Judge::new();
        assert_eq!(judge.verdict(), []);
        assert_eq!(judge.tally(), Tally::default());
    }

    #[test]
    fn every_rule_has_a_voice_in_the_verdict() {
        let judge = Judge::new();
        let recorder = judge.clone();
        let counters = judge.history::<Counter, &str>();
        let add = counters.begin("x", CounterOp::Add(1), AT(1));
        counters.end(add, 2, AT(2));
        for (epoch, node) in [(1, "a"), (2, "b"), (1, "a")] {
            recorder.lives.turn("g", ActivationId { epoch, counter: 1 }, node, AT(epoch));
            recorder.grants.acts("leader", epoch, node, AT(3));
            recorder.once.executed(epoch, "g", AT(3));
        }
        recorder.lives.turn("g", ActivationId { epoch: 1, counter: 1 }, "a", AT(9));
        recorder.lives.turn("h", ActivationId { epoch: 1, counter: 1 }, "a", AT(9));
        recorder.lives.turn("h", ActivationId { epoch: 1, counter: 1 }, "b", AT(9));
        recorder.views.seen("a", 1, ["b"], None);

        let mut kinds: Vec<_> = judge.verdict().iter().map(|violation| violation.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let all = [Rule::Linearizable, Rule::OneLife, Rule::ActivationIds, Rule::AtMostOnce, Rule::Grants, Rule::Views];
        assert_eq!(kinds, all);
        assert_eq!(judge.tally(), Tally { operations: 1, answered: 1, turns: 6, calls: 2, acts: 3, views: 1 });
    }
}

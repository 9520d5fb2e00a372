//! A rule that the recorded facts break.

use std::fmt;

/// One broken rule, told so that a person can start to look.
///
/// ```
/// use std::time::Duration;
/// use grains_runtime::sim::check::{Once, Rule};
///
/// let once = Once::default();
/// once.executed(7, "cart/ada", Duration::from_secs(1));
/// once.executed(7, "cart/ada", Duration::from_secs(2));
/// let violations = once.verdict();
/// assert_eq!(violations[0].kind, Rule::AtMostOnce);
/// assert_eq!(violations[0].to_string(), "at most once: call 7 was executed 2 times: by cart/ada at 1s, by cart/ada at 2s");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// Which rule.
    pub kind: Rule,
    /// What happened, with names and times. May have several lines.
    pub message: String,
}

/// The rules of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Rule {
    /// The operations on one key have an order, within the times they took, that explains every answer.
    Linearizable,
    /// The search for such an order ends within its bound. Whether there is one is unknown, so the world did not pass.
    Decided,
    /// A grain has one activation at a time.
    OneLife,
    /// An activation id belongs to one life on one node, and the ids of a grain grow.
    ActivationIds,
    /// A call is executed at most once, and never if its caller was told that it was not executed.
    AtMostOnce,
    /// Whoever acts by a grant holds the newest one.
    Grants,
    /// All live nodes end with the same view.
    Views,
}

impl Violation {
    pub(super) fn new(kind: Rule, message: impl Into<String>) -> Self {
        Violation { kind, message: message.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rule::Linearizable => "linearizable",
            Rule::Decided => "linearizable, undecided",
            Rule::OneLife => "one life at a time",
            Rule::ActivationIds => "activation ids",
            Rule::AtMostOnce => "at most once",
            Rule::Grants => "grants",
            Rule::Views => "views agree",
        })
    }
}

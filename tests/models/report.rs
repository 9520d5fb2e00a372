//! What an exploration found, and how the tests of all models speak of it.

use std::fmt::{self, Write as _};

use crate::explore::Model;

/// What an exploration found.
pub(crate) struct Report<M: Model> {
    /// How many states it saw.
    pub(crate) states: usize,
    /// Whether these are all there are.
    pub(crate) exhaustive: bool,
    /// The violated properties, each with a shortest way to a violation.
    pub(crate) violations: Vec<(M::Property, Trace<M::Event>)>,
    /// A shortest way to a state from which no goal can be reached.
    pub(crate) stuck: Option<Trace<M::Event>>,
    /// How many states are like that.
    pub(crate) stuck_states: usize,
}

/// What happened, from the beginning on.
pub(crate) struct Trace<E>(pub(crate) Vec<E>);

impl<E: fmt::Display> fmt::Display for Trace<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|event| write!(f, "\n    {event}"))
    }
}

impl<M: Model> Report<M> {
    /// Fails, with the way into the trouble, unless every state was seen and all is well in each.
    pub(crate) fn expect_no_trouble(&self, configuration: &str) {
        assert!(self.exhaustive, "{configuration}: a search for everything goes through everything");
        let trouble = self.trouble();
        assert!(trouble.is_empty(), "{configuration}:{trouble}");
        println!("{configuration}: {} states, all well", self.states);
    }

    /// Fails unless each of `properties` was found violated; prints how.
    pub(crate) fn expect_violated(&self, rule: &str, properties: &[M::Property]) {
        println!("without {rule} ({} states):{}", self.states, self.trouble());
        for property in properties {
            let found = self.violations.iter().any(|(violated, _)| violated == property);
            assert!(found, "without {rule}, {property:?} holds in all {} states: is the rule needed?", self.states);
        }
    }

    /// Fails unless some state is stuck while every property holds; prints the way there.
    pub(crate) fn expect_stuck(&self, rule: &str) {
        println!("without {rule} ({} states):{}", self.states, self.trouble());
        assert!(self.violations.is_empty(), "without {rule} nothing unsafe is expected:{}", self.trouble());
        assert!(self.stuck.is_some(), "without {rule} no state is stuck: is the rule needed?");
    }

    fn trouble(&self) -> String {
        let mut text = String::new();
        for (property, trace) in &self.violations {
            write!(text, "\n  {property:?} is violated by{trace}").expect("a string takes text");
        }
        if let Some(trace) = &self.stuck {
            write!(text, "\n  {} states are stuck, such as after{trace}", self.stuck_states).expect("so it does");
        }
        text
    }
}

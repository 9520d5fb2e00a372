//! What can go wrong with a call, sorted by whether it ran.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::store::LoadError;

/// The default error of a grain: a message that can be sent anywhere.
///
/// `?` turns any error into one, like `anyhow::Error`, and like it this is not a `std::error::Error` itself. Make one from
/// text with [`new`](Self::new). Use an enum of your own where callers must tell errors apart. The message of an error that has
/// sources has theirs, too, each once: one that an error ends with already is not told again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    message: String,
}

impl Error {
    /// An error that says `message`.
    pub fn new(message: impl fmt::Display) -> Self {
        Self { message: message.to_string() }
    }

    /// The message.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The message as it is: this is what a `main` that ends with an error prints.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_said = cause.to_string();
            if !message.ends_with(&cause_said) {
                message.push_str(": ");
                message.push_str(&cause_said);
            }
            source = cause.source();
        }
        Self { message }
    }
}

/// A `Result` with [`Error`] unless said otherwise.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whether a failed call ran. Only the callee's own answer is sure to have run to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The method was not entered. Calling again is safe.
    NotExecuted,
    /// The method may have run, in part or whole. Call again only what is idempotent.
    Unknown,
    /// The method ran: it answered, or it panicked.
    Executed,
}

/// Why a call gave no answer, or the grain's own error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum CallError<E = Error> {
    /// The grain's own error: the method ran and answered this.
    Grain(E),
    /// The deadline passed. Not executed while the call was still queued, otherwise unknown: the turn goes on.
    Timeout {
        /// The callee.
        grain: Box<str>,
        /// The method.
        method: Box<str>,
        /// How long the caller has waited.
        after: Duration,
        /// Whether the turn had begun.
        outcome: Outcome,
    },
    /// A queue was full. Not executed.
    Overloaded {
        /// The callee.
        grain: Box<str>,
        /// The limit that was reached, for example `mailbox_len_max = 1024`.
        limit: Box<str>,
    },
    /// The call would have waited for a turn that waits for it. Not executed.
    Deadlock {
        /// The turns of the cycle in order, as `type/key.method`, and last the call that would have waited for the first.
        cycle: Vec<String>,
    },
    /// The method panicked and its activation was dropped. The next call starts a fresh one.
    Panicked {
        /// The callee.
        grain: Box<str>,
        /// The method.
        method: Box<str>,
        /// What the panic said.
        message: Box<str>,
    },
    /// `activate` failed, panicked, or took too long. Not executed.
    NotActivated {
        /// The callee.
        grain: Box<str>,
        /// Why.
        error: Error,
    },
    /// No node hosts this grain type. Not executed.
    NotHosted {
        /// The grain type.
        grain_type: Box<str>,
    },
    /// The grain has no such method. Not executed.
    UnknownMethod {
        /// The callee.
        grain: Box<str>,
        /// The method.
        method: Box<str>,
    },
    /// Arguments or an answer could not be encoded or decoded.
    Codec {
        /// Which value, and why.
        why: Box<str>,
        /// Not executed for arguments, executed for an answer.
        outcome: Outcome,
    },
    /// The node is stopping or has stopped.
    Stopped {
        /// Not executed if the call had not begun, otherwise unknown.
        outcome: Outcome,
    },
    /// The turn ended without an answer, because its activation lost its state or was fenced. Unknown.
    Lost {
        /// The callee.
        grain: Box<str>,
        /// Why the turn ended.
        why: Box<str>,
    },
    /// This node cannot act now: it is joining its cluster, or its lease has ended. Not executed.
    NotReady {
        /// Why, and what has to happen first.
        why: Box<str>,
    },
    /// The members of the cluster that host this grain type cannot take the grain now. Not executed.
    NoHost {
        /// The callee.
        grain: Box<str>,
        /// What is missing.
        why: Box<str>,
    },
    /// The node that was given the call is gone, or the connection to it, before an answer came. Unknown.
    Unanswered {
        /// The callee.
        grain: Box<str>,
        /// What became of the node or the connection.
        why: Box<str>,
    },
    /// The cluster does not let this client make this call: its trait is not marked for clients, or the node's authorization has
    /// refused it. Not executed.
    Forbidden {
        /// The callee.
        grain: Box<str>,
        /// The method.
        method: Box<str>,
        /// Who has refused, and what would have to change.
        why: Box<str>,
    },
    /// No node of the cluster took the call of this client in time. Not executed.
    NoGateway {
        /// The cluster.
        cluster: Box<str>,
        /// The addresses that were tried, and what became of each.
        why: Box<str>,
    },
    /// The address is not one that can be called: a key over its limit, or a reference that was read outside a node.
    /// Not executed.
    BadReference {
        /// The callee.
        grain: Box<str>,
        /// What is wrong, and the fix.
        why: Box<str>,
    },
}

impl<E> CallError<E> {
    /// Whether the call ran.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Grain(_) | Self::Panicked { .. } => Outcome::Executed,
            Self::Timeout { outcome, .. } | Self::Codec { outcome, .. } | Self::Stopped { outcome } => *outcome,
            Self::Lost { .. } | Self::Unanswered { .. } => Outcome::Unknown,
            Self::Overloaded { .. }
            | Self::Deadlock { .. }
            | Self::NotActivated { .. }
            | Self::NotHosted { .. }
            | Self::UnknownMethod { .. }
            | Self::NotReady { .. }
            | Self::NoHost { .. }
            | Self::Forbidden { .. }
            | Self::NoGateway { .. }
            | Self::BadReference { .. } => Outcome::NotExecuted,
        }
    }

    /// Whether the same call may succeed if it is made again, leaving aside whether that is safe.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Overloaded { .. }
                | Self::NotActivated { .. }
                | Self::NotReady { .. }
                | Self::NoHost { .. }
                | Self::NoGateway { .. }
                | Self::Unanswered { .. }
                | Self::Lost { .. }
        )
    }

    /// The grain's own error, if it is that.
    pub fn grain_error(self) -> Option<E> {
        match self {
            Self::Grain(e) => Some(e),
            _ => None,
        }
    }

    /// The same failure with the grain's own error turned into another type.
    pub fn map_grain<F>(self, map: impl FnOnce(E) -> F) -> CallError<F> {
        match self {
            Self::Grain(e) => CallError::Grain(map(e)),
            Self::Timeout { grain, method, after, outcome } => CallError::Timeout { grain, method, after, outcome },
            Self::Overloaded { grain, limit } => CallError::Overloaded { grain, limit },
            Self::Deadlock { cycle } => CallError::Deadlock { cycle },
            Self::Panicked { grain, method, message } => CallError::Panicked { grain, method, message },
            Self::NotActivated { grain, error } => CallError::NotActivated { grain, error },
            Self::NotHosted { grain_type } => CallError::NotHosted { grain_type },
            Self::UnknownMethod { grain, method } => CallError::UnknownMethod { grain, method },
            Self::Codec { why, outcome } => CallError::Codec { why, outcome },
            Self::Stopped { outcome } => CallError::Stopped { outcome },
            Self::Lost { grain, why } => CallError::Lost { grain, why },
            Self::NotReady { why } => CallError::NotReady { why },
            Self::NoHost { grain, why } => CallError::NoHost { grain, why },
            Self::Unanswered { grain, why } => CallError::Unanswered { grain, why },
            Self::Forbidden { grain, method, why } => CallError::Forbidden { grain, method, why },
            Self::NoGateway { cluster, why } => CallError::NoGateway { cluster, why },
            Self::BadReference { grain, why } => CallError::BadReference { grain, why },
        }
    }
}

/// The grain error of a call that failed before any grain could answer: there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoAnswer {}

impl fmt::Display for NoAnswer {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {}
    }
}

/// A [`CallError`] that is not the grain's own: the delivery failed.
pub type Failure = CallError<NoAnswer>;

impl Failure {
    /// The same failure, for a caller that expects errors of type `E`.
    pub fn widen<E>(self) -> CallError<E> {
        self.map_grain(|none| match none {})
    }

    /// The same failure with texts of at most `bytes_max`, for whoever sends failures to other nodes. One that was longer
    /// says that it was cut.
    #[doc(hidden)]
    pub fn with_texts_cut(mut self, bytes_max: usize) -> Self {
        match &mut self {
            Self::Grain(none) => match *none {},
            Self::Timeout { grain, method, .. } | Self::UnknownMethod { grain, method } => {
                [grain, method].into_iter().for_each(|text| cut(text, bytes_max));
            }
            Self::Panicked { grain, method, message: text } | Self::Forbidden { grain, method, why: text } => {
                [grain, method, text].into_iter().for_each(|text| cut(text, bytes_max));
            }
            Self::Overloaded { grain, limit: text }
            | Self::Lost { grain, why: text }
            | Self::NoHost { grain, why: text }
            | Self::Unanswered { grain, why: text }
            | Self::NoGateway { cluster: grain, why: text }
            | Self::BadReference { grain, why: text } => {
                [grain, text].into_iter().for_each(|text| cut(text, bytes_max));
            }
            Self::NotActivated { grain, error } => {
                cut(grain, bytes_max);
                let mut message = std::mem::take(&mut error.message).into_boxed_str();
                cut(&mut message, bytes_max);
                error.message = message.into_string();
            }
            Self::NotHosted { grain_type: text } | Self::Codec { why: text, .. } | Self::NotReady { why: text } => {
                cut(text, bytes_max);
            }
            Self::Deadlock { cycle } => cut_cycle(cycle, bytes_max),
            Self::Stopped { .. } => {}
        }
        self
    }
}

fn cut(text: &mut Box<str>, bytes_max: usize) {
    if text.len() > bytes_max {
        let end = format!(".. (cut, of {} bytes)", text.len());
        let kept = text.floor_char_boundary(bytes_max.saturating_sub(end.len()));
        *text = format!("{}{end}", &text[..kept]).into();
    }
}

/// Keeps the first turns.
fn cut_cycle(cycle: &mut Vec<String>, bytes_max: usize) {
    let mut bytes = 0;
    let fits = |turn: &&String| {
        bytes += turn.len();
        bytes <= bytes_max
    };
    let kept = cycle.iter().take_while(fits).count();
    if kept < cycle.len() {
        let end = format!("(cut, {} more)", cycle.len() - kept);
        cycle.truncate(kept);
        cycle.push(end);
    }
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grain(e) => e.fmt(f),
            Self::Timeout { grain, method, after, outcome } => {
                let ran = match outcome {
                    Outcome::NotExecuted => "it did not run",
                    Outcome::Unknown | Outcome::Executed => "it may have run",
                };
                write!(f, "{grain}.{method}: no answer within {after:?}, {ran}")
            }
            Self::Overloaded { grain, limit } => write!(f, "{grain} is overloaded: {limit} reached"),
            Self::Deadlock { cycle } => write!(f, "call cycle: {}", cycle.join(" -> ")),
            Self::Panicked { grain, method, message } => write!(f, "{grain}.{method} panicked: {message}"),
            Self::NotActivated { grain, error } => write!(f, "{grain} could not be activated: {error}"),
            Self::NotHosted { grain_type } => write!(
                f,
                "no node hosts grain type \"{grain_type}\": add `.host::<..>()` for the struct that answers it"
            ),
            Self::UnknownMethod { grain, method } => write!(f, "{grain} has no method {method}"),
            Self::Codec { why, .. } => f.write_str(why),
            Self::Stopped { outcome: Outcome::NotExecuted } => {
                f.write_str(
                "the node is stopping or has stopped, by `stop()` or because its last handle was dropped; the call did not run",
            )
            }
            Self::Stopped { .. } => f.write_str("the node stopped, the call may have run"),
            Self::Lost { grain, why } => write!(f, "{grain} was dropped during the call, it may have run: {why}"),
            Self::NotReady { why } => write!(f, "this node cannot act now, the call did not run: {why}"),
            Self::NoHost { grain, why } => write!(f, "no node can host {grain} now, the call did not run: {why}"),
            Self::Unanswered { grain, why } => write!(f, "no answer from {grain}, it may have run: {why}"),
            Self::Forbidden { grain, method, why } => {
                write!(f, "{grain}.{method} is not for this client, the call did not run: {why}")
            }
            Self::NoGateway { cluster, why } => {
                write!(f, "no node of cluster \"{cluster}\" takes calls of this client, the call did not run: {why}")
            }
            Self::BadReference { grain, why } => write!(f, "{grain} cannot be called: {why}"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for CallError<E> {}

/// Why `ctx.state(..)` failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[non_exhaustive]
pub enum StateError {
    /// The store could not be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The stored value is not of the wanted type.
    #[error("state `{name}` of {grain} cannot be read as the type asked for: {why}")]
    Decode {
        /// Whose state.
        grain: String,
        /// Which state.
        name: String,
        /// What serde said.
        why: String,
    },
    /// The activation that asked is gone.
    #[error(transparent)]
    Gone(#[from] Gone),
    /// The grain is served by workers, which have no state: each would have another one in memory.
    #[error(
        "grain type \"{grain_type}\" is stateless, because it has workers: drop `workers` from its `#[grain(..)]`, or keep state `{name}` in another grain"
    )]
    Stateless {
        /// Its grain type.
        grain_type: String,
        /// Which state it asked for.
        name: String,
    },
}

/// The activation this context belonged to has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("this activation has ended")]
pub struct Gone;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_at_a_whole_character_and_say_so_and_others_stay() {
        let why = "ä".repeat(1000).into();
        let failure = Failure::NotReady { why }.with_texts_cut(99);
        let CallError::NotReady { why } = failure else { panic!("{failure:?}") };
        assert!((95..=99).contains(&why.len()) && why.starts_with("ää"), "{why}");
        assert!(why.ends_with(".. (cut, of 2000 bytes)"), "{why}");

        let error = Error::new("x".repeat(1000));
        let failure = Failure::NotActivated { grain: "cart/7".into(), error }.with_texts_cut(99);
        let CallError::NotActivated { grain, error } = failure else { panic!("{failure:?}") };
        assert_eq!((&*grain, error.message().len()), ("cart/7", 99));

        let short = Failure::Lost { grain: "cart/7".into(), why: "x".repeat(99).into() };
        assert_eq!(short.clone().with_texts_cut(99), short);
    }

    #[test]
    fn every_cause_is_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("no door: {0}")]
        struct Twice(#[source] Once);
        #[derive(Debug, thiserror::Error)]
        #[error("no key")]
        struct Once(#[source] fmt::Error);
        let why = fmt::Error;
        assert_eq!(Error::from(Once(why)).message(), format!("no key: {why}"));
        assert_eq!(Error::from(Twice(Once(why))).message(), format!("no door: no key: {why}"));
    }

    #[test]
    fn a_long_cycle_keeps_its_first_turns() {
        let cycle: Vec<_> = (0..1000).map(|n| format!("cart/{n}.pay")).collect();
        let failure = Failure::Deadlock { cycle: cycle.clone() }.with_texts_cut(99);
        let CallError::Deadlock { cycle: left } = failure else { panic!("{failure:?}") };
        assert_eq!(left.last().map(|end| &**end), Some("(cut, 991 more)"));
        assert_eq!(left[..9], cycle[..9]);
    }
}

//! Why there is no order, for a person.

use std::fmt::{self, Debug, Write};

use super::{super::history::Outcome, Operation, Rule, Spec, events::Events, search::Trail};

/// Tells where the search got stuck: the operation whose end nothing explains, and all that might have.
pub(super) fn message<S: Spec>(
    key: &impl Debug,
    operations: &[Operation<S::Input, S::Output>],
    events: &Events<'_, S>,
    trail: &Trail<S::State>,
    kind: Rule,
) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut text, key, operations, events, trail, kind);
    text
}

fn write<S: Spec>(
    text: &mut String,
    key: &impl Debug,
    operations: &[Operation<S::Input, S::Output>],
    events: &Events<'_, S>,
    trail: &Trail<S::State>,
    kind: Rule,
) -> fmt::Result {
    let end = &events.ends()[trail.furthest];
    match kind {
        Rule::Decided => write!(text, "key {key:?}: gave up after {} steps, at", trail.steps)?,
        _ => write!(text, "key {key:?}: no order of the operations explains")?,
    }
    write!(text, "\n    {}", Line(end.op, &operations[end.op]))?;
    write!(text, "\n  possible states before it and those beside it: {:?}", trail.states)?;

    let beside = end.beside.iter().filter(|&&position| position != trail.furthest);
    let beside = beside.map(|&position| events.ends()[position].op).collect();
    section(text, "beside it", beside, operations)?;
    let earlier = events.ends()[..trail.furthest].iter().map(|end| end.op).collect();
    section(text, "ended before it", earlier, operations)?;
    let mut open: Vec<usize> = events.open().iter().flat_map(|open| open.begun_before(end)).collect();
    open.sort_unstable();
    section(text, "unknown outcome", open, operations)?;
    let never_ran = (0..operations.len()).filter(|&op| {
        matches!(operations[op].outcome, Outcome::NeverRan) && operations[op].begun_at <= operations[end.op].begun_at
    });
    section(text, "reported as not executed", never_ran.collect(), operations)
}

/// The last few of `ops`, under a heading.
fn section<I: Debug, O: Debug>(
    text: &mut String,
    heading: &str,
    ops: Vec<usize>,
    operations: &[Operation<I, O>],
) -> fmt::Result {
    if ops.is_empty() {
        return Ok(());
    }
    let shown = &ops[ops.len().saturating_sub(LINES_MAX)..];
    match ops.len() - shown.len() {
        0 => write!(text, "\n  {heading}:")?,
        hidden => write!(text, "\n  {heading} (the last {}, {hidden} more):", shown.len())?,
    }
    shown.iter().try_for_each(|&op| write!(text, "\n    {}", Line(op, &operations[op])))
}

/// One operation in one line.
struct Line<'a, I, O>(usize, &'a Operation<I, O>);

impl<I: Debug, O: Debug> fmt::Display for Line<'_, I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Line(op, Operation { input, begun_at, outcome, .. }) = self;
        match outcome {
            Outcome::Ended { at, output, .. } => write!(f, "#{op} {input:?} -> {output:?}, {begun_at:?} to {at:?}"),
            Outcome::Open | Outcome::Unknown | Outcome::NeverRan => write!(f, "#{op} {input:?}, from {begun_at:?}"),
        }
    }
}

/// How many operations of each kind a report names.
const LINES_MAX: usize = 12;

//! What can happen in the model of calls, as traces show it.

use std::fmt;

use super::state::{NodeNumber, Target, ViewNumber, Word};

#[derive(Clone, Copy)]
pub(crate) enum Event {
    Changes { view: ViewNumber },
    Applies { node: NodeNumber, view: ViewNumber },
    Notices { node: NodeNumber },
    Serves { node: NodeNumber },
    HearsGone { node: NodeNumber },
    Learns { host: NodeNumber },
    IsReady { node: NodeNumber },
    FailsToStart { node: NodeNumber },
    Ends { node: NodeNumber },
    SendsBackWaiting { node: NodeNumber },
    Executes { node: NodeNumber },
    RunsHere { at: NodeNumber },
    Sends { at: NodeNumber, to: NodeNumber, target: Target },
    Waits { at: NodeNumber },
    FindsNoHost { at: NodeNumber },
    Retries { at: NodeNumber },
    Takes { to: NodeNumber },
    Passes { to: NodeNumber, on: NodeNumber },
    Answers { to: NodeNumber, word: Word },
    Hears { at: NodeNumber, word: Word },
    NeverLeft { at: NodeNumber, to: NodeNumber },
    LinkEnds { at: NodeNumber, to: NodeNumber },
    GivesUp,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Changes { view } => write!(f, "view {view} is agreed on"),
            Self::Applies { node, view } => write!(f, "n{node} applies view {view}"),
            Self::Notices { node } => write!(f, "n{node} notices that it was evicted, and ends"),
            Self::Serves { node } => write!(f, "n{node} has learnt what lives, and serves"),
            Self::HearsGone { node } => write!(f, "owner n{node} hears that the activation is gone"),
            Self::Learns { host } => write!(f, "another call tells n0 that the grain is on n{host}"),
            Self::IsReady { node } => write!(f, "the activation on n{node} is active"),
            Self::FailsToStart { node } => write!(f, "the activation on n{node} fails to start"),
            Self::Ends { node } => write!(f, "the activation on n{node} ends"),
            Self::SendsBackWaiting { node } => write!(f, "n{node} sends back what waits, and leaves it in the mailbox"),
            Self::Executes { node } => write!(f, "n{node} executes the call"),
            Self::RunsHere { at } => write!(f, "n{at} has the grain, and takes the call itself"),
            Self::Sends { at, to, target } => write!(f, "n{at} sends the call to n{to}, {target}"),
            Self::Waits { at } => write!(f, "n{at} does not know where the call goes: it waits"),
            Self::FindsNoHost { at } => write!(f, "n{at} finds no host"),
            Self::Retries { at } => write!(f, "n{at} tries again"),
            Self::Takes { to } => write!(f, "n{to} takes the call into a mailbox"),
            Self::Passes { to, on } => write!(f, "n{to} passes the call on to n{on}"),
            Self::Answers { to, word } => write!(f, "n{to} answers: {word}"),
            Self::Hears { at, word } => write!(f, "n{at} hears: {word}"),
            Self::NeverLeft { at, to } => write!(f, "the link from n{at} to n{to} ends; the call never left"),
            Self::LinkEnds { at, to } => write!(f, "the link between n{at} and n{to} ends; the call may have arrived"),
            Self::GivesUp => write!(f, "the caller gives up"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whoever => write!(f, "the owner"),
            Self::Known(order) => write!(f, "where {}.{} was found", order.epoch, order.counter),
            Self::Ordered(order) => write!(f, "with order {}.{}", order.epoch, order.counter),
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answer => write!(f, "the answer"),
            Self::Failed => write!(f, "failed, not executed"),
            Self::NotHere => write!(f, "not here"),
            Self::NotNow => write!(f, "not now"),
            Self::Redirect(order) => write!(f, "order {}.{} on n{}", order.epoch, order.counter, order.host),
        }
    }
}

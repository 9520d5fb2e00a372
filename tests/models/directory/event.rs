//! What can happen in the directory model, as traces show it. Numbers of orders that are dead and forgotten are used again.

use std::fmt;

use super::{
    changes::Change,
    state::{NodeNumber, OrderNumber, ViewNumber},
};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Changes { view: ViewNumber, change: Change },
    Applies { node: NodeNumber, view: ViewNumber },
    Notices { node: NodeNumber },
    AnswersSeal { node: NodeNumber, epoch: ViewNumber, hands_over: bool },
    ServesByHandOver { node: NodeNumber, epoch: ViewNumber },
    AsksAll { node: NodeNumber, epoch: ViewNumber },
    AnswersRecovery { node: NodeNumber, epoch: ViewNumber },
    ServesAfterRecovery { node: NodeNumber, epoch: ViewNumber },
    Places { node: NodeNumber, order: OrderNumber, grain: u8, host: NodeNumber },
    HearsGone { node: NodeNumber, order: OrderNumber },
    HearsStarted { node: NodeNumber, order: OrderNumber },
    DropsEntry { node: NodeNumber, order: OrderNumber },
    Migrates { node: NodeNumber, order: OrderNumber, host: NodeNumber },
    ActsOn { node: NodeNumber, order: OrderNumber },
    Refuses { node: NodeNumber, order: OrderNumber },
    SaysNotHere { node: NodeNumber, order: OrderNumber },
    IsReady { node: NodeNumber, order: OrderNumber },
    Deactivates { node: NodeNumber, order: OrderNumber },
    EndsLastTurn { node: NodeNumber, order: OrderNumber },
    Freezes { node: NodeNumber, order: OrderNumber, target: OrderNumber },
    DropsSource { node: NodeNumber, order: OrderNumber },
    Resumes { node: NodeNumber, order: OrderNumber },
    CallArrives { node: NodeNumber },
    CallExecutes { node: NodeNumber },
    WantsOut { node: NodeNumber },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Changes { view, change } => write!(f, "view {view}: {change}"),
            Self::Applies { node, view } => write!(f, "n{node} applies view {view}"),
            Self::Notices { node } => write!(f, "n{node} notices that it was evicted, and ends"),
            Self::AnswersSeal { node, epoch, hands_over: true } => {
                write!(f, "n{node} seals and hands over to epoch {epoch}")
            }
            Self::AnswersSeal { node, epoch, hands_over: false } => {
                write!(f, "n{node} answers epoch {epoch} that it does not serve")
            }
            Self::ServesByHandOver { node, epoch } => write!(f, "n{node} serves epoch {epoch} by hand-over"),
            Self::AsksAll { node, epoch } => write!(f, "n{node} asks all members for epoch {epoch}"),
            Self::AnswersRecovery { node, epoch } => write!(f, "n{node} reports to epoch {epoch} what it hosts"),
            Self::ServesAfterRecovery { node, epoch } => write!(f, "n{node} serves epoch {epoch} after recovery"),
            Self::Places { node, order, grain, host } => {
                write!(f, "n{node} places grain {grain} on n{host}: order {order}")
            }
            Self::HearsGone { node, order } => write!(f, "owner n{node} hears that {order} is gone"),
            Self::HearsStarted { node, order } => write!(f, "owner n{node} hears that {order} has started"),
            Self::DropsEntry { node, order } => write!(f, "owner n{node} drops {order}, whose host is gone"),
            Self::Migrates { node, order, host } => write!(f, "n{node} orders a migration to n{host}: order {order}"),
            Self::ActsOn { node, order } => write!(f, "n{node} acts on order {order}"),
            Self::Refuses { node, order } => write!(f, "n{node} refuses order {order}"),
            Self::SaysNotHere { node, order } => write!(f, "n{node} says that {order} is not here"),
            Self::IsReady { node, order } => write!(f, "{order} on n{node} is active"),
            Self::Deactivates { node, order } => write!(f, "{order} on n{node} deactivates"),
            Self::EndsLastTurn { node, order } => write!(f, "{order} on n{node} ends its last turn"),
            Self::Freezes { node, order, target } => write!(f, "n{node} freezes {order} and sends it to {target}"),
            Self::DropsSource { node, order } => write!(f, "n{node} drops the frozen {order}"),
            Self::Resumes { node, order } => write!(f, "n{node} resumes the frozen {order}"),
            Self::CallArrives { node } => write!(f, "the call arrives at n{node}"),
            Self::CallExecutes { node } => write!(f, "n{node} executes the call"),
            Self::WantsOut { node } => write!(f, "n{node} is empty and asks to be removed"),
        }
    }
}

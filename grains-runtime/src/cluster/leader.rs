//! Who leads the cluster, for programs: one member at a time, by a grant that is tied to its lease.

use std::sync::Arc;

use grains_core::switches::{Mechanism, on};
use tokio::sync::watch;

use super::names::{NodeName, ViewVersion};
use crate::tenure::Tenure;

/// One leadership of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Leader {
    /// The name of the node that leads.
    pub name: NodeName,
    /// Its term: it grows with every new leader. A system outside that compares it refuses what an older leader sends.
    pub term: u64,
}

/// What this node knows of the leader, kept up to date.
#[derive(Clone, Default)]
pub(crate) struct Known {
    pub(crate) leader: Option<Leader>,
    /// Under which this node leads, if it does.
    pub(crate) mine: Option<Arc<Tenure>>,
    /// The view that says so.
    pub(crate) view: ViewVersion,
}

/// A window on who leads: made by [`Node::leader`](crate::Node::leader). Cloning gives another window.
///
/// On a node outside of clusters, that node leads, for ever, in term 0.
#[derive(Clone)]
pub struct Leadership {
    pub(crate) known: watch::Receiver<Known>,
}

impl Leadership {
    /// Who leads, as far as this node knows. Another one may lead already when this node was cut off.
    pub fn current(&self) -> Option<Leader> {
        self.known.borrow().leader.clone()
    }

    /// The term in which this node leads, if it does. Never `Some` on two nodes at the same time, given that clocks run
    /// at rates within 1 %: ask it right before each thing that only a leader may do.
    pub fn mine(&self) -> Option<u64> {
        let known = self.known.borrow();
        let tenure = known.mine.as_ref()?;
        (tenure.may_act() || !on(Mechanism::LeaderAsksItsLease))
            .then(|| known.leader.as_ref().map(|leader| leader.term))?
    }

    /// Waits until who leads is not as at the last `changed` (or the making of this window), and says who does.
    ///
    /// `None` when there is no leader. When the node has stopped it waits for ever.
    pub async fn changed(&mut self) -> Option<Leader> {
        if self.known.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.known.borrow_and_update().leader.clone()
    }

    /// Waits until this node leads, and gives its term.
    pub async fn on_elected(&mut self) -> u64 {
        loop {
            if let Some(term) = self.mine() {
                return term;
            }
            self.changed().await;
        }
    }

    /// Waits until this node no longer leads in `term`.
    pub async fn on_lost(&mut self, term: u64) {
        while self.mine() == Some(term) {
            self.changed().await;
        }
    }
}

impl std::fmt::Debug for Leadership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leadership").field("current", &self.current()).finish_non_exhaustive()
    }
}

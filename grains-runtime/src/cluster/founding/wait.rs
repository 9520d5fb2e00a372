//! For whom a node waits that is in no cluster yet, in words for people.

use std::{fmt, sync::Arc};

use super::{Answer, Founding, Heard};
use crate::cluster::names::{NodeId, NodeName};

/// Why nothing happens yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// This node has promised that only `founder` founds. If that one is lost for good and founded nothing, an operator
    /// may remove the data directories of those that promised.
    Founder {
        /// Who may found.
        founder: NodeId,
        /// Where it was in the list of the promise.
        address: String,
    },
    /// A node at this address belongs to another cluster, or wants to.
    Differs {
        /// Where.
        address: String,
        /// The cluster.
        cluster: NodeName,
        /// That of this node.
        own: NodeName,
    },
    /// A node at this address wants the same cluster and has another list.
    ListDiffers {
        /// Where.
        address: String,
        /// The list there.
        there: Arc<[String]>,
        /// The list here.
        here: Arc<[String]>,
    },
    /// Too few addresses answer.
    Answers {
        /// Those where nobody does.
        silent: Vec<String>,
        /// Those where somebody does who does not talk to this node.
        refusing: Vec<String>,
        /// How many of the list do.
        answering: usize,
        /// How many must.
        needed: usize,
    },
    /// Enough answer, and the first of them is to found.
    First {
        /// Where it is.
        address: String,
    },
    /// No address of the list leads to this node, so it can only join.
    NotListed,
    /// This node is to found, and these have not promised it yet.
    Promises {
        /// Where they are.
        from: Vec<String>,
    },
}

impl Founding {
    /// For whom this node waits.
    pub(crate) fn waiting(&self) -> Wait {
        let at = |place: usize| self.list.get(place).cloned().unwrap_or_default();
        match &self.promise {
            Some(promise) if !self.promised_to(self.me) => {
                let address = promise.list.get(promise.place).cloned().unwrap_or_default();
                return Wait::Founder { founder: promise.founder, address };
            }
            Some(_) => return Wait::Promises { from: self.places(|heard| !self.has_promised(heard)) },
            None => {}
        }
        if let Some(differs) = self.answers().find_map(|(place, answer)| self.differs(at(place), answer)) {
            return differs;
        }
        if !self.enough(&self.fresh()) {
            let silent = self.places(|heard| matches!(heard, Heard::Nothing | Heard::Silence));
            let refusing = self.places(|heard| matches!(heard, Heard::Refusal));
            // Enough answer, but some of them are not free: whoever they promised themselves to has to found.
            let promised = self.answers().find_map(|(_, answer)| match answer {
                Answer::Promised { to, .. } => Some(*to),
                _ => None,
            });
            if let Some(founder) = promised {
                let place = self.answers().find(|(_, answer)| answer.node() == founder).map(|(place, _)| place);
                return Wait::Founder { founder, address: place.map(at).unwrap_or_default() };
            }
            let answering = self.answers().count();
            let durable = self.fresh().values().all(|memory| *memory == super::Memory::Disk);
            let needed = if durable { self.majority() } else { self.list.len() };
            return Wait::Answers { silent, refusing, answering, needed };
        }
        match self.place() {
            None => Wait::NotListed,
            Some(_) => Wait::First { address: self.places(Heard::is_fresh).into_iter().next().unwrap_or_default() },
        }
    }

    /// Whether a node will not found with this one. (A member of this one's cluster is joined, not waited for.)
    fn differs(&self, address: String, answer: &Answer) -> Option<Wait> {
        match answer {
            Answer::Otherwise { cluster, list, .. } if *cluster == self.cluster => {
                Some(Wait::ListDiffers { address, there: list.clone(), here: self.list.clone() })
            }
            Answer::Member { cluster, .. } | Answer::Otherwise { cluster, .. } => {
                Some(Wait::Differs { address, cluster: cluster.clone(), own: self.cluster.clone() })
            }
            _ => None,
        }
    }

    fn has_promised(&self, heard: &Heard) -> bool {
        matches!(heard, Heard::Answer(Answer::Promised { to, .. }) if *to == self.me)
    }

    fn places(&self, is: impl Fn(&Heard) -> bool) -> Vec<String> {
        self.heard.iter().zip(self.list.iter()).filter(|(heard, _)| is(heard)).map(|(_, at)| at.clone()).collect()
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Founder { founder, address } => {
                write!(f, "waiting for {founder} at {address}, which alone may found")
            }
            Self::Differs { address, cluster, own } => {
                write!(f, "{address} is of cluster \"{cluster}\", this node of \"{own}\"")
            }
            Self::ListDiffers { address, there, here } => write!(
                f,
                "{address} was started with another list of addresses: {} there, {} here; give all nodes the same list in \
                 the same order",
                there.join(", "),
                here.join(", ")
            ),
            Self::Answers { silent, refusing, answering, needed } => {
                write!(f, "{answering} of the listed addresses answer, {needed} must")?;
                let others = [("silent", silent), ("not talking to this node", refusing)];
                let others = others.into_iter().filter(|(_, addresses)| !addresses.is_empty());
                others.into_iter().try_for_each(|(how, addresses)| write!(f, "; {how}: {}", addresses.join(", ")))
            }
            Self::First { address } => write!(f, "waiting for {address} to found"),
            Self::NotListed => write!(f, "no listed address leads to this node: waiting for the others to found"),
            Self::Promises { from } => write!(f, "waiting for promises from {}", from.join(", ")),
        }
    }
}

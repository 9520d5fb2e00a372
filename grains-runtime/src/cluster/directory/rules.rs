//! The rules that keep a grain at one activation, by name, so that tests can break one at a time and show that they would
//! notice. Outside tests every rule is kept and this room compiles to nothing. Simulated clusters break them by the switch of the
//! same mechanism.

use grains_core::switches::{Mechanism, on};

/// One rule. Each is kept by the line that asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A host acts on an order at most once.
    Once,
    /// A refused order is void for good.
    Mark,
    /// A host refuses orders of an epoch that its view knows to be over.
    Fence,
    /// An order is for one life of its host.
    Life,
    /// A host that is leaving refuses orders.
    LeavingRefuses,
    /// A host answers a recovery only after applying its view.
    RecoverAfterApply,
    /// A node that regains a partition acquires it anew.
    Regain,
    /// Only a node that served the very predecessor's epoch hands over.
    Predecessor,
    /// A seal request is answered only after applying its view.
    SealAfterApply,
    /// What is sealed is never served again.
    SealIsFinal,
    /// A recovery needs an answer of every member.
    Everyone,
    /// Of several reports the highest token wins.
    HighestToken,
    /// If the predecessor was not serving, everyone is asked.
    NotServing,
    /// If the predecessor is gone from the view, everyone is asked.
    PredecessorGone,
}

impl Rule {
    /// The switch that breaks it in a simulated cluster.
    const fn mechanism(self) -> Mechanism {
        match self {
            Self::Once => Mechanism::OrdersOnce,
            Self::Mark => Mechanism::RefusalRaisesMark,
            Self::Fence => Mechanism::OldEpochsRefused,
            Self::Life => Mechanism::OrderNamesIncarnation,
            Self::LeavingRefuses => Mechanism::LeavingRefuses,
            Self::RecoverAfterApply => Mechanism::AnswerAfterApplying,
            Self::Regain => Mechanism::RegainAcquires,
            Self::Predecessor => Mechanism::ExactPredecessor,
            Self::SealAfterApply => Mechanism::SealAfterApplying,
            Self::SealIsFinal => Mechanism::SealIsFinal,
            Self::Everyone => Mechanism::EveryoneAnswers,
            Self::HighestToken => Mechanism::HighestTokenWins,
            Self::NotServing => Mechanism::NotServingAsksAll,
            Self::PredecessorGone => Mechanism::GonePredecessorAsksAll,
        }
    }
}

/// Which rules are kept: all.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    #[cfg(test)]
    broken: Option<Rule>,
}

#[cfg(not(test))]
impl Rules {
    pub(crate) fn keep(self, rule: Rule) -> bool {
        on(rule.mechanism())
    }
}

#[cfg(test)]
impl Rules {
    pub(crate) const fn without(rule: Rule) -> Self {
        Self { broken: Some(rule) }
    }

    pub(crate) fn keep(self, rule: Rule) -> bool {
        self.broken != Some(rule) && on(rule.mechanism())
    }
}

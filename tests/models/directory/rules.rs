//! The rules of the directory, each with a switch.

/// Which rules are kept. The numbers are those of `docs/MODELS.md`.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    /// 1: a host acts on an order at most once, and never on one it has refused.
    pub(crate) once: bool,
    /// 1: orders and entries name the incarnation of the host.
    pub(crate) order_names_incarnation: bool,
    /// 1: the owner is told of refusals.
    pub(crate) refusal_is_told: bool,
    /// 1, as it is built: a host remembers, for a partition, only the highest order it has acted on or refused. Lower ones
    /// on which it has not acted are void. Without it, it remembers every order.
    pub(crate) mark: bool,
    /// 1, with the mark: refusals raise it, too.
    pub(crate) refusal_raises_mark: bool,
    /// 1, with the mark: who asks for an order that the mark has voided hears that it is refused.
    pub(crate) voided_is_told: bool,
    /// 2: from applying a view on, a host refuses orders of older epochs.
    pub(crate) fence_on_applying: bool,
    /// 2: from answering a recovery on, a host refuses orders of older epochs.
    pub(crate) fence_on_answering: bool,
    /// 2: from acting on an order on, a host refuses orders of older epochs.
    pub(crate) fence_on_acting: bool,
    /// 3: an owner that joins again gets a new epoch.
    pub(crate) rejoin_makes_epoch: bool,
    /// 3: a node that regains the partition acquires it anew.
    pub(crate) regain_acquires: bool,
    /// 4: a hand-over counts only from the owner before, as the view names it, with exactly that epoch.
    pub(crate) exact_predecessor: bool,
    /// 4: a predecessor that is gone from the view is not waited for.
    pub(crate) gone_predecessor_asks_all: bool,
    /// 4: nor is one that does not serve.
    pub(crate) not_serving_asks_all: bool,
    /// 5: a node answers a seal request only after applying that view.
    pub(crate) seal_after_applying: bool,
    /// 6: a node answers a recovery only after applying that view.
    pub(crate) answer_after_applying: bool,
    /// 6: starting activations are reported.
    pub(crate) report_starting: bool,
    /// 6: activations that are frozen for migration are reported.
    pub(crate) report_frozen: bool,
    /// 6: of several reports, the one of the highest token wins.
    pub(crate) highest_token_wins: bool,
    /// 7: "gone" is said after the last turn.
    pub(crate) gone_after_last_turn: bool,
    /// 8: a leaving node refuses orders.
    pub(crate) leaving_refuses: bool,
    /// An evicted node is gone at once. Without it, all that it does goes on, until it has noticed: only its lease is over.
    pub(crate) evicted_is_gone: bool,
    /// Leases: once the eviction of a node is applied, none of its turns runs. All that the directory needs of them.
    pub(crate) evicted_runs_nothing: bool,
    /// An owner drops entries of hosts that its view has lost, not of those that it has not seen yet.
    pub(crate) drop_what_view_knows: bool,
    /// Migration: the entry holds source and target.
    pub(crate) entry_holds_both: bool,
    /// Migration: a source does not freeze on an order older than its fence.
    pub(crate) freeze_is_fenced: bool,
    /// Migration: the source resumes only on the refusal of a target that never started.
    pub(crate) resume_on_refusal_only: bool,
    /// Migration: the source drops its copy when the target is evicted.
    pub(crate) evicted_target_drops: bool,
}

impl Rules {
    /// As they should be.
    pub(crate) fn all() -> Self {
        Self {
            once: true,
            order_names_incarnation: true,
            refusal_is_told: true,
            mark: true,
            refusal_raises_mark: true,
            voided_is_told: true,
            fence_on_applying: true,
            fence_on_answering: true,
            fence_on_acting: true,
            rejoin_makes_epoch: true,
            regain_acquires: true,
            exact_predecessor: true,
            gone_predecessor_asks_all: true,
            not_serving_asks_all: true,
            seal_after_applying: true,
            answer_after_applying: true,
            report_starting: true,
            report_frozen: true,
            highest_token_wins: true,
            gone_after_last_turn: true,
            leaving_refuses: true,
            evicted_is_gone: true,
            evicted_runs_nothing: true,
            drop_what_view_knows: true,
            entry_holds_both: true,
            freeze_is_fenced: true,
            resume_on_refusal_only: true,
            evicted_target_drops: true,
        }
    }

    /// Whether a host remembers one number for a partition, and uses it.
    pub(super) fn remembers_a_mark(&self) -> bool {
        self.mark && self.dead_orders_stay_dead()
    }

    /// Whether orders that nobody can act on may be forgotten, so that their numbers can be used again.
    pub(super) fn dead_orders_stay_dead(&self) -> bool {
        self.once && self.order_names_incarnation && (self.refusal_raises_mark || !self.mark)
    }
}

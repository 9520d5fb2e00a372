//! The rules of calls between nodes, each with a switch.

/// Which rules are kept.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    /// When a link ends, only what certainly never left is sent again.
    pub(crate) resends_only_unsent: bool,
    /// What may have left, and will not be answered, may have run: its caller is told nothing better.
    pub(crate) unanswered_is_unknown: bool,
    /// A call that has left once is not withdrawn as one that never ran.
    pub(crate) sent_is_begun: bool,
    /// A call that is sent back waits in no mailbox any more.
    pub(crate) bounce_takes_out: bool,
    /// A one-way call that a node has taken is its own: it brings it to where the grain lives next, and sends it back to nobody.
    pub(crate) taken_is_adopted: bool,
    /// What waits for an activation that ends is sent back or forwarded.
    pub(crate) waiting_goes_on: bool,
    /// The end of a link is told to those who wait for an answer by it.
    pub(crate) link_end_is_told: bool,
    /// So is the removal of the node that was asked.
    pub(crate) removal_is_told: bool,
    /// The owner is told which order its host says to be void.
    pub(crate) void_is_told: bool,
    /// Where a call was sent in vain is forgotten.
    pub(crate) place_is_forgotten: bool,
    /// Who is asked by another node and is not the owner sends the call back: it asks no third one.
    pub(crate) asks_no_third: bool,
    /// A call that comes back as "not now" waits until something changes.
    pub(crate) not_now_waits: bool,
    /// So does one that was refused several times in a row.
    pub(crate) refused_waits: bool,
}

impl Rules {
    /// As they should be.
    pub(crate) fn all() -> Self {
        Self {
            resends_only_unsent: true,
            unanswered_is_unknown: true,
            sent_is_begun: true,
            bounce_takes_out: true,
            taken_is_adopted: true,
            waiting_goes_on: true,
            link_end_is_told: true,
            removal_is_told: true,
            void_is_told: true,
            place_is_forgotten: true,
            asks_no_third: true,
            not_now_waits: true,
            refused_waits: true,
        }
    }
}

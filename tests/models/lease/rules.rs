//! The rules of leases, each with a switch.

/// Which rules are kept.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    /// The node counts its lease from when it sent the renewal, not from when the acknowledgement came.
    pub(crate) count_from_sending: bool,
    /// The node's lease is shorter than the leader's by what their clocks may drift apart.
    pub(crate) drift_margin: bool,
    /// Nobody is evicted before the lease that the leader granted is over.
    pub(crate) evict_waits: bool,
    /// A new leader gives every member a full lease before it evicts anyone.
    pub(crate) new_leader_waits: bool,
    /// A leader that was stopped does the same: leaders may have come and gone meanwhile.
    pub(crate) stopped_leader_waits: bool,
    /// A renewal is acknowledged only once a quorum has confirmed that the leader still leads.
    pub(crate) ack_after_quorum_round: bool,
    /// That round began after the renewal was received.
    pub(crate) round_after_receipt: bool,
    /// After the round, everything in the log up to it is applied, and the node has to be a member still.
    pub(crate) member_checked_after_round: bool,
    /// A leader accepts no renewal of a node it is about to evict.
    pub(crate) evict_blocks_renewal: bool,
    /// An eviction counts only in the log of the term whose leader decided it.
    pub(crate) evict_checks_term: bool,
    /// An eviction names the incarnation, and does nothing to a later one.
    pub(crate) evict_names_incarnation: bool,
    /// A certificate of death is about one process, and does nothing to the incarnations of a later one.
    pub(crate) certificate_names_process: bool,
    /// It is made when the system says that the process has ended, not when its socket is closed.
    pub(crate) certificate_means_death: bool,
    /// A join in place of a live member is an eviction, and waits like one.
    pub(crate) join_needs_proof: bool,
    /// A node that has joined acts only after its first acknowledged renewal.
    pub(crate) acts_after_first_ack: bool,
    /// The node asks its clock whether the lease lasts, not a flag that some thread will set.
    pub(crate) clock_is_read: bool,
    /// It asks before every poll of a turn, not only before the turn.
    pub(crate) every_poll_asks: bool,
    /// The store refuses a token smaller than one it has seen.
    pub(crate) token_is_checked: bool,
}

impl Rules {
    /// As they should be.
    pub(crate) fn all() -> Self {
        Self {
            count_from_sending: true,
            drift_margin: true,
            evict_waits: true,
            new_leader_waits: true,
            stopped_leader_waits: true,
            ack_after_quorum_round: true,
            round_after_receipt: true,
            member_checked_after_round: true,
            evict_blocks_renewal: true,
            evict_checks_term: true,
            evict_names_incarnation: true,
            certificate_names_process: true,
            certificate_means_death: true,
            join_needs_proof: true,
            acts_after_first_ack: true,
            clock_is_read: true,
            every_poll_asks: true,
            token_is_checked: true,
        }
    }
}

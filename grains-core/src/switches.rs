//! The mechanisms that keep a cluster safe, each with a switch: a mechanism counts as tested only when a simulated cluster
//! without it does harm. `tests/switches` turns each off in turn; `docs/SIMULATION.md` says what it finds.
//!
//! Whoever is a mechanism asks [`on`] at the line that it consists of. Without the feature `switches`, which only our own tests
//! turn on, that is the constant `true` and nothing of this is left in a build. With it, a mechanism is off on one thread, for
//! as long as an [`Off`] lives there: a simulation has one thread, so several that lack different things run side by side.
//! Nothing that is not simulated lacks anything, but for the processes of the campaign of real faults: [`off_everywhere`].

/// Declares them, with the names that tables and `GRAINS_SWITCH_OFF` use.
macro_rules! mechanisms {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// What can be switched off.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Mechanism {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Mechanism {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Its name, as in `docs/SIMULATION.md`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

mechanisms! {
    /// A node counts its lease from the sending of the renewal. Without: from the receipt of the answer.
    CountFromSending = "count-from-sending",
    /// A node's lease is shorter than the leader's by what their clocks may drift apart.
    DriftMargin = "drift-margin",
    /// A node's lease is shorter by a moment more, for what comes between reading the clock and acting.
    Guard = "guard",
    /// Nobody is evicted before the lease that the leader granted is over. Without: after half of it.
    EvictWaits = "evict-waits",
    /// A new leader gives every member a whole lease before it evicts anyone. Without: it evicts at once.
    NewLeaderWaits = "new-leader-waits",
    /// So does a leader whose own clock shows that it was stopped.
    StoppedLeaderWaits = "stopped-leader-waits",
    /// A renewal is acknowledged only once a quorum has confirmed that the leader leads.
    AckAfterQuorumRound = "ack-after-quorum-round",
    /// That round began after the renewal came. Without: one of up to a lease ago will do.
    RoundAfterReceipt = "round-after-receipt",
    /// After that round the node has to be a member still.
    MemberCheckedAfterRound = "member-checked-after-round",
    /// A leader accepts no renewal of a node that it is about to evict.
    EvictBlocksRenewal = "evict-blocks-renewal",
    /// An eviction counts only in the log of the term whose leader decided it.
    EvictChecksTerm = "evict-checks-term",
    /// An eviction that one leader decided is not brought to the next. Without: it is proposed until it is in somebody's log.
    EvictStaysInTerm = "evict-stays-in-term",
    /// An eviction names the incarnation. Without: whoever has the node's number by then is removed.
    EvictNamesIncarnation = "evict-names-incarnation",
    /// A certificate of death is about the incarnations of one process. Without: about whoever has the node's number by then.
    CertificateNamesProcess = "certificate-names-process",
    /// A join in place of a live member waits until that one's lease has ended.
    JoinNeedsProof = "join-needs-proof",
    /// A node that has joined acts only after its first acknowledged renewal. Without: from when it hears that it has joined.
    ActsAfterFirstAck = "acts-after-first-ack",
    /// The lease of a node that was alone ends again before others are members beside it.
    CompanyEndsEndlessLease = "company-ends-endless-lease",
    /// Whoever may act reads the clock. Without: it goes by what a task found out some time ago.
    ClockIsRead = "clock-is-read",
    /// Every poll of a turn asks for the lease. Without: only its beginning does, and nothing after an await.
    EveryPollAsks = "every-poll-asks",
    /// Whoever leads the cluster asks for its lease each time it says so.
    LeaderAsksItsLease = "leader-asks-its-lease",
    /// A singleton of a node that leaves lives elsewhere only once that node has ended it.
    SingletonWaitsForRelease = "singleton-waits-for-release",

    /// No grain is activated without the word of its partition's owner. Without: whoever is called activates it.
    OwnerDecides = "owner-decides",
    /// A host acts on an order at most once.
    OrdersOnce = "orders-once",
    /// A refused order is void for good.
    RefusalRaisesMark = "refusal-raises-mark",
    /// The owner hears that an order was refused, or that there is no such activation.
    RefusalIsTold = "refusal-is-told",
    /// A host refuses orders of an epoch that its view knows to be over.
    OldEpochsRefused = "old-epochs-refused",
    /// An order is for one incarnation of its host.
    OrderNamesIncarnation = "order-names-incarnation",
    /// A host that is leaving refuses orders.
    LeavingRefuses = "leaving-refuses",
    /// A host answers a recovery only after applying its view.
    AnswerAfterApplying = "answer-after-applying",
    /// An owner that joins again has its partitions in a new epoch.
    RejoinMakesEpoch = "rejoin-makes-epoch",
    /// A node that regains a partition acquires it anew.
    RegainAcquires = "regain-acquires",
    /// Only a node that served the very predecessor's epoch hands over.
    ExactPredecessor = "exact-predecessor",
    /// A seal request is answered only after applying its view.
    SealAfterApplying = "seal-after-applying",
    /// What is handed over is served no more by whoever had it.
    SealIsFinal = "seal-is-final",
    /// A recovery needs an answer of every member.
    EveryoneAnswers = "everyone-answers",
    /// Of several reports of a grain the highest token wins.
    HighestTokenWins = "highest-token-wins",
    /// If the predecessor was not serving, everyone is asked.
    NotServingAsksAll = "not-serving-asks-all",
    /// If the predecessor is gone from the view, everyone is asked.
    GonePredecessorAsksAll = "gone-predecessor-asks-all",
    /// "Gone" is said after the last turn. Without: when the activation begins to end.
    GoneAfterLastTurn = "gone-after-last-turn",

    /// When a link breaks, only calls that certainly never left are sent again.
    ResendsOnlyUnsent = "resends-only-unsent",

    /// A commit returns once the store has acknowledged it. Without: at once.
    ReplyAfterCommit = "reply-after-commit",
    /// A store refuses a token smaller than one that has written.
    TokenIsChecked = "token-is-checked",
    /// A store refuses a write over another version than its writer has read.
    VersionIsChecked = "version-is-checked",
    /// A life whose commit was left open ends with it.
    OpenCommitEndsLife = "open-commit-ends-life",
    /// What is loaded from the cluster's store is read after a quorum has confirmed that its leader leads.
    LoadAsksQuorum = "load-asks-quorum",
    /// A commit that is sent again to the cluster's store is applied once.
    CommitsOnce = "commits-once",
    /// A command that is sent again to the cluster's log is applied once.
    CommandsOnce = "commands-once",
    /// A vote is durable before others hear of it.
    VoteIsDurable = "vote-is-durable",
    /// Entries are durable before they are acknowledged.
    EntriesAreDurable = "entries-are-durable",
    /// A leader of Raft that was restarted begins as a follower.
    NoLeaderRestore = "no-leader-restore",
    /// What a node has promised about who founds its cluster is on its disk before others hear of it.
    PromiseIsDurable = "promise-is-durable",
}

/// Whether this mechanism works.
#[cfg(not(feature = "switches"))]
#[inline(always)]
pub const fn on(_: Mechanism) -> bool {
    true
}

#[cfg(feature = "switches")]
pub use self::switched::{Off, off_everywhere, on};

#[cfg(feature = "switches")]
mod switched {
    use std::{
        cell::Cell,
        marker::PhantomData,
        sync::atomic::{AtomicU64, Ordering},
    };

    use super::Mechanism;

    thread_local! {
        /// What is off on this thread, one bit for each.
        static OFF: Cell<u64> = const { Cell::new(0) };
    }

    /// What is off on every thread of the process.
    static OFF_EVERYWHERE: AtomicU64 = AtomicU64::new(0);

    const _: () = assert!(Mechanism::ALL.len() <= 64, "one bit for each");

    /// Whether this mechanism works on this thread.
    #[inline]
    pub fn on(mechanism: Mechanism) -> bool {
        (OFF.get() | OFF_EVERYWHERE.load(Ordering::Relaxed)) & (1 << mechanism as u64) == 0
    }

    /// Switches these off in this process, from now on and for good: for a process that is a node and nothing else.
    pub fn off_everywhere(mechanisms: &[Mechanism]) {
        OFF_EVERYWHERE.fetch_or(bits(mechanisms), Ordering::Relaxed);
    }

    fn bits(mechanisms: &[Mechanism]) -> u64 {
        mechanisms.iter().fold(0, |bits, mechanism| bits | 1 << *mechanism as u64)
    }

    /// While it lives, some mechanisms are off on its thread.
    #[must_use = "they are off while it lives"]
    pub struct Off {
        before: u64,
        /// It belongs to its thread.
        here: PhantomData<*const ()>,
    }

    impl Off {
        /// Switches these off, and all others on.
        pub fn new(mechanisms: &[Mechanism]) -> Self {
            Self { before: OFF.replace(bits(mechanisms)), here: PhantomData }
        }
    }

    impl Drop for Off {
        fn drop(&mut self) {
            OFF.set(self.before);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_words_of_their_own() {
        let names: BTreeSet<_> = Mechanism::ALL.iter().map(|mechanism| mechanism.name()).collect();
        assert_eq!(names.len(), Mechanism::ALL.len());
        assert!(names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')));
    }

    #[test]
    fn all_are_on_unless_this_thread_says_otherwise() {
        assert!(Mechanism::ALL.iter().all(|mechanism| on(*mechanism)));
        #[cfg(feature = "switches")]
        {
            let off = Off::new(&[Mechanism::Guard]);
            assert!(!on(Mechanism::Guard) && on(Mechanism::DriftMargin));
            assert!(std::thread::spawn(|| on(Mechanism::Guard)).join().unwrap(), "it is of one thread");
            {
                let _other = Off::new(&[Mechanism::DriftMargin]);
                assert!(on(Mechanism::Guard) && !on(Mechanism::DriftMargin));
            }
            assert!(!on(Mechanism::Guard));
            drop(off);
            assert!(on(Mechanism::Guard));
        }
    }
}

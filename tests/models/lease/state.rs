//! One state of the lease model, and what time does to it.

/// A lease as the leader grants it, in ticks of a true clock.
pub(crate) const LEASE: u8 = 3;

/// Of so many ticks in a row, the node's clock may miss one.
const SLOW_ONE_IN: u8 = 3;

/// What a lease can lose to drift.
pub(crate) const DRIFT_MARGIN: u8 = LEASE.div_ceil(SLOW_ONE_IN);

/// How many nodes may lead.
pub(crate) const LEADERS: usize = 2;

/// The room for messages; a configuration may use less.
pub(crate) const MAILS: usize = 2;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    // The node, by its own clock.
    /// How much of its lease is left.
    pub(crate) lease: u8,
    /// How many ticks its clock has to make before it may miss another one.
    pub(crate) until_slow: u8,
    /// It knows that its present incarnation has joined.
    pub(crate) knows_it_joined: bool,
    /// Its thread that looks for the end of the lease has run since; means nothing where the clock is read.
    pub(crate) fenced: bool,
    /// A turn has begun and not ended.
    pub(crate) turn: bool,
    /// A poll of it is on a processor: nothing can interrupt it, and a stopped machine may hold it for long.
    pub(crate) poll: bool,

    // Its process.
    /// It runs; otherwise it has ended, for good.
    pub(crate) runs: bool,
    /// A write of it that left before its end is on its way.
    pub(crate) late_write: bool,
    /// What its watchdog tells whoever leads, as often as it gets there.
    pub(crate) certificate: Certificate,

    // What is agreed upon.
    /// The node's present incarnation is a member.
    pub(crate) member: bool,
    /// Who leads, as a quorum sees it.
    pub(crate) leader: u8,
    /// An eviction that was decided and not applied.
    pub(crate) evict: Option<Evict>,

    // Elsewhere.
    pub(crate) leaders: [Leader; LEADERS],
    pub(crate) mails: [Option<Mail>; MAILS],
    /// A later activation has written to the store.
    pub(crate) newer_wrote: bool,
    /// The store took a write of an earlier activation after that.
    pub(crate) overwritten: bool,
}

/// A certificate of death on its way.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Certificate {
    None,
    /// Of the process that the node has, or had last.
    OfThis,
    /// Of one before that.
    OfEarlier,
}

/// The part of a node that grants leases while the node leads.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Leader {
    pub(crate) belief: Belief,
    /// For how long it will not evict the node.
    pub(crate) until: u8,
    pub(crate) stopped: bool,
    /// A quorum confirmed an earlier round and the answer is still about; kept only where it could be misused.
    pub(crate) old_round: bool,
}

/// Whether a node takes itself for the leader.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Belief {
    No,
    /// It was, and has not heard of its successor.
    Deposed,
    Leads,
}

/// An eviction on its way. Terms and incarnations are compared for equality only, so it is enough to know which are current.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Evict {
    pub(crate) by: u8,
    /// It is in the log; otherwise it is with whoever decided it, or forwards it, and may still get there.
    pub(crate) logged: bool,
    /// The present term is that of the decision; once logged, that of the log entry.
    pub(crate) this_term: bool,
    /// It speaks of the node's present incarnation.
    pub(crate) this_incarnation: bool,
}

/// A renewal on its way, or its acknowledgement. Those of earlier incarnations are gone: nobody takes them for others.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Mail {
    /// How long ago the renewal was sent, by the node's clock; [`LEASE`] is long enough.
    pub(crate) age: u8,
    pub(crate) place: Place,
}

/// Where a renewal is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Place {
    ToLeader,
    /// A leader received it, and needs to know whether it still leads.
    Held {
        by: u8,
        confirmed: bool,
    },
    /// Acknowledged.
    ToNode,
}

impl State {
    /// The node has just joined and has no lease yet.
    pub(crate) fn first() -> Self {
        let leads = Leader { belief: Belief::Leads, until: LEASE, stopped: false, old_round: false };
        Self {
            lease: 0,
            until_slow: 0,
            knows_it_joined: true,
            fenced: false,
            turn: false,
            poll: false,
            runs: true,
            late_write: false,
            certificate: Certificate::None,
            member: true,
            leader: 0,
            evict: None,
            leaders: [leads, Leader { belief: Belief::No, until: 0, ..leads }],
            mails: [None; MAILS],
            newer_wrote: false,
            overwritten: false,
        }
    }

    /// One tick of the leaders' clocks, which also run in one that is stopped.
    pub(crate) fn pass_time(&mut self) {
        for leader in &mut self.leaders {
            leader.until = leader.until.saturating_sub(1);
        }
    }

    /// One tick of the node's clock.
    pub(crate) fn pass_local_time(&mut self) {
        self.lease = self.lease.saturating_sub(1);
        self.until_slow = self.until_slow.saturating_sub(1);
        for mail in self.mails.iter_mut().flatten() {
            mail.age = (mail.age + 1).min(LEASE);
        }
    }

    /// A tick that the node's clock misses.
    pub(crate) fn pass_time_slowly(&mut self) {
        self.pass_time();
        self.until_slow = SLOW_ONE_IN - 1;
    }

    /// Makes states that do not differ in what can still happen the same: messages have no order.
    pub(crate) fn settle(&mut self) {
        self.mails.sort_unstable();
    }
}

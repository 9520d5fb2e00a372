//! Calls that wait for each other. A cycle inside one chain is seen when the call is made (`ambient::chain_to`); here those are
//! found that two or more chains make together, on one node or several: `a` holds its turn and waits for `b`, whose turn, of
//! another chain, waits for `a`. One of the calls is then failed, within a second.
//!
//! ```text
//! a turn's call has to wait ──> its activation is watched ──every ROUND──> calls that have waited WAITED_MIN, with their chains
//!                                                                                      │
//!             the call fails: Deadlock, naming the cycle <── Break <── Detector <──────┘  (of a cluster: on its first member)
//! ```
//!
//! Calls that do not wait cost nothing, nor do nodes on which none does.

pub(crate) mod detector;
mod watch;

pub(crate) use self::watch::{Look, Looking, ROUND, Watch};

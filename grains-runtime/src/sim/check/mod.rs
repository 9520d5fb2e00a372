//! What judges a simulated world: facts that a test records, and the rules that they must keep.
//!
//! Nothing here looks inside a node. Grains and callers of the test record what they *saw* (an answer, a turn, a grant),
//! and when the world is over the [`Judge`] says which rules these facts break.
//!
//! ```
//! use std::time::Duration;
//! use grains_runtime::sim::check::{Counter, CounterOp, Judge};
//!
//! let at = Duration::from_secs;
//! let judge = Judge::new();
//! let counters = judge.history::<Counter, &str>();
//!
//! let add = counters.begin("apples", CounterOp::Add(2), at(1));
//! counters.end(add, 2, at(2));
//! let read = counters.begin("apples", CounterOp::Read, at(3));
//! counters.end(read, 0, at(4)); // the 2 apples are gone
//!
//! let violations = judge.verdict();
//! assert_eq!(violations.len(), 1);
//! assert!(violations[0].message.contains("apples"));
//! ```
//!
//! Reading order: `judge` (what a test holds), `violation`, then `history`, `spec` and `linear` (do the answers of one key
//! have an order that explains them?), `lives` (one activation at a time), `once` (no call twice), `grants` (no old leader),
//! `views` (everybody agrees in the end); `moment` is the order of facts that `lives` and `grants` share.

mod grants;
mod history;
mod judge;
mod linear;
mod lives;
mod moment;
mod once;
mod spec;
mod views;
mod violation;

pub use self::{
    grants::Grants,
    history::{History, OpId},
    judge::{Judge, Tally},
    linear::Stats,
    lives::Lives,
    once::Once,
    spec::{Counter, CounterOp, Register, RegisterOp, RegisterOutput, Spec},
    views::Views,
    violation::{Rule, Violation},
};

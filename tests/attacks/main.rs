//! Attacks: what a hostile user, a bad moment or a careless `Drop` may do, each once found to do harm or suspected of it.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "tests")]

mod deep;
mod edges;
mod leftovers;
mod lives;
mod repelled;
mod turns;

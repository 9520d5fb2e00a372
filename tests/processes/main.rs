//! Clusters of real processes on this machine: killed, frozen, restarted, stopped, and started with mistakes. Each process
//! is this very test binary, run again as a node.
//!
//! Reading order: `probe` (what lives in the cluster), `program` and `traffic` (a node, and the calls it makes by itself),
//! `record` (what every node writes down of what it does), `history` and `checker` (what tests read of it, and what must be true
//! of all of it together), `process` and `cluster` (how tests start nodes and talk to them). The other rooms are the tests;
//! `campaign` is one that goes on for as long as it is told.
#![cfg(all(feature = "sim", feature = "ca", target_os = "linux"))]
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests; and `pub` shows what the other files use")]

mod checker;
mod cluster;
mod history;
mod probe;
mod process;
mod program;
mod record;
mod traffic;

mod campaign;
mod deaths;
mod freezes;
mod garbage;
mod hostile;
mod leaving;
mod mistakes;
mod new_keys;
mod starts;
mod states;
mod watchdogs;

//! Clients from outside of clusters, over real sockets: what they may do, what they may not, and what they live through.
//!
//! Reading order: `desk` (what is called), `cluster` (nodes that take clients). The other rooms are the tests.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, reason = "tests")]

mod cluster;
mod desk;

mod calls;
mod limits;
mod losses;
#[cfg(target_os = "linux")]
mod processes;
mod refused;
#[cfg(feature = "sim")]
mod simulated;
#[cfg(feature = "ca")]
mod tls;

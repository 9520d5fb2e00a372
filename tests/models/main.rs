//! Three models of how a cluster agrees, each explored state by state: leases (`lease`), the directory with its orders
//! (`directory`), and calls between nodes (`calls`). Every rule can be switched off, and a test shows what goes wrong without it.
//!
//! `docs/MODELS.md` says what is modelled and what is not. Configurations that take minutes are ignored unless asked for;
//! run them with `--release`.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "tests")]

mod calls;
mod directory;
mod explore;
mod lease;
mod report;
mod seen;

//! Two models of how a cluster agrees, each explored state by state: leases (`lease`), and the directory with its orders
//! (`directory`). Every rule can be switched off, and a test shows what goes wrong without it.
//!
//! `docs/MODELS.md` says what is modelled and what is not. `GRAINS_MODEL_DEPTH=full` explores larger configurations; use
//! it with `--release`.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "tests")]

mod directory;
mod explore;
mod lease;
mod report;
mod seen;

/// Whether to explore the configurations that take minutes.
fn full_depth() -> bool {
    match std::env::var("GRAINS_MODEL_DEPTH") {
        Ok(depth) if depth == "full" => true,
        Ok(other) => panic!("GRAINS_MODEL_DEPTH is \"full\" or not set, not {other:?}"),
        Err(_) => false,
    }
}

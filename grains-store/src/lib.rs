//! What grains keep: the embedded store of one node, and Raft with its log. Below `grains-runtime`, which compiles while
//! openraft and redb are being compiled here. Users name the facade crate `grains` instead.
//!
//! Reading order: `redb` (one file, many commits to one fsync), `consensus` (what several nodes agree on), `replicated` (the
//! store of a cluster, over both).
#![forbid(unsafe_code)]

#[cfg(test)]
#[path = "../../tests/golden/compare.rs"]
pub(crate) mod compare;
#[cfg(feature = "consensus")]
pub mod consensus;
#[cfg(all(feature = "consensus", any(test, feature = "fuzzing")))]
#[doc(hidden)]
pub mod fuzzing;
pub mod redb;
#[cfg(feature = "consensus")]
pub mod replicated;

#[cfg(feature = "consensus")]
pub use grains_core::names::{BadName, NODE_NAME_BYTES_MAX, NodeId, NodeName};

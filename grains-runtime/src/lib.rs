//! The world of grains: nodes, activations and their turns, timers, stores. Users name the facade crate `grains` instead.
//!
//! Reading order: `node` (the handle, and where a call is routed), `catalog` (who lives here), `activation` (a grain's
//! mailbox, turns and lives), `ambient` (the chain of a call), `tenure` (the right to act), `store`, `world` (the seams over
//! tokio and the system), `settings` (the configuration in files and the environment). Several nodes: `cluster` (who, where,
//! by whose word), `watchdog` (who says that a process has ended), `wire` (connections), `tls` (secret ones), `ca` (the
//! certificates for that), `client` (calls from outside), `sim` (all of it in one
//! thread, from one seed).
#![deny(unsafe_code)]
#![cfg_attr(
    not(feature = "cluster"),
    allow(
        dead_code,
        reason = "where calls of other nodes enter stands among what every node has; builds with clusters find what is dead"
    )
)]
#![cfg_attr(
    all(feature = "wire", not(feature = "cluster")),
    allow(
        unused_imports,
        unreachable_pub,
        reason = "a client has one half of what connections have, under the names that nodes give them"
    )
)]

#[allow(unsafe_code, reason = "the instance behind the turn lock; see `activation::turn`")]
mod activation;
mod ambient;
mod blocked;
#[cfg(feature = "ca")]
pub mod ca;
mod catalog;

#[cfg(feature = "client")]
mod client;
#[cfg(feature = "cluster")]
pub mod cluster;
#[cfg(all(feature = "wire", not(feature = "cluster")))]
pub(crate) mod cluster;
mod config;
mod deadlock;
mod fnv;
#[cfg(all(feature = "cluster", feature = "config", any(test, feature = "fuzzing")))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(all(test, feature = "cluster", feature = "config"))]
mod golden;
mod main_fn;
mod node;
mod scratch;
#[cfg(feature = "config")]
pub mod settings;
#[cfg(feature = "sim")]
pub mod sim;
pub mod store;
mod sync;
mod tenure;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "cluster")]
mod watchdog;
#[cfg(feature = "wire")]
pub(crate) mod wire;
pub mod world;

#[cfg(feature = "client")]
pub use client::{Client, ClientConfig, ConnectError};
#[cfg(all(feature = "client", not(feature = "cluster")))]
pub use cluster::{BadName, TlsConfig};
#[cfg(feature = "cluster")]
pub use cluster::{
    ClientsConfig, ClusterConfig, ClusterStatus, Leader, Leadership, LinkStatus, MemberStatus, Principal, StatesStatus,
    TlsConfig,
};
pub use config::{GrainOptions, NodeConfig};
pub(crate) use grains_core::timeout;
pub use main_fn::init;
#[doc(hidden)]
pub use main_fn::{init_with_args, run_main};
pub use node::{Node, NodeBuilder, StartError, Stopped};

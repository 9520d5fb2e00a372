//! A whole cluster in one thread, in virtual time, from one seed: machines with tasks, disks, drifting clocks and a
//! network, each of which fails when a test says so.
//!
//! Every machine is a [`World`](grains_core::world::World): nodes run over it as they run over tokio and the operating
//! system, but an hour passes in seconds, and the same seed gives the same run, event for event.
//!
//! ```
//! use std::time::Duration;
//!
//! let report = grains_runtime::sim::run(7, async |sim| {
//!     let machine = sim.machine("a");
//!     let clock = machine.world().clock;
//!     let slept = machine.spawn(async move {
//!         let begun = clock.now();
//!         clock.sleep_until(begun + Duration::from_secs(3600)).await;
//!         clock.now().since(begun)
//!     });
//!     assert_eq!(slept.await, Ok(Duration::from_secs(3600)));
//! });
//! assert_eq!(report.sim_time, Duration::from_secs(3600));
//! ```
//!
//! # What repeats and what does not
//!
//! The simulator chooses which task runs next, from the *set* of those that are ready, so the order of wake-ups has no
//! influence. `tokio::time` follows the virtual time (in whole milliseconds, and without the drift of a machine's clock),
//! `tokio::sync` works. What does not repeat: `tokio::select!` without `biased;`, the order of std's `HashMap`, threads,
//! sockets and files beside the world, and `tokio::spawn`, whose tasks belong to no machine and survive its crash.
//! [`replays`] finds such things: it runs a seed twice and names the first event that differs.
//!
//! # Worlds
//!
//! A [`Cluster`] is nodes on machines, a [`Workload`] is what callers do on them and what must hold, [`Faults`] are what goes wrong;
//! [`Worlds`] runs all of that from many seeds, and says of the first one that fails how to run it again. What users need of it is
//! in [`docs/TESTING.md`](https://github.com/grains-rs/grains/blob/main/docs/TESTING.md).
//!
//! Reading order: `worlds`, `workload`, `faults` and `cluster` (many seeds of whole clusters), `builder` and `handle` (what a test holds), `machine`, `engine` (everything simulated, behind one lock),
//! `exec` (who runs next, and how time passes), `agenda`, then one room per seam: `clock`, `tasks`, `random`, `disk`, `net`.
//! `check` stands apart: it judges what a test recorded.

/// Whether a connection between nodes, by its first bytes, is one for questions and Raft: the kind whose messages may come
/// twice. For [`Network::control`].
pub fn is_control_connection(first_chunk: &[u8]) -> bool {
    crate::wire::is_control_connection(first_chunk)
}

mod agenda;
mod builder;
pub mod check;
mod clock;
mod cluster;
mod disk;
mod engine;
mod exec;
mod faults;
mod handle;
mod here;
mod machine;
mod net;
mod random;
mod ready;
mod report;
mod seeds;
mod tasks;
mod trace;
mod watchdog;
mod workload;
mod worlds;

pub use self::{
    builder::{Builder, Order, run},
    cluster::Cluster,
    disk::DiskFault,
    faults::Faults,
    handle::Sim,
    machine::{Lost, Machine, Spawned},
    net::Network,
    report::{Panicked, Report},
    seeds::{replays, seeds},
    watchdog::Watchdog,
    workload::{Caller, Workload},
    worlds::{Verdict, Worlds},
};

#[cfg(test)]
mod tests;

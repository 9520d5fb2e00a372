//! Watchdogs: a small process beside that of the nodes, which learns from the system that theirs has ended and tells their
//! clusters, so that nobody waits for a lease that nobody holds. It is the same program, started again; [`init`] is where it
//! turns into a watchdog instead of going on.
//!
//! Reading order: `ward` (whom it watches; pure), `keeper` (the side of the nodes: it is started, told, started again), `process`
//! (the watchdog itself), `telling` (what it does in the end). What a certificate of death allows is said where it is heard:
//! `cluster/driver/ended.rs`.

#[cfg(target_os = "linux")]
mod keeper;
#[cfg(target_os = "linux")]
mod process;
pub(crate) mod telling;
pub(crate) mod ward;

#[cfg(target_os = "linux")]
pub(crate) use self::keeper::{Watched, init, watch};
#[cfg(not(target_os = "linux"))]
pub(crate) use self::nowhere::{Watched, init, watch};

/// Whether a node can be watched.
pub(crate) enum Watching {
    /// It is, as long as this lives.
    By(Watched),
    /// The program does not begin with [`init`], so it cannot be started again as a watchdog.
    NotReady,
    /// There is no way to learn of the end of a process here.
    #[cfg(not(target_os = "linux"))]
    Nowhere,
}

/// Systems on which nobody learns for certain that a process has ended.
#[cfg(not(target_os = "linux"))]
mod nowhere {
    use std::ffi::OsString;

    use super::{Watching, ward::Ward};

    #[derive(Debug)]
    pub(crate) enum Watched {}

    impl Watched {
        pub(crate) fn members(&self, _: &[String]) {
            match *self {}
        }
    }

    pub(crate) fn init(_: Vec<OsString>) {}

    pub(crate) fn watch(_: Ward) -> Watching {
        Watching::Nowhere
    }
}

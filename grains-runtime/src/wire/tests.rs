//! Wires over loopback sockets and over memory: what one node may count on, whatever the other one does.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use grains_core::world::Connection;

use super::*;
use crate::{
    sync::{Mutex, lock},
    world::tokio_world,
};

mod attacks;
mod calls;
#[cfg(feature = "ca")]
mod certificates;
mod ends;
mod lives;
mod memory;
mod questions;
mod tools;

use self::tools::{Seen, Setup, raw_dial, until};

/// Each of these runs over TCP and over memory.
macro_rules! in_both_worlds {
    ($($name:ident)+) => {
        mod tcp {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::tools::Setup::tcp()).await;
            })+
        }
        mod in_memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::tools::Setup::in_memory()).await;
            })+
        }
    };
}
use in_both_worlds;

/// Each of these also runs over TLS.
macro_rules! over_tls {
    ($($name:ident)+) => {
        #[cfg(feature = "ca")]
        mod tls {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::tools::Setup::over_tls()).await;
            })+
        }
    };
}
use over_tls;

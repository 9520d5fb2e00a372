//! The stores that come with grains, and the kit that any store is tested with.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
#[cfg(any(test, feature = "conformance"))]
pub mod faulty;
#[cfg(feature = "cluster")]
pub(crate) mod fleeting;
#[cfg(feature = "redb")]
pub mod redb;

pub use grains_core::store::memory::MemoryStore;

#[cfg(any(test, feature = "conformance"))]
pub use self::faulty::{Fault, FaultyStore};
#[cfg(feature = "redb")]
pub use self::redb::{OpenError, RedbConfig, RedbStore};

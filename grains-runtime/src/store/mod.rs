//! The stores that come with grains, and the kit that any store is tested with.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
#[cfg(any(test, feature = "conformance"))]
pub mod faulty;
#[cfg(feature = "cluster")]
pub(crate) mod fleeting;
pub use grains_core::store::memory::MemoryStore;

#[cfg(any(test, feature = "conformance"))]
pub use self::faulty::{Fault, FaultyStore};
#[cfg(feature = "redb")]
pub use grains_store::redb::{OpenError, RedbConfig, RedbStore};

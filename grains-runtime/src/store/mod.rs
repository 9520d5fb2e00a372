//! The stores that come with grains, and the kit that any store is tested with.

mod choice;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
#[cfg(any(test, feature = "conformance"))]
pub mod faulty;
#[cfg(feature = "cluster")]
pub(crate) mod fleeting;
pub use grains_core::store::memory::MemoryStore;

pub use self::choice::StoreChoice;
pub(crate) use self::choice::first_epoch;

#[cfg(any(test, feature = "conformance"))]
pub use self::faulty::{Fault, FaultyStore};
#[cfg(feature = "redb")]
pub use grains_store::redb::{OpenError, RedbConfig, RedbStore};
#[cfg(feature = "cluster")]
pub use grains_store::replicated::{MoveError, Moved, ReplicatedConfig, SET_BYTES_MAX};

//! The stores that come with grains, put to the kit, to power cuts at every write, and the kit put to stores that lie.
#![cfg(all(feature = "redb", feature = "conformance"))]
// A test that cannot go on may panic, its helpers too.
#![allow(clippy::unwrap_used)]

mod broken;
mod cuts;
mod kit;
mod liar;
mod redb_file;
mod world;

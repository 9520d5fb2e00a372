//! What `"memory"` means in a cluster: a store that keeps nothing, so that a state lives as long as its activation. A
//! memory of one node would be worse than none, because a grain that comes back to a node would find what it was when it
//! left.

use grains_core::{
    GrainId,
    store::{CommitError, LoadError, Store, Stored, WriteSet},
    world::BoxFuture,
};

/// Takes every commit and forgets it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fleeting;

impl Store for Fleeting {
    fn load<'a>(&'a self, _: &'a GrainId, _: &'a str) -> BoxFuture<'a, Result<Option<Stored>, LoadError>> {
        Box::pin(async { Ok(None) })
    }

    fn commit(&self, _: WriteSet) -> BoxFuture<'_, Result<(), CommitError>> {
        Box::pin(async { Ok(()) })
    }

    fn list<'a>(&'a self, _: &'a str, _: Option<&'a str>, _: usize) -> BoxFuture<'a, Result<Vec<String>, LoadError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn next_epoch(&self) -> BoxFuture<'_, Result<u64, LoadError>> {
        Box::pin(async { Ok(1) })
    }
}

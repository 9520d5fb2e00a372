//! What each thread has called lately: a small table in front of the catalog, which it finds again without a word to other
//! threads. The lock of a shard costs two writes to memory that all callers share, and those are what a call to a busy grain
//! is made of.
//!
//! Nothing is kept alive here. An entry may be of an activation that is out of the catalog; such a one answers that it is
//! gone, and whoever hears that takes it out here too.

use std::{cell::RefCell, sync::Arc, sync::Weak};

use grains_core::GrainId;

use crate::activation::AnyActivation;

/// The entries of a thread: as many grains as a task calls again and again, in 8 KiB.
const ENTRIES: usize = 256;

thread_local! {
    static NEARBY: RefCell<Vec<Entry>> = const { RefCell::new(Vec::new()) };
}

#[derive(Clone, Default)]
struct Entry {
    /// Of which catalog; 0 for none.
    catalog: u64,
    hash: u64,
    /// Nothing after the first time: who is called once is not worth a place.
    activation: Option<Weak<dyn AnyActivation>>,
}

fn place(hash: u64) -> usize {
    hash as usize % ENTRIES
}

/// The activation of `id`, if this thread has called it lately.
pub(super) fn find(catalog: u64, hash: u64, id: &GrainId) -> Option<Arc<dyn AnyActivation>> {
    let found = NEARBY.try_with(|nearby| {
        let nearby = nearby.borrow();
        let entry = nearby.get(place(hash)).filter(|entry| (entry.hash, entry.catalog) == (hash, catalog))?;
        entry.activation.as_ref()?.upgrade()
    });
    found.ok().flatten().filter(|found| found.id() == id)
}

/// This thread has found an activation in the catalog. From the second time on it finds it here.
pub(super) fn remember(catalog: u64, hash: u64, activation: &Arc<dyn AnyActivation>) {
    change(hash, |entry| {
        let again = (entry.hash, entry.catalog) == (hash, catalog);
        (entry.hash, entry.catalog) = (hash, catalog);
        std::mem::replace(&mut entry.activation, again.then(|| Arc::downgrade(activation)))
    });
}

/// This activation is gone.
pub(super) fn forget(activation: &dyn AnyActivation) {
    change(activation.hash(), |entry| {
        let is_it = |weak: &mut Weak<dyn AnyActivation>| std::ptr::addr_eq(weak.as_ptr(), activation);
        entry.activation.take_if(is_it)
    });
}

/// Changes the entry at the place of `hash`. What was there is dropped afterwards.
fn change(hash: u64, change: impl FnOnce(&mut Entry) -> Option<Weak<dyn AnyActivation>>) {
    let before = NEARBY.try_with(|nearby| {
        let mut nearby = nearby.borrow_mut();
        if nearby.is_empty() {
            nearby.resize(ENTRIES, Entry::default());
        }
        change(&mut nearby[place(hash)])
    });
    drop(before);
}

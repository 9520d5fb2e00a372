//! Counts allocations, when asked to. Nothing is counted while time is measured: a pass of its own does that.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

/// The system's allocator, with a counter that is off until [`Count::begin`].
pub(crate) struct Counting;

static ON: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicU64 = AtomicU64::new(0);

fn count() {
    if ON.load(Relaxed) {
        COUNT.fetch_add(1, Relaxed);
    }
}

// SAFETY: every method is that of the system's allocator; counting does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the promises of `alloc`, which are the same there.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above; `at` came from the system's allocator.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: as above; `at` came from the system's allocator.
        unsafe { System.realloc(at, layout, bytes) }
    }
}

/// Allocations of all threads since it began. One at a time.
pub(crate) struct Count {
    before: u64,
}

impl Count {
    pub(crate) fn begin() -> Self {
        ON.store(true, Relaxed);
        Self { before: COUNT.load(Relaxed) }
    }

    pub(crate) fn end(self) -> u64 {
        ON.store(false, Relaxed);
        COUNT.load(Relaxed) - self.before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allocated_in_between_is_counted() {
        let count = Count::begin();
        let boxes: Vec<Box<u64>> = (0..1000).map(Box::new).collect();
        let counted = count.end();
        drop(boxes);
        assert!((1000..1500).contains(&counted), "other tests allocate little: {counted}");
        assert!(!ON.load(Relaxed), "it has ended");
    }
}

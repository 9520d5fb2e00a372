//! A buffer of each thread, in which arguments and answers are encoded before it is known how long they are: what encodes is users'
//! code, which runs under no lock, so it cannot write to where they go. Used where calls leave and are answered.

use std::cell::Cell;

/// A buffer that has grown beyond this is not kept: a thread keeps no more than this for as long as it lives.
#[cfg(feature = "cluster")]
const KEPT_BYTES_MAX: usize = 64 * 1024;

thread_local!(static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) });

/// An empty buffer. Whoever encodes meanwhile on this thread has another one.
pub(crate) fn take() -> Vec<u8> {
    SPARE.try_with(Cell::take).unwrap_or_default()
}

/// What [`take`] gave, for the next who needs one.
#[cfg(feature = "cluster")]
pub(crate) fn give_back(mut buffer: Vec<u8>) {
    if buffer.capacity() <= KEPT_BYTES_MAX {
        buffer.clear();
        SPARE.try_with(|spare| spare.set(buffer)).ok();
    }
}

#[cfg(all(test, feature = "cluster"))]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_empty_unless_it_is_large() {
        let mut buffer = take();
        buffer.resize(1000, 7);
        let place = buffer.as_ptr();
        give_back(buffer);
        let buffer = take();
        assert_eq!((buffer.as_ptr(), buffer.len()), (place, 0));
        assert_eq!(take().capacity(), 0, "it is in use");
        give_back(Vec::with_capacity(KEPT_BYTES_MAX + 1));
        assert_eq!(take().capacity(), 0);
    }
}

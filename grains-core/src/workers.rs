//! Grains that are served by workers. Named by `#[grain(.., workers = n)]`; what they do is the runtime's.

use std::num::NonZeroU16;

/// How many workers a grain has at most on each node.
///
/// A grain with workers is stateless and local: each call runs on the node of its caller, if that hosts the type, by whichever
/// worker is idle. A worker is an activation like any other, with a life, timers and tasks of its own; only that it has no
/// [state](crate::Ctx::state), and that two calls of the grain may run on two of them at the same time, or one after the other,
/// in any order. What a worker remembers between calls is its own: a cache, a connection.
///
/// ```
/// use grains_core::Workers;
///
/// const EIGHT: Workers = Workers::at_most(8);
/// assert_eq!(EIGHT.get(), 8);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workers(NonZeroU16);

impl Workers {
    /// The most workers a grain can have on a node. Who has no idle one is looked for among all of them, so more would make
    /// calls slower than waiting does.
    pub const MAX: u16 = 1024;

    /// Up to `max` workers on each node, 1 to [`MAX`](Self::MAX).
    ///
    /// # Panics
    /// With any other number; in a constant, as in [`Grain::WORKERS`](crate::Grain::WORKERS), that is an error of the build.
    pub const fn at_most(max: u16) -> Self {
        assert!(max <= Self::MAX, "a grain has at most 1024 workers on a node");
        match NonZeroU16::new(max) {
            Some(max) => Self(max),
            None => panic!("a grain without workers could not be called: it needs at least one"),
        }
    }

    /// The number.
    pub const fn get(self) -> usize {
        self.0.get() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_that_make_sense_are_taken() {
        assert_eq!([1, Workers::MAX].map(|max| Workers::at_most(max).get()), [1, 1024]);
        for max in [0, Workers::MAX + 1] {
            assert!(std::panic::catch_unwind(|| Workers::at_most(max)).is_err(), "{max}");
        }
    }
}

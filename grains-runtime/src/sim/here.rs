//! Which machine this thread works for at the moment.

use std::cell::Cell;

use super::engine::Life;

thread_local! {
    static HERE: Cell<Option<(u64, Life)>> = const { Cell::new(None) };
}

/// The simulation and the life of a machine whose task is being polled or dropped on this thread.
pub(super) fn current() -> Option<(u64, Life)> {
    HERE.get()
}

/// Until it is dropped, this thread works for one life of a machine.
pub(super) struct Inside(Option<(u64, Life)>);

pub(super) fn enter(simulation: u64, life: Life) -> Inside {
    Inside(HERE.replace(Some((simulation, life))))
}

impl Drop for Inside {
    fn drop(&mut self) {
        HERE.set(self.0);
    }
}

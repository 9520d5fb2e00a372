//! Which tokio runtime this thread is inside of, asked once per local call.

use std::{
    cell::Cell,
    hash::{Hash, Hasher},
};

use tokio::{
    runtime::{self, Handle},
    task,
};

/// The runtime whose timers and sockets would be used now; `None` outside of all.
///
/// Tokio's own answer clones an `Arc` that all threads of the runtime share. A task belongs to one runtime for life, and
/// its id is a plain thread-local read; ids come from one counter of the whole process (a test watches that). So the
/// answer for a task is kept, and tokio is asked once per task and thread, and each time outside of tasks (in
/// `block_on`).
///
/// That misses one case: a task that calls grains both directly and inside *another* runtime which it enters itself
/// (by `Handle::enter`, or `block_in_place` and `block_on`) gets the answer of whichever came first for both.
pub(super) fn current() -> Option<runtime::Id> {
    let Some(task) = task::try_id() else { return ask() };
    match KNOWN.with(|known| known[slot(task)].get()) {
        Some((known, runtime)) if known == task => Some(runtime),
        _ => learn(task),
    }
}

/// How many tasks a thread remembers: several times the tasks that are usually busy on one at the same time; 4 KiB.
const TASKS_KNOWN_MAX: usize = 256;

type Known = Cell<Option<(task::Id, runtime::Id)>>;

thread_local! {
    /// Each task has one place, by the last bits of its id; the one seen last has it.
    static KNOWN: [Known; TASKS_KNOWN_MAX] = const { [const { Cell::new(None) }; TASKS_KNOWN_MAX] };
}

#[cold]
fn learn(task: task::Id) -> Option<runtime::Id> {
    let runtime = ask()?;
    KNOWN.with(|known| known[slot(task)].set(Some((task, runtime))));
    Some(runtime)
}

#[cold]
fn ask() -> Option<runtime::Id> {
    Handle::try_current().ok().map(|runtime| runtime.id())
}

fn slot(task: task::Id) -> usize {
    let mut bits = LastNumber(0);
    task.hash(&mut bits);
    bits.0 as usize % TASKS_KNOWN_MAX
}

/// The number in an id, which is not to be had otherwise. Any value would be correct, only slower.
struct LastNumber(u64);

impl Hasher for LastNumber {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0 << 8 | u64::from(*byte));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn task_ids_are_not_used_twice_in_a_process() {
        let mut seen = HashSet::new();
        for _ in 0..20 {
            let runtime = Builder::new_current_thread().build().unwrap();
            for _ in 0..50 {
                // The task has ended and its handle is gone: tokio would be free to use its id again.
                let id = runtime.block_on(async { tokio::spawn(async { task::id() }).await }).unwrap();
                assert!(seen.insert(id), "{id} came twice: the runtime of a task id cannot be remembered");
            }
        }
    }

    #[test]
    fn neighbours_have_places_of_their_own() {
        let runtime = Builder::new_current_thread().build().unwrap();
        let places: HashSet<_> = (0..100)
            .map(|_| runtime.block_on(async { tokio::spawn(async { slot(task::id()) }).await }).unwrap())
            .collect();
        assert!(places.len() > 50, "{} places for 100 tasks", places.len());
    }
}

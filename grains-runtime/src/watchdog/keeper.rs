//! The side of the nodes: one watchdog for a process, for as long as that has nodes to be watched. A thread of its own starts
//! it, tells it, and starts it again when it ends by itself; another one waits for its end, so that it leaves no zombie.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    io::{self, Write},
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    process::{Child, Command, ExitStatus, Stdio, exit},
    sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::{
    Watching, process,
    ward::{Ward, written},
};

/// Set for a watchdog: the process that it watches.
const VARIABLE: &str = "GRAINS_WATCHDOG_OF";
/// What a watchdog is called in lists of processes: as long a name as the system keeps.
pub(super) const NAME: &str = "grains-watchdog";

/// How often a watchdog that ends by itself is started again, before the nodes go without one: something kills it.
const STARTS_AGAIN_MAX: u32 = 5;
/// The first pause before that; it doubles. By the last one, somebody who ends all processes of a name has gone on.
const START_PAUSE: Duration = Duration::from_millis(200);
/// One that lived for so long did not end because of how it was started.
const LIVED_LONG: Duration = Duration::from_secs(60);
/// How long a word may take. It fits into the buffer of the socket, unless the watchdog is stopped.
const WORD_MAX: Duration = Duration::from_secs(1);

static KEEPER: OnceLock<Keeper> = OnceLock::new();

/// Turns a process that was started as a watchdog into one, and does not return there. Anywhere else, nodes of this process
/// can be watched from now on. `args` are those with which the program gets here again.
pub(crate) fn init(args: Vec<OsString>) {
    if let Some(watched) = env::var_os(VARIABLE) {
        exit(process::run(&watched));
    }
    KEEPER.get_or_init(|| Keeper { args, state: Mutex::default(), changed: Condvar::new() });
}

/// Has a node watched.
pub(crate) fn watch(ward: Ward) -> Watching {
    match KEEPER.get() {
        Some(keeper) => {
            let ward = ward.in_full(|path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
            Watching::By(keeper.add(ward))
        }
        None => Watching::NotReady,
    }
}

/// The watchdog of this process, whether it runs or not.
struct Keeper {
    args: Vec<OsString>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    wards: BTreeMap<u64, Ward>,
    /// The number of the last ward.
    last: u64,
    /// Grows when the watchdog is to be told something.
    version: u64,
    /// The last watchdog that has ended, by its number, and how.
    ended: Option<(u32, io::Result<ExitStatus>)>,
    is_kept: bool,
}

/// A node that is watched. Dropped, it is no more: whatever becomes of the process, nobody is told.
pub(crate) struct Watched {
    keeper: &'static Keeper,
    number: u64,
}

impl Watched {
    /// From now on these are to be told.
    pub(crate) fn members(&self, members: &[String]) {
        self.keeper.change(|state| {
            if let Some(ward) = state.wards.get_mut(&self.number) {
                ward.members = members.to_vec();
            }
        });
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.keeper.change(|state| drop(state.wards.remove(&self.number)));
    }
}

impl Keeper {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        state.version += 1;
        self.changed.notify_all();
    }

    fn add(&'static self, ward: Ward) -> Watched {
        let mut number = 0;
        let mut begins = false;
        self.change(|state| {
            state.last += 1;
            number = state.last;
            state.wards.insert(number, ward);
            begins = !std::mem::replace(&mut state.is_kept, true);
        });
        if begins {
            let begun = thread::Builder::new().name("watchdog".into()).spawn(|| self.keep());
            if let Err(why) = begun {
                tracing::error!(%why, "there is no watchdog: a kill of this process is noticed when its lease has ended");
            }
        }
        Watched { keeper: self, number }
    }

    /// Keeps a watchdog whenever there is somebody to be watched.
    fn keep(&'static self) {
        let mut running: Option<Running> = None;
        let mut starts = Starts::default();
        let mut told = 0;
        loop {
            let mut state = self.state();
            while state.version == told && state.ended.is_none() {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            told = state.version;
            let ended = state.ended.take();
            let word = written(&state.wards.values().collect::<Vec<_>>());
            let is_needed = !state.wards.is_empty();
            drop(state);
            if let Some((number, how)) = ended
                && running.take_if(|running| running.number == number).is_some()
                && is_needed
            {
                tracing::warn!(how = %shown(how), "the watchdog of this process has ended");
            }
            let Some(word) = word else {
                tracing::error!(
                    "the watchdog of this process cannot be told of its nodes: they are too many, or a path is no text"
                );
                continue;
            };
            if !is_needed {
                // It ends by itself, at this word.
                if let Some(mut running) = running.take() {
                    running.hears(&word);
                }
                continue;
            }
            if running.is_none() {
                match starts.next(|| self.start()) {
                    Some(started) => running = Some(started),
                    None => {
                        tracing::error!(
                            "there is no watchdog any more: a kill of this process is noticed when its lease has ended"
                        );
                        return;
                    }
                }
            }
            if running.as_mut().is_some_and(|running| !running.hears(&word)) {
                // Its end is told, or it is stopped: then it is of no use.
                running = None;
                self.change(|_| {});
            }
        }
    }

    fn start(&'static self) -> io::Result<Running> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_write_timeout(Some(WORD_MAX))?;
        // The program that runs, even if another one has been put in its place. In a group of processes of its own: a terminal
        // sends its signals to all of a group, and what ends the node is not to end the watchdog as well.
        let child = Command::new("/proc/self/exe")
            .arg0(NAME)
            .args(&self.args)
            .env(VARIABLE, std::process::id().to_string())
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()?;
        let number = child.id();
        tracing::info!(watchdog = number, "a watchdog tells the cluster if this process ends");
        thread::Builder::new().name("watchdog-end".into()).spawn(move || self.reap(child))?;
        Ok(Running { number, words: ours })
    }

    fn reap(&self, mut child: Child) {
        let how = child.wait();
        self.change(|state| state.ended = Some((child.id(), how)));
    }
}

fn shown(how: io::Result<ExitStatus>) -> String {
    how.map_or_else(|why| why.to_string(), |status| status.to_string())
}

/// A watchdog that runs.
struct Running {
    number: u32,
    words: UnixStream,
}

impl Running {
    /// Whether it could be told.
    fn hears(&mut self, word: &[u8]) -> bool {
        self.words.write_all(word).is_ok()
    }
}

/// How often it was started lately.
#[derive(Default)]
struct Starts {
    again: u32,
    last: Option<Instant>,
}

impl Starts {
    /// Starts one, after a pause if there was one before. None if that was in vain too often.
    fn next<T>(&mut self, start: impl Fn() -> io::Result<T>) -> Option<T> {
        if self.last.is_some_and(|last| last.elapsed() >= LIVED_LONG) {
            *self = Self::default();
        }
        loop {
            if self.last.is_some() {
                if self.again >= STARTS_AGAIN_MAX {
                    return None;
                }
                thread::sleep(START_PAUSE * 2_u32.pow(self.again));
                self.again += 1;
            }
            self.last = Some(Instant::now());
            match start() {
                Ok(started) => return Some(started),
                Err(why) => tracing::warn!(%why, "the watchdog of this process could not be started"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watchdog_that_cannot_be_started_is_given_up_after_a_few_tries() {
        let tried = std::cell::Cell::new(0);
        let mut starts = Starts { again: STARTS_AGAIN_MAX - 1, last: None };
        let fails = || {
            tried.set(tried.get() + 1);
            Err::<(), _>(io::Error::other("no"))
        };
        assert_eq!(Starts { again: STARTS_AGAIN_MAX, last: Some(Instant::now()) }.next(fails), None);
        assert_eq!(tried.get(), 0);
        starts.again = STARTS_AGAIN_MAX;
        assert_eq!(starts.next(fails), None);
        assert_eq!(tried.get(), 1, "the first one is not one more");
        let long_ago = Instant::now().checked_sub(LIVED_LONG);
        let mut lived = Starts { again: STARTS_AGAIN_MAX, last: long_ago };
        assert_eq!(lived.next(|| Ok(7)), Some(7), "one that lived long was started well");
    }
}

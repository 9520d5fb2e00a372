//! Many seeds, and one seed twice.

use std::{
    collections::BTreeMap,
    env,
    num::NonZero,
    ops::RangeInclusive,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    str::FromStr,
    sync::{Mutex, PoisonError},
    thread,
};

use super::{Builder, Report, Sim};
use crate::activation::lock;

/// Runs `body` with the seeds 1 to `default_count`, as many at once as there are cores: each world has one thread. The
/// environment says otherwise: `GRAINS_SEEDS` how many, and `GRAINS_SEED` which single one.
///
/// ```
/// # use std::time::Duration;
/// use grains_runtime::sim;
///
/// sim::seeds(3, |seed| {
///     sim::run(seed, async |sim| sim.sleep(Duration::from_secs(1)).await);
/// });
/// ```
///
/// # Panics
/// If `body` does, after printing how to run that seed again: the lowest of those that failed. No further ones are begun.
pub fn seeds(default_count: u64, body: impl Fn(u64) + Sync) {
    let panicked = |seed| catch_unwind(AssertUnwindSafe(|| body(seed))).err();
    if let Some((seed, panic)) = first(default_count, panicked) {
        eprintln!("\nagain, with the features of this run: {}\n", again_here(seed));
        resume_unwind(panic);
    }
}

/// The lowest of the seeds that were asked for of which `body` finds something, and what it finds. No further ones are begun
/// then.
pub(super) fn first<T: Send>(default_count: u64, body: impl Fn(u64) -> Option<T> + Sync) -> Option<(u64, T)> {
    first_of(asked_for(default_count), body)
}

fn asked_for(default_count: u64) -> RangeInclusive<u64> {
    match from_env("GRAINS_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=from_env("GRAINS_SEEDS").unwrap_or(default_count),
    }
}

fn first_of<T: Send>(seeds: RangeInclusive<u64>, body: impl Fn(u64) -> Option<T> + Sync) -> Option<(u64, T)> {
    let this = thread::current();
    let test = this.name().unwrap_or_default();
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let next = Mutex::new(seeds);
    let found = Mutex::new(BTreeMap::new());
    // Apart, or the lock would be held while the world runs.
    let take = || lock(&next).next();
    let work = || {
        while let Some(seed) = take() {
            if let Some(what) = body(seed) {
                lock(&found).insert(seed, what);
                *lock(&next) = RangeInclusive::new(1, 0);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..cores {
            // Named like the test: what it prints belongs to it.
            thread::Builder::new().name(test.to_owned()).spawn_scoped(scope, work).expect("a thread can be started");
        }
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner).pop_first()
}

/// A number from the environment.
fn from_env<T: FromStr>(name: &str) -> Option<T> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// The command that runs one seed of this test again.
pub(super) fn again_here(seed: u64) -> String {
    let package = env::var("CARGO_PKG_NAME").ok();
    again(seed, package.as_deref(), thread::current().name().unwrap_or_default())
}

/// The command that runs one seed again. The harness of Rust names threads after tests, and cargo says which package it
/// runs; which of its features are on is not known here.
fn again(seed: u64, package: Option<&str>, test: &str) -> String {
    let release = if cfg!(debug_assertions) { "" } else { " --release" };
    let package = package.map(|name| format!(" -p {name}")).unwrap_or_default();
    format!("GRAINS_SEED={seed} cargo test{release}{package} {test}")
}

/// Runs `test` twice with this seed and compares all events, polls of tasks among them.
///
/// # Panics
/// If the runs differ; the message names the first event that does.
pub fn replays(seed: u64, test: impl AsyncFn(Sim)) -> Report {
    Builder::default().seed(seed).replays(test)
}

/// About 300 MB; what comes after is compared by its hash only.
const ENTRIES_MAX: usize = 4_000_000;

impl Builder {
    /// Runs `test` twice and compares all events, polls of tasks among them.
    ///
    /// # Panics
    /// If the runs differ; the message names the first event that does.
    pub fn replays(self, test: impl AsyncFn(Sim)) -> Report {
        let (first, first_kept) = self.clone().keep_everything(ENTRIES_MAX).run_kept(&test);
        let (second, second_kept) = self.keep_everything(ENTRIES_MAX).run_kept(&test);
        let pairs = first_kept.entries.iter().zip(&second_kept.entries);
        if let Some(differ) = pairs.clone().position(|(one, other)| one != other) {
            let [one, other] = [&first_kept, &second_kept].map(|kept| kept.line(&kept.entries[differ]));
            panic!("seed {} does not repeat: event {differ} was `{one}`, then `{other}`", first.seed);
        }
        let (one, other) = (first_kept.entries.len(), second_kept.entries.len());
        if one != other {
            let (longer, at) = if one > other { (&first_kept, other) } else { (&second_kept, one) };
            let more = longer.line(&longer.entries[at]);
            panic!("seed {} does not repeat: event {at}, `{more}`, came in one run only", first.seed);
        }
        assert_eq!(first, second, "seed {} does not repeat, somewhere after its first {one} events", first.seed);
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_seed_says_how_to_run_it_again() {
        let said = again(7, Some("shop"), "carts::all").replace(" --release", "");
        assert_eq!(said, "GRAINS_SEED=7 cargo test -p shop carts::all");
    }

    #[test]
    fn every_seed_runs_once() {
        let ran = Mutex::new(Vec::new());
        let nothing = |seed| {
            lock(&ran).push(seed);
            None::<()>
        };
        assert_eq!(first_of(1..=100, nothing), None);
        let mut ran = ran.into_inner().unwrap();
        ran.sort();
        assert!(ran.into_iter().eq(1..=100));
    }

    #[test]
    fn the_lowest_seed_that_fails_is_the_one_that_is_told() {
        let begun = Mutex::new(0);
        // Where seeds run side by side, the next one fails sooner.
        let next_begins = || thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
        let failed = first_of(1..=1000, |seed| {
            *lock(&begun) += 1;
            while seed == 20 && next_begins() && *lock(&begun) < 21 {
                thread::yield_now();
            }
            (seed >= 20).then(|| format!("seed {seed}"))
        });
        assert_eq!(failed, Some((20, "seed 20".to_owned())));
        assert!(begun.into_inner().unwrap() < 100, "no more are begun after that");
    }
}

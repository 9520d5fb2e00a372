//! Describing a run, and running it.

use std::{ops::RangeInclusive, panic::resume_unwind, time::Duration};

#[cfg(feature = "switches")]
use grains_core::switches::{Mechanism, Off};

use super::{
    Report, Sim,
    engine::Engine,
    exec::{Ended, Executor, Limits},
    machine::nanos_range,
    tasks::text_of,
    trace::{Entry, Keep, Line},
};

/// Describes a simulation, and runs it.
#[derive(Clone, Debug)]
#[must_use = "a simulation runs by `.run(..)`"]
pub struct Builder {
    settings: Settings,
    limits: Limits,
    panics: Panics,
    #[cfg(feature = "switches")]
    without: Vec<Mechanism>,
}

/// Which of the ready tasks runs next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// Any of them, by the seed.
    #[default]
    Seeded,
    /// First come, first served: the one that has been ready for longest, as on a real machine with one thread. Fewer orders
    /// are tried; for scenarios that are easier to read when nothing overtakes.
    Fifo,
}

/// What happens when a task of a machine has panicked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Panics {
    Fail,
    Report,
}

/// What the engine needs to know.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) seed: u64,
    pub(super) order: Order,
    pub(super) latency: RangeInclusive<u64>,
    pub(super) blocking_latency: RangeInclusive<u64>,
    pub(super) unsynced_kept_chance: f64,
    pub(super) window_bytes_max: usize,
    pub(super) keep: Keep,
}

impl Default for Builder {
    fn default() -> Self {
        let settings = Settings {
            seed: 0,
            order: Order::Seeded,
            latency: 100_000..=2_000_000,
            blocking_latency: 50_000..=500_000,
            unsynced_kept_chance: 0.0,
            window_bytes_max: 256 * 1024,
            keep: Keep::Nothing,
        };
        let limits = Limits { time_nanos_max: 3_600_000_000_000, polls_at_once_max: 5_000_000 };
        Self {
            settings,
            limits,
            panics: Panics::Fail,
            #[cfg(feature = "switches")]
            without: Vec::new(),
        }
    }
}

/// Runs `test` with all defaults and this seed. See [`Builder::run`].
pub fn run<F: AsyncFnOnce(Sim)>(seed: u64, test: F) -> Report {
    Builder::default().seed(seed).run(test)
}

impl Builder {
    /// What all chance comes from. Default 0.
    pub fn seed(mut self, seed: u64) -> Self {
        self.settings.seed = seed;
        self
    }

    /// Which of the ready tasks runs next. Default: any, by the seed.
    pub fn order(mut self, order: Order) -> Self {
        self.settings.order = order;
        self
    }

    /// How long bytes are under way between machines. Default 0.1 to 2 ms.
    pub fn latency(mut self, range: RangeInclusive<Duration>) -> Self {
        self.settings.latency = nanos_range(&range);
        self
    }

    /// How long blocking work takes, such as an fsync. Default 0.05 to 0.5 ms.
    pub fn blocking_latency(mut self, range: RangeInclusive<Duration>) -> Self {
        self.settings.blocking_latency = nanos_range(&range);
        self
    }

    /// The chance, from 0 to 1, of each sector that was not synced to survive a crash all the same. Default 0.
    pub fn unsynced_kept_chance(mut self, chance: f64) -> Self {
        self.settings.unsynced_kept_chance = chance;
        self
    }

    /// How many bytes one direction of a connection takes before they are read; beyond that its writer waits. Default
    /// 256 KiB.
    pub fn window_bytes_max(mut self, bytes: usize) -> Self {
        self.settings.window_bytes_max = bytes.max(1);
        self
    }

    /// How much virtual time a run may take before it is given up, which is what becomes of one that waits for something
    /// that never happens. Default one hour.
    pub fn time_max(mut self, time: Duration) -> Self {
        self.limits.time_nanos_max = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self
    }

    /// How many polls there may be without time passing before a run is given up. Default five million.
    pub fn polls_at_once_max(mut self, polls: u64) -> Self {
        self.limits.polls_at_once_max = polls;
        self
    }

    /// Keeps up to this many events, but for polls, in [`Report::lines`]. Default none.
    pub fn keep_lines(mut self, lines_max: usize) -> Self {
        self.settings.keep = Keep::Lines(lines_max);
        self
    }

    /// Lets the run succeed although tasks of machines panic; the report names them.
    pub fn allow_panics(mut self) -> Self {
        self.panics = Panics::Report;
        self
    }

    /// Lets the simulation lack these mechanisms of safety.
    #[cfg(feature = "switches")]
    #[doc(hidden)]
    pub fn without(mut self, mechanisms: &[Mechanism]) -> Self {
        self.without = mechanisms.to_vec();
        self
    }

    /// Runs `test`, and whatever it starts on machines, in virtual time until it ends; then everything is dropped.
    ///
    /// # Panics
    /// If the test panics, if a task of a machine did (unless [allowed](Self::allow_panics)), or if the run gets nowhere.
    pub fn run<F: AsyncFnOnce(Sim)>(self, test: F) -> Report {
        self.run_kept(test).0
    }

    /// Runs `test`; what fails it comes beside the report.
    pub(super) fn run_judged<F: AsyncFnOnce(Sim)>(self, test: F) -> (Report, Option<String>) {
        #[cfg(feature = "switches")]
        let _off = Off::new(&self.without);
        let (ended, report, _) = run_to_its_end(self.settings, self.limits, test);
        (report, ended.err().map(|panic| text_of(&*panic)))
    }

    /// Keeps everything that happens, for a comparison.
    pub(super) fn keep_everything(mut self, entries_max: usize) -> Self {
        self.settings.keep = Keep::Everything(entries_max);
        self
    }

    pub(super) fn run_kept<F: AsyncFnOnce(Sim)>(self, test: F) -> (Report, Kept) {
        let seed = self.settings.seed;
        #[cfg(feature = "switches")]
        let _off = Off::new(&self.without);
        let (ended, report, kept) = run_to_its_end(self.settings, self.limits, test);
        if let Err(panic) = ended {
            eprintln!("the simulation with seed {seed} failed after {:?} of its time", report.sim_time);
            report.panics.iter().for_each(|panicked| eprintln!("{panicked}"));
            resume_unwind(panic);
        }
        let panics: Vec<_> = report.panics.iter().map(ToString::to_string).collect();
        let fails = self.panics == Panics::Fail && !panics.is_empty();
        assert!(!fails, "in the simulation with seed {seed}:\n{}", panics.join("\n"));
        (report, kept)
    }
}

/// The events that were kept, and the names of machines to read them by.
pub(super) struct Kept {
    pub(super) entries: Vec<Entry>,
    names: Vec<String>,
}

impl Kept {
    pub(super) fn line(&self, entry: &Entry) -> String {
        let name = self.names.get(entry.machine.index()).map_or("?", String::as_str);
        Line(entry, name).to_string()
    }
}

fn run_to_its_end<F: AsyncFnOnce(Sim)>(settings: Settings, limits: Limits, test: F) -> (Ended, Report, Kept) {
    let (seed, keep) = (settings.seed, settings.keep);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without threads and sockets needs nothing that could be refused");
    let engine = Engine::new(settings);
    let _end = End(&engine);
    let (ended, polls) = runtime.block_on(async {
        let sim = Sim::new(engine.clone());
        let mut executor = Executor::new(engine.clone(), limits, Box::pin(async move { test(sim).await }));
        let ended = (&mut executor).await;
        let polls = executor.polls();
        drop(executor);
        engine.end();
        (ended, polls)
    });
    let (report, kept) = engine.with(|state| {
        let trace = std::mem::replace(&mut state.trace, super::trace::Trace::new(Keep::Nothing));
        let names = state.machines.iter().map(|machine| machine.name.to_string()).collect();
        let report = Report {
            seed,
            hash: trace.hash(),
            events: trace.len(),
            polls,
            sim_time: Duration::from_nanos(state.now),
            panics: std::mem::take(&mut state.panics),
            lines: Vec::new(),
        };
        (report, Kept { entries: trace.into_kept(), names })
    });
    let lines = match keep {
        Keep::Lines(_) => kept.entries.iter().map(|entry| kept.line(entry)).collect(),
        Keep::Nothing | Keep::Everything(_) => Vec::new(),
    };
    (ended, Report { lines, ..report }, kept)
}

/// Ends the simulation also when its executor panics.
struct End<'e>(&'e Engine);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

//! Many worlds: a cluster at work while things fail, and whether it keeps what it promises; each from one seed.

use std::{
    cell::RefCell,
    fmt::{self, Write as _},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use self::{
    life::{Life, both},
    traces::{LINES_MAX, written},
};
use super::{
    Builder, Cluster, Faults, Machine, Report, Sim, seeds,
    workload::{AnyWorkload, Workload},
};
use crate::NodeBuilder;

mod life;
mod traces;

/// Describes worlds, and runs them: a cluster, work for it, faults, and how long they go on. One seed is one world.
///
/// A world begins: all nodes start, and become members. [Workloads](Workload) are set up, and callers on all nodes go to work.
/// Faults strike, for [so long](Self::lasts). Then it is calm: cuts are healed, what is down starts, and within ten leases all
/// nodes have to see the same again. Callers end, and every workload checks on every node that all is as it has to be.
///
/// It is a violation if a check fails, something panics (but for turns of grains, which cost their activation), the cluster
/// does not come to be or does not come back to itself, or a caller does not end.
///
/// ```no_run
/// # use grains_runtime as grains;
/// use grains::sim::{Faults, Worlds};
/// # use grains::sim::{Caller, Workload};
/// # #[derive(Default)]
/// # struct Counting;
/// # impl Workload for Counting { async fn run(&self, caller: Caller) { while caller.goes_on().await {} } }
///
/// // #[test]
/// fn what_was_counted_stays() {
///     Worlds::new(3, |machine| machine.node()) // `.host::<CounterGrain>()`
///         .workload(2, Counting::default)
///         .faults(Faults::all())
///         .run(10);
/// }
/// # what_was_counted_stays();
/// ```
pub struct Worlds {
    cluster: Box<dyn Fn(&Sim) -> Cluster + Send + Sync>,
    loads: Vec<Load>,
    faults: Faults,
    scenario: Option<Box<Scenario>>,
    lasts: Duration,
    ends_within: Duration,
    simulation: Builder,
}

/// A workload for each world, and how many callers it has on each node.
struct Load {
    callers: usize,
    make: Box<dyn Fn() -> Arc<dyn AnyWorkload> + Send + Sync>,
}

type Scenario = dyn Fn(Cluster) -> Pin<Box<dyn Future<Output = ()>>> + Send + Sync;

/// What one world came to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verdict {
    /// What was wrong with it. Empty if it was good.
    pub violations: Vec<String>,
    /// What it did.
    pub report: Report,
}

/// How much of each sector that was not synced outlives a crash: in a third of the worlds each.
const KEPT_CHANCES: [f64; 3] = [0.0, 0.3, 0.7];
/// How many violations are told.
const TOLD_MAX: usize = 10;

impl Worlds {
    /// Worlds of so many nodes. `describe` says what these are: begin with [`Machine::node`], and host there what is to be tested.
    /// In every second world, by the seed, nodes have watchdogs.
    ///
    /// # Panics
    /// When they run, if `nodes` is zero or above 200.
    pub fn new<D>(nodes: usize, describe: D) -> Self
    where
        D: Fn(&Machine) -> NodeBuilder + Clone + Send + Sync + 'static,
    {
        Self::of(move |sim| Cluster::new(sim, nodes, describe.clone()).watchdogs(0.5))
    }

    /// Worlds whose cluster is made by a function, once for each world: with other leases, or a store beside it.
    ///
    /// ```
    /// # use grains_runtime as grains;
    /// use std::time::Duration;
    ///
    /// use grains::sim::{Cluster, Worlds};
    ///
    /// let worlds = Worlds::of(|sim| {
    ///     let cluster = Cluster::new(sim, 5, |machine| machine.node());
    ///     cluster.configure(|config| config.lease = Duration::from_secs(4))
    /// });
    /// # drop(worlds);
    /// ```
    pub fn of(cluster: impl Fn(&Sim) -> Cluster + Send + Sync + 'static) -> Self {
        Self {
            cluster: Box::new(cluster),
            loads: Vec::new(),
            faults: Faults::none(),
            scenario: None,
            lasts: Duration::from_secs(10),
            ends_within: Duration::from_secs(60),
            simulation: Sim::builder(),
        }
    }

    /// Adds a workload, with so many callers on each node. `make` makes it, once for each world.
    #[must_use]
    pub fn workload<W: Workload>(mut self, callers: usize, make: impl Fn() -> W + Send + Sync + 'static) -> Self {
        self.loads.push(Load { callers, make: Box::new(move || Arc::new(make())) });
        self
    }

    /// Which faults strike at random. Default: none.
    #[must_use]
    pub fn faults(mut self, faults: Faults) -> Self {
        self.faults = faults;
        self
    }

    /// Has this go wrong: one certain thing, beside the random [faults](Self::faults), if there are any. It is calm when both are
    /// over.
    ///
    /// ```no_run
    /// # use grains_runtime as grains;
    /// use std::time::Duration;
    ///
    /// use grains::sim::Worlds;
    ///
    /// let worlds = Worlds::new(3, |machine| machine.node()).scenario(|cluster| async move {
    ///     cluster.sim().sleep(Duration::from_secs(1)).await;
    ///     cluster.cut_off(0);
    ///     cluster.sim().sleep(Duration::from_secs(5)).await; // longer than its lease
    ///     cluster.sim().net().heal();
    /// });
    /// assert_eq!(worlds.judge(7).violations, [""; 0]);
    /// ```
    #[must_use]
    pub fn scenario<F: Future<Output = ()> + 'static>(
        mut self,
        scenario: impl Fn(Cluster) -> F + Send + Sync + 'static,
    ) -> Self {
        self.scenario = Some(Box::new(move |cluster| Box::pin(scenario(cluster))));
        self
    }

    /// For how much true time faults strike. Default 10 s.
    #[must_use]
    pub fn lasts(mut self, time: Duration) -> Self {
        self.lasts = time;
        self
    }

    /// How much true time callers may take to end, and a workload to be set up or to check. Default 60 s: calls end within
    /// 30 s, if they are not told otherwise.
    #[must_use]
    pub fn ends_within(mut self, time: Duration) -> Self {
        self.ends_within = time;
        self
    }

    /// What the simulation is like otherwise, such as its latencies and its order. Its seed is that of the world, and so is what a
    /// crash leaves of bytes that were not synced: in a third of the worlds nothing, in the others some of them, torn.
    #[must_use]
    pub fn simulated(mut self, simulation: Builder) -> Self {
        self.simulation = simulation;
        self
    }

    /// Runs the worlds of seeds 1 to `default_count`, several at once, as [`seeds`] does: `GRAINS_SEEDS` says how many
    /// instead, and `GRAINS_SEED` which single one.
    ///
    /// # Panics
    /// If a world has a violation: the one with the lowest seed of those that failed, no further ones are begun. The message says
    /// what is wrong, how to run that world again, and in which file its events are. These files are in `GRAINS_TRACES`, a folder,
    /// or else in `grains-traces` among temporary files.
    pub fn run(&self, default_count: u64) {
        let failed = seeds::first(default_count, |seed| {
            let verdict = self.judge(seed);
            (!verdict.violations.is_empty()).then_some(verdict)
        });
        if let Some((seed, verdict)) = failed {
            panic!("{}", self.failure(seed, &verdict));
        }
    }

    /// Runs the world of this seed, and says what it came to: for replaying one that failed, in a debugger for example.
    pub fn judge(&self, seed: u64) -> Verdict {
        self.judged(self.of_seed(seed))
    }

    fn of_seed(&self, seed: u64) -> Builder {
        let kept = KEPT_CHANCES[seed as usize % KEPT_CHANCES.len()];
        self.simulation.clone().seed(seed).unsynced_kept_chance(kept)
    }

    fn judged(&self, simulation: Builder) -> Verdict {
        let violations = RefCell::new(Vec::new());
        let (report, failed) = simulation.run_judged(async |sim| self.live(sim, &violations).await);
        let mut violations = violations.into_inner();
        violations.extend(report.panics.iter().map(ToString::to_string));
        violations.extend(failed);
        Verdict { violations, report }
    }

    /// Runs the world of this seed twice, and compares all events: whether it follows from its seed. What is wrong with the world
    /// itself is not asked for: [`judge`](Self::judge) it.
    ///
    /// # Panics
    /// If the runs differ; the message names the first event that does.
    pub fn replays(&self, seed: u64) -> Report {
        let violations = RefCell::new(Vec::new());
        self.of_seed(seed).replays(async |sim| self.live(sim, &violations).await)
    }

    /// A world, from its beginning to its end.
    async fn live(&self, sim: Sim, violations: &RefCell<Vec<String>>) {
        let world = Life::new(self, &sim, violations);
        if world.begins().await && world.is_set_up().await {
            world.works().await;
            self.trouble(&world.cluster).await;
            if world.comes_back().await {
                world.is_checked().await;
            }
        }
    }

    async fn trouble(&self, cluster: &Cluster) {
        let sim = cluster.sim();
        sim.trace("world: faults begin");
        let scenario = async {
            if let Some(scenario) = &self.scenario {
                scenario(cluster.clone()).await;
            }
        };
        both(self.faults.strike(cluster, self.lasts), scenario).await;
        cluster.calm();
        sim.trace("world: it is calm");
    }

    /// What is told of a world that failed. It runs once more for its events, which only then are worth their memory.
    fn failure(&self, seed: u64, verdict: &Verdict) -> String {
        let again = self.judged(self.of_seed(seed).keep_lines(LINES_MAX));
        let mut told = verdict.to_string();
        // Writing to a String cannot fail.
        let _ = write!(told, "\nagain, with the features of this run: {}", seeds::again_here(seed));
        if again.report.hash != verdict.report.hash {
            told.push_str("\nbut a second run of this seed was another one: see `Worlds::replays`");
        }
        let _ = match written(seed, &again.report) {
            Ok(path) => write!(told, "\ntrace: {}", path.display()),
            Err(error) => write!(told, "\nno trace, its file cannot be written: {error}"),
        };
        told
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seed, found) = (self.report.seed, self.violations.len());
        write!(f, "the world of seed {seed} has {found} violations")?;
        self.violations.iter().take(TOLD_MAX).try_for_each(|violation| write!(f, "\n- {violation}"))?;
        let more = found.saturating_sub(TOLD_MAX);
        if more > 0 { write!(f, "\n- and {more} more") } else { Ok(()) }
    }
}

impl fmt::Debug for Worlds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worlds").field("faults", &self.faults).field("lasts", &self.lasts).finish_non_exhaustive()
    }
}

//! A cluster of simulated machines: starting its nodes, ending them, and what they say of it.

use std::{fmt, mem, sync::Arc, time::Duration};

use super::{Machine, Sim, Watchdog};
use crate::{
    ClusterConfig, ClusterStatus, Node, NodeBuilder,
    sync::{Mutex, MutexGuard, lock},
};

/// Nodes of one cluster, each on a machine of its own. Clones are the same one.
///
/// Machine `n` is called `"n0"`, `"n1"` and so on, as its node is. Nodes keep what they have in a data directory on the disk of
/// their machine, so that a process that is started again goes on where the last one ended. Nothing starts by itself.
///
/// ```
/// # use grains_runtime as grains;
/// use std::time::Duration;
///
/// use grains::sim::{self, Cluster};
///
/// sim::run(1, async |sim| {
///     let cluster = Cluster::new(&sim, 3, |machine| machine.node()); // `.host::<..>()` what it has
///     (0..3).for_each(|n| cluster.start(n));
///     assert!(cluster.settled(Duration::from_secs(20)).await);
///
///     cluster.crash(1);
///     sim.sleep(Duration::from_secs(5)).await;
///     assert_eq!(cluster.node(0).expect("it lives").status().members.len(), 2);
///
///     cluster.start(1);
///     assert!(cluster.settled(Duration::from_secs(20)).await);
/// });
/// ```
#[derive(Clone)]
pub struct Cluster {
    sim: Sim,
    hosts: Arc<[Host]>,
    describe: Arc<dyn Fn(&Machine) -> NodeBuilder + Send + Sync>,
    config: ClusterConfig,
    watched: bool,
    began: Arc<Mutex<Option<Began>>>,
}

/// What is done whenever a node has become a member.
type Began = Arc<dyn Fn(usize, Node) + Send + Sync>;

/// One machine of it.
struct Host {
    machine: Machine,
    process: Arc<Mutex<Process>>,
}

/// What became of the process that was started last.
#[derive(Default)]
enum Process {
    /// It was ended, or there was none.
    #[default]
    None,
    Starting,
    Member(Node),
    /// It did not start, and why.
    Failed(String),
}

/// How many machines a cluster can have: each has an address on loopback.
const NODES_MAX: usize = 200;
/// How many of them are in the list by which the others find them.
const LISTED_MAX: usize = 3;
/// How far clocks are apart when a run begins.
const CLOCKS_APART_MAX: Duration = Duration::from_secs(1000);
/// Longer than any fault lasts: a node that is cut off waits to be let in, and does not give up.
const JOIN_TIMEOUT: Duration = Duration::from_secs(600);
/// How often somebody looks whether all agree.
const LOOK_PERIOD: Duration = Duration::from_millis(50);

impl Cluster {
    /// A cluster of so many machines. `describe` says what their nodes are, whenever one is started: begin with
    /// [`Machine::node`].
    ///
    /// # Panics
    /// If `nodes` is zero or above 200.
    pub fn new(sim: &Sim, nodes: usize, describe: impl Fn(&Machine) -> NodeBuilder + Send + Sync + 'static) -> Self {
        assert!((1..=NODES_MAX).contains(&nodes), "a simulated cluster has 1 to {NODES_MAX} nodes, not {nodes}");
        let host = |n| {
            let machine = sim.machine(&format!("n{n}"));
            // No two machines have been running for the same time.
            machine.clock_offset(sim.between(Duration::ZERO, CLOCKS_APART_MAX));
            Host { machine, process: Arc::default() }
        };
        let hosts = (0..nodes).map(host).collect();
        let config = ClusterConfig::new("sim").join((0..nodes.min(LISTED_MAX)).map(address));
        let config = config.configure(|config| config.join_timeout = JOIN_TIMEOUT);
        let describe = Arc::new(describe);
        Self { sim: sim.clone(), hosts, describe, config, watched: false, began: Arc::default() }
    }

    /// Changes what its nodes are told of their cluster. All are told the same, but for where they listen.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(&mut ClusterConfig)) -> Self {
        change(&mut self.config);
        self
    }

    /// Gives its nodes [watchdogs](Watchdog) by this chance, from 0 to 1; all of them or none. After a [crash](Self::crash) they
    /// tell, soon or late or twice, from machines beside those that crashed. Default: none, and the lease decides.
    #[must_use]
    pub fn watchdogs(mut self, chance: f64) -> Self {
        self.watched = self.sim.happens(chance);
        self
    }

    /// How many machines it has.
    #[expect(clippy::len_without_is_empty, reason = "none is empty")]
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// The simulation it is in.
    pub fn sim(&self) -> &Sim {
        &self.sim
    }

    /// Machine `n`, for faults of it alone.
    ///
    /// # Panics
    /// Here and everywhere, if there is no machine `n`.
    pub fn machine(&self, n: usize) -> &Machine {
        &self.hosts[n].machine
    }

    /// All machines.
    pub fn machines(&self) -> impl Iterator<Item = &Machine> {
        self.hosts.iter().map(|host| &host.machine)
    }

    /// The node of machine `n`, if it is up and has become a member.
    pub fn node(&self, n: usize) -> Option<Node> {
        match &*self.process(n) {
            Process::Member(node) if self.machine(n).is_up() => Some(node.clone()),
            _ => None,
        }
    }

    /// What each node says of the cluster; `None` for those that are down or not members yet.
    pub fn statuses(&self) -> Vec<Option<ClusterStatus>> {
        (0..self.len()).map(|n| self.node(n).map(|node| node.status())).collect()
    }

    /// Describes one more node of this cluster: on a machine of its own, which listens at an address of its own. Start it yourself,
    /// with another name if you like; nothing that is said of the cluster here counts it.
    ///
    /// ```
    /// # use grains_runtime as grains;
    /// # async fn example(cluster: grains::sim::Cluster) {
    /// let machine = cluster.sim().machine("late");
    /// let builder = cluster.builder(&machine, "127.0.0.9:7101");
    /// let late = machine.spawn(async move { builder.start().await.expect("it joins") });
    /// # }
    /// ```
    pub fn builder(&self, machine: &Machine, listen: impl Into<String>) -> NodeBuilder {
        (self.describe)(machine).cluster(self.config.clone().listen(listen)).data_dir("data")
    }

    /// How long a node may act without hearing from the leader, as [configured](Self::configure).
    pub fn lease(&self) -> Duration {
        self.config.lease
    }

    /// Starts the process of machine `n`. It becomes a member when it can, which takes as long as others are out of reach.
    /// Nothing if it runs.
    pub fn start(&self, n: usize) {
        let host = &self.hosts[n];
        if host.machine.is_up() && !matches!(*self.process(n), Process::None) {
            return;
        }
        *self.process(n) = Process::Starting;
        let builder = self.builder(&host.machine, address(n));
        let (sim, process, began) = (self.sim.clone(), host.process.clone(), self.began.clone());
        drop(host.machine.spawn(async move {
            match builder.start().await {
                Ok(node) => {
                    *lock(&process) = Process::Member(node.clone());
                    let began = lock(&began).clone();
                    if let Some(began) = began {
                        began(n, node);
                    }
                }
                Err(error) => {
                    sim.trace(&format!("n{n} did not start: {error}"));
                    *lock(&process) = Process::Failed(error.to_string());
                }
            }
            std::future::pending::<()>().await;
        }));
    }

    /// Ends the process of machine `n` without a word, as a power cut does; also when it is frozen. What its disk was not told to
    /// keep is lost.
    pub fn crash(&self, n: usize) {
        let host = &self.hosts[n];
        let watchdog = if self.watched { self.node(n).and_then(|node| Watchdog::of(&node)) } else { None };
        host.machine.resume();
        host.machine.crash();
        drop(mem::take(&mut *self.process(n)));
        if let Some(watchdog) = watchdog {
            self.tell(n, &watchdog);
        }
    }

    /// Has the node of machine `n` leave in good order, and ends its process then. Nothing if it is not a member.
    pub async fn leave(&self, n: usize) {
        let Some(node) = self.node(n) else { return };
        // It may crash meanwhile.
        let _ended = self.machine(n).spawn(async move { node.stop().await }).await;
        self.crash(n);
    }

    /// Lets nothing through between machine `n` and the others of this cluster.
    pub fn cut_off(&self, n: usize) {
        self.sim.net().partition([self.machine(n)], self.others(n));
    }

    /// Lets nothing through to machine `n` from the others of this cluster; they hear it.
    pub fn deafen(&self, n: usize) {
        self.others(n).for_each(|other| self.sim.net().partition_one_way(other, self.machine(n)));
    }

    /// Ends all faults that can be ended: heals the network, lets frozen machines go on, mends disks, and starts what is down.
    /// What clocks have become they stay.
    pub fn calm(&self) {
        let net = self.sim.net();
        net.heal();
        net.reset_chance(0.0);
        net.delay_chance(0.0, Duration::ZERO);
        net.duplicate_chance(0.0);
        for n in 0..self.len() {
            let machine = self.machine(n);
            machine.resume();
            machine.blocking_latency(None);
            machine.disk_fault(None);
            if matches!(*self.process(n), Process::Failed(_)) {
                self.crash(n);
            }
            self.start(n);
        }
    }

    /// Waits for at most so much true time until every node is a member and all see the same. Gives whether they do.
    pub async fn settled(&self, time_max: Duration) -> bool {
        let until = self.sim.now() + time_max;
        while !self.agrees() {
            if self.sim.now() >= until {
                return false;
            }
            self.sim.sleep(LOOK_PERIOD).await;
        }
        true
    }

    fn agrees(&self) -> bool {
        let statuses = self.statuses();
        let Some(Some(first)) = statuses.first() else { return false };
        let same = |status: &ClusterStatus| {
            status.ready
                && (status.view, &status.members, &status.leader, &status.singletons)
                    == (first.view, &first.members, &first.leader, &first.singletons)
        };
        statuses.iter().all(|status| status.as_ref().is_some_and(same)) && first.members.len() == self.len()
    }

    /// What each node is and sees, a line each, for people who ask why it did not settle.
    pub(super) fn told(&self) -> String {
        let line = |n| {
            let process = match &*self.process(n) {
                Process::None => "is down".to_owned(),
                Process::Starting => "is not a member yet".to_owned(),
                Process::Failed(why) => format!("did not start: {why}"),
                Process::Member(node) => seen(&node.status()),
            };
            format!("\n  n{n} {process}")
        };
        (0..self.len()).map(line).collect()
    }

    /// From now on this is done whenever a node has become a member.
    pub(super) fn on_start(&self, began: Began) {
        *lock(&self.began) = Some(began);
    }

    fn others(&self, n: usize) -> impl Iterator<Item = &Machine> {
        self.machines().enumerate().filter(move |(other, _)| *other != n).map(|(_, machine)| machine)
    }

    fn process(&self, n: usize) -> MutexGuard<'_, Process> {
        lock(&self.hosts[n].process)
    }

    /// The watchdog of machine `n` tells, mostly soon; and some are told again when the next process is there long since.
    fn tell(&self, n: usize, watchdog: &Watchdog) {
        let soon = Duration::from_millis([5, 100, 2_000][self.sim.below(3) as usize]);
        let late = self.sim.happens(0.5).then_some(Duration::from_secs(6));
        let beside = self.sim.machine(&format!("beside n{n}"));
        for most in [Some(soon), late].into_iter().flatten() {
            let (watchdog, world) = (watchdog.clone(), beside.world());
            let (clock, pause) = (world.clock.clone(), self.sim.between(Duration::ZERO, most));
            drop(beside.spawn(async move {
                clock.sleep_until(clock.now() + pause).await;
                watchdog.tell(world).await
            }));
        }
    }
}

fn address(n: usize) -> String {
    format!("127.0.0.{}:7101", n + 1)
}

fn seen(status: &ClusterStatus) -> String {
    let members: Vec<_> = status.members.iter().map(|member| member.name.as_str()).collect();
    let (view, leader) = (status.view, status.leader.as_deref().unwrap_or("nobody"));
    let waits = status.waiting_for.as_ref().map(|what| format!("; it waits: {what}")).unwrap_or_default();
    format!("sees view {view} of [{}] led by {leader}{waits}", members.join(" "))
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("nodes", &self.len()).finish_non_exhaustive()
    }
}

//! A cluster of simulated machines: starting, crashing, leaving, and what its nodes say of it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use grains::{
    ClusterConfig, ClusterStatus, GrainOptions, Node, NodeBuilder,
    cluster::Strategy,
    sim::{Machine, Sim, Watchdog},
};

use crate::{
    counter::CounterGrain, database::Database, facts::count, herald::HeraldGrain, mill::MillGrain, streams::SourceGrain,
};

/// One machine of it.
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) machine: Machine,
    /// The node that runs there, once it is a member.
    node: Arc<Mutex<Option<Node>>>,
}

pub(crate) struct Cluster {
    sim: Sim,
    pub(crate) hosts: Vec<Host>,
    list: Vec<String>,
    /// What keeps the states of grains; none if the cluster does it itself.
    database: Option<Database>,
    /// Where counters are placed.
    placement: Strategy,
    pub(crate) lease: Duration,
    /// Whether nodes have watchdogs that tell of their deaths.
    pub(crate) watched: bool,
}

impl Cluster {
    pub(crate) fn new(sim: &Sim, nodes: usize) -> Self {
        let host = |n: usize| {
            let name = format!("n{n}");
            let machine = sim.machine(&name);
            // No two machines have been running for the same time.
            machine.clock_offset(sim.between(Duration::ZERO, Duration::from_secs(1_000)));
            Host { machine, name, node: Arc::default() }
        };
        Self {
            sim: sim.clone(),
            hosts: (0..nodes).map(host).collect(),
            list: (1..=nodes.min(3)).map(|n| format!("127.0.0.{n}:7101")).collect(),
            database: sim.happens(0.65).then(|| Database::new(sim)),
            placement: if sim.happens(0.4) { Strategy::Hash } else { Strategy::Random },
            lease: Duration::from_secs(2),
            watched: false,
        }
    }

    /// Starts the process of machine `n`.
    pub(crate) fn start(&mut self, n: usize) {
        let place: Arc<Mutex<Option<Node>>> = Arc::default();
        let host = &mut self.hosts[n];
        host.node = place.clone();
        let config = ClusterConfig::new("sim").listen(format!("127.0.0.{}:7101", n + 1)).join(self.list.clone());
        let config = config.configure(|config| {
            config.join_timeout = Duration::from_secs(600);
            config.lease = self.lease;
        });
        let builder = self.hosting(n).cluster(config);
        let builder = match &self.database {
            Some(database) => builder.store(database.of(&self.hosts[n].machine)),
            None => builder,
        };
        let (sim, name) = (self.sim.clone(), self.hosts[n].name.clone());
        let task = self.hosts[n].machine.spawn(async move {
            match builder.start().await {
                Ok(node) => *place.lock().expect("nothing panics while it is held") = Some(node),
                Err(error) => sim.trace(&format!("{name} did not start: {error}")),
            }
            std::future::pending::<()>().await;
        });
        drop(task);
    }

    fn hosting(&self, n: usize) -> NodeBuilder {
        let host = &self.hosts[n];
        let builder = Node::builder();
        let builder = if n + 1 < self.hosts.len() { builder.host::<MillGrain>() } else { builder };
        builder
            .name(&host.name)
            .world(host.machine.world())
            .data_dir("data")
            .configure(|config| {
                config.encode_local_calls = true;
                config.call_timeout = Duration::from_secs(3);
                config.stop_timeout = Duration::from_secs(5);
                // Less than some writes take.
                config.store_timeout = Duration::from_secs(3);
            })
            .host_with::<CounterGrain>(GrainOptions::new().placement(self.placement))
            .host::<SourceGrain>()
            .singleton::<HeraldGrain>()
    }

    /// The node of machine `n`, if it is up and a member.
    pub(crate) fn node(&self, n: usize) -> Option<Node> {
        if !self.hosts[n].machine.is_up() {
            return None;
        }
        self.hosts[n].node.lock().expect("nothing panics while it is held").clone()
    }

    /// Where the node of machine `n` will be, once it is a member.
    pub(crate) fn place(&self, n: usize) -> Arc<Mutex<Option<Node>>> {
        self.hosts[n].node.clone()
    }

    /// Pulls the plug of machine `n`.
    pub(crate) fn crash(&self, n: usize) {
        let host = &self.hosts[n];
        let node = self.node(n);
        let watchdog = node.filter(|_| self.watched).and_then(|node| Watchdog::of(&node));
        host.machine.resume();
        host.machine.crash();
        host.node.lock().expect("nothing panics while it is held").take();
        if let Some(watchdog) = watchdog {
            self.tell(n, &watchdog);
        }
    }

    /// The watchdog of machine `n` tells, mostly soon; and some are told again when the next process is there long since.
    fn tell(&self, n: usize, watchdog: &Watchdog) {
        count("certificate");
        let soon = Duration::from_millis([5, 100, 2_000][self.sim.below(3) as usize]);
        let late = self.sim.happens(0.5).then_some(Duration::from_secs(6));
        let beside = self.sim.machine(&format!("beside {}", self.hosts[n].name));
        for most in [Some(soon), late].into_iter().flatten() {
            let (watchdog, world) = (watchdog.clone(), beside.world());
            let (clock, pause) = (world.clock.clone(), self.sim.between(Duration::ZERO, most));
            let told = beside.spawn(async move {
                clock.sleep_until(clock.now() + pause).await;
                watchdog.tell(world).await
            });
            drop(told);
        }
    }

    /// A process with the name of machine `n`, on a machine of its own.
    pub(crate) fn namesake(&mut self, n: usize) -> usize {
        let machine = self.sim.machine("namesake");
        self.hosts.push(Host { machine, name: self.hosts[n].name.clone(), node: Arc::default() });
        self.start(self.hosts.len() - 1);
        self.hosts.len() - 1
    }

    /// The machine whose node leads Raft, and one whose node does not.
    pub(crate) fn leader_and_other(&self) -> Option<(usize, usize)> {
        let leader = self.statuses().into_iter().flatten().find_map(|status| status.raft_leader)?;
        let leader = self.hosts.iter().position(|host| host.name == leader)?;
        Some((leader, (leader + 1) % self.hosts.len()))
    }

    /// Lets nothing through from others to machine `n`.
    pub(crate) fn deafen(&self, n: usize) {
        for other in (0..self.hosts.len()).filter(|other| *other != n) {
            self.sim.net().partition_one_way(&self.hosts[other].machine, &self.hosts[n].machine);
        }
    }

    /// Lets nothing through between machine `n` and others.
    pub(crate) fn cut_off(&self, n: usize) {
        let others = self.hosts.iter().enumerate().filter(|(other, _)| *other != n).map(|(_, host)| &host.machine);
        self.sim.net().partition([&self.hosts[n].machine], others);
    }

    pub(crate) fn statuses(&self) -> Vec<Option<ClusterStatus>> {
        (0..self.hosts.len()).map(|n| self.node(n).map(|node| node.status())).collect()
    }

    /// Whether every node is ready and all have the same view.
    pub(crate) fn agrees(&self) -> bool {
        let statuses = self.statuses();
        let Some(Some(first)) = statuses.first() else { return false };
        let same = |status: &ClusterStatus| {
            status.ready
                && (status.view, &status.members, &status.leader, &status.singletons)
                    == (first.view, &first.members, &first.leader, &first.singletons)
        };
        statuses.iter().all(|status| status.as_ref().is_some_and(same)) && first.members.len() == self.hosts.len()
    }

    /// Waits until all agree.
    pub(crate) async fn settled(&self, limit: Duration) -> bool {
        let until = self.sim.now() + limit;
        while self.sim.now() < until {
            if self.agrees() {
                return true;
            }
            self.sim.sleep(Duration::from_millis(50)).await;
        }
        false
    }
}

//! A cluster of simulated machines: starting, crashing, leaving, and what its nodes say of it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use grains::{
    ClusterConfig, ClusterStatus, Node, NodeBuilder,
    sim::{Machine, Sim},
};

use crate::{counter::CounterGrain, database::Database, herald::HeraldGrain, mill::MillGrain, streams::SourceGrain};

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
}

impl Cluster {
    pub(crate) fn new(sim: &Sim, nodes: usize) -> Self {
        let host = |n: usize| {
            let name = format!("n{n}");
            Host { machine: sim.machine(&name), name, node: Arc::default() }
        };
        Self {
            sim: sim.clone(),
            hosts: (0..nodes).map(host).collect(),
            list: (1..=nodes.min(3)).map(|n| format!("127.0.0.{n}:7101")).collect(),
            database: sim.happens(0.8).then(|| Database::new(sim)),
        }
    }

    /// Starts the process of machine `n`.
    pub(crate) fn start(&mut self, n: usize) {
        let place: Arc<Mutex<Option<Node>>> = Arc::default();
        let host = &mut self.hosts[n];
        host.node = place.clone();
        let config = ClusterConfig::new("sim").listen(format!("127.0.0.{}:7101", n + 1)).join(self.list.clone());
        let config = config.configure(|config| config.join_timeout = Duration::from_secs(600));
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
            })
            .host::<CounterGrain>()
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
        host.machine.resume();
        host.machine.crash();
        host.node.lock().expect("nothing panics while it is held").take();
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

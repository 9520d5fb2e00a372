//! Directed scenarios: clusters in the simulator to which one certain thing happens.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use grains::{
    ClusterConfig, GrainOptions, Node, StartError,
    cluster::{JoinError, Strategy},
    prelude::*,
    sim::{Machine, Sim, run},
};

use crate::streams::SourceGrain;

/// Says that it lives.
#[rpc_trait]
pub(crate) trait Spot {
    async fn touch(&mut self) -> Result<u64>;
}

#[grain(Spot)]
pub(crate) struct SpotGrain {
    touched: u64,
}

impl Lifecycle for SpotGrain {
    async fn activate(_ctx: Ctx<Self>) -> Result<Self> {
        Ok(Self { touched: 0 })
    }
}

impl Spot for SpotGrain {
    async fn touch(&mut self) -> Result<u64> {
        self.touched += 1;
        Ok(self.touched)
    }
}

/// Longer than any cluster without faults takes to agree.
const SETTLES_WITHIN: Duration = Duration::from_secs(20);

/// How one node is started.
pub(crate) struct Plan {
    name: &'static str,
    /// Which machine it runs on: the last number of its address.
    machine: usize,
    on_disk: bool,
    role: Option<&'static str>,
    hosts: Option<GrainOptions>,
    join_timeout: Duration,
}

impl Plan {
    fn new(name: &'static str, machine: usize) -> Self {
        let hosts = Some(GrainOptions::new());
        Self { name, machine, on_disk: true, role: None, hosts, join_timeout: Duration::from_secs(60) }
    }
}

/// Machines and what was started on them.
pub(crate) struct Scene {
    sim: Sim,
    pub(crate) machines: Vec<Machine>,
}

impl Scene {
    pub(crate) fn new(sim: &Sim, machines: usize) -> Self {
        let machines = (0..machines).map(|n| sim.machine(&format!("m{n}"))).collect();
        Self { sim: sim.clone(), machines }
    }

    /// Starts nodes side by side, in a cluster whose list is the first three machines.
    async fn start(&self, plans: Vec<Plan>) -> Vec<Result<Node, StartError>> {
        let started: Arc<Mutex<Vec<_>>> = Arc::default();
        let count = plans.len();
        for (at, plan) in plans.into_iter().enumerate() {
            let config = ClusterConfig::new("sim").listen(format!("127.0.0.{}:7101", plan.machine + 1));
            let config = config.join((1..=3).map(|n| format!("127.0.0.{n}:7101")));
            let mut config = config.configure(|config| config.join_timeout = plan.join_timeout);
            config.roles.extend(plan.role.map(str::to_owned));
            let machine = &self.machines[plan.machine];
            let mut builder = Node::builder().name(plan.name).world(machine.world()).cluster(config);
            if plan.on_disk {
                builder = builder.data_dir("data");
            }
            builder = builder.host::<SourceGrain>();
            if let Some(options) = plan.hosts {
                builder = builder.host_with::<SpotGrain>(options);
            }
            let started = started.clone();
            drop(machine.spawn(async move {
                let node = builder.start().await;
                started.lock().expect("nothing panics while it is held").push((at, node));
                std::future::pending::<()>().await;
            }));
        }
        while started.lock().expect("nothing panics while it is held").len() < count {
            self.sim.sleep(Duration::from_millis(20)).await;
        }
        let mut started = std::mem::take(&mut *started.lock().expect("nothing panics while it is held"));
        started.sort_by_key(|(at, _)| *at);
        started.into_iter().map(|(_, node)| node).collect()
    }

    async fn start_all(&self, plans: Vec<Plan>) -> Vec<Node> {
        let started = self.start(plans).await;
        let nodes: Vec<_> = started.into_iter().map(|node| node.expect("it starts")).collect();
        self.wait("all to know all", || nodes.iter().all(|node| node.status().members.len() == nodes.len())).await;
        nodes
    }

    pub(crate) async fn three(&self) -> Vec<Node> {
        self.start_all(vec![Plan::new("a", 0), Plan::new("b", 1), Plan::new("c", 2)]).await
    }

    pub(crate) async fn wait(&self, what: &str, done: impl Fn() -> bool) {
        let until = self.sim.now() + SETTLES_WITHIN;
        while !done() {
            assert!(self.sim.now() < until, "waited in vain for {what}");
            self.sim.sleep(Duration::from_millis(20)).await;
        }
    }

    /// Calls so many grains from `node`, whose machine is `machine`.
    async fn touch(&self, machine: usize, node: &Node, keys: std::ops::Range<usize>) {
        let node = node.clone();
        let touching = async move {
            for key in keys {
                node.get::<SpotRef>(key.to_string()).touch().retry(20).await.expect("it answers");
            }
        };
        self.machines[machine].spawn(touching).await.expect("the machine is up");
    }
}

fn living(nodes: &[Node]) -> Vec<usize> {
    nodes.iter().map(|node| node.activations().get("spot").copied().unwrap_or(0)).collect()
}

#[test]
fn a_namesake_is_refused_and_the_one_there_keeps_everything() {
    run(1, async |sim| {
        let scene = Scene::new(&sim, 4);
        let nodes = scene.three().await;
        let before = nodes[0].status();
        let leads_raft = before.raft_leader.clone().expect("Raft has a leader");
        scene.touch(0, &nodes[0], 0..30).await;
        let lived = living(&nodes);
        for namesake in ["a", "b", "c"] {
            let refused = scene.start(vec![Plan::new(namesake, 3)]).await.remove(0);
            let whose = if namesake == leads_raft { "the leader's" } else { "a member's" };
            match refused {
                Err(StartError::Join(JoinError::NameTaken { name, address })) => {
                    assert_eq!(name.as_str(), namesake, "{whose} name");
                    assert!(address.starts_with("127.0.0.") && !address.starts_with("127.0.0.4"), "{address}");
                }
                other => panic!("{whose} name was not refused: {other:?}"),
            }
            scene.machines[3].crash();
        }
        let after = nodes[0].status();
        assert_eq!(
            (after.members, after.leader, after.raft_leader),
            (before.members, before.leader, before.raft_leader)
        );
        assert_eq!(living(&nodes), lived, "nobody's grains have ended");
    });
}

#[test]
fn nodes_without_a_disk_are_a_cluster_too_and_come_back_as_new_ones() {
    run(2, async |sim| {
        let scene = Scene::new(&sim, 3);
        let plan = |name, machine| Plan { on_disk: false, ..Plan::new(name, machine) };
        let mut nodes = scene.start_all(vec![plan("a", 0), plan("b", 1), plan("c", 2)]).await;
        scene.touch(0, &nodes[0], 0..20).await;
        scene.wait("three voters", || nodes[0].status().voters.len() == 3).await;
        // One after the other; each time the other two are a majority.
        for (machine, name) in [(0, "a"), (1, "b"), (2, "c")] {
            let earlier = nodes[machine].status().incarnation;
            scene.machines[machine].crash();
            drop(nodes.remove(machine));
            let again = scene.start(vec![plan(name, machine)]).await.remove(0).expect("it is a member again");
            assert!(again.status().incarnation > earlier);
            nodes.insert(machine, again);
            scene
                .wait("all to agree", || {
                    let seen = |node: &Node| (node.status().members.len(), node.status().view);
                    nodes.iter().all(|node| seen(node) == seen(&nodes[0])) && nodes[0].status().members.len() == 3
                })
                .await;
            scene.wait("three voters", || nodes.iter().all(|node| node.status().voters.len() == 3)).await;
            scene.touch(machine, &nodes[machine], 0..20).await;
            assert_eq!(living(&nodes).iter().sum::<usize>(), 20);
        }
    });
}

#[test]
fn a_role_keeps_grains_on_the_nodes_that_have_it() {
    run(3, async |sim| {
        let scene = Scene::new(&sim, 4);
        let options = || GrainOptions::new().placement(Strategy::Random).role("games");
        let plan = |name, machine, role| Plan { role, hosts: Some(options()), ..Plan::new(name, machine) };
        let plans = vec![plan("a", 0, None), plan("b", 1, Some("games")), plan("c", 2, Some("games"))];
        let mut nodes = scene.start_all(plans).await;
        scene.touch(0, &nodes[0], 0..40).await;
        let [none, some, others] = living(&nodes)[..] else { panic!("three nodes") };
        assert_eq!((none, some + others), (0, 40));
        assert!(some > 5 && others > 5, "at random means spread: {some} and {others}");

        // A node that joins late, and has the role, takes over when the others with it have left.
        let late = scene.start(vec![plan("d", 3, Some("games"))]).await.remove(0).expect("it joins");
        for machine in [1, 2] {
            let leaving = nodes.remove(1);
            scene.machines[machine].spawn(async move { leaving.stop().await }).await.expect("it stops");
        }
        scene.touch(0, &nodes[0], 0..40).await;
        assert_eq!((living(&nodes), living(&[late])), (vec![0], vec![40]));
    });
}

#[test]
fn a_grain_type_lives_where_it_is_hosted_and_has_no_place_without_a_host() {
    run(4, async |sim| {
        let scene = Scene::new(&sim, 3);
        let plan = |name, machine| Plan { hosts: None, ..Plan::new(name, machine) };
        let nodes = scene.start_all(vec![plan("a", 0), plan("b", 1), Plan::new("c", 2)]).await;
        scene.touch(0, &nodes[0], 0..10).await;
        scene.touch(1, &nodes[1], 0..10).await;
        assert_eq!(living(&nodes), [0, 0, 10]);

        scene.machines[2].crash();
        scene.wait("its lease to end", || nodes[..2].iter().all(|node| node.status().members.len() == 2)).await;
        let caller = nodes[0].clone();
        let called = scene.machines[0].spawn(async move {
            let spot: SpotRef = caller.get("1");
            spot.touch().timeout(Duration::from_secs(10)).retry(5).await
        });
        let error = called.await.expect("the machine is up").expect_err("nobody hosts it");
        assert_eq!(error.outcome(), grains::Outcome::NotExecuted, "{error}");
        assert!(error.to_string().contains("no node hosts grain type \"spot\""), "{error}");
    });
}

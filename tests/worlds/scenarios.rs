//! Directed scenarios: clusters in the simulator to which one certain thing happens.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use grains::{
    ClusterConfig, GrainOptions, Node, StartError,
    cluster::{JoinError, Strategy},
    prelude::*,
    sim::{Machine, Sim},
};

use crate::{disks::PileGrain, facts::lock, run, simulated, streams::SourceGrain};

thread_local! {
    /// The grains with a turn that lasts, wherever it runs.
    static HELD: RefCell<BTreeSet<String>> = RefCell::default();
}

/// Held while it lives.
struct Held(String);

impl Held {
    fn new(key: &str) -> Self {
        let first = HELD.with_borrow_mut(|held| held.insert(key.to_owned()));
        assert!(first, "grain {key} has two turns at once");
        Self(key.to_owned())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.with_borrow_mut(|held| held.remove(&self.0));
    }
}

/// Says that it lives.
#[rpc_trait]
pub(crate) trait Spot {
    async fn touch(&mut self) -> Result<u64>;
    /// Takes so long. Whoever else is touched meanwhile is told so.
    async fn hold(&mut self, time: Duration) -> Result<()>;
    /// Takes so long, and touches another one before it ends.
    async fn hold_and_touch(&mut self, time: Duration, other: SpotRef) -> Result<u64, CallError<Error>>;
}

#[grain(Spot)]
pub(crate) struct SpotGrain {
    ctx: Ctx<Self>,
    touched: u64,
}

impl Lifecycle for SpotGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        Ok(Self { ctx, touched: 0 })
    }
}

impl Spot for SpotGrain {
    async fn touch(&mut self) -> Result<u64> {
        drop(Held::new(&self.ctx.key()));
        self.touched += 1;
        Ok(self.touched)
    }

    async fn hold(&mut self, time: Duration) -> Result<()> {
        let held = Held::new(&self.ctx.key());
        self.ctx.sleep(time).await;
        drop(held);
        Ok(())
    }

    async fn hold_and_touch(&mut self, time: Duration, other: SpotRef) -> Result<u64, CallError<Error>> {
        let _held = Held::new(&self.ctx.key());
        self.ctx.sleep(time).await;
        other.touch().await
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
    /// With an empty list: a cluster by itself.
    alone: bool,
    role: Option<&'static str>,
    hosts: Option<GrainOptions>,
    join_timeout: Duration,
    voter_replace_after: Duration,
}

impl Plan {
    pub(crate) fn new(name: &'static str, machine: usize) -> Self {
        let hosts = Some(GrainOptions::new());
        let minute = Duration::from_secs(60);
        Self {
            name,
            machine,
            on_disk: true,
            alone: false,
            role: None,
            hosts,
            join_timeout: minute,
            voter_replace_after: minute,
        }
    }

    /// In a cluster that gives the seats of those that are gone to others soon.
    fn quick(name: &'static str, machine: usize) -> Self {
        Self { voter_replace_after: Duration::from_secs(1), ..Self::new(name, machine) }
    }
}

/// Nodes that have started, or not, as they come.
type Started = Arc<Mutex<Vec<(usize, Result<Node, StartError>)>>>;

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
    pub(crate) async fn start(&self, plans: Vec<Plan>) -> Vec<Result<Node, StartError>> {
        let count = plans.len();
        let started = self.begin(plans);
        while lock(&started).len() < count {
            self.sim.sleep(Duration::from_millis(20)).await;
        }
        let mut started = std::mem::take(&mut *lock(&started));
        started.sort_by_key(|(at, _)| *at);
        started.into_iter().map(|(_, node)| node).collect()
    }

    /// The same, without waiting for them: gives where they are to be found, with their place among the plans.
    fn begin(&self, plans: Vec<Plan>) -> Started {
        let started = Started::default();
        for (at, plan) in plans.into_iter().enumerate() {
            let config = ClusterConfig::new("sim").listen(format!("127.0.0.{}:7101", plan.machine + 1));
            let listed = (1..=3).filter(|_| !plan.alone).map(|n| format!("127.0.0.{n}:7101"));
            let config = config.join(listed);
            let mut config = config.configure(|config| {
                config.join_timeout = plan.join_timeout;
                config.voter_replace_after = plan.voter_replace_after;
            });
            config.roles.extend(plan.role.map(str::to_owned));
            let machine = &self.machines[plan.machine];
            let mut builder = Node::builder().name(plan.name).world(machine.world()).cluster(config);
            if plan.on_disk {
                builder = builder.data_dir("data");
            }
            builder = builder.host::<SourceGrain>().host::<PileGrain>();
            if let Some(options) = plan.hosts {
                builder = builder.host_with::<SpotGrain>(options);
            }
            let started = started.clone();
            drop(machine.spawn(async move {
                let node = builder.start().await;
                lock(&started).push((at, node));
                std::future::pending::<()>().await;
            }));
        }
        started
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
#[cfg_attr(debug_assertions, ignore = "slow in debug builds, see tests/run")]
fn a_namesake_is_refused_and_the_one_there_keeps_everything() {
    run(1, async |sim| {
        let scene = Scene::new(&sim, 4);
        let nodes = scene.three().await;
        let before = nodes[0].status();
        let leads_raft = before.raft_leader.clone().expect("Raft has a leader");
        scene.touch(0, &nodes[0], 0..30).await;
        let lived = living(&nodes);
        for namesake in ["a", "b", "c"] {
            let refused = scene.start(vec![Plan { on_disk: false, ..Plan::new(namesake, 3) }]).await.remove(0);
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
#[cfg_attr(debug_assertions, ignore = "slow in debug builds, see tests/run")]
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
#[cfg_attr(debug_assertions, ignore = "slow in debug builds, see tests/run")]
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
#[cfg_attr(debug_assertions, ignore = "slow in debug builds, see tests/run")]
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

/// Rings of two to six grains, wherever they are; each is broken once, within a second after the last call of it was made.
#[test]
#[cfg_attr(debug_assertions, ignore = "slow in debug builds, see tests/run")]
fn rings_of_chains_over_the_nodes_are_broken_within_a_second() {
    for seed in 1..=10 {
        run(seed, async |sim| {
            let scene = Scene::new(&sim, 3);
            let nodes = scene.three().await;
            for round in 0..5_usize {
                let length = round + 2;
                let key = |n: usize| format!("{round}-{}", n % length);
                let held = Duration::from_millis(200);
                let mut chains = Vec::new();
                for n in 0..length {
                    let at = (n + round) % 3;
                    let (this, next): (SpotRef, SpotRef) = (nodes[at].get(key(n)), nodes[at].get(key(n + 1)));
                    chains.push(scene.machines[at].spawn(async move { this.hold_and_touch(held, next).await }));
                }
                let begun = sim.now();
                let mut broken = Vec::new();
                for chain in chains {
                    if let Err(error) = chain.await.expect("the machine is up") {
                        broken.push(error);
                    }
                }
                let took = sim.now() - begun;
                let [CallError::Grain(CallError::Deadlock { cycle })] = &broken[..] else {
                    panic!("one call of the ring fails: {broken:?}")
                };
                assert_eq!(cycle.len(), length + 1, "{cycle:?}");
                assert!(took < held + Duration::from_secs(1), "a ring of {length} was found after {took:?}");
            }
        });
    }
}

#[test]
#[cfg_attr(debug_assertions, ignore = "slow in debug builds, see tests/run")]
fn calls_begun_after_a_node_has_died_never_left_and_wait_for_the_new_places() {
    run(6, async |sim| {
        let scene = Scene::new(&sim, 3);
        let nodes = scene.three().await;
        for (machine, node) in nodes.iter().enumerate() {
            scene.touch(machine, node, 0..30).await;
        }
        scene.machines[1].crash();
        // Longer than it takes to hear that its connections have ended, and shorter than its lease.
        sim.sleep(Duration::from_millis(500)).await;
        assert_eq!(nodes[0].status().members.len(), 3, "it is a member still");
        let calls = (0..100).map(|key| {
            let spot: SpotRef = nodes[0].get(key.to_string());
            let call = async move { spot.touch().await.map_err(|error| format!("{key}: {error}")) };
            scene.machines[0].spawn(call)
        });
        for call in calls.collect::<Vec<_>>() {
            call.await.expect("the machine is up").expect("it waits for the new place of its grain");
        }
        assert_eq!(nodes[0].status().members.len(), 2);
    });
}

#[test]
#[cfg_attr(debug_assertions, ignore = "slow in debug builds, see tests/run")]
fn calls_wait_for_an_owner_that_has_not_heard_that_its_host_leaves() {
    run(3, async |sim| {
        let scene = Scene::new(&sim, 7);
        let guest = |name, machine| Plan { hosts: None, ..Plan::new(name, machine) };
        let host = |name, machine| {
            let hosts = Some(GrainOptions::new().placement(Strategy::Hash));
            Plan { hosts, ..Plan::new(name, machine) }
        };
        let voters = scene.start_all(vec![guest("a", 0), guest("b", 1), guest("c", 2)]).await;
        scene.wait("three voters", || voters[0].status().voters.len() == 3).await;
        let others = vec![guest("caller", 3), guest("owner", 4), host("stays", 5), host("leaves", 6)];
        let others: Vec<_> = scene.start(others).await.into_iter().map(|node| node.expect("it starts")).collect();
        scene.wait("all to know all", || others.iter().all(|node| node.status().members.len() == 7)).await;
        // The owner hears of no view, and all others hear that a host leaves.
        let [caller, owner, stays, leaves] = &others[..] else { panic!("four more were started") };
        sim.net().partition(&scene.machines[4..5], &scene.machines[..3]);
        let leaving = leaves.clone();
        drop(scene.machines[6].spawn(async move { leaving.stop().await }));
        let knows = |node: &Node| node.status().members.iter().any(|member| member.state == "leaving");
        scene.wait("the view", || knows(caller) && knows(stays) && knows(leaves)).await;
        assert!(!knows(owner), "it is cut off");
        let calls = (0..100).map(|key| {
            let spot: SpotRef = caller.get(key.to_string());
            let call = async move { spot.touch().await.map_err(|error| format!("{key}: {error}")) };
            scene.machines[3].spawn(call)
        });
        let calls = calls.collect::<Vec<_>>();
        sim.sleep(Duration::from_secs(1)).await;
        assert!(!knows(owner) && owner.status().ready, "it gives orders that its host refuses");
        assert!(living(&others)[2] < 100, "some grains are of its partitions");
        sim.net().heal();
        for call in calls {
            call.await.expect("the machine is up").expect("it waits for the owner to hear of the view");
        }
        assert_eq!(living(&others)[2], 100);
    });
}

#[test]
#[cfg_attr(debug_assertions, ignore = "slow in debug builds, see tests/run")]
fn the_last_active_member_dies_and_returns_while_the_others_still_finish_their_turns() {
    run(1, async |sim| {
        let scene = Scene::new(&sim, 3);
        let nodes = scene.three().await;
        scene.wait("three voters", || nodes[0].status().voters.len() == 3).await;
        scene.touch(0, &nodes[0], 0..30).await;
        for key in 0..30 {
            let caller = nodes[1].clone();
            let holding = async move {
                let spot: SpotRef = caller.get(key.to_string());
                drop(spot.hold(Duration::from_millis(8_500)).timeout(Duration::from_secs(30)).await);
            };
            drop(scene.machines[1].spawn(holding));
        }
        sim.sleep(Duration::from_millis(300)).await;
        for (machine, leaving) in nodes.iter().enumerate().skip(1) {
            let leaving = leaving.clone();
            drop(scene.machines[machine].spawn(async move { leaving.stop().await }));
        }
        sim.sleep(Duration::from_millis(300)).await;
        scene.machines[0].crash();
        let held = HELD.with_borrow(Clone::clone);
        assert!(held.len() > 5, "grains of the others are busy: {held:?}");
        scene.wait("its lease to end", || nodes[1].status().members.len() == 2).await;
        let again = scene.start(vec![Plan::new("a", 0)]).await.remove(0).expect("it is back");
        assert!(HELD.with_borrow(|now| held.is_subset(now)), "they are busy still");
        // A grain that is called here now and begins a turn is found out by `Held`, in the turn or by its error.
        let caller = again.clone();
        let calling = async move {
            for key in held {
                let spot: SpotRef = caller.get(key.as_str());
                let touched = spot.touch().timeout(Duration::from_millis(50)).await;
                assert!(touched.is_err(), "grain {key} was touched at {} while another turn held it", caller.name());
            }
        };
        scene.machines[0].spawn(calling).await.expect("the machine is up");
        assert_eq!(living(&[again])[0], 0, "none of them has come to life here");
    });
}

#[test]
#[cfg_attr(debug_assertions, ignore = "slow in debug builds, see tests/run")]
fn a_node_that_loses_its_power_while_it_founds_a_cluster_founds_it_when_it_is_back() {
    // Where the power goes: all of the way of a node alone, and the part of it in which a list of three founds.
    let alone = (0..6_000).step_by(if cfg!(debug_assertions) { 300 } else { 60 });
    let listed = (100_000..300_000).step_by(if cfg!(debug_assertions) { 40_000 } else { 2_000 });
    let cuts = alone.map(|micros| (1, micros)).chain(listed.map(|micros| (3, micros)));
    for (machines, micros) in cuts {
        run(5, async |sim| {
            let scene = Scene::new(&sim, machines);
            let plans = || {
                let plans = [Plan::new("a", 0), Plan::new("b", 1), Plan::new("c", 2)].into_iter().take(machines);
                plans.map(|plan| Plan { alone: machines == 1, ..plan }).collect::<Vec<_>>()
            };
            let started = scene.begin(plans());
            sim.sleep(Duration::from_micros(micros)).await;
            if lock(&started).is_empty() {
                scene.machines.iter().for_each(Machine::crash);
                let again = scene.start(plans()).await;
                assert!(again.iter().all(Result::is_ok), "cut after {micros} us, {machines} machines: {again:?}");
            }
        });
    }
}

/// Starts three nodes and waits, to a tenth of a millisecond, until one that leads Raft says that three vote. Gives it.
async fn until_three_vote(scene: &Scene) -> (Started, usize) {
    let started = scene.begin(vec![Plan::new("a", 0), Plan::new("b", 1), Plan::new("c", 2)]);
    let leads = |(at, node): &(usize, Result<Node, StartError>)| {
        let node = node.as_ref().expect("it starts");
        let status = node.status();
        (status.raft_leader.as_deref() == Some(node.name()) && status.voters.len() == 3).then_some(*at)
    };
    loop {
        let leader = lock(&started).iter().find_map(leads);
        if let Some(leader) = leader {
            return (started, leader);
        }
        scene.sim.sleep(Duration::from_micros(100)).await;
    }
}

/// The two others of three go on without the one at `dead`.
async fn go_on(scene: &Scene, started: &Started, dead: usize) {
    let others = || {
        let started = lock(started);
        let on = |node: &Node| node.status().ready && node.status().members.len() == 2;
        let others = started.iter().filter(|(at, _)| *at != dead);
        others.filter(|(_, node)| on(node.as_ref().expect("it starts"))).count()
    };
    scene.wait("the other two to go on", || others() == 2).await;
}

#[test]
#[cfg_attr(debug_assertions, ignore = "slow in debug builds, see tests/run")]
fn as_soon_as_three_vote_one_of_them_may_die() {
    for seed in 1..=if cfg!(debug_assertions) { 3 } else { 20 } {
        run(seed, async |sim| {
            let scene = Scene::new(&sim, 3);
            let (started, leader) = until_three_vote(&scene).await;
            scene.machines[leader].crash();
            go_on(&scene, &started, leader).await;
        });
    }
}

#[test]
#[cfg_attr(debug_assertions, ignore = "slow in debug builds, see tests/run")]
fn a_change_of_voters_that_is_cut_off_is_finished() {
    for seed in 1..=if cfg!(debug_assertions) { 1 } else { 4 } {
        let (mut at, mut leader) = (Duration::ZERO, 0);
        run(seed, async |sim| {
            let scene = Scene::new(&sim, 3);
            leader = until_three_vote(&scene).await.1;
            at = sim.now();
        });
        // The same once more, and the power goes before that: somewhere there the change is in the log of the leader only,
        // or half of it is done.
        for micros in (0..20_000).step_by(1_000) {
            run(seed, async |sim| {
                let scene = Scene::new(&sim, 3);
                let started = scene.begin(vec![Plan::new("a", 0), Plan::new("b", 1), Plan::new("c", 2)]);
                sim.sleep(at - Duration::from_micros(micros)).await;
                scene.machines[leader].crash();
                let name = ["a", "b", "c"][leader];
                let again = scene.start(vec![Plan::new(name, leader)]).await.remove(0).expect("it is back");
                scene.wait("the others to be members", || lock(&started).iter().any(|(at, _)| *at != leader)).await;
                scene
                    .wait("three voters", || again.status().voters.len() == 3 && again.status().members.len() == 3)
                    .await;
                sim.sleep(Duration::from_secs(1)).await;
                scene.machines[leader].crash();
                drop(again);
                go_on(&scene, &started, leader).await;
            });
        }
    }
}

#[test]
#[cfg_attr(debug_assertions, ignore = "slow in debug builds, see tests/run")]
fn a_member_that_has_joined_again_and_knows_no_view_yet_loses_no_call() {
    run(1, async |sim| {
        let scene = Scene::new(&sim, 4);
        let plans = [("a", 0), ("b", 1), ("c", 2), ("d", 3)].map(|(name, machine)| Plan::new(name, machine));
        let nodes = scene.start_all(plans.into()).await;
        scene.wait("three voters", || nodes.iter().all(|node| node.status().voters.len() == 3)).await;
        let status = nodes[0].status();
        let no_voter = |node: &Node| !status.voters.contains(&node.name().to_owned());
        let back = nodes.iter().position(no_voter).expect("four members, three of them vote");
        let leader = status.raft_leader.expect("there is one");
        let leader = nodes.iter().position(|node| node.name() == leader).expect("it is a member");
        scene.machines[back].pause();
        sim.sleep(Duration::from_secs(4)).await;
        // It reaches the leader, which takes it in, and not the voter of which it hears what was agreed.
        for other in (0..4).filter(|other| ![back, leader].contains(other)) {
            sim.net().partition([&scene.machines[back]], [&scene.machines[other]]);
        }
        let was = nodes[back].status().incarnation;
        let slow: Arc<Mutex<Vec<String>>> = Arc::default();
        for client in 0..20 {
            let (caller, slow) = (nodes[leader].clone(), slow.clone());
            drop(scene.machines[leader].spawn(async move {
                let clock = caller.world().clock.clone();
                for n in 0..200 {
                    clock.sleep_until(clock.now() + Duration::from_millis(20)).await;
                    let begun = clock.now();
                    let spot: SpotRef = caller.get(format!("{client}-{n}"));
                    let answer = spot.touch().timeout(Duration::from_secs(15)).await;
                    if clock.now().since(begun) > Duration::from_secs(8) {
                        lock(&slow).push(format!("{client}-{n}: {answer:?}"));
                    }
                }
            }));
        }
        scene.machines[back].resume();
        let name = nodes[back].name();
        let joined =
            |node: &Node| node.status().members.iter().any(|member| member.name == name && member.incarnation > was);
        scene.wait("it to join again", || joined(&nodes[leader])).await;
        sim.sleep(Duration::from_millis(60)).await;
        sim.net().heal();
        sim.sleep(Duration::from_secs(25)).await;
        assert!(lock(&slow).is_empty(), "calls that hung: {:?}", lock(&slow));
    });
}

#[test]
#[cfg_attr(debug_assertions, ignore = "slow in debug builds, see tests/run")]
fn a_quiet_cluster_is_quiet_whatever_its_size() {
    let events = |nodes: usize, time: u64| {
        let report = run(3, async |sim| {
            let scene = Scene::new(&sim, nodes);
            let plans = [("a", 0), ("b", 1), ("c", 2), ("d", 3), ("e", 4)].into_iter().take(nodes);
            let nodes = scene.start_all(plans.map(|(name, machine)| Plan::new(name, machine)).collect()).await;
            sim.sleep(Duration::from_secs(3 + time)).await;
            drop(nodes);
        });
        report.events
    };
    let per_second = |nodes| (events(nodes, 5) - events(nodes, 0)) / 5;
    let (three, five) = (per_second(3), per_second(5));
    assert!(five < three * 2, "three nodes: {three} events a second, five nodes: {five}");
}

/// Those that founded the cluster have left it. Of its list there is one node, a member that has never voted.
#[test]
#[cfg_attr(debug_assertions, ignore = "slow in debug builds, see tests/run")]
fn a_newcomer_finds_the_voters_by_a_member_that_never_voted() {
    run(1, async |sim| {
        let scene = Scene::new(&sim, 7);
        let founders = scene.start_all(vec![Plan::quick("a", 0), Plan::quick("b", 1)]).await;
        let mut others = Vec::new();
        for (name, machine) in [("d", 3), ("e", 4), ("f", 5)] {
            others.push(scene.start(vec![Plan::quick(name, machine)]).await.remove(0).expect("it starts"));
        }
        let member = scene.start(vec![Plan::quick("c", 2)]).await.remove(0).expect("it starts");
        for (machine, leaving) in founders.into_iter().enumerate() {
            scene.machines[machine].spawn(async move { leaving.stop().await }).await.expect("it is up");
        }
        scene.wait("the voters to be others", || votes(&member, ["d", "e", "f"])).await;
        let newcomer = Plan { join_timeout: Duration::from_secs(10), ..Plan::quick("g", 6) };
        scene.start(vec![newcomer]).await.remove(0).expect("it finds them");
        drop(others);
    });
}

fn votes(node: &Node, names: [&str; 3]) -> bool {
    let voters = node.status().voters;
    voters.len() == 3 && names.iter().all(|name| voters.iter().any(|voter| voter == name))
}

/// A node of the list comes back after all that it knew have left: it finds nobody. Another one that cannot reach the voters for
/// a while asks it, too, and must not take its word for who votes.
#[test]
#[cfg_attr(debug_assertions, ignore = "slow in debug builds, see tests/run")]
fn a_voter_of_long_ago_takes_nobody_along() {
    run(1, async |sim| {
        let scene = Scene::new(&sim, 7);
        let founders = vec![Plan::quick("a", 0), Plan::quick("b", 1), Plan::quick("c", 2)];
        let founders = scene.start_all(founders).await;
        scene.wait("three voters", || votes(&founders[0], ["a", "b", "c"])).await;
        let mut others = Vec::new();
        for (name, machine) in [("d", 3), ("e", 4), ("f", 5)] {
            others.push(scene.start(vec![Plan::quick(name, machine)]).await.remove(0).expect("it starts"));
        }
        let lost = scene.start(vec![Plan::quick("x", 6)]).await.remove(0).expect("it starts");
        scene.machines[2].crash();
        scene.wait("another one in its seat", || votes(&lost, ["a", "b", "d"])).await;
        for (machine, leaving) in founders.into_iter().enumerate().take(2) {
            scene.machines[machine].spawn(async move { leaving.stop().await }).await.expect("it is up");
        }
        scene.wait("the voters to be others", || votes(&lost, ["d", "e", "f"])).await;
        let _back = scene.begin(vec![Plan::quick("c", 2)]);
        sim.sleep(Duration::from_secs(2)).await;
        sim.net().partition([&scene.machines[6]], [&scene.machines[3], &scene.machines[4], &scene.machines[5]]);
        sim.sleep(Duration::from_secs(8)).await;
        sim.net().heal();
        scene.wait("it to be a member again", || lost.status().ready).await;
        drop(others);
    });
}

/// No faults at all: the first of the list starts a little later than the two others.
#[test]
#[cfg_attr(debug_assertions, ignore = "slow in debug builds, see tests/run")]
fn the_first_of_the_list_that_starts_late_founds_no_second_cluster() {
    for millis in 104..112 {
        let disk = Duration::from_millis(5)..=Duration::from_millis(15);
        simulated().seed(1).blocking_latency(disk).run(async |sim| {
            let scene = Scene::new(&sim, 3);
            let others = scene.begin(vec![Plan::new("b", 1), Plan::new("c", 2)]);
            sim.sleep(Duration::from_millis(millis)).await;
            let first = scene.begin(vec![Plan::new("a", 0)]);
            let three = |(_, node): &(usize, Result<Node, StartError>)| {
                node.as_ref().is_ok_and(|node| node.status().members.len() == 3)
            };
            scene
                .wait("one cluster", || lock(&others).iter().chain(&*lock(&first)).filter(|it| three(it)).count() == 3)
                .await;
        });
    }
}

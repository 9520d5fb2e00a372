//! Disks that are full, fail or lie under the store that the cluster keeps: the other two nodes go on, and nothing that was
//! acknowledged is lost.

use std::collections::BTreeMap;

use grains::{Node, prelude::*, sim::DiskFault};

use crate::{
    run,
    scenarios::{Plan, Scene},
};

/// Keeps as much as makes files grow.
#[rpc_trait]
pub(crate) trait Pile {
    /// Puts something on it and answers how often that was done.
    async fn put(&mut self) -> Result<u64>;
    /// How often something was put on it.
    async fn height(&self) -> Result<u64>;
}

const PIECE_BYTES: usize = 30_000;

#[grain(Pile)]
pub(crate) struct PileGrain {
    pile: State<(u64, Vec<u8>)>,
}

impl Lifecycle for PileGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        Ok(Self { pile: ctx.state("pile").await? })
    }
}

impl Pile for PileGrain {
    async fn put(&mut self) -> Result<u64> {
        let mut pile = self.pile.edit();
        pile.0 += 1;
        pile.1 = vec![pile.0 as u8; PIECE_BYTES];
        pile.commit().await?;
        Ok(self.pile.0)
    }

    async fn height(&self) -> Result<u64> {
        Ok(self.pile.0)
    }
}

const KEYS: u64 = 5;

/// How often each pile was put on for certain, and how often at most.
#[derive(Clone, Default)]
struct Puts(BTreeMap<u64, (u64, u64)>);

impl Puts {
    /// Puts something on each pile, `times` over; an error may mean that it was done.
    async fn more(&mut self, scene: &Scene, nodes: &[Node], machine: usize, times: u64) {
        let (node, mut puts) = (nodes[machine].clone(), self.clone());
        let putting = async move {
            for key in (0..times).flat_map(|_| 0..KEYS) {
                let put = node.get::<PileRef>(key.to_string()).put().await;
                let (certain, most) = puts.0.entry(key).or_default();
                *certain += u64::from(put.is_ok());
                *most += 1;
            }
            puts
        };
        *self = scene.machines[machine].spawn(putting).await.expect("the machine is up");
    }

    /// All that is certain is there, from wherever one looks, and nothing twice.
    async fn are_there(&self, scene: &Scene, nodes: &[Node], machine: usize) {
        let node = nodes[machine].clone();
        let asking = async move {
            let mut heights = BTreeMap::new();
            for key in 0..KEYS {
                let pile: PileRef = node.get(key.to_string());
                heights.insert(key, pile.height().retry(20).await.expect("it answers"));
            }
            heights
        };
        let heights = scene.machines[machine].spawn(asking).await.expect("the machine is up");
        for (key, (certain, most)) in &self.0 {
            let height = heights[key];
            assert!(
                (*certain..=*most).contains(&height),
                "pile {key}: {certain} to {most} were put, and it has {height}"
            );
        }
    }
}

fn all_vote(nodes: &[Node]) -> bool {
    let states_vote = |node: &Node| node.status().states.is_some_and(|states| states.voters.len() == 3);
    nodes.iter().all(|node| node.status().voters.len() == 3 && states_vote(node))
}

/// What happens to each of three nodes in turn, in a world of its own: the leaders of both groups are among them.
fn for_each_node(test: impl AsyncFn(Puts, Scene, Vec<Node>, usize)) {
    for victim in 0..3 {
        run(20 + victim as u64, async |sim| {
            let scene = Scene::new(&sim, 3);
            let nodes = scene.three().await;
            // Somebody has to need the store.
            let mut first = Puts::default();
            while first.0.values().all(|(certain, _)| *certain == 0) {
                first.more(&scene, &nodes, 0, 1).await;
            }
            scene.wait("all to vote", || all_vote(&nodes)).await;
            test(first, scene, nodes, victim).await;
        });
    }
}

/// The victim is started anew, and counts again.
async fn comes_back(scene: &Scene, nodes: &mut [Node], victim: usize) {
    scene.machines[victim].crash();
    scene
        .wait("the others to go on alone", || {
            nodes.iter().enumerate().all(|(n, node)| n == victim || node.status().members.len() == 2)
        })
        .await;
    let plan = Plan::new(["a", "b", "c"][victim], victim);
    nodes[victim] = scene.start(vec![plan]).await.remove(0).expect("it starts");
    scene.wait("all to vote again", || all_vote(nodes)).await;
}

/// While a disk has a fault, and after it was mended.
async fn nothing_is_lost(mut puts: Puts, scene: Scene, mut nodes: Vec<Node>, victim: usize, fault: DiskFault) {
    let (next, last) = ((victim + 1) % 3, (victim + 2) % 3);
    puts.more(&scene, &nodes, victim, 3).await;
    scene.machines[victim].disk_fault(Some(fault));
    // The first may be lost with the leader that they need.
    puts.more(&scene, &nodes, next, 20).await;
    let before = puts.clone();
    puts.more(&scene, &nodes, last, 3).await;
    let is_certain = |key: &u64| puts.0[key].0 == before.0[key].0 + 3;
    assert!((0..KEYS).all(|key| is_certain(&key)), "the other two are enough");
    let logged = |n: usize| nodes[n].status().states.map_or(0, |states| states.logged);
    match fault {
        DiskFault::Full | DiskFault::Fails => assert!(logged(victim) < logged(next), "its part has ended"),
        DiskFault::Lies => scene.wait("it to have all", || logged(victim) >= logged(next)).await,
    }

    scene.machines[victim].disk_fault(None);
    comes_back(&scene, &mut nodes, victim).await;
    puts.are_there(&scene, &nodes, victim).await;
    puts.more(&scene, &nodes, victim, 1).await;
    let logged = |n: usize| nodes[n].status().states.map_or(0, |states| states.logged);
    scene.wait("all to take part again", || (0..3).all(|n| logged(n) >= (0..3).map(logged).max().unwrap_or(0))).await;
    // It has them by itself: with one of the others it is a majority.
    comes_back(&scene, &mut nodes, next).await;
    puts.are_there(&scene, &nodes, victim).await;
    puts.more(&scene, &nodes, victim, 3).await;
    puts.are_there(&scene, &nodes, last).await;
}

#[test]
#[cfg_attr(debug_assertions, ignore = "slow in debug builds, see tests/run")]
fn a_disk_that_is_full_loses_nothing() {
    for_each_node(async |puts, scene, nodes, victim| {
        nothing_is_lost(puts, scene, nodes, victim, DiskFault::Full).await
    });
}

#[test]
#[cfg_attr(debug_assertions, ignore = "slow in debug builds, see tests/run")]
fn a_disk_that_fails_loses_nothing() {
    for_each_node(async |puts, scene, nodes, victim| {
        nothing_is_lost(puts, scene, nodes, victim, DiskFault::Fails).await
    });
}

/// Also in debug builds: there openraft has more to say about it.
#[test]
fn a_disk_that_lied_is_noticed_by_nobody_but_its_node() {
    for_each_node(async |puts, scene, nodes, victim| {
        nothing_is_lost(puts, scene, nodes, victim, DiskFault::Lies).await
    });
}

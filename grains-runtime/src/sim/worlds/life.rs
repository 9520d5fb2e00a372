//! One world while it runs: its phases, and what is wrong in each.

use std::{cell::RefCell, future::poll_fn, mem, pin::pin, sync::Arc, task::Poll, time::Duration};

use super::Worlds;
use crate::{
    Node,
    sim::{
        Cluster, Machine, Sim, Spawned,
        workload::{AnyWorkload, Hours},
    },
    sync::{Mutex, lock},
};

/// How many leases a cluster without faults may take to agree: leases to end, leaders to be elected, members to join.
const SETTLES_WITHIN_LEASES: u32 = 10;
/// A lease, and this moment: until then those whose renewals the faults have stopped may think that all is well.
const AFTER_LEASES: Duration = Duration::from_millis(500);
/// Nodes start one after the other, this far apart.
const STARTS_APART_MAX: Duration = Duration::from_millis(800);

/// A part of a workload that runs on a machine.
type Working = Spawned<Result<(), String>>;

/// A world that runs.
pub(super) struct Life<'w> {
    sim: &'w Sim,
    pub(super) cluster: Cluster,
    /// Each with how many callers it has on each node.
    loads: Vec<(usize, Arc<dyn AnyWorkload>)>,
    hours: Hours,
    /// Callers that went to work, by what they are called.
    working: Arc<Mutex<Vec<(String, Working)>>>,
    ends_within: Duration,
    violations: &'w RefCell<Vec<String>>,
}

impl<'w> Life<'w> {
    pub(super) fn new(worlds: &Worlds, sim: &'w Sim, violations: &'w RefCell<Vec<String>>) -> Self {
        Self {
            sim,
            cluster: (worlds.cluster)(sim),
            loads: worlds.loads.iter().map(|load| (load.callers, (load.make)())).collect(),
            hours: Hours::new(sim),
            working: Arc::default(),
            ends_within: worlds.ends_within,
            violations,
        }
    }

    /// All nodes start.
    pub(super) async fn begins(&self) -> bool {
        for n in 0..self.cluster.len() {
            self.cluster.start(n);
            self.sim.sleep(self.sim.between(Duration::ZERO, STARTS_APART_MAX)).await;
        }
        self.settles("the cluster does not come to be").await
    }

    pub(super) async fn is_set_up(&self) -> bool {
        for (_, load) in &self.loads {
            let Some((machine, node)) = self.on(0, load.name()) else { return false };
            let setting_up = load.clone().set_up(self.hours.caller(node));
            let until = self.sim.now() + self.ends_within;
            if !self.ends_well(until, machine.spawn(setting_up), &format!("{} is not set up", load.name())).await {
                return false;
            }
        }
        true
    }

    /// Callers go to work, on nodes that start later, too.
    pub(super) async fn works(&self) {
        let machines: Vec<_> = self.cluster.machines().cloned().collect();
        let (loads, hours, working) = (self.loads.clone(), self.hours.clone(), self.working.clone());
        let begin = move |n: usize, node: Node| {
            for (callers, load) in &loads {
                for _ in 0..*callers {
                    let name = format!("a caller of {} on n{n}", load.name());
                    let task = machines[n].spawn(load.clone().run(hours.caller(node.clone())));
                    lock(&working).push((name, task));
                }
            }
        };
        let begin = Arc::new(begin);
        self.cluster.on_start(begin.clone());
        for n in 0..self.cluster.len() {
            if let Some(node) = self.cluster.node(n) {
                begin(n, node);
            }
        }
    }

    /// After all faults it is as it should be.
    pub(super) async fn comes_back(&self) -> bool {
        self.sim.sleep(self.cluster.lease() + AFTER_LEASES).await;
        let settled = self.settles("the cluster does not come back to itself").await;
        settled && self.callers_end().await
    }

    async fn callers_end(&self) -> bool {
        self.hours.end();
        let until = self.sim.now() + self.ends_within;
        let mut good = true;
        let working = mem::take(&mut *lock(&self.working));
        for (name, caller) in working {
            good &= self.ends_well(until, caller, &name).await;
        }
        good
    }

    pub(super) async fn is_checked(&self) {
        for (_, load) in &self.loads {
            for n in 0..self.cluster.len() {
                let name = load.name();
                let Some((machine, node)) = self.on(n, name) else { continue };
                let checking = load.clone().check(self.hours.caller(node));
                let until = self.sim.now() + self.ends_within;
                // The other nodes would say the same.
                if !self.ends_well(until, machine.spawn(checking), &format!("{name} on n{n}")).await {
                    break;
                }
            }
        }
    }

    /// Machine `n` and its node, for a workload; in a calm world all have one.
    fn on(&self, n: usize, load: &str) -> Option<(&Machine, Node)> {
        let node = self.cluster.node(n);
        if node.is_none() {
            self.wrong(format!("{load}: n{n} has ended in a calm world"));
        }
        Some((self.cluster.machine(n), node?))
    }

    async fn settles(&self, or: &str) -> bool {
        let time_max = self.cluster.lease() * SETTLES_WITHIN_LEASES;
        let settled = self.cluster.settled(time_max).await;
        if !settled {
            self.wrong(format!("{or} within {time_max:?}:{}", self.cluster.told()));
        }
        settled
    }

    /// Whether a part of a workload ends until then, and without a violation. One whose machine has ended has ended, too.
    async fn ends_well(&self, until: Duration, working: Working, what: &str) -> bool {
        let late = async {
            self.sim.sleep(until.saturating_sub(self.sim.now())).await;
            Ok(Err(format!("it does not end within {:?}", self.ends_within)))
        };
        let ended = first(working, late).await;
        let Ok(Err(violation)) = ended else { return true };
        self.wrong(format!("{what}: {violation}"));
        false
    }

    fn wrong(&self, what: String) {
        self.sim.trace(&format!("violation: {what}"));
        self.violations.borrow_mut().push(what);
    }
}

/// What the first of them gives, or the second one if that ends sooner.
async fn first<T>(one: impl Future<Output = T>, other: impl Future<Output = T>) -> T {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|cx| match one.as_mut().poll(cx) {
        Poll::Pending => other.as_mut().poll(cx),
        ready => ready,
    })
    .await
}

/// Ends when both have.
pub(super) async fn both(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let (mut one_ended, mut other_ended) = (false, false);
    poll_fn(|cx| {
        one_ended = one_ended || one.as_mut().poll(cx).is_ready();
        other_ended = other_ended || other.as_mut().poll(cx).is_ready();
        if one_ended && other_ended { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

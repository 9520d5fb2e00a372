//! A fault with its victim: how it begins and ends.

use std::{
    collections::BTreeSet,
    thread,
    time::{Duration, Instant, SystemTime},
};

use super::{
    cast::Cast,
    plan::{Fault, Kind, Victim},
    proxy::Weather,
};
use crate::{
    checker::{Silence, Thaw},
    process::PATIENCE,
    record::now,
};

/// A fault with its victim.
pub struct Scene {
    pub fault: Fault,
    pub victim: usize,
    pub leads: bool,
    /// From whom to whom nothing arrives, while it lasts.
    cut: Vec<(usize, usize)>,
    /// Who may not act once its lease is over.
    cut_off: Vec<usize>,
}

/// What is to be known of a fault that is over, by whoever reads on what processes have written.
pub enum Ended {
    Thawed(Thaw),
    Silent(Vec<Silence>),
    DiskFreed { noticed: bool },
    Otherwise,
}

/// The lease of these clusters, in nanoseconds, and what a thread may take from looking at it to writing down that it acts.
const LEASE: u64 = 2_000_000_000;
const ACTS_WITHIN: u64 = 150_000_000;
/// A full disk stays full until its node notices it. Files grow by some 100 KiB at a time, so that may take a while.
const NOTICED_WITHIN: Duration = Duration::from_secs(20);

impl Scene {
    /// Who is to be its victim, if it can be anybody.
    pub fn new(
        fault: Fault,
        candidates: &[usize],
        leader: Option<usize>,
        taken: &BTreeSet<usize>,
        nodes: usize,
    ) -> Option<Self> {
        let candidates: Vec<usize> = candidates.iter().copied().filter(|n| !taken.contains(n)).collect();
        let victim = match fault.victim {
            Victim::Leader if leader.is_some_and(|leader| candidates.contains(&leader)) => leader?,
            Victim::Leader => *candidates.first()?,
            Victim::Other(draw) => {
                let others: Vec<usize> = candidates.iter().copied().filter(|n| Some(*n) != leader).collect();
                let others = if others.is_empty() { candidates } else { others };
                *others.get(draw as usize % others.len().max(1))?
            }
        };
        let rest: Vec<usize> = (0..nodes).filter(|n| *n != victim).collect();
        let one = |draw: u64| rest[draw as usize % rest.len()];
        let (cut, cut_off) = match fault.kind {
            Kind::Isolate => (both_ways(&[victim], &rest), vec![victim]),
            Kind::Mute => (one_way(&[victim], &rest), vec![victim]),
            Kind::Deaf => (one_way(&rest, &[victim]), vec![victim]),
            Kind::Pair(draw) => (both_ways(&[victim], &[one(draw)]), Vec::new()),
            Kind::Halves(draw) => {
                let these = vec![victim, one(draw)];
                let those: Vec<usize> = (0..nodes).filter(|n| !these.contains(n)).collect();
                (both_ways(&these, &those), if these.len() < those.len() { these } else { those })
            }
            Kind::Bridge(draw) => {
                let mut rest = rest.clone();
                rest.rotate_left(draw as usize % nodes.saturating_sub(1));
                let (these, those) = rest.split_at(rest.len() / 2);
                (both_ways(these, those), Vec::new())
            }
            _ => (Vec::new(), Vec::new()),
        };
        // Where some have no vote, those who are cut off may have a majority.
        let cut_off = if matches!(nodes, 3 | 5) { cut_off } else { Vec::new() };
        Some(Self { fault, victim, leads: leader == Some(victim), cut, cut_off })
    }
}

impl Cast {
    /// Gives when it began, for cuts when they were complete, and as what it counts.
    pub fn begins(&mut self, scene: &Scene) -> (u64, &'static str) {
        let (victim, at) = (scene.victim, now());
        let counted = match scene.fault.kind {
            Kind::Kill => {
                self.cluster.kill(victim);
                "kills"
            }
            Kind::Freeze => {
                self.cluster.freeze(victim);
                "freezes"
            }
            Kind::Doze => {
                self.cluster.freeze(victim);
                "short_freezes"
            }
            Kind::Delay | Kind::Throttle | Kind::Reset | Kind::HalfOpen { .. } => {
                self.proxy.as_mut().expect("it can be done").change(victim, |weather| match scene.fault.kind {
                    Kind::Delay => weather.delay_ms = 40,
                    Kind::Throttle => weather.rate = 100_000,
                    Kind::HalfOpen { to_it: true } => weather.holds_to = true,
                    Kind::HalfOpen { to_it: false } => weather.holds_from = true,
                    _ => weather.resets += 1,
                });
                "proxied"
            }
            Kind::FullDisk => {
                self.disk.as_ref().expect("it can be done").fill();
                "full_disks"
            }
            Kind::ClockStep(seconds) => {
                self.clock.as_ref().expect("it can be done").set(seconds);
                self.sees(victim, seconds);
                "clock_steps"
            }
            Kind::Outage => {
                (0..self.cluster.orders.len()).for_each(|n| self.cluster.kill(n));
                "outages"
            }
            _ => {
                self.network.as_mut().expect("it can be done").cut(scene.cut.iter().copied());
                "partitions"
            }
        };
        (if scene.fault.kind.is_cut() { now() } else { at }, counted)
    }

    /// Waits until a node has this other time of day. One that is not ready may have been started with it.
    fn sees(&mut self, victim: usize, seconds: i64) {
        let node = self.cluster.node(victim);
        let begun = Instant::now();
        while node.is_ready() {
            let its = node.ask("time-of-day").as_u64().unwrap() as i64;
            let ours = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
            if (its - ours - seconds).abs() <= 2 {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "its time of day is {its}, and should be {ours} and {seconds}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn ends(&mut self, scene: &Scene, since: u64) -> Ended {
        let victim = scene.victim;
        match scene.fault.kind {
            Kind::Kill => self.cluster.start(victim),
            Kind::Freeze | Kind::Doze => return Ended::Thawed(self.cluster.thaw(victim)),
            Kind::Delay | Kind::Throttle | Kind::HalfOpen { .. } => {
                self.proxy.as_mut().expect("it can be done").change(victim, |weather| {
                    *weather = Weather { resets: weather.resets, ..Weather::default() };
                });
            }
            Kind::FullDisk => {
                let noticed = self.notices(victim);
                self.disk.as_ref().expect("it can be done").free();
                self.cluster.kill(victim);
                self.cluster.start(victim);
                return Ended::DiskFreed { noticed };
            }
            Kind::Outage => (0..self.cluster.orders.len()).for_each(|n| self.cluster.start(n)),
            Kind::Reset | Kind::ClockStep(_) => {}
            _ => {
                let (from, until) = (since + LEASE + ACTS_WITHIN, now());
                let silent = scene.cut_off.iter().filter(|_| from < until);
                let silent = silent.map(|n| Silence { process: self.cluster.node(*n).record(), from, until }).collect();
                self.network.as_mut().expect("it can be done").heal(scene.cut.iter().copied());
                return Ended::Silent(silent);
            }
        }
        Ended::Otherwise
    }

    /// Waits until a node says that its disk is full.
    fn notices(&mut self, victim: usize) -> bool {
        let begun = Instant::now();
        let mut noticed = || self.cluster.node(victim).stderr().contains("No space left");
        while !noticed() && begun.elapsed() < NOTICED_WITHIN {
            thread::sleep(Duration::from_millis(100));
        }
        noticed()
    }
}

fn one_way(from: &[usize], to: &[usize]) -> Vec<(usize, usize)> {
    from.iter().flat_map(|from| to.iter().map(|to| (*from, *to))).collect()
}

fn both_ways(these: &[usize], those: &[usize]) -> Vec<(usize, usize)> {
    [one_way(these, those), one_way(those, these)].concat()
}

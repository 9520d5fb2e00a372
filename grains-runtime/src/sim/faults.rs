//! Recipes of faults: which kinds, how often, by the seed.

use std::{ops::RangeInclusive, time::Duration};

use super::{Cluster, DiskFault, Machine, is_control_connection};

/// Which faults strike a [`Cluster`], and how often one kind beside the others.
///
/// They come one after the other, with a pause between them, by the seed of the simulation. Each kind has a weight: the chance
/// that the next fault is of this kind, compared with the others. A kind of weight 0 never comes.
///
/// ```
/// # use grains_runtime as grains;
/// use std::time::Duration;
///
/// use grains::sim::Faults;
///
/// let all = Faults::all();
/// let without_freezes = Faults::all().freezes(0);
/// // Two of three faults are kills, and there are some three faults a second.
/// let mostly_kills = Faults::none().kills(2).cuts(1).pause(Duration::ZERO..=Duration::from_millis(600));
/// # drop((all, without_freezes, mostly_kills));
/// ```
///
/// What clusters are promised to bear ([`docs/GUARANTEES.md`]) is all there is here. Disks that lie and clocks that jump are
/// not: do these by hand, with [`Machine::disk_fault`] and [`Machine::clock_offset`].
///
/// [`docs/GUARANTEES.md`]: https://github.com/grains-rs/grains/blob/main/docs/GUARANTEES.md
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults {
    weights: [u32; KINDS.len()],
    pause: RangeInclusive<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Kill,
    Outage,
    Leave,
    Freeze,
    Cut,
    Connections,
    Clock,
    Disk,
    SlowDisk,
}

/// The kinds, in the order of their declaration, and their weights when all faults are wanted.
const KINDS: [(Kind, u32); 9] = [
    (Kind::Kill, 2),
    (Kind::Outage, 1),
    (Kind::Leave, 2),
    (Kind::Freeze, 2),
    (Kind::Cut, 6),
    (Kind::Connections, 1),
    (Kind::Clock, 1),
    (Kind::Disk, 1),
    (Kind::SlowDisk, 1),
];

const MILLIS: fn(u64) -> Duration = Duration::from_millis;

impl Faults {
    /// None at all: add those that you want.
    pub fn none() -> Self {
        Self { weights: [0; KINDS.len()], pause: MILLIS(200)..=MILLIS(1800) }
    }

    /// All kinds, about one a second: as in the worlds by which grains itself is tested.
    pub fn all() -> Self {
        Self { weights: KINDS.map(|(_, weight)| weight), ..Self::none() }
    }

    /// The process of one node ends without a word, and starts again within 3 s. Bytes that were not synced are lost or torn.
    #[must_use]
    pub fn kills(self, weight: u32) -> Self {
        self.weighing(Kind::Kill, weight)
    }

    /// The processes of all nodes end at once, and start again one after the other, each within 1 s.
    #[must_use]
    pub fn outages(self, weight: u32) -> Self {
        self.weighing(Kind::Outage, weight)
    }

    /// One node leaves in good order, or two at a time; they come back within 2 s.
    #[must_use]
    pub fn leaves(self, weight: u32) -> Self {
        self.weighing(Kind::Leave, weight)
    }

    /// One node does nothing for up to 4 s, while time passes for it: as a process that the system has stopped.
    #[must_use]
    pub fn freezes(self, weight: u32) -> Self {
        self.weighing(Kind::Freeze, weight)
    }

    /// The network is cut between groups of nodes, between two, or in one direction only; or a cut from before is healed. What was
    /// sent meanwhile arrives then.
    #[must_use]
    pub fn cuts(self, weight: u32) -> Self {
        self.weighing(Kind::Cut, weight)
    }

    /// How often connections break, hold up what they carry (while others overtake them), or carry a message twice where the
    /// protocol must bear it, changes for all of them: from never to often.
    #[must_use]
    pub fn connections(self, weight: u32) -> Self {
        self.weighing(Kind::Connections, weight)
    }

    /// The clock of one node goes right, or up to half a percent faster or slower, and its time of day is set by up to 10 s.
    #[must_use]
    pub fn clocks(self, weight: u32) -> Self {
        self.weighing(Kind::Clock, weight)
    }

    /// The disk of one node is full, or cannot make durable what is written, for up to 4 s; then its process ends and starts again.
    #[must_use]
    pub fn disks(self, weight: u32) -> Self {
        self.weighing(Kind::Disk, weight)
    }

    /// The disk of one node takes up to 300 ms for each fsync, or is as fast as others again.
    #[must_use]
    pub fn slow_disks(self, weight: u32) -> Self {
        self.weighing(Kind::SlowDisk, weight)
    }

    /// How long it is quiet after one fault and before the next. Default 0.2 to 1.8 s.
    #[must_use]
    pub fn pause(mut self, range: RangeInclusive<Duration>) -> Self {
        self.pause = range;
        self
    }

    fn weighing(mut self, kind: Kind, weight: u32) -> Self {
        self.weights[kind as usize] = weight;
        self
    }

    /// Lets them strike for so much true time, and a little longer if the last one lasts. Cuts and slow disks stay:
    /// [`Cluster::calm`] ends them. Processes that end are started again here.
    pub async fn strike(&self, cluster: &Cluster, time: Duration) {
        let sim = cluster.sim();
        // So that it is known which messages may come twice.
        sim.net().control(is_control_connection);
        let ends = sim.now() + time;
        loop {
            let pause = sim.between(*self.pause.start(), *self.pause.end()).max(PAUSE_MIN);
            sim.sleep(pause.min(ends.saturating_sub(sim.now()))).await;
            if sim.now() >= ends {
                return;
            }
            let Some(kind) = self.draw(|end| sim.below(end)) else { continue };
            Strike { cluster, n: sim.below(cluster.len() as u64) as usize }.of(kind).await;
        }
    }

    /// The kind of the next fault.
    fn draw(&self, below: impl FnOnce(u64) -> u64) -> Option<Kind> {
        let total: u64 = self.weights.iter().copied().map(u64::from).sum();
        let mut drawn = if total > 0 { below(total) } else { return None };
        for ((kind, _), weight) in KINDS.into_iter().zip(self.weights) {
            match drawn.checked_sub(weight.into()) {
                Some(rest) => drawn = rest,
                None => return Some(kind),
            }
        }
        None
    }
}

/// Time passes between two faults, whatever is asked for.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// One fault, mostly of machine `n`.
struct Strike<'c> {
    cluster: &'c Cluster,
    n: usize,
}

impl Strike<'_> {
    async fn of(&self, kind: Kind) {
        match kind {
            Kind::Kill => self.kill().await,
            Kind::Outage => self.outage().await,
            Kind::Leave => self.leave().await,
            Kind::Freeze => self.freeze().await,
            Kind::Cut => self.cut(),
            Kind::Connections => self.connections(),
            Kind::Clock => self.clock(),
            Kind::Disk => self.disk().await,
            Kind::SlowDisk => self.slow_disk(),
        }
    }

    fn machine(&self) -> &Machine {
        self.cluster.machine(self.n)
    }

    /// Another machine; the same one if there is no other.
    fn other(&self) -> &Machine {
        let others = self.cluster.len() - 1;
        let further = if others > 0 { 1 + self.below(others as u64) } else { 0 };
        self.cluster.machine((self.n + further) % self.cluster.len())
    }

    fn below(&self, end: u64) -> usize {
        self.cluster.sim().below(end) as usize
    }

    fn say(&self, what: &str) {
        self.cluster.sim().trace(&format!("fault: {what}"));
    }

    async fn lasts(&self, least: Duration, most: Duration) {
        let sim = self.cluster.sim();
        sim.sleep(sim.between(least, most)).await;
    }

    async fn kill(&self) {
        self.say(&format!("n{} is killed", self.n));
        self.cluster.crash(self.n);
        self.lasts(MILLIS(10), MILLIS(3000)).await;
        self.cluster.start(self.n);
    }

    async fn outage(&self) {
        self.say("all are killed");
        (0..self.cluster.len()).for_each(|n| self.cluster.crash(n));
        for n in 0..self.cluster.len() {
            self.lasts(MILLIS(10), MILLIS(1000)).await;
            self.cluster.start(n);
        }
    }

    async fn leave(&self) {
        let also = (self.n + 1) % self.cluster.len();
        let leaving = match self.below(2) {
            // In a cluster of three the last active member owns everything, and may die while they leave.
            0 if also != self.n => vec![self.n, also],
            _ => vec![self.n],
        };
        self.say(&format!("{leaving:?} leave"));
        let mut stopping = Vec::new();
        for n in leaving {
            let Some(node) = self.cluster.node(n) else { continue };
            stopping.push((n, self.cluster.machine(n).spawn(async move { node.stop().await })));
        }
        for (n, ended) in stopping {
            let _ended = ended.await;
            self.cluster.crash(n);
            self.lasts(MILLIS(10), MILLIS(2000)).await;
            self.cluster.start(n);
        }
    }

    async fn freeze(&self) {
        self.say(&format!("n{} is frozen", self.n));
        self.machine().pause();
        self.lasts(MILLIS(50), MILLIS(4000)).await;
        self.machine().resume();
    }

    fn cut(&self) {
        let (sim, net) = (self.cluster.sim(), self.cluster.sim().net());
        match self.below(6) {
            0 => {
                let (these, those): (Vec<_>, Vec<_>) = self.cluster.machines().partition(|_| sim.happens(0.4));
                if these.is_empty() || those.is_empty() {
                    return;
                }
                let names =
                    |group: &[&Machine]| group.iter().map(|m| m.name().to_owned()).collect::<Vec<_>>().join(" ");
                self.say(&format!("cut between [{}] and [{}]", names(&these), names(&those)));
                net.partition(these, those);
            }
            1 => {
                let other = self.other();
                self.say(&format!("nothing gets from n{} to {}", self.n, other.name()));
                net.partition_one_way(self.machine(), other);
            }
            2 => {
                let other = self.other();
                self.say(&format!("cut between n{} and {}", self.n, other.name()));
                net.partition([self.machine()], [other]);
            }
            3 => {
                let other = self.other();
                self.say(&format!("healed from n{} to {}", self.n, other.name()));
                net.heal_one_way(self.machine(), other);
            }
            _ => {
                self.say("all cuts are healed");
                net.heal();
            }
        }
    }

    fn connections(&self) {
        let net = self.cluster.sim().net();
        let resets = [0.0, 0.002, 0.02][self.below(3)];
        let delays = [0.0, 0.01, 0.2][self.below(3)];
        let doubled = [0.0, 0.05, 0.3][self.below(3)];
        self.say(&format!("of chunks, {resets} break their connection, {delays} are late, {doubled} come twice"));
        net.reset_chance(resets);
        net.delay_chance(delays, MILLIS(300));
        net.duplicate_chance(doubled);
    }

    fn clock(&self) {
        // Two clocks differ by at most 1 %: what leases assume.
        let rate = [-4_900, 0, 4_900][self.below(3)];
        // What people and time servers do to the time of day is nobody's business.
        let ahead = self.below(20_000) as i64 - 10_000;
        self.say(&format!("the clock of n{} goes at {rate} ppm, its time of day is {ahead} ms ahead", self.n));
        self.machine().clock_rate_ppm(rate);
        self.machine().wall_offset_ms(ahead);
    }

    async fn disk(&self) {
        let fault = if self.below(2) == 0 { DiskFault::Full } else { DiskFault::Fails };
        self.say(&format!("disk of n{}: {fault:?}", self.n));
        self.machine().disk_fault(Some(fault));
        self.lasts(MILLIS(100), MILLIS(4000)).await;
        self.machine().disk_fault(None);
        // Its part in Raft may be over until it starts again.
        self.kill().await;
    }

    fn slow_disk(&self) {
        let slow = [None, Some(10..=60), Some(50..=300)][self.below(3)].clone();
        self.say(&format!("an fsync of n{} takes {slow:?} ms (none: as everywhere)", self.n));
        let range = slow.map(|millis| MILLIS(*millis.start())..=MILLIS(*millis.end()));
        self.machine().blocking_latency(range);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_declared_in_the_order_of_their_places() {
        assert!(KINDS.iter().enumerate().all(|(place, (kind, _))| *kind as usize == place));
    }

    #[test]
    fn each_kind_can_be_wanted_alone() {
        let none = Faults::none;
        let each = [
            (none().kills(1), Kind::Kill),
            (none().outages(1), Kind::Outage),
            (none().leaves(1), Kind::Leave),
            (none().freezes(1), Kind::Freeze),
            (none().cuts(1), Kind::Cut),
            (none().connections(1), Kind::Connections),
            (none().clocks(1), Kind::Clock),
            (none().disks(1), Kind::Disk),
            (none().slow_disks(1), Kind::SlowDisk),
        ];
        for (faults, kind) in each {
            assert_eq!(faults.draw(|end| end - 1), Some(kind));
        }
    }

    #[test]
    fn a_kind_comes_as_often_as_its_weight_says() {
        let faults = Faults::none().kills(2).disks(3);
        let drawn: Vec<_> = (0..5).map(|number| faults.draw(|end| (number + end) % end)).collect();
        let (kill, disk) = (Some(Kind::Kill), Some(Kind::Disk));
        assert_eq!(drawn, [kill, kill, disk, disk, disk]);
        assert_eq!(Faults::none().draw(|_| unreachable!("there is nothing to draw from")), None);
        assert_eq!(Faults::all().freezes(0).weights.iter().sum::<u32>(), 15);
    }
}

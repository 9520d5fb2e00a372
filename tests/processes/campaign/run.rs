//! Round after round: faults begin and end, what they cost is measured, the cluster comes back to itself, and all that was
//! written down is judged.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    io::Write as _,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};

use super::{
    Settings,
    cast::Cast,
    plan::{Fault, Kind, Plan, Round},
    report::Times,
    scene::{Ended, Scene},
};
use crate::{
    checker::Checker,
    cluster::{Place, RECOVERY, all_answered, members},
    process::{Answer, PATIENCE},
    record::{Records, now},
    traffic::{COUNTED, LEDGERS},
};

/// A campaign under way.
pub struct Campaign {
    cast: Cast,
    begun: Instant,
    /// The same, by the clock of nodes.
    begun_at: u64,
    records: Records,
    checker: Checker,
    times: Times,
    counts: BTreeMap<&'static str, u64>,
    /// What is wrong beside what the checker finds.
    violations: Vec<String>,
    /// The checker has found something.
    broken: bool,
    /// Grains of a chapter have keys of their own: what they did is judged at its end.
    chapter: usize,
    chapter_begun: Instant,
    /// Which process of each node is at work.
    at_work: Vec<Option<String>>,
    /// Kills and freezes that nothing else went wrong beside: when, and what waits for their victims is measured as.
    alone: Vec<(u64, &'static str)>,
    judged: Instant,
    /// The longest that this process waited for a turn on a processor, in milliseconds: since the round began, and before.
    starved: Arc<AtomicU64>,
    starved_before: u64,
}

/// Grains that are called until they answer.
struct Recovery {
    of: &'static str,
    since: u64,
    grains: usize,
    answer: Answer,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Begins,
    Ends,
}

/// Who is away for so long has lost its lease for certain; when it led Raft, after an election.
const GONE_AFTER: Duration = Duration::from_millis(2_500);
const GONE_LEADER_AFTER: Duration = Duration::from_millis(3_400);
/// How many grains of a victim are called.
const MEASURED: usize = 8;
/// How long a chapter lasts: few enough answers to judge in a moment.
const CHAPTER: Duration = Duration::from_secs(120);
/// Who waits longer for a processor says nothing about how fast a cluster is: half an election.
const STARVED_MAX_MS: u64 = 150;
/// How often all is judged.
const JUDGED_EVERY: Duration = Duration::from_secs(10);

impl Campaign {
    /// Runs one, says what it came to in the last line, and panics if a promise was broken.
    pub fn run(settings: &Settings) {
        let mut campaign = Self::new(settings);
        campaign.says(&format!("seed {}, {settings:?}", settings.seed));
        for why in campaign.cast.skipped.clone() {
            campaign.says(&format!("skipped: {why}"));
        }
        let through = catch_unwind(AssertUnwindSafe(|| campaign.goes_on(settings)));
        if through.is_err() {
            campaign.violations.push("the campaign could not go on: see above".to_owned());
        }
        campaign.violations.extend(campaign.checker.broken());
        let report = campaign.report(settings);
        for violation in &campaign.violations {
            campaign.says(&format!("VIOLATION: {violation}"));
        }
        drop(writeln!(std::io::stdout(), "\n{}", Value::Object(report)));
        assert!(campaign.violations.is_empty(), "{} violations", campaign.violations.len());
    }

    fn new(settings: &Settings) -> Self {
        let cast = Cast::new(settings);
        let records = Records::of(&cast.cluster.folder.path().join("records"));
        Self {
            at_work: vec![None; settings.nodes],
            cast,
            begun: Instant::now(),
            begun_at: now(),
            records,
            checker: Checker::default(),
            times: Times::default(),
            counts: BTreeMap::new(),
            violations: Vec::new(),
            broken: false,
            chapter: 0,
            chapter_begun: Instant::now(),
            alone: Vec::new(),
            judged: Instant::now(),
            starved: starved(),
            starved_before: 0,
        }
    }

    fn goes_on(&mut self, settings: &Settings) {
        (0..settings.nodes).for_each(|n| self.cast.cluster.start(n));
        assert!(self.settles("it never came to be"), "without a cluster there is no campaign");
        let mut plan = Plan::new(settings.seed);
        let mut settled = true;
        // Also on a machine that is too busy to get far in the time.
        while (self.begun.elapsed() < settings.lasts || plan.has_only_begun())
            && self.violations.is_empty()
            && !self.broken
        {
            let mut round = plan.next();
            round.faults.truncate(if settings.nodes < 5 { 1 } else { 2 });
            let has = |fault: &Fault| settings.faults.iter().any(|sort| sort == fault.kind.word());
            round.faults.retain(|fault| has(fault) && self.cast.can(fault.kind));
            if round.faults.is_empty() {
                continue;
            }
            self.round(&round, settled);
            settled = round.settles;
            self.judge();
            if settled && self.chapter_begun.elapsed() > CHAPTER {
                self.next_chapter();
            }
        }
        if settled || self.settles("it did not come back to itself") {
            self.next_chapter();
        }
    }

    fn round(&mut self, round: &Round, settled: bool) {
        *self.counts.entry("rounds").or_default() += 1;
        self.starved_before = self.starved_before.max(self.starved.swap(0, Ordering::Relaxed));
        let leader = self.raft_leader();
        let mut scenes: Vec<Scene> = Vec::new();
        for fault in &round.faults {
            let taken: BTreeSet<usize> = scenes.iter().map(|scene| scene.victim).collect();
            scenes.extend(Scene::new(*fault, &self.cast.candidates(fault.kind), leader, &taken, self.at_work.len()));
        }
        let told: Vec<String> = scenes.iter().map(|scene| self.told(scene)).collect();
        self.says(&format!("{}{}", told.join("; "), if round.settles { "" } else { "; and on" }));
        let victims: BTreeSet<usize> = scenes.iter().map(|scene| scene.victim).collect();
        // Who is neither: it sees the others die and come back.
        let witness = (0..self.at_work.len()).find(|n| !victims.contains(n)).expect("more nodes than victims");
        let places = if settled { self.places(witness) } else { BTreeMap::new() };
        let alone = scenes.len() == 1 && settled && round.settles;

        let begun = Instant::now();
        let mut steps: Vec<(Duration, Step, usize)> = Vec::new();
        for (n, Scene { fault, .. }) in scenes.iter().enumerate() {
            steps.extend([(fault.after, Step::Begins, n), (fault.after + fault.lasts, Step::Ends, n)]);
        }
        steps.sort_unstable();
        let mut since = vec![0; scenes.len()];
        let mut recoveries = Vec::new();
        for (at, step, n) in steps {
            thread::sleep(at.saturating_sub(begun.elapsed()));
            let scene = &scenes[n];
            match step {
                Step::Begins => {
                    let counted;
                    (since[n], counted) = self.cast.begins(scene);
                    *self.counts.entry(counted).or_default() += 1;
                    recoveries.extend(self.measured(scene, since[n], witness, &places));
                    if let (true, Some(of)) = (alone, in_flight(scene.fault.kind)) {
                        self.alone.push((since[n], of));
                    }
                }
                Step::Ends => self.ends(scene, since[n]),
            }
        }
        let over = now();
        recoveries.into_iter().for_each(|recovery| self.recovered(recovery));
        if round.settles && self.settles("it did not come back to itself") {
            if scenes.iter().all(|scene| scene.fault.kind.is_cut()) {
                self.times.add("heal_ms", now() - over);
            }
            self.everything_answers(witness);
        }
    }

    fn ends(&mut self, scene: &Scene, since: u64) {
        match self.cast.ends(scene, since) {
            Ended::Thawed(thaw) => self.checker.thawed(thaw),
            Ended::Silent(silences) => silences.into_iter().for_each(|silence| self.checker.is_silent(silence)),
            Ended::DiskFreed { noticed } => {
                *self.counts.entry("full_disks_noticed").or_default() += u64::from(noticed);
            }
            Ended::Otherwise => {}
        }
    }

    /// Calls grains of the victim from now on, if they have to come back elsewhere.
    fn measured(
        &mut self,
        scene: &Scene,
        since: u64,
        witness: usize,
        places: &BTreeMap<String, Place>,
    ) -> Option<Recovery> {
        // One who is away for short keeps its lease, and with a new leader it gets another one.
        let long = scene.fault.lasts > if scene.leads { GONE_LEADER_AFTER } else { GONE_AFTER };
        let of = match (scene.fault.kind, scene.leads) {
            (Kind::Kill, false) => "kill_recovery_ms",
            (Kind::Kill, true) => "kill_recovery_leader_ms",
            (Kind::Freeze, false) if long => "freeze_recovery_ms",
            (Kind::Freeze, true) if long => "freeze_recovery_leader_ms",
            (Kind::Isolate | Kind::Mute | Kind::Deaf, _) if long => "cut_recovery_ms",
            _ => return None,
        };
        let name = &self.cast.cluster.orders[scene.victim].name;
        let its = places.iter().filter(|(_, place)| place.node == *name).take(MEASURED);
        let grains: Vec<String> = its.map(|(key, place)| format!("{key}={}", place.activation)).collect();
        if grains.is_empty() {
            return None;
        }
        let limit = RECOVERY.as_millis();
        let answer = self.cast.cluster.node(witness).begin(&format!("recover {limit} {}", grains.join(" ")));
        Some(Recovery { of, since, grains: grains.len(), answer })
    }

    fn recovered(&mut self, recovery: Recovery) {
        let Recovery { of, since, grains, answer } = recovery;
        let answers = answer.get();
        let answers = answers.as_object().unwrap();
        assert_eq!(answers.len(), grains);
        for (key, at) in answers {
            match at.as_u64() {
                Some(at) => self.times.add(of, at.saturating_sub(since)),
                None => self.too_slow(format!("{key} is silent for {RECOVERY:?}: {of}")),
            }
        }
    }

    /// Waits until all nodes agree that all of them are there, and puts those to work that came back.
    fn settles(&mut self, otherwise: &str) -> bool {
        let begun = Instant::now();
        let names: BTreeSet<String> = self.cast.cluster.orders.iter().map(|orders| orders.name.clone()).collect();
        let voters = self.cast.cluster.orders[0].voters;
        loop {
            self.work();
            let mut statuses = Vec::new();
            for node in self.cast.cluster.running().filter(|node| node.is_ready()) {
                statuses.push(node.ask("status"));
            }
            let agrees = |status: &Value| {
                status["ready"] == true
                    && status["view"] == statuses[0]["view"]
                    && status["raft_leader"].is_string()
                    && status["raft_leader"] == statuses[0]["raft_leader"]
                    && status["voters"].as_array().is_some_and(|all| all.len() == voters)
                    // Until then some of the nodes alone have all states.
                    && status["states"]["voters"].as_array().is_some_and(|all| all.len() == voters)
                    && members(status).into_keys().eq(names.iter().cloned())
            };
            if statuses.len() == names.len() && statuses.iter().all(agrees) {
                return true;
            }
            if begun.elapsed() > PATIENCE {
                let told: Vec<String> = statuses.iter().map(ToString::to_string).collect();
                self.violations.push(format!("{otherwise} within {PATIENCE:?}:\n{}", told.join("\n")));
                return false;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Has every process that has become ready do its work.
    fn work(&mut self) {
        let begin = format!("everything c{}", self.chapter);
        for (n, at_work) in self.at_work.iter_mut().enumerate() {
            let Some(node) = &mut self.cast.cluster.nodes[n] else { continue };
            if node.is_ready() && at_work.as_ref() != Some(&node.record()) {
                let its_clock = self.begun_at..now();
                assert!(its_clock.contains(&node.clock_when_ready()), "its clock of leases is another one");
                drop(node.begin(&begin));
                *at_work = Some(node.record());
            }
        }
    }

    /// Ends the calls to the grains of this chapter, and judges all that was said.
    fn next_chapter(&mut self) {
        let ended: Vec<Answer> = self.cast.cluster.running().map(|node| node.begin("settle")).collect();
        ended.into_iter().for_each(|answer| drop(answer.get()));
        let asks = format!("ledgers c{}l {LEDGERS}", self.chapter);
        let asked: Vec<Answer> = self.cast.cluster.running().map(|node| node.begin(&asks)).collect();
        let told: Vec<Value> = asked.into_iter().map(Answer::get).collect();
        for key in 0..LEDGERS {
            let key = format!("c{}l{key}", self.chapter);
            if told.iter().all(|ledgers| ledgers[&key].is_null()) {
                self.too_slow(format!("ledger/{key} answers nobody in a calm cluster"));
            }
        }
        self.absorb();
        let living: BTreeSet<String> = self.cast.cluster.running().map(|node| node.record()).collect();
        self.checker.hanging(now(), |process| living.contains(process));
        self.checker.chapter_ends();
        self.in_flight();
        self.chapter += 1;
        self.chapter_begun = Instant::now();
        self.at_work.fill(None);
        self.work();
        self.judged = Instant::now();
        self.broken = !self.checker.broken().is_empty();
    }

    /// Calls that waited for one that was killed or frozen: none may wait for longer than its grain takes to come back.
    fn in_flight(&mut self) {
        for (begun, ended, process) in std::mem::take(&mut self.checker.unknown) {
            let waited_for = self.alone.iter().rfind(|(at, _)| (begun..ended).contains(at));
            let Some((at, of)) = waited_for else { continue };
            self.times.add(of, ended - at);
            if Duration::from_nanos(ended - at) > RECOVERY {
                self.too_slow(format!("a call of {process} waited {RECOVERY:?} for a node that was gone: {of}"));
            }
        }
    }

    /// Something took longer than is promised. On a machine that has no time for it, nothing is: leases of 2 s and heartbeats of
    /// 75 ms need a processor when they are due.
    fn too_slow(&mut self, what: String) {
        let starved = self.starved.load(Ordering::Relaxed);
        if starved > STARVED_MAX_MS {
            *self.counts.entry("starved").or_default() += 1;
            self.says(&format!("not judged, as a processor was free only after {starved} ms: {what}"));
        } else {
            self.violations.push(what);
        }
    }

    fn absorb(&mut self) {
        for (process, fact) in self.records.more() {
            self.checker.take(&process, fact);
        }
    }

    fn judge(&mut self) {
        self.absorb();
        if self.judged.elapsed() > JUDGED_EVERY {
            self.judged = Instant::now();
            self.broken = !self.checker.broken().is_empty();
        }
    }

    /// Where grains live. On a busy machine a node may lose its lease without a fault: some may not answer.
    fn places(&mut self, witness: usize) -> BTreeMap<String, Place> {
        let who = format!("who c{}k {COUNTED}", self.chapter);
        let mut answers = self.cast.cluster.node(witness).ask(&who);
        answers.as_array_mut().expect("an array").retain(|answer| answer["activation"].is_string());
        all_answered(&answers).into_iter().collect()
    }

    fn everything_answers(&mut self, witness: usize) {
        let sweep = format!("sweep c{}k {COUNTED} {}", self.chapter, RECOVERY.as_millis());
        let silent = self.cast.cluster.node(witness).ask(&sweep);
        if silent != json!([]) {
            self.too_slow(format!("in a calm cluster there is no answer: {silent}"));
        }
    }

    fn raft_leader(&mut self) -> Option<usize> {
        let ready = self.cast.cluster.running().filter(|node| node.is_ready());
        let told: Vec<Value> = ready.map(|node| node.ask("status")["raft_leader"].take()).collect();
        let leader = told.iter().find_map(Value::as_str)?;
        Some(self.cast.cluster.place_of(leader))
    }

    fn told(&self, scene: &Scene) -> String {
        let Scene { fault, victim, leads, .. } = scene;
        let name = &self.cast.cluster.orders[*victim].name;
        let leads = if *leads { ", the leader" } else { "" };
        format!("{:?} of {name}{leads}, for {:?}", fault.kind, fault.lasts)
    }

    fn says(&self, what: &str) {
        drop(writeln!(std::io::stderr(), "{:7.1} s: {what}", self.begun.elapsed().as_secs_f64()));
    }

    fn report(&mut self, settings: &Settings) -> Map<String, Value> {
        let counted = [
            "kills",
            "freezes",
            "short_freezes",
            "partitions",
            "proxied",
            "full_disks",
            "full_disks_noticed",
            "clock_steps",
            "outages",
            "rounds",
            "starved",
        ];
        let mut report = Map::new();
        for name in counted {
            report.insert(name.to_owned(), self.counts.get(name).copied().unwrap_or_default().into());
        }
        let tally = self.checker.tally;
        let told = json!({
            "seed": settings.seed, "nodes": settings.nodes, "tls": settings.tls, "lacks": settings.lacks,
            "seconds": self.begun.elapsed().as_secs(), "skipped": self.cast.skipped,
            "calls": tally.calls, "answered": tally.answered, "not_executed": tally.not_executed,
            "unknown": tally.unknown, "turns": tally.turns, "violations": self.violations.len(), "starved_ms": self.starved.load(Ordering::Relaxed).max(self.starved_before),
        });
        report.extend(told.as_object().expect("an object").clone());
        self.times.report(&mut report);
        report
    }
}

impl Drop for Campaign {
    fn drop(&mut self) {
        if !self.violations.is_empty() && env::var_os("GRAINS_TEST_KEEP").is_some() {
            self.says(&format!("what was written is in {}", self.cast.cluster.folder.path().display()));
        }
    }
}

/// Measures for how long a thread may have to wait to go on, in milliseconds, for as long as somebody looks at it.
fn starved() -> Arc<AtomicU64> {
    let starved = Arc::new(AtomicU64::new(0));
    let watched = Arc::downgrade(&starved);
    let beat = Duration::from_millis(10);
    thread::spawn(move || {
        while let Some(starved) = watched.upgrade() {
            let begun = Instant::now();
            thread::sleep(beat);
            let late = begun.elapsed().saturating_sub(beat).as_millis() as u64;
            starved.fetch_max(late, Ordering::Relaxed);
        }
    });
    starved
}

/// As what those are measured who wait for a victim.
fn in_flight(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::Kill => Some("in_flight_kill_ms"),
        Kind::Freeze => Some("in_flight_freeze_ms"),
        _ => None,
    }
}

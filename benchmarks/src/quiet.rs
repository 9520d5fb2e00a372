//! Whether the machine was quiet: what others computed meanwhile, and what was taken from all of it.
//!
//! Others are all processes that are not this one, its children or those that wait for it. What they computed is the sum of
//! their times and those of their children that have ended: what the kernel samples for the whole machine misses much.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, process, thread,
    time::{Duration, Instant},
};

use serde_json::json;

/// More than this share of a core, and the figures are not to be trusted.
pub(crate) const BUSY_MIN: f64 = 0.1;

/// How long it looks before and after.
const LOOK: Duration = Duration::from_millis(1500);

/// Ticks of the kernel's clock for processes in a second: 100 on every Linux of ours.
const TICKS: f64 = 100.0;

/// What was seen in one span of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Quiet {
    /// `before`, `during` or `after`.
    pub(crate) when: &'static str,
    /// Cores that others used, and that a hypervisor took.
    pub(crate) cores: f64,
    /// How long a fixed computation took, against the fastest time in this look: above 1.1 something shares the core.
    /// Not looked at during the measurements.
    pub(crate) slowdown: Option<f64>,
}

impl Quiet {
    pub(crate) fn is_quiet(&self) -> bool {
        self.cores < BUSY_MIN && self.slowdown.is_none_or(|slowdown| slowdown < 1.1)
    }

    pub(crate) fn json(&self) -> String {
        let (when, cores, slowdown) = (self.when, round(self.cores), self.slowdown.map(round));
        let quiet = self.is_quiet();
        let line = json!({"case": "quiet", "subject": when, "value": cores, "unit": "cores", "slowdown": slowdown, "quiet": quiet});
        line.to_string()
    }
}

fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Looks before, and from then on until its end.
pub(crate) struct Watch {
    before: Quiet,
    begun: Sample,
}

impl Watch {
    pub(crate) fn begin() -> Self {
        Self { before: look("before"), begun: Sample::now() }
    }

    pub(crate) fn end(self) -> [Quiet; 3] {
        let during = Quiet { when: "during", cores: self.begun.cores_since(), slowdown: None };
        [self.before, during, look("after")]
    }
}

fn look(when: &'static str) -> Quiet {
    let begun = Sample::now();
    thread::sleep(LOOK);
    Quiet { when, cores: begun.cores_since(), slowdown: Some(slowdown()) }
}

/// The median time of 50 equal computations over the least.
fn slowdown() -> f64 {
    let mut times: Vec<_> = (0..50).map(|_| spin()).collect();
    times.sort();
    times[25].as_secs_f64() / times[0].as_secs_f64()
}

/// About a millisecond.
fn spin() -> Duration {
    let begun = Instant::now();
    let mut x = 1_u64;
    for n in 0..500_000 {
        x = std::hint::black_box(x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(n));
    }
    begun.elapsed()
}

/// What all others had computed at one time, in ticks.
struct Sample {
    at: Instant,
    others: u64,
    stolen: u64,
}

impl Sample {
    fn now() -> Self {
        let processes = processes();
        let ours = ours(&processes, process::id());
        let others = processes.iter().filter(|(id, _)| !ours.contains(id)).map(|(_, process)| process.ticks).sum();
        Self { at: Instant::now(), others, stolen: stolen() }
    }

    fn cores_since(&self) -> f64 {
        let now = Self::now();
        // A process that ends, with nobody to take over its times, makes the sum smaller.
        let ticks = now.others.saturating_sub(self.others) + now.stolen.saturating_sub(self.stolen);
        ticks as f64 / TICKS / (now.at - self.at).as_secs_f64()
    }
}

struct Process {
    parent: u32,
    ticks: u64,
}

fn processes() -> BTreeMap<u32, Process> {
    let Ok(folder) = fs::read_dir("/proc") else { return BTreeMap::new() };
    let ids = folder.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let read = |id: u32| Some((id, parse(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)?));
    ids.filter_map(read).collect()
}

/// A line of `/proc/PID/stat`: after the name, which may contain anything, the state, the parent, and from the 12th on four
/// times: its own in user and kernel mode, and those of children that ended.
fn parse(stat: &str) -> Option<Process> {
    let (_, rest) = stat.rsplit_once(')')?;
    let fields: Vec<_> = rest.split_whitespace().collect();
    let ticks = fields.get(11..15)?.iter().map(|ticks| ticks.parse::<u64>().unwrap_or(0)).sum();
    Some(Process { parent: fields.get(1)?.parse().ok()?, ticks })
}

/// `me`, those that wait for it, and those that it has started.
fn ours(processes: &BTreeMap<u32, Process>, me: u32) -> BTreeSet<u32> {
    let parent = |id: &u32| processes.get(id).map(|process| process.parent).filter(|id| *id > 1);
    let mut ours: BTreeSet<u32> = std::iter::successors(Some(me), parent).collect();
    let mut below = BTreeSet::from([me]);
    loop {
        let children = processes.iter().filter(|(_, process)| below.contains(&process.parent)).map(|(id, _)| *id);
        let more: Vec<u32> = children.filter(|id| !below.contains(id)).collect();
        if more.is_empty() {
            break;
        }
        below.extend(more);
    }
    ours.extend(below);
    ours
}

/// What a hypervisor has taken from all cores, in ticks.
fn stolen() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    stat.lines().next().and_then(|line| line.split_whitespace().nth(8)?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_it_is_called() {
        let process = parse("7 (a) b) S 3 7 7 0 -1 0 1 2 3 4 10 20 30 40 20 0 1").unwrap();
        assert_eq!((process.parent, process.ticks), (3, 100));
        assert!(parse("").is_none());
    }

    #[test]
    fn parents_and_children_are_no_others() {
        let process = |parent| Process { parent, ticks: 1 };
        let processes = [(1, 0), (2, 1), (3, 2), (4, 3), (5, 4), (6, 2)].map(|(id, parent)| (id, process(parent)));
        assert_eq!(ours(&BTreeMap::from(processes), 3), BTreeSet::from([2, 3, 4, 5]));
    }

    #[test]
    fn a_busy_machine_is_not_quiet() {
        let quiet = Quiet { when: "before", cores: 0.01, slowdown: Some(1.02) };
        assert!(quiet.is_quiet());
        assert!(!Quiet { cores: 0.5, ..quiet }.is_quiet());
        assert!(!Quiet { slowdown: Some(1.5), ..quiet }.is_quiet());
        let line: serde_json::Value = serde_json::from_str(&quiet.json()).unwrap();
        assert_eq!((&line["case"], &line["quiet"]), (&json!("quiet"), &json!(true)));
    }
}

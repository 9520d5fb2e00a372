//! Finds cycles among calls that wait, as their nodes report them. Pure.
//!
//! A call waits in the mailbox of a grain; the turns of its chain keep their grains until it has ended. So for each grain of its
//! chain there is an edge to the grain it waits for, and a cycle of such edges never ends by itself.
//!
//! Invariant: whoever is in a cycle was waiting at one and the same moment. Each call in a report has waited for
//! [`WAITED_MIN`] when that was sent, and a report counts only if it was sent no longer ago than that: so all of them
//! waited at the moment `WAITED_MIN` before now. A cycle of calls that wait at one moment does not open again: none of its
//! turns can end before the next one has.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use grains_core::{ActivationId, Instant};
use serde::{Deserialize, Serialize};

/// How long a call has waited before it is reported: longer than a round of reports takes, far longer than most wait.
pub(crate) const WAITED_MIN: Duration = Duration::from_millis(300);

/// How long a report is kept that was not followed by another one: its node has died, or has nothing to report.
const KEPT: Duration = Duration::from_secs(5);

/// How many cycles are broken at once: each costs a walk over all that waits. What is left is found in the next round.
const BREAKS_MAX: usize = 16;

/// A call that has waited for a while, made by a turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WaitingCall {
    /// Its number on the node where it waits.
    pub(crate) id: u64,
    /// How long it has waited, in milliseconds.
    pub(crate) waited_ms: u64,
    /// The grain in whose mailbox it waits.
    pub(crate) grain: String,
    /// Which of its workers, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) worker: Option<ActivationId>,
    pub(crate) method: String,
    /// The turns it was made for, the latest first.
    pub(crate) chain: Vec<WaitingTurn>,
}

/// A turn that waits for a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WaitingTurn {
    pub(crate) grain: String,
    /// Which of its workers, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) worker: Option<ActivationId>,
    pub(crate) method: String,
}

/// What one node says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Its number; they grow.
    pub(crate) number: u64,
    /// The number of the last report that was answered; 0 for none.
    pub(crate) answered: u64,
    pub(crate) calls: Vec<WaitingCall>,
}

/// A call that must not go on waiting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Break {
    pub(crate) id: u64,
    /// The cycle, as [`CallError::Deadlock`](grains_core::CallError::Deadlock) tells it.
    pub(crate) cycle: Vec<String>,
}

#[derive(Default)]
pub(crate) struct Detector {
    nodes: BTreeMap<u64, Heard>,
}

/// The last report of one node.
struct Heard {
    number: u64,
    at: Instant,
    /// It was sent after this moment. Not known of the first one.
    sent_after: Option<Instant>,
    calls: Vec<WaitingCall>,
    /// What it has to break and may not know yet.
    breaks: Vec<Break>,
}

impl Detector {
    /// Takes in what another node says, and answers what it has to break.
    pub(crate) fn report(&mut self, now: Instant, from: u64, report: Report) -> Vec<Break> {
        let before = self.nodes.get(&from);
        if before.is_some_and(|before| before.number >= report.number) {
            return Vec::new(); // it was overtaken
        }
        // It was sent after that one was answered, which was when it came.
        let followed = before.filter(|before| before.number == report.answered);
        let sent_after = followed.map(|before| before.at);
        self.hear(now, from, report.number, sent_after, report.calls)
    }

    /// The same for the node that this is on: it says what waited when it `looked`. That is not now: a thread can be kept from
    /// going on at any place, and others report meanwhile.
    pub(crate) fn report_here(
        &mut self,
        now: Instant,
        looked: Instant,
        from: u64,
        calls: Vec<WaitingCall>,
    ) -> Vec<Break> {
        self.hear(now, from, 0, Some(looked), calls)
    }

    fn hear(
        &mut self,
        now: Instant,
        from: u64,
        number: u64,
        sent_after: Option<Instant>,
        calls: Vec<WaitingCall>,
    ) -> Vec<Break> {
        self.nodes.retain(|_, heard| now.since(heard.at) < KEPT);
        let mut breaks = self.nodes.remove(&from).map(|before| before.breaks).unwrap_or_default();
        breaks.retain(|old| calls.iter().any(|call| call.id == old.id));
        self.nodes.insert(from, Heard { number, at: now, sent_after, calls, breaks });
        self.look(now);
        self.nodes.get(&from).map(|heard| heard.breaks.clone()).unwrap_or_default()
    }

    /// Finds cycles, and enters which calls are broken for them.
    fn look(&mut self, now: Instant) {
        let mut found = Vec::new();
        let mut edges = self.edges(now);
        while found.len() < BREAKS_MAX
            && let Some(cycle) = cycle_of(&edges)
        {
            let youngest = youngest(&cycle);
            found.push(broken(&cycle, youngest));
            let Edge { node, call, .. } = cycle[youngest];
            for turn in &call.chain {
                if let Some(from) = edges.get_mut(&turn.place())
                    && from.get(&call.place()).is_some_and(|edge| (edge.node, edge.call.id) == (node, call.id))
                {
                    from.remove(&call.place());
                }
            }
        }
        for (node, broken) in found {
            if let Some(heard) = self.nodes.get_mut(&node) {
                heard.breaks.push(broken);
            }
        }
    }

    /// Who waits for whom, by the reports that count. Of several calls of one grain for another one is enough.
    fn edges(&self, now: Instant) -> Edges<'_> {
        let counts = |heard: &&Heard| heard.sent_after.is_some_and(|sent| now.since(sent) <= WAITED_MIN);
        let mut edges = Edges::new();
        for (node, heard) in self.nodes.iter().filter(|(_, heard)| counts(heard)) {
            let going = |call: &&WaitingCall| !heard.breaks.iter().any(|broken| broken.id == call.id);
            for call in heard.calls.iter().filter(going) {
                for (place, turn) in call.chain.iter().enumerate() {
                    let from = edges.entry(turn.place()).or_default();
                    from.entry(call.place()).or_insert(Edge { node: *node, call, place });
                }
            }
        }
        edges
    }
}

/// A turn of one grain waits for another grain, because of this call: the turn is at this place of its chain.
#[derive(Clone, Copy)]
struct Edge<'r> {
    node: u64,
    call: &'r WaitingCall,
    place: usize,
}

/// Where calls wait and turns run one after the other: a grain, or one of its workers. A call that waits for a worker waits for
/// no other one.
type Place<'r> = (&'r str, Option<ActivationId>);

type Edges<'r> = BTreeMap<Place<'r>, BTreeMap<Place<'r>, Edge<'r>>>;

impl WaitingCall {
    fn place(&self) -> Place<'_> {
        (&self.grain, self.worker)
    }
}

impl WaitingTurn {
    fn place(&self) -> Place<'_> {
        (&self.grain, self.worker)
    }
}

/// The edges of one cycle in order, if there is one. Depth first, without recursion: chains are long.
fn cycle_of<'r>(edges: &Edges<'r>) -> Option<Vec<Edge<'r>>> {
    let mut done: BTreeSet<Place<'_>> = BTreeSet::new();
    for start in edges.keys() {
        if done.contains(start) {
            continue;
        }
        let mut path = vec![(*start, edges[start].iter())];
        let mut places = BTreeMap::from([(*start, 0)]);
        let mut walked: Vec<Edge<'r>> = Vec::new();
        while let Some((grain, next)) = path.last_mut() {
            let Some((to, edge)) = next.next() else {
                done.insert(*grain);
                places.remove(grain);
                path.pop();
                walked.pop();
                continue;
            };
            if let Some(begun) = places.get(to) {
                walked.push(*edge);
                return Some(walked.split_off(*begun));
            }
            if !done.contains(to)
                && let Some((to, further)) = edges.get_key_value(to)
            {
                walked.push(*edge);
                places.insert(*to, path.len());
                path.push((*to, further.iter()));
            }
        }
    }
    None
}

/// The place of the call to break: the one that has waited least, which has closed the cycle. Every node that looks chooses the
/// same.
fn youngest(cycle: &[Edge<'_>]) -> usize {
    let youngest = (0..cycle.len()).min_by_key(|at| (cycle[*at].call.waited_ms, cycle[*at].node, cycle[*at].call.id));
    youngest.expect("a cycle has an edge")
}

/// The call at this place, broken; and on which node.
fn broken(cycle: &[Edge<'_>], last: usize) -> (u64, Break) {
    let mut names = Vec::new();
    for at in 1..=cycle.len() {
        let Edge { call, place, .. } = cycle[(last + at) % cycle.len()];
        names.extend(call.chain[..=place].iter().rev().map(|turn| format!("{}.{}", turn.grain, turn.method)));
    }
    let Edge { node, call, .. } = cycle[last];
    names.push(format!("{}.{}", call.grain, call.method));
    (node, Break { id: call.id, cycle: names })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    /// `a.m > b.m > c.n`: turns of `a` and `b` for which a call waits at `c`.
    fn call(id: u64, waited_ms: u64, chain: &str) -> WaitingCall {
        let mut names: Vec<(String, String)> = chain
            .split(" > ")
            .map(|name| name.split_once('.').unwrap())
            .map(|(grain, method)| (grain.to_owned(), method.to_owned()))
            .collect();
        let (grain, method) = names.pop().unwrap();
        let chain =
            names.into_iter().rev().map(|(grain, method)| WaitingTurn { grain, worker: None, method }).collect();
        WaitingCall { id, waited_ms, grain, worker: None, method, chain }
    }

    struct Nodes(Detector, BTreeMap<u64, u64>);

    impl Nodes {
        fn new() -> Self {
            Self(Detector::default(), BTreeMap::new())
        }
        /// A report that follows on the one before.
        fn say(&mut self, ms: u64, node: u64, calls: &[WaitingCall]) -> Vec<Break> {
            let answered = self.1.get(&node).copied().unwrap_or(0);
            self.1.insert(node, answered + 1);
            self.0.report(at(ms), node, Report { number: answered + 1, answered, calls: calls.to_vec() })
        }
    }

    #[test]
    fn two_chains_that_wait_for_each_other_are_a_cycle() {
        let mut nodes = Nodes::new();
        let (one, two) = (call(1, 400, "a.take > b.take"), call(9, 350, "b.take > a.take"));
        assert_eq!(nodes.say(0, 1, std::slice::from_ref(&one)), []);
        assert_eq!(nodes.say(10, 2, std::slice::from_ref(&two)), [], "nobody knows when the first ones were sent");
        assert_eq!(nodes.say(100, 1, std::slice::from_ref(&one)), []);
        let breaks = nodes.say(110, 2, std::slice::from_ref(&two));
        let cycle = ["a.take", "b.take", "a.take"].map(str::to_owned).to_vec();
        assert_eq!(breaks, [Break { id: 9, cycle }], "the youngest is broken, and says what it would have waited for");
        assert_eq!(nodes.say(200, 1, std::slice::from_ref(&one)), [], "one is enough");
        assert_eq!(nodes.say(210, 2, std::slice::from_ref(&two)), breaks, "said again until it is heard");
        assert_eq!(nodes.say(310, 2, &[]), []);
    }

    #[test]
    fn one_node_is_told_at_once() {
        let mut detector = Detector::default();
        let calls = vec![
            call(1, 500, "x.m > a.m > b.m"),
            call(2, 400, "b.n > y.n > c.n"),
            call(3, 450, "c.o > a.o"),
            call(4, 300, "z.m > a.m"),
        ];
        let breaks = detector.report_here(at(1_000), at(1_000), 1, calls);
        let cycle = ["c.o", "a.m", "b.n", "y.n", "c.n"].map(str::to_owned).to_vec();
        assert_eq!(breaks, [Break { id: 2, cycle }]);
    }

    #[test]
    fn cycles_that_have_nothing_in_common_are_broken_together_and_others_wait() {
        let mut detector = Detector::default();
        let mut calls: Vec<_> = (0..10_u64)
            .flat_map(|n| {
                let there = call(2 * n, 400, &format!("a{n}.m > b{n}.m"));
                [there, call(2 * n + 1, 390, &format!("b{n}.m > a{n}.m"))]
            })
            .collect();
        calls.push(call(100, 10_000, "busy.m > a0.m"));
        calls.push(call(101, 10_000, "other.m > slow.m"));
        let breaks = detector.report_here(at(1_000), at(1_000), 1, calls);
        assert_eq!(breaks.iter().map(|broken| broken.id).collect::<Vec<_>>(), [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]);
    }

    /// `w1.m` is a turn of the worker 1 of `w`.
    fn with_workers(mut call: WaitingCall) -> WaitingCall {
        let split = |grain: &mut String, worker: &mut Option<ActivationId>| {
            if let Some(counter) = grain.strip_prefix('w').and_then(|n| n.parse().ok()) {
                (*grain, *worker) = ("w".to_owned(), Some(ActivationId { epoch: 1, counter }));
            }
        };
        split(&mut call.grain, &mut call.worker);
        call.chain.iter_mut().for_each(|turn| split(&mut turn.grain, &mut turn.worker));
        call
    }

    #[test]
    fn whoever_waits_for_one_worker_does_not_wait_for_another() {
        let mut detector = Detector::default();
        let there = with_workers(call(1, 400, "w1.run > a.take"));
        let apart = with_workers(call(2, 350, "a.take > w2.run"));
        assert_eq!(detector.report_here(at(1_000), at(1_000), 1, vec![there.clone(), apart]), []);
        let back = with_workers(call(3, 350, "a.take > w1.run"));
        let breaks = detector.report_here(at(1_000), at(1_000), 1, vec![there, back]);
        let cycle = ["w.run", "a.take", "w.run"].map(str::to_owned).to_vec();
        assert_eq!(breaks, [Break { id: 3, cycle }]);
    }

    #[test]
    fn a_grain_that_waits_for_itself_is_a_cycle() {
        let mut detector = Detector::default();
        let calls = vec![call(1, 400, "a.m > b.m > a.n")];
        let breaks = detector.report_here(at(1_000), at(1_000), 1, calls);
        assert_eq!(breaks[0].cycle, ["a.m", "b.m", "a.n"]);
    }

    /// The phantom: `b` has long got `a`, and only then did it wait for `c`; the old report of the first does not count.
    #[test]
    fn calls_that_did_not_wait_at_one_moment_are_no_cycle() {
        let mut nodes = Nodes::new();
        let old = call(1, 400, "a.m > b.m");
        nodes.say(0, 1, std::slice::from_ref(&old));
        nodes.say(100, 1, &[old]);
        let new = call(1, 400, "b.m > a.m");
        nodes.say(400, 2, std::slice::from_ref(&new));
        assert_eq!(nodes.say(520, 2, std::slice::from_ref(&new)), []);
        // And one that does not say which report it follows: nobody knows when it was sent.
        let unknown = Report { number: 9, answered: 1, calls: vec![call(1, 600, "a.m > b.m")] };
        assert_eq!(nodes.0.report(at(530), 1, unknown), []);
        assert_eq!(nodes.say(600, 2, std::slice::from_ref(&new)), []);
    }

    #[test]
    fn what_this_node_saw_too_long_ago_does_not_count() {
        let cycle = || vec![call(1, 400, "a.m > b.m"), call(2, 400, "b.m > a.m")];
        assert_eq!(Detector::default().report_here(at(1_301), at(1_000), 1, cycle()), []);
        assert_eq!(Detector::default().report_here(at(1_300), at(1_000), 1, cycle()).len(), 1);
    }

    #[test]
    fn a_report_that_was_overtaken_changes_nothing() {
        let mut nodes = Nodes::new();
        let one = call(1, 400, "a.m > b.m");
        nodes.say(0, 1, std::slice::from_ref(&one));
        nodes.say(100, 1, &[]);
        let late = Report { number: 1, answered: 0, calls: vec![one] };
        assert_eq!(nodes.0.report(at(120), 1, late), []);
        assert!(nodes.0.nodes[&1].calls.is_empty());
    }

    #[test]
    fn long_rows_of_grains_without_a_cycle_are_none() {
        let mut detector = Detector::default();
        let mut calls: Vec<_> = (0..5_000_u64).map(|n| call(n, 400, &format!("g{n:05}.m > g{:05}.m", n + 1))).collect();
        assert_eq!(detector.report_here(at(1_000), at(1_000), 1, calls.clone()), []);
        calls.push(call(9_999, 300, "g05000.m > g00000.m"));
        let breaks = detector.report_here(at(1_100), at(1_100), 1, calls);
        assert_eq!((breaks[0].id, breaks[0].cycle.len()), (9_999, 5_002));
    }
}

//! Worlds: what is a violation, what is told of it, and which faults a recipe has.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering::SeqCst},
};

use grains_core::{Error, Result};

use super::*;
use crate::sim::{Caller, Cluster, Faults, Order, Sim, Workload, Worlds};

/// Does what its parts are told to.
#[derive(Default)]
struct Odd {
    what: &'static str,
    begun: AtomicU64,
}

impl Workload for Odd {
    async fn set_up(&self, _: Caller) -> Result<()> {
        if self.what == "set up" { Err(Error::new("there is nothing to work on")) } else { Ok(()) }
    }

    async fn run(&self, caller: Caller) {
        self.begun.fetch_add(1, SeqCst);
        assert_ne!(self.what, "run", "as asked");
        if self.what == "stay" {
            std::future::pending::<()>().await;
        }
        while caller.goes_on().await {}
    }

    async fn check(&self, _: Caller) -> Result<()> {
        assert_ne!(self.what, "check", "as asked");
        match self.what {
            "count" => Err(Error::new(format!("{} callers", self.begun.load(SeqCst)))),
            "err" => Err(Error::new("an apple is missing")),
            _ => Ok(()),
        }
    }
}

fn worlds(nodes: usize, what: &'static str) -> Worlds {
    let make = move || Odd { what, ..Odd::default() };
    Worlds::new(nodes, |machine| machine.node()).workload(1, make).lasts(ms(500)).ends_within(ms(3000))
}

#[test]
fn what_a_workload_finds_wrong_is_told_once_and_with_its_name() {
    let violations = |what| worlds(1, what).judge(1).violations;
    assert_eq!(violations("nothing"), [""; 0]);
    assert_eq!(violations("set up"), ["Odd is not set up: there is nothing to work on"]);
    assert_eq!(violations("err"), ["Odd on n0: an apple is missing"]);
    assert_eq!(violations("stay"), ["a caller of Odd on n0: it does not end within 3s"]);
    for (what, who) in [("run", "a caller of Odd on n0"), ("check", "Odd on n0")] {
        let [violation] = &violations(what)[..] else { panic!("one violation") };
        assert!(violation.starts_with(&format!("{who}: ")) && violation.contains("as asked"), "{violation}");
    }
    assert_eq!(worlds(2, "err").judge(1).violations.len(), 1, "and not once more by each node");
}

#[test]
fn a_process_that_starts_again_has_callers_in_the_place_of_those_that_ended() {
    let begun = |worlds: Worlds| worlds.judge(3).violations;
    assert_eq!(begun(worlds(2, "count")), ["Odd on n0: 2 callers"]);
    let one_crash = worlds(2, "count").scenario(|cluster| async move {
        cluster.sim().sleep(ms(100)).await;
        cluster.crash(1);
        assert!(cluster.node(1).is_none());
        cluster.sim().sleep(ms(100)).await;
        cluster.start(1);
    });
    assert_eq!(begun(one_crash), ["Odd on n0: 3 callers"]);
    let one_leaves = worlds(2, "count").scenario(|cluster| async move {
        cluster.sim().sleep(ms(100)).await;
        cluster.leave(1).await;
        assert!(!cluster.machine(1).is_up());
        let members = cluster.node(0).map(|node| node.status().members.len());
        assert_eq!(members, Some(1), "it has left, and nobody waits for its lease");
    });
    assert_eq!(begun(one_leaves), ["Odd on n0: 3 callers"], "what is down starts when it is calm");
}

#[test]
fn a_node_that_cannot_start_is_told_with_its_reason() {
    let broken = |machine: &crate::sim::Machine| machine.node().configure(|config| config.mailbox_len_max = 0);
    let [violation] = &Worlds::new(1, broken).judge(1).violations[..] else { panic!("one violation") };
    assert!(violation.starts_with("the cluster does not come to be within 20s:"), "{violation}");
    assert!(violation.contains("n0 did not start: `mailbox_len_max` is zero"), "{violation}");
}

#[test]
fn a_world_that_fails_says_how_to_run_it_again_and_where_its_events_are() {
    let failing = worlds(1, "err").faults(Faults::none().clocks(1).pause(ms(1)..=ms(50)));
    let failed = catch_unwind(AssertUnwindSafe(|| failing.run(1))).unwrap_err();
    let told = failed.downcast_ref::<String>().unwrap().replace(" --release", "");
    let lines: Vec<_> = told.lines().collect();
    let test = "sim::tests::worlds::a_world_that_fails_says_how_to_run_it_again_and_where_its_events_are";
    let again = format!("again, with the features of this run: GRAINS_SEED=1 cargo test -p grains-runtime {test}");
    let expected = ["the world of seed 1 has 1 violations", "- Odd on n0: an apple is missing", &again];
    assert_eq!(lines[..3], expected);
    let path = lines[3].strip_prefix("trace: ").unwrap();
    assert!(path.ends_with(&format!("{}-1.txt", test.replace("::", "-"))), "{path}");
    let trace = fs::read_to_string(path).unwrap();
    fs::remove_file(path).unwrap();
    assert!(trace.contains(" test violation: Odd on n0: an apple is missing\n"), "{}", trace.len());
    assert!(trace.contains(" test world: faults begin\n") && trace.contains(" test fault: the clock of n0 goes at "));
}

#[test]
fn a_world_replays_and_one_that_does_not_is_found_out() {
    let report = worlds(2, "nothing").faults(Faults::all()).replays(5);
    assert!(report.events > 1_000, "{report:?}");

    let lives = AtomicU64::new(0);
    let differs = Worlds::of(move |sim| {
        sim.trace(&format!("world {}", lives.fetch_add(1, SeqCst)));
        Cluster::new(sim, 1, |machine| machine.node())
    });
    let failed = catch_unwind(AssertUnwindSafe(|| differs.lasts(ms(1)).replays(1))).unwrap_err();
    let told = failed.downcast_ref::<String>().unwrap();
    assert!(told.starts_with("seed 1 does not repeat: event ") && told.contains("world 0"), "{told}");
}

#[test]
fn what_a_simulation_is_like_can_be_said_for_all_worlds() {
    let hash = |order, seed| worlds(1, "nothing").simulated(Sim::builder().order(order)).judge(seed).report.hash;
    assert_ne!(hash(Order::Seeded, 1), hash(Order::Fifo, 1));
    assert_ne!(hash(Order::Seeded, 1), hash(Order::Seeded, 2), "and each seed is a world of its own");
}

#[test]
fn all_kinds_of_faults_strike_and_the_cluster_comes_back() {
    let quick = Faults::all().pause(ms(1)..=ms(50));
    let worlds = worlds(2, "nothing").faults(quick).lasts(ms(25_000)).simulated(Sim::builder().keep_lines(1_000_000));
    let verdict = worlds.judge(1);
    assert_eq!(verdict.violations, [""; 0]);
    let said: Vec<_> =
        verdict.report.lines.iter().filter_map(|line| Some(line.split_once(" test fault: ")?.1)).collect();
    let kinds = ["n1 is killed", "all are killed", "] leave", "is frozen", "cut between", "all cuts are healed"];
    let more = ["of chunks,", "the clock of", "disk of", "an fsync of"];
    for kind in kinds.into_iter().chain(more) {
        assert!(said.iter().any(|said| said.contains(kind)), "{kind}: {said:#?}");
    }
}

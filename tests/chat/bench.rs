//! `bench`: what its last line says, and what it leaves behind.

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::{
    cluster::alone,
    launched::{signal, until},
    process::{Folder, PATIENCE, chat, processes_in, programs_in, within},
};

/// All that the last line has, in this order.
const KEYS: [&str; 10] = [
    "lines_acked",
    "lines_lost",
    "lines_repeated",
    "gaps",
    "delivered",
    "missed",
    "kills",
    "say_ms",
    "recovery_ms",
    "return_ms",
];

/// Lets nine clients talk in three rooms, and gives what was found, and what was told meanwhile. All but the times after kills
/// is checked.
async fn bench(more: &[&str]) -> (Value, String) {
    let mut command = chat(&[&["bench", "--clients", "9", "--rooms", "3"], more].concat());
    // Its nodes do not hear of settings around it: with this one they would not start.
    let output = within("a bench", command.env("GRAINS_CALL_TIMEOUT", "soon").output()).await.unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed.lines().count(), 1, "{printed}");
    let tally: Value = serde_json::from_str(&printed).unwrap();
    let at: Vec<_> = KEYS.iter().map(|key| printed.find(&format!("\"{key}\":")).expect(key)).collect();
    assert!(at.is_sorted() && tally.as_object().unwrap().len() == KEYS.len(), "{printed}");

    for nothing in ["lines_lost", "lines_repeated", "gaps", "missed"] {
        assert_eq!(tally[nothing], 0, "{tally}");
    }
    let (acked, delivered) = (tally["lines_acked"].as_u64().unwrap(), tally["delivered"].as_u64().unwrap());
    assert!(acked >= 50 && delivered >= acked * 3, "three hear each line: {tally}");
    for spread in ["say_ms", "recovery_ms", "return_ms"] {
        assert_eq!(tally[spread].as_object().unwrap().len(), 2, "{tally}");
        let [p50, p99] = ["p50", "p99"].map(|key| &tally[spread][key]);
        let is_measured = p50.as_f64() > Some(0.0) && p99.as_f64() >= p50.as_f64();
        assert!(is_measured || (p50.is_null() && p99.is_null()), "{spread} is measured, or not: {tally}");
    }
    assert!(tally["say_ms"]["p50"].is_f64(), "{tally}");
    (tally, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_talk_while_a_node_is_killed_and_nothing_is_lost_repeated_or_missed() {
    let _alone = alone().await;
    let (tally, told) = bench(&["--seconds", "10", "--kill"]).await;
    assert_eq!((&tally["kills"], told.matches("is killed").count()), (&1.into(), 1), "{told}");
    assert!(tally["recovery_ms"]["p50"].is_f64(), "calls were seen to go on: {tally}");
    assert!(tally["return_ms"]["p50"].is_f64(), "and to be answered when the node came back: {tally}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_repeated_or_missed_when_all_nodes_are_killed_at_once() {
    let _alone = alone().await;
    let (tally, told) = bench(&["--seconds", "6", "--kill", "--kill-all=1"]).await;
    assert_eq!(tally["kills"], 1, "{tally}");
    for name in ["a", "b", "c"] {
        assert!(told.contains(&format!("node {name} (process ")), "{told}");
    }
    assert!(tally["return_ms"]["p50"].is_null(), "nobody served when they came back: {tally}");
}

#[tokio::test]
async fn ctrl_c_ends_a_bench_and_leaves_nothing_behind() {
    let temporary = Folder::new().made();
    let mut bench = chat(&["bench", "--clients", "3", "--rooms", "1", "--seconds", "600"]);
    let mut bench = bench.current_dir(temporary.path()).env("TMPDIR", temporary.path()).spawn().unwrap();
    let mut told = BufReader::new(bench.stderr.take().unwrap()).lines();
    let begun = within("the talk", told.next_line()).await.unwrap();
    assert_eq!(begun.as_deref(), Some("3 clients talk in 1 rooms for 600 s"));
    assert_eq!(temporary.names().len(), 1, "its nodes have a folder");
    assert_eq!(programs_in(temporary.path()).len(), 4, "itself and three nodes");

    assert!(signal(bench.id().unwrap(), "INT").await);
    let end = within("the end", told.next_line()).await.unwrap();
    assert_eq!(end.as_deref(), Some("error: stopped before the end, so there is no result"));
    assert_eq!(within("the end", bench.wait()).await.unwrap().code(), Some(1));
    assert_eq!(temporary.names(), [""; 0]);
    until("no process is left", PATIENCE, async || processes_in(temporary.path()).is_empty().then_some(())).await;
}

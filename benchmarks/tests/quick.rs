//! The program itself, with little work: whatever it promises is in what it prints.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use serde_json::Value;

const LOCAL: [&str; 5] = ["call_seq", "call_64x64", "call_64x1", "one_way", "cold_activation"];
const MEMORY: [&str; 2] = ["idle_bytes_200k", "idle_bytes_1m"];
const REMOTE: [&str; 5] = ["remote_1", "remote_64", "remote_512", "remote_cpu", "remote_one_way"];

fn run(args: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_benchmarks"));
    let output = command.args(args).args(["--rounds", "1", "--quick"]).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it prints text")
}

/// Lines by case and subject.
fn lines(args: &[&str]) -> BTreeMap<(String, String), Value> {
    let read = |line: &str| serde_json::from_str::<Value>(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
    let text = |value: &Value| value.as_str().expect("it is a text").to_owned();
    let lines = run(args);
    let lines = lines.lines().map(read);
    lines.map(|line| ((text(&line["case"]), text(&line["subject"])), line)).collect()
}

/// Both subjects have a sensible line for each of these cases, and there is nothing else but how quiet it was.
fn has_exactly(lines: &BTreeMap<(String, String), Value>, cases: &[&str], floor: &str) {
    let found: BTreeSet<_> = lines.keys().map(|(case, subject)| (case.as_str(), subject.as_str())).collect();
    let both = cases.iter().flat_map(|case| [(*case, "grains"), (*case, floor)]);
    let expected: BTreeSet<_> = both.chain(["before", "during", "after"].map(|when| ("quiet", when))).collect();
    assert_eq!(found, expected);
    for ((case, subject), line) in lines.iter().filter(|((case, _), _)| case != "quiet") {
        assert!(line["value"].as_f64().expect("it is a number") > 0.0, "{line}");
        assert!(line["unit"].is_string() && line["rounds"] == 1, "{line}");
        assert!(line["allocs"].is_number() || case == "idle_bytes_1m", "{line}");
        let ratio = line["ratio_to_floor"].as_f64().expect("it is a number");
        let floor = lines[&(case.clone(), floor.to_owned())]["value"].as_f64().expect("it is a number");
        let of_values = line["value"].as_f64().expect("it is a number") / floor;
        assert!((ratio - of_values).abs() < 0.01 * of_values + 0.001, "{subject} {case}: {ratio}, not {of_values}");
    }
}

#[test]
fn every_local_case_is_printed() {
    let lines = lines(&["local", "--json", "--subjects", "grains,tokio"]);
    has_exactly(&lines, &LOCAL, "tokio");
}

#[test]
fn every_memory_case_is_printed() {
    let lines = lines(&["memory", "--json", "--subjects", "grains,tokio"]);
    has_exactly(&lines, &MEMORY, "tokio");
}

#[test]
fn every_remote_case_is_printed() {
    let lines = lines(&["remote", "--json", "--subjects", "grains,echo"]);
    let mut lines = lines;
    let mtls = lines.remove(&("remote_64_mtls".to_owned(), "grains".to_owned())).expect("it is measured");
    let plain = lines[&("remote_64".to_owned(), "grains".to_owned())]["value"].as_f64().expect("it is a number");
    let ratio = mtls["value"].as_f64().expect("it is a number") / plain;
    assert!((mtls["ratio_to_floor"].as_f64().expect("it is a number") - ratio).abs() < 0.01 * ratio + 0.001, "{mtls}");
    has_exactly(&lines, &REMOTE, "echo");
}

#[test]
fn the_table_has_a_row_for_each_case_and_says_whether_it_was_quiet() {
    let table = run(&["all", "--subjects", "floor"]);
    let rows = |subject: &str| table.lines().filter(|row| row.contains(&format!("| {subject} "))).count();
    assert_eq!((rows("tokio"), rows("echo")), (LOCAL.len() + MEMORY.len(), REMOTE.len()), "{table}");
    // A plain call has no one-way form.
    assert_eq!(rows("direct"), LOCAL.len() - 1 + MEMORY.len(), "{table}");
    assert_eq!(table.lines().filter(|line| line.to_lowercase().ends_with("quiet")).count(), 3, "{table}");
}

#[test]
fn a_subject_that_is_not_there_is_named() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_benchmarks")).args(["local", "--subjects", "gains"]).output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("gains") && said.contains("grains, direct, tokio, echo"), "{said}");
}

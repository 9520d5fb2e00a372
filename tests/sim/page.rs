//! docs/TESTING.md says what is true: its code is that of the files here, its bug is found, and it is told as the page has it.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
};

use crate::likes;

const PAGE: &str = include_str!("../../docs/TESTING.md");
const FILES: [&str; 3] = [include_str!("likes.rs"), include_str!("likes_fixed.rs"), include_str!("talk.rs")];
/// Within how many seeds the page says that the bug is found, and without it none fails.
const SEEDS: u64 = 5;

/// What stands between fences of this kind, block by block.
fn blocks(kind: &str) -> Vec<String> {
    let fence = format!("\n```{kind}\n");
    let fenced = PAGE.split(&fence).skip(1);
    fenced.map(|rest| rest.split("\n```").next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn the_code_of_the_page_is_that_of_the_tests() {
    let blocks = blocks("rust");
    assert!(blocks.len() >= 5, "{}", blocks.len());
    for block in blocks {
        // The page has pieces of a file, with an empty line between them.
        for piece in block.split("\n\n") {
            let is_in = |file: &&str| file.contains(piece);
            assert!(FILES.iter().any(is_in), "this is on the page, and in none of the files that it quotes:\n{piece}");
        }
    }
}

/// Numbers, and how and where it was built, differ from run to run of the suite, or as grains itself changes.
fn shape(told: &str) -> Vec<String> {
    let without_numbers = told.replace(|c: char| c.is_ascii_digit(), "").replace(" --release", "");
    let lines = without_numbers.lines().filter(|line| !line.starts_with("trace: ") && !line.trim().is_empty());
    lines.map(|line| line.split(" cargo test").next().unwrap_or(line).to_owned()).collect()
}

#[test]
fn the_bug_of_the_page_is_found_and_told_as_the_page_says() {
    let failed = catch_unwind(AssertUnwindSafe(|| likes::worlds().run(SEEDS))).expect_err("the bug is not found");
    let told = failed.downcast_ref::<String>().expect("a message");
    let on_page = blocks("text").into_iter().find(|block| block.starts_with("the world of seed"));
    assert_eq!(shape(told), shape(&on_page.expect("the page has what is told")));

    let path = told.lines().find_map(|line| line.strip_prefix("trace: ")).expect("a trace");
    let trace = fs::read_to_string(path).expect("it was written");
    fs::remove_file(path).expect("it is there");
    assert!(trace.contains(" test fault: of chunks, "), "what struck is in it");
    assert!(trace.contains(" test violation: Liking on n0: "), "and what was wrong");
    assert!(PAGE.contains(&format!("within {SEEDS} seeds")), "the page says how many it takes");
}

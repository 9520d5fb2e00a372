//! The README's programs are examples, word for word, so that they build as a reader pastes them.

use crate::source::{read, workspace};

/// The code between fences, block by block.
fn blocks(text: &str) -> Vec<&str> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("\n```r") {
        let (_, after) = after.split_once('\n').expect("a fence has a line of its own");
        let (block, after) = after.split_once("\n```\n").expect("every fence is closed");
        blocks.push(block);
        rest = after;
    }
    blocks
}

/// What follows the lines of its own with which an example begins.
fn pasted(example: &str) -> String {
    let text = read(&workspace().join("examples").join(example));
    let (_, pasted) = text.split_once("rustfmt_skip)]\n\n").expect("the example begins with lines of its own");
    pasted.to_owned()
}

#[test]
fn the_first_program_and_its_test_are_the_example() {
    let readme = read(&workspace().join("README.md"));
    let [counter, test, ..] = blocks(&readme)[..] else { panic!("the README has a program and its test") };
    // Outside of tests there is no tokio to name.
    assert!(test.starts_with("#[cfg(test)]\n"), "{test}");
    assert_eq!(pasted("hello.rs"), format!("{}\n\n{test}\n", counter.trim_end()));
}

#[test]
fn the_program_of_several_nodes_is_the_example() {
    let readme = read(&workspace().join("README.md"));
    let [counter, _test, nodes, ..] = blocks(&readme)[..] else { panic!("the README has three programs") };
    let (counter, _main) = counter.split_once("#[grains::main]").expect("the first one has a main");
    assert_eq!(pasted("three_nodes.rs"), format!("{}\n\n{nodes}\n", counter.trim_end()));
}

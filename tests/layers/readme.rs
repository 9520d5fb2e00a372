//! The README's program of several nodes is an example, word for word, so that it builds as a reader pastes it.

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

#[test]
fn the_program_of_several_nodes_is_the_example() {
    let readme = read(&workspace().join("README.md"));
    let example = read(&workspace().join("examples/three_nodes.rs"));
    let [counter, _test, nodes] = blocks(&readme)[..] else { panic!("the README has three programs") };
    let (counter, _main) = counter.split_once("#[grains::main]").expect("the first one has a main");
    let (_, pasted) = example.split_once("rustfmt_skip)]\n\n").expect("the example begins with lines of its own");
    assert_eq!(pasted, format!("{}\n\n{nodes}\n", counter.trim_end()));
}

//! How the page goes from one node to another: the part of its script that knows no browser, run by `node` of Node.js.
//! Without that program these tests say so and check nothing.

use std::{
    io::{self, ErrorKind, Write},
    process::Command,
};

/// Runs `check` after the functions, and gives what it printed. `None` without a program that could.
fn run(check: &str) -> Option<String> {
    let page = include_str!("../../examples/chat/page.html");
    let (_, rest) = page.split_once("// <rota>").expect("the mark where it begins");
    let (rota, _) = rest.split_once("// </rota>").expect("the mark where it ends");
    let script = format!("\"use strict\";{rota}\nconsole.log(JSON.stringify((() => {{{check}}})()));");
    let output = match Command::new("node").args(["-e", &script]).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // Not `println!`, which tests that pass keep to themselves.
            io::stderr().write_all(b"there is no Node.js: how the page changes nodes is not checked\n").unwrap();
            return None;
        }
        output => output.unwrap(),
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

#[track_caller]
fn gives(check: &str, expected: &str) {
    if let Some(given) = run(check) {
        assert_eq!(given, expected, "{check}");
    }
}

#[test]
fn each_node_is_tried_in_turn() {
    gives(
        "let rota = learned(rotaOf('a'), ['a', 'b', 'c']), tried = [];
         for (let i = 0; i < 5; i++) { rota = failed(rota); tried.push(inUse(rota)); }
         return tried;",
        r#"["b","c","a","b","c"]"#,
    );
}

#[test]
fn the_node_in_use_stays_in_use_when_more_are_known() {
    gives(
        "let rota = failed(learned(rotaOf('a'), ['b']));
         rota = learned(worked(rota), ['c', 'b', 'a']);
         return [inUse(rota), rota.urls, rota.failed];",
        r#"["b",["a","b","c"],0]"#,
    );
}

#[test]
fn the_first_round_is_fast_and_later_ones_slower_up_to_a_limit() {
    gives(
        "let rota = learned(rotaOf('a'), ['b', 'c']), pauses = [];
         for (let i = 0; i < 30; i++) { rota = failed(rota); pauses.push(pause(rota, 1)); }
         return [pauses.slice(0, 7), pauses.at(-1), pause(rota, 0)];",
        "[[150,150,500,500,500,1000,1000],8000,4000]",
    );
}

#[test]
fn a_node_alone_is_given_time_from_the_first_failure_on() {
    gives("return pause(failed(rotaOf('a')), 1);", "500");
}

#[test]
fn no_more_nodes_are_kept_than_there_is_room_for() {
    gives("return learned(rotaOf('a'), [...Array(100).keys()].map(String)).urls.length;", "64");
}

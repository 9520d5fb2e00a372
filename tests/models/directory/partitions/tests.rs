//! What holds with all walls, and what goes wrong without each.

use super::{
    Part,
    Property::{self, DirectoryComplete, OneExecutor},
    Two, Walls,
};
use crate::{
    directory::{
        changes::Change::{Evict, Leave, Left, Rejoin},
        configurations::{HOST_LEAVES, LEAVER_OWNS},
    },
    explore::{Search, explore},
};

/// One owner leaves, and its partitions go to two others.
const PARTED: [Part; 2] =
    [Part { owner: 0, changes: LEAVER_OWNS }, Part { owner: 0, changes: &[Leave { node: 0, owner: 2 }] }];
/// A partition comes to a node that has one already.
const JOINED: [Part; 2] = [Part { owner: 0, changes: LEAVER_OWNS }, Part { owner: 1, changes: LEAVER_OWNS }];
/// A node has two partitions, and loses one of them.
const ONE_STAYS: [Part; 2] = [
    Part { owner: 0, changes: &[Rejoin { node: 1, owner: 1 }] },
    Part { owner: 0, changes: &[Rejoin { node: 1, owner: 0 }] },
];
/// A node recovers one partition, and by the next view another one beside it.
const ONE_AFTER_THE_OTHER: [Part; 2] = [
    Part { owner: 0, changes: &[Rejoin { node: 0, owner: 1 }, Rejoin { node: 2, owner: 1 }] },
    Part { owner: 2, changes: &[Rejoin { node: 0, owner: 2 }, Rejoin { node: 2, owner: 1 }] },
];
/// The owner of both dies; one node recovers both by one view.
const AT_ONCE: [Part; 2] = [
    Part { owner: 0, changes: &[Evict { node: 0, owner: 1 }] },
    Part { owner: 0, changes: &[Evict { node: 0, owner: 1 }] },
];
/// What is handed over of the one was never served of the other.
const MIXED: [Part; 2] = [
    Part { owner: 0, changes: &[Leave { node: 0, owner: 1 }, Rejoin { node: 2, owner: 2 }] },
    Part { owner: 1, changes: &[Leave { node: 0, owner: 1 }, Rejoin { node: 2, owner: 2 }] },
];
/// A host of both leaves.
const LEAVES: [Part; 2] = [
    Part { owner: 0, changes: HOST_LEAVES },
    Part { owner: 2, changes: &[Leave { node: 1, owner: 2 }, Left { node: 1, owner: 2 }] },
];

const SHORT: [(&str, [Part; 2]); 6] = [
    ("they part", PARTED),
    ("they come together", JOINED),
    ("one stays", ONE_STAYS),
    ("one after the other is recovered", ONE_AFTER_THE_OTHER),
    ("both are recovered", AT_ONCE),
    ("a host of both leaves", LEAVES),
];
/// And one that leads to many states.
const LONG: (&str, [Part; 2]) = ("one was never served", MIXED);

fn two(each: [Part; 2], walls: Walls) -> Two {
    Two { walls, each, orders_max: 1 }
}

#[test]
fn what_holds_of_one_partition_holds_of_two() {
    for (name, each) in SHORT {
        explore(&two(each, Walls::all()), &Search::all()).expect_no_trouble(&format!("two partitions, {name}"));
    }
}

struct Row {
    wall: &'static str,
    off: fn(&mut Walls),
    each: [Part; 2],
    /// None: from some state on, a grain can live nowhere.
    violates: &'static [Property],
}

const ROWS: &[Row] = &[
    Row {
        wall: "one_view_a_request",
        off: |w| w.one_view_a_request = false,
        each: ONE_AFTER_THE_OTHER,
        violates: &[DirectoryComplete],
    },
    Row {
        wall: "answers_name_partition",
        off: |w| w.answers_name_partition = false,
        each: AT_ONCE,
        violates: &[DirectoryComplete],
    },
    Row { wall: "fence_by_partition", off: |w| w.fence_by_partition = false, each: ONE_STAYS, violates: &[] },
    Row { wall: "sealed_by_partition", off: |w| w.sealed_by_partition = false, each: ONE_STAYS, violates: &[] },
    Row { wall: "empty_of_all", off: |w| w.empty_of_all = false, each: LEAVES, violates: &[DirectoryComplete] },
];

#[test]
fn each_wall_is_needed() {
    for row in ROWS {
        let mut walls = Walls::all();
        (row.off)(&mut walls);
        let two = two(row.each, walls);
        match row.violates {
            [] => explore(&two, &Search::all()).expect_stuck(row.wall),
            violates => explore(&two, &Search::until(violates.to_vec())).expect_violated(row.wall, violates),
        }
    }
}

/// With two orders each at a time, a grain can come to have two activations.
#[test]
#[ignore = "takes minutes"]
fn what_holds_of_one_partition_holds_of_two_with_two_orders_each() {
    for (name, each) in SHORT.into_iter().chain([LONG]) {
        let two = Two { orders_max: 2, ..two(each, Walls::all()) };
        explore(&two, &Search::all()).expect_no_trouble(&format!("two partitions, 2 orders each, {name}"));
    }
    let walls = Walls { one_view_a_request: false, ..Walls::all() };
    let two = Two { orders_max: 2, ..two(ONE_AFTER_THE_OTHER, walls) };
    let violates = [OneExecutor, DirectoryComplete];
    explore(&two, &Search::until(violates.to_vec())).expect_violated("one_view_a_request, 2 orders each", &violates);
}

/// Names every wall: one that is added without being switched off above does not compile.
#[test]
fn no_wall_is_left_out() {
    let Walls {
        one_view_a_request: _,
        answers_name_partition: _,
        fence_by_partition: _,
        sealed_by_partition: _,
        empty_of_all: _,
    } = Walls::all();
    assert_eq!(ROWS.len(), 5);
}

//! What was acknowledged is there after the worst end of a process.

use std::collections::BTreeSet;

use crate::{
    process::{Folder, Node},
    window::Window,
    writers::{Lines, ROOM, Writers, excerpt, history},
};

const ROUNDS: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_lines_survive_kill_9_exactly_once_and_in_order() {
    let folder = Folder::new();
    let mut acknowledged = Lines::new();
    for round in 0..ROUNDS {
        let node = Node::start(folder.path()).await;
        let writers = Writers::start(&node.url, &format!("round{round}"));
        writers.acknowledged(20 + 7 * round).await;
        node.kill().await;
        let before = acknowledged.len();
        acknowledged.append(&mut writers.end().await);
        assert!(acknowledged.len() >= before + 20 + 7 * round, "no number of an earlier round is given again");

        let node = Node::start(folder.path()).await;
        check(&history(&node.url).await, &acknowledged);
        node.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn older_lines_move_to_leaves_without_loss_or_repeat_also_across_kill_9() {
    let folder = Folder::new();
    let mut acknowledged = Lines::new();
    // The first leaf is filled when the room has a thousand lines, and the second 200 later.
    for (round, lines) in [990, 20, 210].into_iter().enumerate() {
        let node = Node::start(folder.path()).await;
        let writers = Writers::start(&node.url, &format!("round{round}"));
        writers.acknowledged(lines).await;
        node.kill().await;
        acknowledged.append(&mut writers.end().await);
    }
    let node = Node::start(folder.path()).await;
    let all = history(&node.url).await;
    check(&all, &acknowledged);
    let part = |first: usize, last: usize| &all[first - 1..last];
    assert_eq!(excerpt(&node.url, "before=211&limit=20").await, part(191, 210), "from leaves only");
    assert_eq!(excerpt(&node.url, "before=450&limit=300").await, part(150, 449), "from leaves and the room");
    assert_eq!(excerpt(&node.url, "after=395&limit=10").await, part(396, 405));
    assert_eq!(
        excerpt(&node.url, "").await,
        part(all.len() - 999, all.len()),
        "the last thousand unless told otherwise"
    );

    let mut watch = Window::open(&node, ROOM, "ann", 100).await;
    watch.next().await;
    let mut seen = Vec::new();
    while seen.len() < all.len() - 100 {
        seen.extend(watch.lines().await);
    }
    assert_eq!(seen, part(101, all.len()), "who comes back gets all of them in order");
    node.stop("TERM").await;
}

fn check(lines: &[(u64, String)], acknowledged: &Lines) {
    let numbers: Vec<_> = lines.iter().map(|(number, _)| *number).collect();
    let all: Vec<_> = (1..=lines.len() as u64).collect();
    assert_eq!(numbers, all, "1 to n in order, without gap or repeat");
    let texts: BTreeSet<_> = lines.iter().map(|(_, text)| text).collect();
    assert_eq!(texts.len(), lines.len(), "no line is there twice");
    for (number, text) in acknowledged {
        let kept = lines.iter().find(|(kept, _)| kept == number);
        assert_eq!(kept.map(|(_, text)| text), Some(text), "acknowledged as {number}");
    }
}

//! What was acknowledged is there after the worst end of a process.

use std::collections::BTreeSet;

use crate::{
    process::{Folder, Node},
    writers::{Lines, Writers, history},
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

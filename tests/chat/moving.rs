//! From a node alone to several: what was said goes along, whatever happens on the way.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::{
    cluster::alone,
    launched::Launched,
    process::{Folder, Node, PATIENCE, chat, run_badly, run_well, within},
};

const ROOMS: usize = 40;
const LINES: usize = 5;

/// What is said in each room, as `history` prints it.
fn said(room: usize) -> String {
    (1..=LINES).map(|n| format!("{n}\tann\tline {n} in {room}\n")).collect()
}

async fn say_all(url: &str) {
    let url = url.to_owned();
    let saying = tokio::task::spawn_blocking(move || {
        for room in 0..ROOMS {
            for n in 1..=LINES {
                let line = serde_json::json!({ "who": "ann", "text": format!("line {n} in {room}") });
                ureq::post(format!("{url}/rooms/r{room}/lines"))
                    .header("content-type", "application/json")
                    .send(line.to_string())
                    .unwrap();
            }
        }
    });
    within("all to be said", saying).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_node_alone_has_kept_is_moved_by_a_command_that_is_killed_again_and_again() {
    let _room = alone().await;
    let folder = Folder::new();
    let args = ["move", "--data-dir", folder.text()];
    assert!(run_badly(&args).await.contains("nothing to move"));
    let node = Node::start(folder.path()).await;
    say_all(&node.url).await;
    assert!(run_badly(&args).await.contains("in use"));
    node.stop("TERM").await;

    let (mut kills, mut patience) = (0, Duration::from_millis(20));
    let output = loop {
        let mut moving = chat(&args).spawn().unwrap();
        // Each time it comes a little further.
        match timeout(patience, moving.wait()).await {
            Ok(_) => break moving.wait_with_output().await.unwrap(),
            Err(_) => moving.kill().await.unwrap(),
        }
        kills += 1;
        patience = patience * 3 / 2;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.starts_with("moved ") || told.starts_with("all of it"), "{told}");
    assert!(kills > 3, "it was killed {kills} times");
    assert!(run_well(&args).await.starts_with("all of it was moved before"));

    let launched = Launched::start_in(folder, 3).await;
    let urls: Vec<_> = launched.nodes.iter().map(|node| node.url.clone()).collect();
    for room in 0..ROOMS {
        let name = format!("r{room}");
        let history = run_well(&["history", "--http", &urls[room % 3], "--room", &name]).await;
        assert_eq!(history, said(room));
    }
    let next = run_well(&["say", "--http", &urls[2], "--room", "r7", "--as", "ann", "on"]).await;
    assert_eq!(next.trim(), (LINES + 1).to_string());
    // Three nodes that are one cluster, not two beside the one that had it all.
    let together = async {
        loop {
            let status: serde_json::Value =
                serde_json::from_str(&crate::process::get(&format!("{}/status.json", urls[1])).await).unwrap();
            if status["members"].as_array().map(Vec::len) == Some(3) {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, together).await.unwrap();
    launched.stop().await;
}

#[tokio::test]
async fn a_chat_of_several_that_has_begun_takes_nothing_in() {
    let folder = Folder::new();
    let node = Node::start(folder.path()).await;
    run_well(&["say", "--http", &node.url, "--room", "lobby", "--as", "ann", "alone"]).await;
    node.stop("TERM").await;
    std::fs::create_dir_all(folder.path().join("a")).unwrap();
    let complaint = run_badly(&["move", "--data-dir", folder.text()]).await;
    assert!(complaint.contains("has begun without") && complaint.contains("said on them is lost"), "{complaint}");
    assert!(folder.names().contains(&"grains.redb".to_owned()), "it stays where it is");

    // Without it nobody is told to remove anything.
    std::fs::remove_file(folder.path().join("grains.redb")).unwrap();
    let complaint = run_badly(&["move", "--data-dir", folder.text()]).await;
    assert!(complaint.contains("nothing to move: ") && !complaint.contains("remove"), "{complaint}");
}

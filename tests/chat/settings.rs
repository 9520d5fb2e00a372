//! Settings of the nodes of a chat, beside its own options.

use serde_json::Value;

use crate::{
    cluster::agreed,
    launched::{Launched, until},
    process::{Folder, Node, PATIENCE, get, run_badly, run_well},
};

async fn status(url: &str) -> Value {
    serde_json::from_str(&get(&format!("{url}/status.json")).await).unwrap()
}

#[tokio::test]
async fn a_node_takes_a_file() {
    let folder = Folder::new().made();
    let file = folder.path().join("short.toml");
    std::fs::write(&file, "name = 'z'\n[grain.room]\nidle_timeout = '100ms'").unwrap();
    // Its options count more: it is called `a`, or this would find it nowhere.
    let node = Node::start_with(&folder.path().join("data"), &["--config", file.to_str().unwrap()]).await;
    run_well(&["say", "--http", &node.url, "--room", "lobby", "--as", "ann", "hello"]).await;
    until("the room is let go of soon", PATIENCE, async || {
        let activations = status(&node.url).await["activations"].clone();
        (activations["room"] == 0 && activations["rooms"] == 1).then_some(())
    })
    .await;
    node.stop("TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_of_the_launcher_are_set_and_one_is_started_again_with_the_same() {
    let folder = Folder::new().made();
    std::fs::write(folder.path().join("grains.toml"), "name = 'z'\n[cluster]\npartitions = 32\nlease = '3s'").unwrap();
    let launched = Launched::start_set(folder, 2, &["--set", "cluster.partitions=16"]).await;
    agreed(&launched.nodes).await;
    until("all partitions are owned", PATIENCE, async || {
        let mut owned = 0;
        for node in &launched.nodes {
            owned += status(&node.url).await["partitions"].as_u64().unwrap();
        }
        (owned == 16).then_some(())
    })
    .await;
    launched.node("b").signal("TERM").await;
    let again = launched.says("to start it again").await;
    assert!(again.contains("--set=cluster.partitions=16"), "{again}");
    launched.stop().await;
}

#[tokio::test]
async fn mistakes_are_told_once_and_nothing_is_started() {
    for command in [&["node", "--http", "127.0.0.1:0"][..], &["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]] {
        let folder = Folder::new();
        let wrong = ["--data-dir", folder.text(), "--set", "idle_timout=5m", "--set", "cluster.lease=soon"];
        let complaint = run_badly(&[command, &wrong].concat()).await;
        assert_eq!(complaint.matches("did you mean `idle_timeout`?").count(), 1, "{complaint}");
        assert_eq!(complaint.matches("`cluster.lease` is a duration").count(), 1, "{complaint}");
        assert!(!folder.path().exists());
    }
}

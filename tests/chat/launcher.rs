//! The launcher as such: whatever happens, it says so, and its nodes end with it.

use crate::{
    launched::{Launched, until},
    process::{PATIENCE, get},
};

#[tokio::test]
async fn a_node_that_ends_is_named_and_the_others_go_on() {
    let launched = Launched::start(2).await;
    let hint = launched.says("Ctrl-C stops all").await;
    assert!(hint.contains("kill -9"), "{hint}");
    launched.node("a").signal("KILL").await;
    let ended = launched.says("node a ended").await;
    assert!(ended.contains("signal: 9"), "{ended}");
    let again = launched.says("to start it again").await;
    assert!(again.contains("node --name a ") && again.contains(launched.node("a").address()), "{again}");
    get(&format!("{}/status.json", launched.node("b").url)).await;
    launched.stop().await;
}

#[tokio::test]
async fn nodes_end_with_the_launcher_that_is_killed() {
    let mut launched = Launched::start(2).await;
    launched.signal("KILL").await;
    launched.end().await;
    launched.are_gone(PATIENCE).await;
}

#[tokio::test]
async fn a_second_ctrl_c_kills() {
    let mut launched = Launched::start(2).await;
    // A process that is stopped cannot obey.
    launched.node("a").signal("STOP").await;
    launched.signal("INT").await;
    launched.says("node b ended").await;
    launched.signal("INT").await;
    assert_eq!(launched.end().await.code(), Some(1));
    launched.are_gone(PATIENCE).await;
}

#[tokio::test]
async fn every_page_is_told_of_the_others_from_the_start() {
    let launched = Launched::start(2).await;
    for node in &launched.nodes {
        let told: serde_json::Value = serde_json::from_str(&get(&format!("{}/nodes", node.url)).await).unwrap();
        assert_eq!((&told["node"], &told["history"]), (&node.name.as_str().into(), &"with-the-room".into()));
        for page in &launched.nodes {
            let known = told["pages"].as_array().unwrap().contains(&page.url.as_str().into());
            assert!(known, "{} knows of {}: {told}", node.name, page.name);
        }
    }
    launched.stop().await;
}

#[tokio::test]
async fn the_launcher_ends_when_no_node_is_left() {
    let mut launched = Launched::start(2).await;
    for node in &launched.nodes {
        node.signal("TERM").await;
    }
    assert_eq!(launched.end().await.code(), Some(1));
    until("no node is left", PATIENCE, async || (!launched.nodes[0].lives().await).then_some(())).await;
}

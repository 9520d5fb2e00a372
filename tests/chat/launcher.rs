//! The launcher as such: whatever happens, it says so, and its nodes end with it.

use tokio::io::{AsyncBufReadExt, BufReader};

use crate::{
    cluster::{agreed, beside_another},
    launched::{Launched, until},
    process::{Folder, Node, PATIENCE, chat, get, group_of, processes_in, programs_in, run_well, within},
};

#[tokio::test(flavor = "multi_thread")]
async fn without_arguments_it_is_three_nodes_that_all_end_with_ctrl_c() {
    let _room = beside_another().await;
    let mut launched = Launched::start_bare().await;
    let status = agreed(&launched.nodes).await;
    assert_eq!(status["members"].as_array().unwrap().len(), 3, "{status}");
    let [a, _, c] = &launched.nodes[..] else { panic!("three nodes") };
    assert_eq!(run_well(&["say", "--http", &a.url, "--room", "lobby", "--as", "ann", "hello"]).await, "1\n");
    assert_eq!(run_well(&["history", "--http", &c.url, "--room", "lobby"]).await, "1\tann\thello\n");
    assert_eq!(launched.folder().names(), ["chat-data"]);

    let here = launched.folder().path().to_owned();
    assert_eq!(programs_in(&here).len(), 4, "itself and three nodes");
    for node in &launched.nodes {
        assert_ne!(group_of(node.process), group_of(launched.process()), "Ctrl-C is for the launcher: {node:?}");
    }
    launched.signal("INT").await;
    assert_eq!(launched.end().await.code(), Some(0));
    assert_eq!(programs_in(&here), [0; 0], "no process is left");
    until("no watchdog is left", PATIENCE, async || processes_in(&here).is_empty().then_some(())).await;
}

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
async fn a_mistake_of_all_nodes_is_told_once_and_without_a_way_to_repeat_it() {
    let folder = Folder::new();
    let args = ["--nodes", "3", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--set", "cluster.lease=100ms"];
    let ended = within("the end", chat(&args).args(["--data-dir", folder.text()]).output()).await.unwrap();
    let (told, complaint) = (String::from_utf8(ended.stdout).unwrap(), String::from_utf8(ended.stderr).unwrap());
    assert_eq!(complaint.matches("`lease` must be").count(), 1, "{complaint}");
    for name in ["a", "b", "c"] {
        assert!(told.contains(&format!("node {name} did not start: exit status: 1")), "{told}");
    }
    assert!(!told.contains("start it again"), "{told}");
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
        assert_eq!(told["node"], node.name.as_str());
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

#[tokio::test]
async fn what_a_node_alone_has_kept_in_the_folder_is_named_and_stays() {
    let folder = Folder::new();
    let alone = Node::start(folder.path()).await;
    run_well(&["say", "--http", &alone.url, "--room", "lobby", "--as", "ann", "alone"]).await;
    alone.stop("TERM").await;

    let launched = Launched::start_in(folder, 2).await;
    let hint = launched.says("what was said on a node alone is in").await;
    assert!(hint.contains("grains.redb") && hint.contains("--nodes 1"), "{hint}");
    let url = launched.nodes[0].url.clone();
    assert_eq!(run_well(&["history", "--http", &url, "--room", "lobby"]).await, "");
    let folder = launched.kill().await;

    let alone = Node::start(folder.path()).await;
    assert_eq!(run_well(&["history", "--http", &alone.url, "--room", "lobby"]).await, "1\tann\talone\n");
    alone.stop("TERM").await;
}

#[tokio::test]
async fn a_node_alone_says_what_several_have_kept_in_the_folder() {
    let folder = Folder::new();
    std::fs::create_dir_all(folder.path().join("a")).unwrap();
    // It is alone whatever is set for clusters.
    std::fs::write(folder.path().join("grains.toml"), "[cluster]\nlease = '3s'").unwrap();
    let args = ["--nodes", "1", "--http", "127.0.0.1:0", "--data-dir", folder.text()];
    let mut alone = chat(&args).current_dir(folder.path()).spawn().unwrap();
    let mut stdout = BufReader::new(alone.stdout.take().unwrap()).lines();
    let mut line = async || within("a line", stdout.next_line()).await.unwrap().unwrap();
    assert!(line().await.starts_with("what was said on several nodes is in"));
    assert!(line().await.starts_with("node chat: http://127.0.0.1:"));
    assert!(folder.path().join("grains.redb").exists());
    alone.kill().await.unwrap();
}

#[tokio::test]
async fn nodes_that_were_elsewhere_before_are_not_started_where_they_do_not_find_each_other() {
    let folder = Folder::new();
    let args = |listen: &'static str| ["--listen", listen, "--http", "127.0.0.1:0", "--data-dir"];
    let mut first = chat(&args("127.0.0.1:0")).arg(folder.path()).spawn().unwrap();
    let mut stdout = BufReader::new(first.stdout.take().unwrap()).lines();
    within("the first node", stdout.next_line()).await.unwrap();
    first.kill().await.unwrap();

    let again = within("the refusal", chat(&args("127.0.0.1:1")).arg(folder.path()).output()).await.unwrap();
    let complaint = String::from_utf8(again.stderr).unwrap();
    assert!(!again.status.success() && complaint.contains("know each other as 127.0.0.1:"), "{complaint}");
    // The nodes of the first one may need a moment to end.
    until("they start where they were, unless told otherwise", PATIENCE, async || {
        let mut again = chat(&args("127.0.0.1:0")).arg(folder.path()).spawn().unwrap();
        let mut stdout = BufReader::new(again.stdout.take().unwrap()).lines();
        within("a node, or the end", stdout.next_line()).await.unwrap()
    })
    .await;
}

//! `say`, `history`, `watch`, `join` and the status, against a node.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::{
    launched::until,
    process::{Folder, Node, PATIENCE, chat, get, run_badly, run_well, within},
};

async fn say(url: &str, room: &str, who: &str, text: &str) -> String {
    run_well(&["say", "--http", url, "--room", room, "--as", who, text]).await
}

async fn history(url: &str, room: &str) -> String {
    run_well(&["history", "--http", url, "--room", room]).await
}

#[tokio::test]
async fn what_is_said_has_a_number_and_is_in_the_history() {
    let folder = Folder::new();
    let node = Node::start(folder.path()).await;
    assert_eq!(say(&node.url, "lobby", "ann", "hello").await, "1\n");
    assert_eq!(say(&node.url, "lobby", "Bob B.", "<b>hi</b> 👋").await, "2\n");
    assert_eq!(say(&node.url, "кухня", "ann", "привет").await, "1\n", "each room counts for itself");
    assert_eq!(history(&node.url, "lobby").await, "1\tann\thello\n2\tBob B.\t<b>hi</b> 👋\n");
    assert_eq!(history(&node.url, "кухня").await, "1\tann\tпривет\n");
    assert_eq!(history(&node.url, "empty").await, "");

    assert_eq!(get(&format!("{}/rooms", node.url)).await, r#"["lobby","кухня"]"#);
    let status: serde_json::Value = serde_json::from_str(&get(&format!("{}/status.json", node.url)).await).unwrap();
    assert_eq!(status["node"], "a");
    assert_eq!((&status["activations"]["room"], &status["activations"]["rooms"]), (&3.into(), &1.into()), "{status}");
    node.stop("TERM").await;
}

#[tokio::test]
async fn a_node_alone_is_its_only_member_and_leads() {
    let folder = Folder::new();
    let node = Node::start(folder.path()).await;
    let text = get(&format!("{}/status.json", node.url)).await;
    let status: serde_json::Value = serde_json::from_str(&text).unwrap();
    let member = serde_json::json!({ "name": "a", "incarnation": status["incarnation"], "state": "active" });
    assert_eq!(status["members"], serde_json::json!([member]));
    assert_eq!((&status["leader"], &status["ready"]), (&"a".into(), &true.into()));
    let keys = ["node", "leader", "term", "view", "members", "activations", "singletons"];
    let at: Vec<_> = keys.iter().map(|key| text.find(&format!("\"{key}\":")).expect(key)).collect();
    assert!(at.is_sorted(), "the keys come in this order: {text}");
    node.stop("TERM").await;
}

#[tokio::test]
async fn history_and_numbers_go_on_after_a_restart() {
    let folder = Folder::new();
    let node = Node::start(folder.path()).await;
    say(&node.url, "lobby", "ann", "one").await;
    node.stop("INT").await;
    assert_eq!(folder.names(), ["grains.redb"], "nothing else is left behind");

    let node = Node::start(folder.path()).await;
    assert_eq!(history(&node.url, "lobby").await, "1\tann\tone\n");
    assert_eq!(say(&node.url, "lobby", "ann", "two").await, "2\n");
    node.stop("TERM").await;
}

#[tokio::test]
async fn watch_prints_new_lines_until_the_node_stops() {
    let folder = Folder::new();
    let node = Node::start(folder.path()).await;
    say(&node.url, "lobby", "ann", "old").await;
    let mut watch = chat(&["watch", "--http", &node.url, "--room", "lobby"]).spawn().unwrap();
    let mut stdout = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut stderr = BufReader::new(watch.stderr.take().unwrap()).lines();
    let begun = within("the watch", stderr.next_line()).await.unwrap();
    assert_eq!(begun.as_deref(), Some("watching lobby"));

    for (number, text) in [(2, "new"), (3, "newer")] {
        say(&node.url, "lobby", "bob", text).await;
        let line = within("a line", stdout.next_line()).await.unwrap();
        assert_eq!(line, Some(format!("{number}\tbob\t{text}")));
    }
    node.stop("TERM").await;
    assert_eq!(within("the end", stdout.next_line()).await.unwrap(), None);
    assert_eq!(within("the end", watch.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_a_reason() {
    let folder = Folder::new();
    let node = Node::start(folder.path()).await;
    let url = node.url.as_str();
    let long = "x".repeat(1001);
    let cases: &[(&[&str], &str)] = &[
        (&["say", "--http", url, "--room", "a b", "--as", "ann", "hi"], "a room name has 1 to 40 letters"),
        (&["say", "--http", url, "--room", "lobby", "--as", " ", "hi"], "a name has 1 to 32 visible characters"),
        (&["say", "--http", url, "--room", "lobby", "--as", "ann", &long], "this one has 1001"),
        (&["say", "--http", url, "--room", "lobby", "--as", "ann", "a\tb"], "a line has no tabs"),
        (&["say", "--http", url, "--room", "lobby", "--as", "ann", "a\nb"], "a line has no tabs, line breaks"),
        (&["say", "--http", "lobby", "--room", "lobby", "--as", "ann", "hi"], "`lobby` is not the URL of a node"),
        (&["history", "--http", "ftp://x", "--room", "lobby"], "write it like `http://127.0.0.1:8080`"),
        (&["history", "--http", "http://127.0.0.1:1", "--room", "lobby"], "no node answers at http://127.0.0.1:1"),
        (
            &["history", "--http", "http://127.0.0.1:1,http://127.0.0.1:2", "--room", "lobby"],
            "nor at http://127.0.0.1:2",
        ),
        (&["node", "--http", "8080"], "--http <IP:PORT>"),
        (&["--data-dir", "/dev/null/chat"], "cannot use `--data-dir /dev/null/chat`: Not a directory"),
        (&["--nodes", "10"], "10 is not in 1..=9"),
        (&["--nodes", "3", "--name", "a"], "unexpected argument '--name'"),
        (&["history", "--http", url, "--room", "lobby", "--before", "x"], "--before <NUMBER>"),
    ];
    for (args, reason) in cases {
        let complaint = run_badly(args).await;
        assert!(complaint.contains(reason), "{args:?}: {complaint}");
    }
    node.stop("TERM").await;
}

#[tokio::test]
async fn a_data_folder_serves_one_node_at_a_time() {
    let folder = Folder::new();
    let node = Node::start(folder.path()).await;
    let complaint = run_badly(&["node", "--http", "127.0.0.1:0", "--data-dir", folder.text()]).await;
    assert!(complaint.contains(folder.text()) && complaint.contains("is open in another process"), "{complaint}");
    assert_eq!(say(&node.url, "lobby", "ann", "still here").await, "1\n");
    node.stop("TERM").await;
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let (folder, other) = (Folder::new(), Folder::new());
    let node = Node::start(folder.path()).await;
    let complaint = run_badly(&["node", "--http", node.address(), "--data-dir", other.text()]).await;
    assert!(complaint.contains(&format!("{} is in use", node.address())), "{complaint}");
    assert!(complaint.contains("--http 127.0.0.1:0"), "it says what to do: {complaint}");
    assert!(!other.path().exists(), "nothing is left behind");
    node.stop("TERM").await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_is_named() {
    let folder = Folder::new();
    std::fs::write(folder.path(), "a file").unwrap();
    let complaint = run_badly(&["node", "--http", "127.0.0.1:0", "--data-dir", folder.text()]).await;
    std::fs::remove_file(folder.path()).unwrap();
    assert!(complaint.contains(&format!("cannot use `--data-dir {}`", folder.text())), "{complaint}");
}

#[tokio::test]
async fn history_is_all_that_was_said_or_a_part_of_it() {
    let folder = Folder::new();
    let node = Node::start(folder.path()).await;
    for text in ["one", "two", "three", "four"] {
        say(&node.url, "lobby", "ann", text).await;
    }
    let part = async |options: &[&str]| {
        let printed = run_well(&[&["history", "--http", &node.url, "--room", "lobby"], options].concat()).await;
        printed.lines().map(|line| line.split('\t').next().unwrap().parse().unwrap()).collect::<Vec<u64>>()
    };
    assert_eq!(part(&[]).await, [1, 2, 3, 4]);
    assert_eq!(part(&["--limit", "2"]).await, [3, 4]);
    assert_eq!(part(&["--before", "4", "--limit", "2"]).await, [2, 3]);
    assert_eq!(part(&["--before", "3"]).await, [1, 2]);
    assert_eq!(part(&["--after", "2"]).await, [3, 4]);
    assert_eq!(part(&["--after", "1", "--before", "4", "--limit", "1"]).await, [2]);
    assert_eq!(part(&["--limit", "0"]).await, [0; 0]);
    node.stop("TERM").await;
}

#[tokio::test]
async fn a_person_at_a_terminal_takes_part() {
    let folder = Folder::new();
    let node = Node::start(folder.path()).await;
    say(&node.url, "lobby", "bob", "before").await;
    let mut join = chat(&["join", "--http", &node.url, "--room", "lobby", "--as", "ann"]);
    let mut join = join.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = join.stdin.take().unwrap();
    let mut stdout = BufReader::new(join.stdout.take().unwrap()).lines();
    let mut stderr = BufReader::new(join.stderr.take().unwrap()).lines();
    let mut line = async || within("a line", stdout.next_line()).await.unwrap().unwrap();
    let mut note = async || within("a note", stderr.next_line()).await.unwrap().unwrap();
    assert_eq!(line().await, "1\tbob\tbefore");
    assert_eq!(note().await, "watching lobby");
    let online = serde_json::json!([{ "who": "ann", "rooms": ["lobby"] }]);
    until("ann is online", PATIENCE, async || {
        let users: serde_json::Value = serde_json::from_str(&get(&format!("{}/users", node.url)).await).unwrap();
        (users == online).then_some(())
    })
    .await;

    stdin.write_all(b"hello\n\nbye\n").await.unwrap();
    assert_eq!(line().await, "2\tann\thello");
    assert!(note().await.contains("not said: a line has 1 to 1000 characters"));
    drop(stdin);
    assert_eq!(line().await, "3\tann\tbye", "what was said is shown before it ends");
    assert_eq!(within("the end", join.wait()).await.unwrap().code(), Some(0));
    let known: serde_json::Value = serde_json::from_str(&get(&format!("{}/users/ann", node.url)).await).unwrap();
    assert!(known["first_seen_ms"].as_u64() > Some(0) && known["rooms"]["lobby"].is_u64(), "{known}");
    until("ann is not online", PATIENCE, async || (get(&format!("{}/users", node.url)).await == "[]").then_some(()))
        .await;
    node.stop("TERM").await;
}

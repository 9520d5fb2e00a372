//! Three nodes that are one chat, as processes, with all that happens to processes.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    sync::{Semaphore, SemaphorePermit},
};

use crate::{
    launched::{Launched, Node, until},
    process::{PATIENCE, chat, get, run, run_well, within},
    window::{Window, lines_of},
};

/// How long grains may be out of reach after their node has died.
const AGAIN_MAX: Duration = Duration::from_secs(8);

/// Two tests at a time, of which most of the time is waiting.
static ROOM: Semaphore = Semaphore::const_new(2);

/// For tests that measure how fast a cluster recovers, not how many of them a machine carries.
pub async fn alone() -> SemaphorePermit<'static> {
    ROOM.acquire_many(2).await.unwrap()
}

/// For all others.
pub async fn beside_another() -> SemaphorePermit<'static> {
    ROOM.acquire().await.unwrap()
}

/// What a node says of itself, if it does.
pub async fn status(node: &Node) -> Option<Value> {
    ask(node, "/status.json").await
}

async fn ask(node: &Node, path: &str) -> Option<Value> {
    let url = format!("{}{path}", node.url);
    let text = tokio::task::spawn_blocking(move || agent().get(url).call().ok()?.body_mut().read_to_string().ok());
    serde_json::from_str(&text.await.unwrap()?).ok()
}

/// Says a line in `room` through one node, without trying again; its number, or nothing.
async fn say(node: &Node, room: &str, text: &str) -> Option<u64> {
    let url = format!("{}/rooms/{room}/lines", node.url);
    let line = json!({ "who": "ann", "text": text }).to_string();
    let answer = tokio::task::spawn_blocking(move || {
        let answer = agent().post(url).content_type("application/json").send(line);
        answer.ok()?.body_mut().read_to_string().ok()
    });
    serde_json::from_str::<Value>(&answer.await.unwrap()?).ok()?["number"].as_u64()
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(20))).build().into()
}

fn member_names(status: &Value) -> Vec<&str> {
    let members = status["members"].as_array().unwrap();
    let mut names: Vec<_> = members.iter().map(|member| member["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

/// Waits until all of `nodes` say the same of the cluster, and that these are its members, all of them active.
pub async fn agreed(nodes: &[Node]) -> Value {
    let names: Vec<_> = nodes.iter().map(|node| node.name.as_str()).collect();
    until("all nodes agree", PATIENCE, async || {
        let mut agreed: Option<Value> = None;
        for node in nodes {
            let status = status(node).await?;
            let all_active = status["members"].as_array()?.iter().all(|member| member["state"] == "active");
            let holder = status["singletons"]["pages"].as_str();
            if status["node"] != node.name || !all_active || member_names(&status) != names {
                return None;
            }
            if !names.contains(&status["leader"].as_str()?) || !holder.is_some_and(|holder| names.contains(&holder)) {
                return None;
            }
            // Until three vote, the death of the one that does is the end of the cluster.
            let voters = |of: &str| status.pointer(of).and_then(Value::as_array).map_or(0, Vec::len);
            if names.len() == 3 && (voters("/voters") < 3 || voters("/states/voters") < 3) {
                return None;
            }
            let shared = ["leader", "term", "view", "members", "singletons"].map(|key| status[key].clone());
            match &agreed {
                None => agreed = Some(json!(shared)),
                Some(earlier) if *earlier == json!(shared) => {}
                Some(_) => return None,
            }
        }
        status(&nodes[0]).await
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_a_status_and_a_command_that_waits_say_why() {
    let _room = beside_another().await;
    let launched = Launched::start(3).await;
    let url = launched.node("a").url;
    let status = async || serde_json::from_str::<Value>(&get(&format!("{url}/status.json")).await).unwrap();
    let votes = |status: Value| status["voters"].as_array().map(Vec::len) == Some(3);
    until("all vote", PATIENCE, async || votes(status().await).then_some(())).await;
    for node in launched.others("a") {
        node.signal("KILL").await;
    }
    let cause = "a majority of its voters has to live";
    until("the status says why", PATIENCE, async || {
        status().await["waiting_for"].as_str().is_some_and(|why| why.contains(cause)).then_some(())
    })
    .await;
    let mut say = chat(&["say", "--http", &url, "--room", "lobby", "--as", "ann", "hello"]).spawn().unwrap();
    let mut complaints = BufReader::new(say.stderr.take().unwrap()).lines();
    let told = within("the reason", complaints.next_line()).await.unwrap().unwrap();
    assert!(told.starts_with("waiting for an answer; node a: ") && told.contains(cause), "{told}");
    say.kill().await.unwrap();
    launched.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_are_one_chat() {
    let _room = beside_another().await;
    let launched = Launched::start(3).await;
    let [a, b, c] = &launched.nodes[..] else { panic!("three nodes") };
    let status = agreed(&launched.nodes).await;
    let incarnations: Vec<_> =
        status["members"].as_array().unwrap().iter().map(|member| &member["incarnation"]).collect();
    assert!(incarnations.iter().all(|incarnation| incarnation.as_u64().is_some_and(|number| number > 0)), "{status}");

    let mut watch = chat(&["watch", "--http", &b.url, "--room", "lobby"]).spawn().unwrap();
    let mut stdout = BufReader::new(watch.stdout.take().unwrap()).lines();
    let mut stderr = BufReader::new(watch.stderr.take().unwrap()).lines();
    within("the watch", stderr.next_line()).await.unwrap();
    for (number, node) in (1..).zip([a, b, c]) {
        let said = ["say", "--http", &node.url, "--room", "lobby", "--as", "ann", &node.name];
        assert_eq!(run_well(&said).await, format!("{number}\n"));
        let line = within("a line", stdout.next_line()).await.unwrap();
        assert_eq!(line, Some(format!("{number}\tann\t{}", node.name)));
    }
    for node in &launched.nodes {
        let history = run_well(&["history", "--http", &node.url, "--room", "lobby"]).await;
        assert_eq!(history, "1\tann\ta\n2\tann\tb\n3\tann\tc\n", "at {}", node.name);
        assert_eq!(ask(node, "/rooms").await, Some(json!(["lobby"])));
    }
    let mut rooms = 0;
    for node in &launched.nodes {
        rooms += self::status(node).await.unwrap()["activations"]["room"].as_u64().unwrap();
    }
    assert_eq!(rooms, 1, "there is one lobby, on one of them");
    watch.kill().await.unwrap();
    launched.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn visitors_of_different_nodes_see_each_other() {
    let _room = beside_another().await;
    let launched = Launched::start(3).await;
    agreed(&launched.nodes).await;
    let [a, b, _] = &launched.nodes[..] else { panic!("three nodes") };
    let mut ann = Window::open_at(a.address(), "lobby", "ann", 0, None).await.unwrap();
    assert_eq!(ann.next().await["here"], json!(["ann"]));
    // As the page of `a` would come to `b` when `a` is gone.
    let mut bob = Window::open_at(b.address(), "lobby", "bob", 0, Some(&a.url)).await.unwrap();
    assert_eq!(bob.next().await["here"], json!(["ann", "bob"]));
    assert_eq!(ann.next().await, json!({ "type": "joined", "who": "bob" }));
    drop(bob);
    assert_eq!(ann.next().await, json!({ "type": "left", "who": "bob" }), "whose seat was given back across nodes");
    launched.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rooms_answer_again_soon_after_a_node_was_killed() {
    let _alone = alone().await;
    let launched = Launched::start(3).await;
    let before = agreed(&launched.nodes).await;
    let rooms: Vec<_> = (0..30).map(|n| format!("room-{n}")).collect();
    for room in &rooms {
        assert_eq!(say(&launched.node("a"), room, "before").await, Some(1), "{room}");
    }
    // The hardest to lose: it leads.
    let victim = before["leader"].as_str().unwrap();
    let others = launched.others(victim);
    launched.node(victim).signal("KILL").await;
    let killed = Instant::now();
    for node in &others {
        for room in &rooms {
            let left = AGAIN_MAX.saturating_sub(killed.elapsed());
            until(&format!("{room} answers through {}", node.name), left, async || say(node, room, "after").await)
                .await;
        }
    }
    let ended = launched.says(&format!("node {victim} ended")).await;
    assert!(ended.contains("signal: 9"), "{ended}");
    let after = agreed(&others).await;
    assert!(after["term"].as_u64() > before["term"].as_u64(), "another leads: {after}");
    launched.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_follows_a_room_finds_it_again_when_its_node_was_killed() {
    let _alone = alone().await;
    let launched = Launched::start(3).await;
    agreed(&launched.nodes).await;
    say(&launched.node("a"), "lobby", "one").await.unwrap();
    let mut host = None;
    for node in &launched.nodes {
        if status(node).await.unwrap()["activations"]["room"] == 1 {
            host = Some(node.clone());
        }
    }
    let host = host.expect("one of them has the lobby");
    let other = launched.others(&host.name).remove(0);
    let mut window = Window::open_at(other.address(), "lobby", "ann", 0, None).await.unwrap();
    let first = window.next().await;
    assert_eq!(window.lines().await, [(1, "one".to_owned())]);

    host.signal("KILL").await;
    let killed = Instant::now();
    assert_eq!(window.next().await["type"], "gone");
    let again = window.next().await;
    assert!(killed.elapsed() < AGAIN_MAX, "{:?}", killed.elapsed());
    assert_eq!((&again["type"], &again["said"], &again["here"]), (&json!("entered"), &json!(1), &json!(["ann"])));
    assert_eq!(again["history"], first["history"], "it goes on");
    assert_eq!(say(&other, "lobby", "two").await, Some(2));
    assert_eq!(lines_of(&window.next().await).unwrap(), [(2, "two".to_owned())]);
    assert_eq!(ask(&other, "/rooms").await, Some(json!(["lobby"])));
    let online = async || (ask(&other, "/users").await? == json!([{ "who": "ann", "rooms": ["lobby"] }])).then_some(());
    until("ann is still online", PATIENCE, online).await;
    launched.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_pages_moves_when_its_node_dies_and_is_whole_again() {
    let _room = beside_another().await;
    let launched = Launched::start(3).await;
    let holder = agreed(&launched.nodes).await["singletons"]["pages"].as_str().unwrap().to_owned();
    let others = launched.others(&holder);
    launched.node(&holder).signal("KILL").await;
    let killed = Instant::now();
    until("it has moved", AGAIN_MAX, async || {
        let now = status(&others[0]).await?;
        let holder = now["singletons"]["pages"].as_str()?;
        others.iter().any(|node| node.name == holder).then_some(())
    })
    .await;
    assert!(killed.elapsed() < AGAIN_MAX);
    agreed(&others).await;
    launched.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_asked_to_leave_under_traffic_fails_nobody() {
    let _alone = alone().await;
    let launched = Launched::start(3).await;
    agreed(&launched.nodes).await;
    let stop = AtomicBool::new(false);
    let urls: Vec<_> = launched.nodes.iter().map(|node| node.url.as_str()).collect();
    let speaker = async |n: usize| {
        // Each begins with another node.
        let http = [urls[n % 3], urls[(n + 1) % 3], urls[(n + 2) % 3]].join(",");
        let mut said = 0;
        while !stop.load(Ordering::Relaxed) {
            let room = format!("room-{n}-{}", said % 5);
            let output = run(&["say", "--http", &http, "--room", &room, "--as", "ann", "hello"]).await;
            assert!(output.status.success(), "speaker {n}: {}", String::from_utf8_lossy(&output.stderr));
            said += 1;
        }
        said
    };
    let leaving = async {
        tokio::time::sleep(TRAFFIC).await;
        launched.node("b").signal("TERM").await;
        let ended = launched.says("node b ended").await;
        agreed(&launched.others("b")).await;
        tokio::time::sleep(TRAFFIC).await;
        stop.store(true, Ordering::Relaxed);
        ended
    };
    let (ended, one, two, three, four) = tokio::join!(leaving, speaker(0), speaker(1), speaker(2), speaker(3));
    assert!(ended.contains("exit status: 0"), "{ended}");
    assert!([one, two, three, four].iter().all(|said| *said > 0));
    launched.stop().await;
}

/// How long speakers speak before and after: nothing waits for them, they are to be in the middle of it.
const TRAFFIC: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_died_comes_back_with_the_command_that_is_printed() {
    let _room = beside_another().await;
    let launched = Launched::start(3).await;
    agreed(&launched.nodes).await;
    let victim = launched.node("c");
    victim.signal("KILL").await;
    let back = launched.start_again("c").await;
    let now = agreed(&launched.nodes).await;
    assert_eq!(member_names(&now), ["a", "b", "c"]);
    assert!(say(&victim, "lobby", "back").await.is_some());

    back.stop().await;
    agreed(&launched.others("c")).await;
    launched.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn history_and_numbers_outlive_each_node_and_all_of_them() {
    let _room = beside_another().await;
    let launched = Launched::start(3).await;
    agreed(&launched.nodes).await;
    let mut said = Vec::new();
    let mut back = Vec::new();
    for victim in ["a", "b", "c"] {
        let others = launched.others(victim);
        for node in [&launched.node(victim), &others[0]] {
            said.push(say(node, "lobby", victim).await);
        }
        launched.node(victim).signal("KILL").await;
        // Each line through another node, from the moment of the death on.
        for node in &others {
            said.push(say(node, "lobby", victim).await);
        }
        back.push(launched.start_again(victim).await);
        agreed(&launched.nodes).await;
    }
    let all: Vec<_> = (1..=12).map(Some).collect();
    assert_eq!(said, all, "every line has its number at once, without gap or repeat");
    for again in back {
        again.kill().await;
    }

    let launched = launched.kill_and_start().await;
    for node in &launched.nodes {
        let history = run_well(&["history", "--http", &node.url, "--room", "lobby"]).await;
        let numbers: Vec<_> = history.lines().map(|line| line.split('\t').next().unwrap().parse().ok()).collect();
        assert_eq!(numbers, all, "at {}", node.name);
    }
    assert_eq!(say(&launched.nodes[0], "lobby", "on").await, Some(13));
    launched.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_a_cluster_end_with_the_launcher() {
    let _room = beside_another().await;
    let mut launched = Launched::start(3).await;
    agreed(&launched.nodes).await;
    launched.signal("KILL").await;
    launched.end().await;
    launched.are_gone(PATIENCE).await;
}

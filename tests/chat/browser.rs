//! What the page relies on.

use serde_json::json;
use tokio_tungstenite::tungstenite;

use crate::{
    process::{Folder, Node, get},
    window::{Window, lines_of},
    writers::{ROOM, agent, say},
};

/// What a window that enters is told, but for which history of the room it is.
async fn entered(window: &mut Window) -> serde_json::Value {
    let mut step = window.next().await;
    assert!(step["history"].is_u64(), "{step}");
    step.as_object_mut().unwrap().remove("history");
    step
}

fn as_entered(said: u64, here: &[&str]) -> serde_json::Value {
    json!({ "type": "entered", "said": said, "here": here })
}

#[tokio::test(flavor = "multi_thread")]
async fn visitors_see_each_other_and_every_line_in_order() {
    let folder = Folder::new();
    let node = Node::start(folder.path()).await;
    let mut ann = Window::open(&node, ROOM, "ann", 0).await;
    assert_eq!(entered(&mut ann).await, as_entered(0, &["ann"]));
    let mut bob = Window::open(&node, ROOM, "bob", 0).await;
    assert_eq!(entered(&mut bob).await, as_entered(0, &["ann", "bob"]));
    assert_eq!(ann.next().await, json!({ "type": "joined", "who": "bob" }));

    for number in 1..=20 {
        assert_eq!(say(&agent(), &node.url, "ann", &format!("line {number}")), Some(number));
    }
    for window in [&mut ann, &mut bob] {
        for number in 1..=20 {
            assert_eq!(window.lines().await, [(number, format!("line {number}"))]);
        }
    }
    drop(bob);
    assert_eq!(ann.next().await, json!({ "type": "left", "who": "bob" }));
    node.stop("TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_comes_back_gets_what_it_missed_once() {
    let folder = Folder::new();
    let node = Node::start(folder.path()).await;
    let mut ann = Window::open(&node, ROOM, "ann", 0).await;
    ann.next().await;
    say(&agent(), &node.url, "bob", "one").unwrap();
    assert_eq!(ann.lines().await, [(1, "one".to_owned())]);
    node.kill().await;

    let node = Node::start(folder.path()).await;
    for text in ["two", "three"] {
        say(&agent(), &node.url, "bob", text).unwrap();
    }
    let mut ann = Window::open(&node, ROOM, "ann", 1).await;
    assert_eq!(entered(&mut ann).await, as_entered(3, &["ann"]));
    assert_eq!(ann.lines().await, [(2, "two".to_owned()), (3, "three".to_owned())]);
    node.stop("TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_window_is_told_what_it_missed_and_the_others_do_not_wait() {
    const LINES: u64 = 400;
    let folder = Folder::new();
    let node = Node::start(folder.path()).await;
    let mut slow = Window::open(&node, ROOM, "slow", 0).await;
    slow.next().await;
    // Four bytes a character: more than the kernels keep for it, and than the room keeps for those who are behind.
    let text = "👋".repeat(1000);
    let agent = agent();
    for number in 1..=LINES {
        assert_eq!(say(&agent, &node.url, "ann", &text), Some(number));
    }

    let (mut last, mut missed) = (0, 0);
    while last < LINES {
        let step = slow.next().await;
        match step["type"].as_str() {
            Some("missed") => missed += step["events"].as_u64().unwrap(),
            Some("entered") => assert_eq!(step["said"], LINES),
            _ => {
                let numbers = lines_of(&step).unwrap();
                assert!(missed > 0 || numbers[0].0 == last + 1, "line {last}, and then {}", numbers[0].0);
                for (number, _) in numbers {
                    assert!(number > last, "line {last}, and then {number}");
                    last = number;
                }
            }
        }
    }
    assert!(missed > 0, "it was told");
    node.stop("TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_sites_may_not_enter() {
    let folder = Folder::new();
    let node = Node::start(folder.path()).await;
    for origin in
        ["http://evil.example", "null", "http://127.0.0.1", &format!("http://{}.evil.example", node.address())]
    {
        let refused = Window::open_from(&node, ROOM, "ann", 0, Some(origin)).await.err();
        let Some(tungstenite::Error::Http(answer)) = refused else { panic!("{origin}: {refused:?}") };
        assert_eq!(answer.status(), 403, "{origin}");
    }
    let mut own = Window::open_from(&node, ROOM, "ann", 0, Some(&node.url)).await.unwrap();
    assert_eq!(entered(&mut own).await, as_entered(0, &["ann"]));
    node.stop("TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_requests_are_refused_with_a_reason() {
    let folder = Folder::new();
    let node = Node::start(folder.path()).await;
    let post = |room: &str, body: String| {
        let url = format!("{}/rooms/{room}/lines", node.url);
        let mut answer = agent().post(url).content_type("application/json").send(body).unwrap();
        (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
    };
    let line = |who: &str, text: &str| json!({ "who": who, "text": text }).to_string();
    let cases = [
        (post("a.b", line("ann", "hi")), 422, "a room name has"),
        (post(ROOM, line("", "hi")), 422, "a name has"),
        (post(ROOM, line("ann", "a\nb")), 422, "line breaks"),
        (post(ROOM, line("ann", "  ")), 422, "not all blank"),
        (post(ROOM, line("ann", &"x".repeat(20_000))), 413, "limit"),
        (post(ROOM, "{".into()), 400, "JSON"),
    ];
    for ((status, body), expected, reason) in cases {
        assert_eq!(status, expected, "{body}");
        let error: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert!(error["error"].as_str().unwrap().contains(reason), "{body}");
    }
    assert_eq!(say(&agent(), &node.url, "ann", "fine"), Some(1), "none of them was said");
    node.stop("TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_whole_and_talks_to_its_node_only() {
    let folder = Folder::new();
    let node = Node::start(folder.path()).await;
    let mut page = agent().get(format!("{}/", node.url)).call().unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("default-src 'none'") && policy.ends_with("connect-src 'self'"), "{policy}");
    let text = page.body_mut().read_to_string().unwrap();
    assert!(text.ends_with("</html>\n") && !text.contains("innerHTML"));
    node.stop("TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_the_other_nodes_may_enter_and_ask() {
    let folder = Folder::new();
    let other = "http://127.0.0.1:9";
    let node = Node::start_with(folder.path(), &["--pages", other]).await;
    let mut window = Window::open_from(&node, ROOM, "ann", 0, Some(other)).await.unwrap();
    assert_eq!(entered(&mut window).await, as_entered(0, &["ann"]));

    let allowed = |origin: &str| {
        let answer = agent().get(format!("{}/rooms", node.url)).header("origin", origin).call().unwrap();
        answer.headers().get("access-control-allow-origin").map(|origin| origin.to_str().unwrap().to_owned())
    };
    assert_eq!(allowed(other).as_deref(), Some(other));
    assert_eq!(allowed("http://127.0.0.1:10"), None);

    let may_say = |origin: &str| {
        let asked = agent().options(format!("{}/rooms/{ROOM}/lines", node.url)).header("origin", origin);
        let answer = asked.header("access-control-request-method", "POST").call().unwrap();
        answer.headers().contains_key("access-control-allow-origin")
            && answer.headers()["access-control-allow-headers"] == "content-type"
    };
    assert!(may_say(other) && !may_say("http://127.0.0.1:10"));

    let page = agent().get(format!("{}/", node.url)).call().unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("connect-src 'self' http://127.0.0.1:* ws://127.0.0.1:*"), "{policy}");
    node.stop("TERM").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_learns_where_the_other_nodes_are() {
    let folder = Folder::new();
    let node = Node::start_with(folder.path(), &["--pages", "http://127.0.0.1:9/,http://127.0.0.1:10"]).await;
    let told: serde_json::Value = serde_json::from_str(&get(&format!("{}/nodes", node.url)).await).unwrap();
    let pages = ["http://127.0.0.1:9", "http://127.0.0.1:10"];
    assert_eq!(told, json!({ "node": "a", "pages": pages }));
    node.stop("TERM").await;
}

//! What a person sees in a browser while a node is killed. Not run with the others: `tests/browser` installs what these need.

use std::time::Duration;

use crate::{
    chromium::Browser,
    cluster::{agreed, alone},
    launched::{Launched, until},
    process::PATIENCE,
    writers::{ROOM, agent, history, say},
};

/// How soon a page says that a node is dead, and how soon it goes on without it.
const SOON: Duration = Duration::from_secs(10);
const ENTER: char = '\u{e007}';

/// The lines of a chat page, without who said them and when.
const LINES: &str = "const lines = [...document.querySelectorAll('#log .text')].map((line) => line.textContent);";

fn shows(count: usize) -> String {
    format!("{LINES} return lines.length === {count};")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium and ChromeDriver: run tests/browser"]
async fn a_person_goes_on_talking_when_the_node_of_the_page_is_killed() {
    let _alone = alone().await;
    let launched = Launched::start(3).await;
    agreed(&launched.nodes).await;
    let (a, b) = (launched.node("a"), launched.node("b"));

    let page = Browser::start().await;
    page.open(&format!("{}/#{ROOM}", b.url));
    page.until("it asks for a name", PATIENCE, "return document.getElementById('ask').open").await;
    page.type_into("#ask input", &format!("ann{ENTER}"));
    page.until("it is connected", PATIENCE, "return document.getElementById('dot').className === 'on'").await;
    page.type_into("#say input", &format!("one{ENTER}"));
    page.until("the line is shown", PATIENCE, &shows(1)).await;
    say(&agent(), &a.url, "bob", "two").unwrap();
    page.until("the line of another is shown", PATIENCE, &shows(2)).await;
    page.until("it names its node", PATIENCE, "return document.getElementById('via').textContent === 'node b'").await;
    page.keep("chat-1-before");

    b.signal("KILL").await;
    page.type_into("#say input", &format!("three{ENTER}"));
    page.keep("chat-2-killed");
    page.until(
        "it goes on with another node",
        SOON,
        "return /node [ac]/.test(document.getElementById('via').textContent)",
    )
    .await;
    page.until("what was said meanwhile is shown", SOON, &shows(3)).await;
    say(&agent(), &a.url, "bob", "four").unwrap();
    page.until("and what is said afterwards", PATIENCE, &shows(4)).await;
    page.keep("chat-3-after");

    let shown = page.run(&format!("{LINES} return lines;"));
    assert_eq!(shown, serde_json::json!(["one", "two", "three", "four"]));
    let kept: Vec<_> = history(&a.url).await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(serde_json::json!(kept), shown, "each line was said once");
    assert_eq!(page.complaints(), Vec::<String>::new());
    launched.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium and ChromeDriver: run tests/browser"]
async fn the_status_page_shows_a_death() {
    let _alone = alone().await;
    let launched = Launched::start(3).await;
    agreed(&launched.nodes).await;
    let (a, c) = (launched.node("a"), launched.node("c"));
    for number in 1..=20 {
        assert_eq!(say(&agent(), &a.url, "ann", "hello"), Some(number));
    }

    let page = Browser::start().await;
    page.open(&format!("{}/status", a.url));
    let ready = "return document.querySelectorAll('#nodes tr.ready').length === 3";
    page.until("it shows three nodes that answer", PATIENCE, ready).await;
    let cell = |node: &str, column: usize| {
        page.run(&format!("return document.querySelector('#nodes tr[data-node={node}]').cells[{column}].textContent"))
    };
    let number = |value: serde_json::Value| value.as_str().unwrap().replace(',', "").parse::<u64>().unwrap();
    let owned = |nodes: &[&str]| nodes.iter().map(|node| number(cell(node, 4))).sum::<u64>();
    let all = owned(&["a", "b", "c"]);
    assert!(all > 0);
    page.until("somebody leads the states and knows how far the others are", PATIENCE,
        "return [...document.querySelectorAll('#nodes tr')].every((line) => /^[0-9,]+$/.test(line.cells[8].textContent))").await;
    page.until(
        "the room is somewhere",
        PATIENCE,
        "return [...document.querySelectorAll('#types tr')].some((line) => line.cells[0].textContent === 'room')",
    )
    .await;
    page.keep("status-1-before");

    c.signal("KILL").await;
    let gone = "const line = document.querySelector('#nodes tr[data-node=c]');";
    page.until("it does not answer", SOON, &format!("{gone} return line.className === 'gone'")).await;
    page.keep("status-2-killed");
    page.until(
        "it is no member any more",
        SOON,
        &format!("{gone} return line.cells[1].textContent === 'not a member'"),
    )
    .await;
    until("the others own its partitions", SOON, async || (owned(&["a", "b"]) == all).then_some(())).await;
    page.keep("status-3-evicted");
    assert_eq!(page.complaints(), Vec::<String>::new());
    launched.stop().await;
}

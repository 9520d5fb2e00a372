//! What a person sees in a browser while nodes are killed. Not run with the others: `tests/browser` installs what these need.

use std::time::Duration;

use serde_json::Value;

use crate::{
    chromium::Browser,
    cluster,
    launched::{Launched, Node},
    process::PATIENCE,
    writers::ROOM,
};

mod older;
mod status;
mod talk;

/// How soon a page says that a node is dead, and how soon it goes on without it.
const SOON: Duration = Duration::from_secs(10);
const ENTER: char = '\u{e007}';

const IS_CONNECTED: &str = "return document.getElementById('dot').className === 'on'";

/// The page of a node, entered as ann.
async fn enter(node: &Node) -> Browser {
    let page = Browser::start().await;
    page.open(&format!("{}/#{ROOM}", node.url));
    page.until("it asks for a name", PATIENCE, "return document.getElementById('ask').open").await;
    page.type_into("#ask input", &format!("ann{ENTER}"));
    page.until("it is connected", PATIENCE, IS_CONNECTED).await;
    page
}

/// Waits until the page has gone on with another node than this one.
async fn goes_on_without(page: &Browser, node: &Node) {
    let elsewhere = format!("return !['', 'node {}'].includes(document.getElementById('via').textContent)", node.name);
    page.until("it goes on with another node", SOON, &elsewhere).await;
}

/// A node by whose death the room loses no more than a voter: it neither has the room nor leads the states. And the others.
async fn bystander(launched: &Launched) -> (Node, Vec<Node>) {
    for node in &launched.nodes {
        let status = cluster::status(node).await.unwrap();
        let has_room = status["activations"]["room"].as_u64() > Some(0);
        if !has_room && status["states"]["leader"] != node.name.as_str() {
            return (node.clone(), launched.others(&node.name));
        }
    }
    panic!("two do one of these things at most, of three")
}

/// The number of a line and its text, as the page shows them: of all lines, from the top.
fn lines_of(page: &Browser) -> Vec<(u64, String)> {
    let lines = page.run(
        "return [...document.querySelectorAll('#log [data-number]')]
            .map((line) => [Number(line.dataset.number), line.querySelector('.text').textContent])",
    );
    let line = |line: &Value| (line[0].as_u64().unwrap(), line[1].as_str().unwrap().to_owned());
    lines.as_array().unwrap().iter().map(line).collect()
}

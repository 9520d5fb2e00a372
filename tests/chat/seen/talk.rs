//! Talking, while the node of the page dies.

use super::{ENTER, IS_CONNECTED, SOON, bystander, enter, goes_on_without, lines_of};
use crate::{
    cluster::{agreed, alone},
    launched::Launched,
    process::PATIENCE,
    writers::{agent, history, say},
};

fn shows(count: usize) -> String {
    format!("return document.querySelectorAll('#log .text').length === {count}")
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium and ChromeDriver: run tests/browser"]
async fn a_person_goes_on_talking_when_the_node_of_the_page_is_killed() {
    let _alone = alone().await;
    let launched = Launched::start(3).await;
    agreed(&launched.nodes).await;
    say(&agent(), &launched.node("a").url, "bob", "one").unwrap();
    let (node, others) = bystander(&launched).await;
    let bob_says = |text: &str| say(&agent(), &others[0].url, "bob", text).unwrap();

    let page = enter(&node).await;
    page.type_into("#say input", &format!("two{ENTER}"));
    page.until("the line is shown", PATIENCE, &shows(2)).await;
    bob_says("three");
    page.until("the line of another is shown", PATIENCE, &shows(3)).await;
    let via = format!("return document.getElementById('via').textContent === 'node {}'", node.name);
    page.until("it names its node", PATIENCE, &via).await;
    page.keep("chat-1-before");

    // Otherwise it might be back before the others have said anything.
    page.cut_off();
    node.signal("KILL").await;
    page.until("it says that it is cut off", SOON, "return !document.getElementById('offline').hidden").await;
    page.type_into("#say input", &format!("typed meanwhile{ENTER}"));
    assert_eq!([bob_says("four"), bob_says("five")], [4, 5], "the others talk on");
    assert_eq!(page.run(IS_CONNECTED), false);
    assert_eq!(lines_of(&page).len(), 3, "it has not heard of it");
    page.keep("chat-2-killed");

    page.connect_again();
    goes_on_without(&page, &node).await;
    page.until("what was said meanwhile is shown", SOON, &shows(6)).await;
    bob_says("seven");
    page.until("and what is said afterwards", PATIENCE, &shows(7)).await;
    page.keep("chat-3-after");

    let shown = lines_of(&page);
    let texts: Vec<_> = shown.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts, ["one", "two", "three", "four", "five", "typed meanwhile", "seven"]);
    assert_eq!(history(&others[0].url).await, shown, "each line is there once, and the page has it in its place");
    assert_eq!(page.complaints(), Vec::<String>::new());
    launched.stop().await;
}

//! Reading what was said long ago, while the node of the page dies.

use serde_json::{Value, json};

use super::{SOON, enter, goes_on_without, lines_of};
use crate::{
    chromium::Browser,
    cluster::{agreed, alone},
    launched::{Launched, until},
    process::PATIENCE,
    writers::{Writers, agent, history, say},
};

/// More than a room keeps itself: the oldest are on leaves, of which a page loads one after the other.
const LINES: usize = 1500;

/// Goes to the top, as who wants to read on there. Where the line that was the first one is now, from the top of the window.
fn scroll_up(page: &Browser) -> Value {
    page.run(
        "window.reads = document.querySelector('#log [data-number]');
        document.getElementById('scroll').scrollTop = 0;
        return window.reads.getBoundingClientRect().top",
    )
}

fn first(page: &Browser) -> u64 {
    page.run("return Number(document.querySelector('#log [data-number]').dataset.number)").as_u64().unwrap()
}

/// How far apart the nearest hues of two names are, in degrees.
fn nearest_hues(page: &Browser) -> u64 {
    let hues = page.run(
        "return [...new Set([...document.querySelectorAll('.who')].map((it) => Number(it.style.getPropertyValue('--hue'))))]",
    );
    let mut hues: Vec<_> = hues.as_array().unwrap().iter().map(|hue| hue.as_u64().unwrap()).collect();
    hues.sort_unstable();
    hues.windows(2).map(|two| two[1] - two[0]).min().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium and ChromeDriver: run tests/browser"]
async fn a_person_scrolls_up_to_the_first_line_also_when_the_node_of_the_page_is_killed() {
    let _alone = alone().await;
    let launched = Launched::start(3).await;
    agreed(&launched.nodes).await;
    let (node, others) = (launched.node("b"), launched.others("b"));
    let writers = Writers::start(&node.url, "long ago");
    writers.acknowledged(LINES).await;
    writers.end().await;
    let all = history(&node.url).await;

    let page = enter(&node).await;
    page.until("the last line is shown", PATIENCE, &format!("return last === {}", all.len())).await;
    let shown = lines_of(&page);
    assert_eq!(shown, all[all.len() - shown.len()..], "the last ones");
    let begin = first(&page);
    assert!(begin > 400, "from {begin} on");
    assert!(nearest_hues(&page) > 20, "names that are alike have colours that are not");
    page.keep("older-1-newest");

    let mut read = scroll_up(&page);
    let mut loaded = begin;
    let mut is_killed = false;
    while loaded > 1 {
        loaded =
            until("older lines are loaded", SOON, async || Some(first(&page)).filter(|first| *first < loaded)).await;
        let is_now = page.run("return window.reads.getBoundingClientRect().top");
        assert!((is_now.as_f64().unwrap() - read.as_f64().unwrap()).abs() < 2.0, "{read} stays in place: {is_now}");
        if !is_killed {
            page.keep("older-2-scrolled");
            node.signal("KILL").await;
            goes_on_without(&page, &node).await;
            is_killed = true;
        }
        read = scroll_up(&page);
    }
    assert_eq!(page.run("return document.getElementById('older').hidden"), true, "there are no more");
    page.keep("older-3-first");
    assert_eq!(lines_of(&page), all, "each is there once, in order");

    let number = say(&agent(), &others[0].url, "bob", "new").unwrap();
    page.until("a line below is told of", SOON, "return !document.getElementById('newer').hidden").await;
    assert_eq!(page.run("return document.getElementById('scroll').scrollTop"), json!(0), "and does not disturb");
    page.run("document.getElementById('newer').click()");
    let last = "return document.querySelector('#log > :last-child').getBoundingClientRect().bottom
        < document.getElementById('say').getBoundingClientRect().top";
    page.until("it is in sight", SOON, &format!("{last} && last === {number}")).await;
    page.keep("older-4-end");
    assert_eq!(page.complaints(), Vec::<String>::new());
    launched.stop().await;
}

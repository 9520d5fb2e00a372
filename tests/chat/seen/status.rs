//! The status page, while its node dies and comes back.

use serde_json::Value;

use super::{SOON, bystander};
use crate::{
    chromium::Browser,
    cluster::{agreed, alone, status},
    launched::{Launched, until},
    process::PATIENCE,
    writers::{Writers, agent, say},
};

/// What a table of nodes has in its columns.
const MEMBER: usize = 1;
const PART: usize = 2;
const LIFE: usize = 3;
const PARTITIONS: usize = 4;
const COMMITS: usize = 6;
const COMMIT: usize = 7;
const LAG: usize = 8;

/// The status page.
struct Shown(Browser);

impl Shown {
    fn cell(&self, node: &str, column: usize) -> String {
        let row = format!("document.querySelector('#nodes tr[data-node={node}]')");
        self.0.run(&format!("return {row}.cells[{column}].textContent")).as_str().unwrap().to_owned()
    }

    /// The number that is there, if one is.
    fn number(&self, node: &str, column: usize) -> Option<u64> {
        self.cell(node, column).replace(',', "").parse().ok()
    }

    /// What is told of all nodes together: `Leader`, `Members`, ...
    fn fact(&self, name: &str) -> Value {
        self.0.run(&format!(
            "return [...document.querySelectorAll('#facts dt')].find((it) => it.textContent === '{name}')
                .nextSibling.textContent"
        ))
    }

    /// The nodes whose rows look so: `ready` or `gone`.
    fn looking(&self, so: &str) -> Vec<String> {
        let rows = self
            .0
            .run(&format!("return [...document.querySelectorAll('#nodes tr.{so}')].map((row) => row.dataset.node)"));
        rows.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    }

    /// The nodes with a badge.
    fn with_badge(&self, badge: &str) -> Vec<String> {
        let rows = self.0.run(&format!(
            "return [...document.querySelectorAll('#nodes tr')]
                .filter((row) => [...row.querySelectorAll('.badge')].some((it) => it.textContent === '{badge}'))
                .map((row) => row.dataset.node)"
        ));
        rows.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    }

    fn owned(&self, nodes: &[&str]) -> u64 {
        nodes.iter().filter_map(|node| self.number(node, PARTITIONS)).sum()
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium and ChromeDriver: run tests/browser"]
async fn the_status_page_shows_the_death_of_the_leader_and_its_return() {
    let _alone = alone().await;
    let launched = Launched::start(3).await;
    let now = agreed(&launched.nodes).await;
    let leader = launched.node(now["leader"].as_str().unwrap());
    let others = launched.others(&leader.name);
    let names: Vec<_> = others.iter().map(|node| node.name.as_str()).collect();
    let all_names: Vec<_> = launched.nodes.iter().map(|node| node.name.as_str()).collect();

    // Of the very node that is to die.
    let page = Shown(Browser::start().await);
    page.0.open(&format!("{}/status", leader.url));
    let seen = async |what: &str, is_so: &dyn Fn() -> bool| {
        until(what, SOON, async || is_so().then_some(())).await;
    };
    seen("three nodes answer", &|| page.looking("ready") == all_names).await;
    assert_eq!((page.fact("Members"), page.fact("Leader")), ("3".into(), leader.name.as_str().into()));
    assert_eq!(page.with_badge("leader"), [leader.name.as_str()]);
    assert_eq!(page.with_badge("voter"), all_names);
    let (all, life) = (page.owned(&all_names), page.number(&leader.name, LIFE));
    assert!(all > 0 && life.is_some());

    let writers = Writers::start(&others[0].url, "before");
    seen("somebody commits", &|| all_names.iter().any(|name| page.number(name, COMMITS) > Some(0))).await;
    seen("and it is told how long that takes", &|| {
        all_names.iter().any(|name| page.cell(name, COMMIT).ends_with(" ms"))
    })
    .await;
    seen("all know how far behind they are", &|| all_names.iter().all(|name| page.number(name, LAG).is_some())).await;
    let room = "return [...document.querySelectorAll('#types tr')].find((row) => row.cells[0].textContent === 'room')";
    seen("the room is somewhere", &|| page.0.run(&format!("{room}?.textContent.includes('1') ?? false")) == true).await;
    page.0.keep("status-1-before");
    writers.end().await;

    leader.signal("KILL").await;
    seen("it does not answer", &|| page.looking("gone") == [leader.name.as_str()]).await;
    page.0.keep("status-2-killed");
    seen("it is no member any more", &|| page.cell(&leader.name, MEMBER) == "not a member").await;
    seen("another leads", &|| names.contains(&page.fact("Leader").as_str().unwrap())).await;
    assert_eq!(
        (page.fact("Members"), page.looking("ready")),
        ("2".into(), names.iter().map(|name| (*name).to_owned()).collect())
    );
    assert_eq!(page.fact("Leader"), page.with_badge("leader").join(" and ").as_str());
    seen("the others own its partitions", &|| page.owned(&names) == all).await;
    page.0.keep("status-3-evicted");

    let back = launched.start_again(&leader.name).await;
    seen("it answers again", &|| page.looking("ready") == all_names).await;
    seen("it is a member", &|| {
        (page.cell(&leader.name, MEMBER), page.fact("Members")) == ("active".into(), "3".into())
    })
    .await;
    assert!(page.number(&leader.name, LIFE) > life, "in another life");
    seen("it has its share", &|| page.owned(&[&leader.name]) > 0 && page.owned(&all_names) == all).await;
    seen("it votes", &|| page.cell(&leader.name, PART).contains("voter")).await;
    seen("and has the states", &|| page.number(&leader.name, LAG) == Some(0)).await;
    page.0.keep("status-4-back");

    assert_eq!(page.0.complaints(), Vec::<String>::new());
    back.stop().await;
    launched.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Chromium and ChromeDriver: run tests/browser"]
async fn the_status_page_shows_how_far_a_frozen_node_is_behind() {
    let _alone = alone().await;
    let launched = Launched::start(3).await;
    agreed(&launched.nodes).await;
    say(&agent(), &launched.node("a").url, "ann", "hello").unwrap();
    let (node, others) = bystander(&launched).await;
    let page = Shown(Browser::start().await);
    page.0.open(&format!("{}/status", others[0].url));
    let lag = async |what: &str, is_so: &dyn Fn(u64) -> bool| {
        until(what, PATIENCE, async || page.number(&node.name, LAG).filter(|lag| is_so(*lag))).await;
    };
    lag("it has all", &|lag| lag == 0).await;

    let writers = Writers::start(&others[0].url, "frozen");
    node.signal("STOP").await;
    lag("it falls behind", &|lag| lag > 10).await;
    page.0.keep("status-5-frozen");
    writers.end().await;
    node.signal("CONT").await;
    lag("it has caught up", &|lag| lag == 0).await;
    let life = status(&node).await.unwrap()["incarnation"].as_u64();
    until("it is a member, in its present life", PATIENCE, async || {
        (page.number(&node.name, LIFE) == life).then_some(())
    })
    .await;
    assert_eq!(page.0.complaints(), Vec::<String>::new());
    launched.stop().await;
}

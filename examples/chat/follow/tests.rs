//! Followers of a real room, whose store has a bad day or whose reader is slow.

use std::collections::BTreeSet;

use grains::{
    Node,
    store::{MemoryStore, Store},
};
use grains_runtime::store::{Fault, FaultyStore};

use super::*;
use crate::{leaf::LeafGrain, online::OnlineGrain, room::RoomGrain, rooms::RoomsGrain, said::SayId, user::UserGrain};

async fn node(store: &FaultyStore<impl Store + Clone>) -> Node {
    let rooms = Node::builder().store(store.clone()).host::<RoomGrain>().host::<LeafGrain>().host::<RoomsGrain>();
    rooms.host::<UserGrain>().host::<OnlineGrain>().start().await.unwrap()
}

fn lobby(node: &Node) -> Followed {
    Followed { node: node.clone(), name: "lobby".parse().unwrap() }
}

async fn say(room: &RoomRef, text: &str) -> Result<u64, CallError<RoomError>> {
    room.say(SayId::random(), "ann".parse().unwrap(), text.parse().unwrap()).await
}

/// The steps up to the line with this number.
async fn steps_to(follower: &mut Follower, number: u64) -> Vec<Step> {
    let mut steps = Vec::new();
    while follower.seen.number < number || !follower.steps.is_empty() || steps.is_empty() {
        steps.push(follower.next().await.unwrap().unwrap());
    }
    steps
}

/// The histories it has read, each once.
fn histories(steps: &[Step]) -> BTreeSet<u64> {
    let history = |step: &Step| match step {
        Step::Entered { history, .. } | Step::Watching { history, .. } => Some(*history),
        _ => None,
    };
    steps.iter().filter_map(history).collect()
}

fn numbers(steps: &[Step]) -> Vec<u64> {
    let lines = steps.iter().filter_map(|step| if let Step::Lines { lines } = step { Some(lines) } else { None });
    lines.flatten().map(|line| line.number).collect()
}

#[tokio::test]
async fn a_room_that_is_lost_is_entered_again_without_gap_or_repeat() {
    let store = FaultyStore::new(MemoryStore::default());
    let node = node(&store).await;
    let room: RoomRef = node.get("lobby");
    let mut bob = Follower::enter(lobby(&node), "bob".parse().unwrap(), Mark::default()).await.unwrap();
    let mut watcher = Follower::watch(lobby(&node), None).await.unwrap();

    say(&room, "one").await.unwrap();
    // The store has the second line and does not say so: the room is lost, and its next life knows better.
    store.script_commits([Fault::HideAnswer]);
    assert!(matches!(say(&room, "two").await, Err(CallError::Lost { .. })));
    assert_eq!(say(&room, "three").await.unwrap(), 3);

    let seen = steps_to(&mut bob, 3).await;
    assert_eq!(numbers(&seen), [1, 2, 3]);
    let entered = seen.iter().filter(|step| matches!(step, Step::Entered { .. })).count();
    assert_eq!(entered, 2, "it is told who is here now: {seen:?}");
    assert_eq!(seen.iter().filter(|step| **step == Step::Gone).count(), 1, "and that it had to come back: {seen:?}");
    assert_eq!(histories(&seen).len(), 1, "what was stored goes on: {seen:?}");
    assert_eq!(numbers(&steps_to(&mut watcher, 3).await), [1, 2, 3]);
    node.stop().await;
}

#[tokio::test]
async fn whoever_reads_too_slowly_is_told_and_catches_up() {
    let node = node(&FaultyStore::new(MemoryStore::default())).await;
    let room: RoomRef = node.get("lobby");
    let mut bob = Follower::enter(lobby(&node), "bob".parse().unwrap(), Mark::default()).await.unwrap();
    for _ in 0..300 {
        say(&room, "hi").await.unwrap();
    }
    let seen = steps_to(&mut bob, 300).await;
    assert_eq!(seen[1], Step::Missed { events: 300 - 256 });
    assert!(matches!(&seen[2], Step::Entered { said: 300, here, .. } if here.len() == 1), "{:?}", seen[2]);
    assert_eq!(numbers(&seen), (1..=300).collect::<Vec<_>>());
    node.stop().await;
}

#[tokio::test]
async fn a_follower_of_another_history_gets_this_one() {
    let node = node(&FaultyStore::new(MemoryStore::default())).await;
    let room: RoomRef = node.get("lobby");
    say(&room, "one").await.unwrap();
    let mut bob =
        Follower::enter(lobby(&node), "bob".parse().unwrap(), Mark { history: None, number: 99 }).await.unwrap();
    say(&room, "two").await.unwrap();
    assert_eq!(numbers(&steps_to(&mut bob, 2).await), [1, 2]);
    node.stop().await;
}

#[tokio::test]
async fn whoever_was_away_for_long_gets_every_line_from_the_leaves() {
    let node = node(&FaultyStore::new(MemoryStore::default())).await;
    let room: RoomRef = node.get("lobby");
    let mut bob = Follower::watch(lobby(&node), Some(Mark::default())).await.unwrap();
    say(&room, "hi").await.unwrap();
    steps_to(&mut bob, 1).await;
    let seen = bob.seen;
    for _ in 1..1250 {
        say(&room, "hi").await.unwrap();
    }
    let mut again = Follower::enter(lobby(&node), "bob".parse().unwrap(), seen).await.unwrap();
    assert_eq!(numbers(&steps_to(&mut again, 1250).await), (2..=1250).collect::<Vec<_>>());
    let mut new = Follower::enter(lobby(&node), "cat".parse().unwrap(), Mark::default()).await.unwrap();
    assert_eq!(numbers(&steps_to(&mut new, 1250).await), (401..=1250).collect::<Vec<_>>(), "who is new, the last ones");
    node.stop().await;
}

#[tokio::test]
async fn a_follower_finds_the_lines_of_another_history_from_its_first_one_on() {
    let (node, other) = (node(&FaultyStore::new(MemoryStore::default())).await, MemoryStore::default());
    let room: RoomRef = node.get("lobby");
    let mut bob = Follower::watch(lobby(&node), Some(Mark::default())).await.unwrap();
    say(&room, "one").await.unwrap();
    let first = steps_to(&mut bob, 1).await;
    node.stop().await;

    let node = self::node(&FaultyStore::new(other)).await;
    let room: RoomRef = node.get("lobby");
    // More lines than before: the numbers alone would not show it.
    for number in 1..=3 {
        assert_eq!(say(&room, "new").await.unwrap(), number);
    }
    let mut again = Follower::watch(lobby(&node), Some(bob.seen)).await.unwrap();
    let then = steps_to(&mut again, 3).await;
    assert_eq!(numbers(&then), [1, 2, 3], "no line of the new history is taken for an old one");
    assert_eq!(histories(&[first, then].concat()).len(), 2);
    node.stop().await;
}

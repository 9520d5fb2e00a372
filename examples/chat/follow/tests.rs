//! Followers of a real room, whose store has a bad day or whose reader is slow.

use std::collections::BTreeSet;

use grains::{
    Node,
    store::{MemoryStore, Store},
};
use grains_runtime::store::{Fault, FaultyStore};

use super::*;
use crate::{fleeting::Fleeting, room::RoomGrain, rooms::RoomsGrain};

async fn node(store: &FaultyStore<impl Store + Clone>) -> Node {
    Node::builder().store(store.clone()).host::<RoomGrain>().host::<RoomsGrain>().start().await.unwrap()
}

async fn say(room: &RoomRef, text: &str) -> Result<u64, CallError<RoomError>> {
    room.say("ann".parse().unwrap(), text.parse().unwrap()).await
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
    let mut bob = Follower::enter(room.clone(), "bob".parse().unwrap(), Mark::default()).await.unwrap();
    let mut watcher = Follower::watch(room.clone(), None).await.unwrap();

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
    let mut bob = Follower::enter(room.clone(), "bob".parse().unwrap(), Mark::default()).await.unwrap();
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
        Follower::enter(room.clone(), "bob".parse().unwrap(), Mark { history: None, number: 99 }).await.unwrap();
    say(&room, "two").await.unwrap();
    assert_eq!(numbers(&steps_to(&mut bob, 2).await), [1, 2]);
    node.stop().await;
}

#[tokio::test]
async fn a_room_that_loses_its_history_is_followed_from_its_first_line() {
    let store = FaultyStore::new(Fleeting);
    let node = node(&store).await;
    let room: RoomRef = node.get("lobby");
    let mut bob = Follower::enter(room.clone(), "bob".parse().unwrap(), Mark::default()).await.unwrap();
    let mut watcher = Follower::watch(room.clone(), None).await.unwrap();
    for text in ["one", "two"] {
        say(&room, text).await.unwrap();
    }
    assert_eq!(numbers(&steps_to(&mut watcher, 2).await), [1, 2]);
    store.script_commits([Fault::HideAnswer]);
    assert!(matches!(say(&room, "lost").await, Err(CallError::Lost { .. })));
    // More lines than before the loss: the numbers alone would not show it.
    for number in 1..=4 {
        assert_eq!(say(&room, "new").await.unwrap(), number);
    }

    assert_eq!(
        numbers(&steps_to(&mut watcher, 4).await),
        [1, 2, 3, 4],
        "no line of the new history is taken for an old one"
    );
    let mut seen = steps_to(&mut bob, 2).await;
    seen.extend(steps_to(&mut bob, 4).await);
    assert_eq!(numbers(&seen), [1, 2, 1, 2, 3, 4]);
    assert_eq!(histories(&seen).len(), 2, "{seen:?}");
    node.stop().await;
}

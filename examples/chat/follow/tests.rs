//! Followers of a real room, whose store has a bad day or whose reader is slow.

use grains::{Node, store::MemoryStore};
use grains_runtime::store::{Fault, FaultyStore};

use super::*;
use crate::{room::RoomGrain, rooms::RoomsGrain};

async fn node(store: &FaultyStore<MemoryStore>) -> Node {
    Node::builder().store(store.clone()).host::<RoomGrain>().host::<RoomsGrain>().start().await.unwrap()
}

async fn say(room: &RoomRef, text: &str) -> Result<u64, CallError<RoomError>> {
    room.say("ann".parse().unwrap(), text.parse().unwrap()).await
}

/// The steps up to the line with this number.
async fn steps_to(follower: &mut Follower, number: u64) -> Vec<Step> {
    let mut steps = Vec::new();
    while follower.last < number || !follower.steps.is_empty() || steps.is_empty() {
        steps.push(follower.next().await.unwrap().unwrap());
    }
    steps
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
    let mut bob = Follower::enter(room.clone(), "bob".parse().unwrap(), 0).await.unwrap();
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
    assert_eq!(numbers(&steps_to(&mut watcher, 3).await), [1, 2, 3]);
    node.stop().await;
}

#[tokio::test]
async fn whoever_reads_too_slowly_is_told_and_catches_up() {
    let node = node(&FaultyStore::new(MemoryStore::default())).await;
    let room: RoomRef = node.get("lobby");
    let mut bob = Follower::enter(room.clone(), "bob".parse().unwrap(), 0).await.unwrap();
    for _ in 0..300 {
        say(&room, "hi").await.unwrap();
    }
    let seen = steps_to(&mut bob, 300).await;
    assert_eq!(seen[1], Step::Missed { events: 300 - 256 });
    assert!(matches!(&seen[2], Step::Entered { said: 300, here } if here.len() == 1), "{:?}", seen[2]);
    assert_eq!(numbers(&seen), (1..=300).collect::<Vec<_>>());
    node.stop().await;
}

#[tokio::test]
async fn a_follower_of_another_history_gets_this_one() {
    let node = node(&FaultyStore::new(MemoryStore::default())).await;
    let room: RoomRef = node.get("lobby");
    say(&room, "one").await.unwrap();
    let mut bob = Follower::enter(room.clone(), "bob".parse().unwrap(), 99).await.unwrap();
    say(&room, "two").await.unwrap();
    assert_eq!(numbers(&steps_to(&mut bob, 2).await), [1, 2]);
    node.stop().await;
}

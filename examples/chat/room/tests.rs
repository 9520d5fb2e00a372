//! The room without a node: built by hand, with a fake in place of the list of rooms.

use grains::{CommitError, StreamError, store::MemoryStore};
use grains_runtime::store::{Fault, FaultyStore};

use super::*;
use crate::{leaf::Leaf, log::Span, rooms::Rooms};

/// A list of rooms that takes any, or none.
enum ListOfRooms {
    Takes,
    Full,
}

impl Rooms for ListOfRooms {
    async fn add(&mut self, _: RoomName) -> Result<(), RoomsError> {
        match self {
            Self::Takes => Ok(()),
            Self::Full => Err(RoomsError::Full),
        }
    }
    async fn list(&self) -> Result<Vec<RoomName>> {
        Ok(Vec::new())
    }
}

/// A leaf that takes any line, or none.
enum AnyLeaf {
    Takes,
    Fails,
}

impl Leaf for AnyLeaf {
    async fn keep(&mut self, _: Vec<Line>) -> Result<(), LeafError> {
        match self {
            Self::Takes => Ok(()),
            Self::Fails => Err(CommitError::NotStored { why: "a bad day".into() }.into()),
        }
    }
    async fn lines(&self, _: Span) -> Result<Vec<Line>> {
        Ok(Vec::new())
    }
}

fn lobby(list: ListOfRooms) -> Ctx<RoomGrain> {
    Ctx::detached("lobby").answers::<RoomsRef>(list).answers::<LeafRef>(AnyLeaf::Takes)
}

async fn room() -> RoomGrain {
    RoomGrain::activate(lobby(ListOfRooms::Takes)).await.unwrap()
}

fn name(who: &str) -> UserName {
    who.parse().unwrap()
}

async fn say(room: &mut RoomGrain, text: &str) -> Result<u64, RoomError> {
    say_as(room, SayId::random(), text).await
}

async fn say_as(room: &mut RoomGrain, id: SayId, text: &str) -> Result<u64, RoomError> {
    room.say(id, name("ann"), text.parse().unwrap()).await
}

/// The lines above `after` that it keeps itself.
async fn history(room: &RoomGrain, after: u64) -> Vec<Line> {
    room.excerpt(Wanted { after: Some(after), before: None, limit: 2000 }).await.unwrap().lines
}

fn texts(lines: &[Line]) -> Vec<(u64, &str)> {
    lines.iter().map(|line| (line.number, line.text.as_str())).collect()
}

#[tokio::test]
async fn lines_are_numbered_from_one_and_kept() {
    let ctx = lobby(ListOfRooms::Takes);
    let mut room = RoomGrain::activate(ctx.clone()).await.unwrap();
    assert_eq!(say(&mut room, "one").await, Ok(1));
    assert_eq!(say(&mut room, "two").await, Ok(2));

    let mut next_life = RoomGrain::activate(ctx).await.unwrap();
    assert_eq!(texts(&history(&next_life, 0).await), [(1, "one"), (2, "two")]);
    assert_eq!(say(&mut next_life, "three").await, Ok(3));
    assert_eq!(texts(&history(&next_life, 2).await), [(3, "three")]);
}

#[tokio::test]
async fn numbers_go_on_when_old_lines_move_to_a_leaf() {
    let mut room = room().await;
    for number in 1..=1003 {
        assert_eq!(say(&mut room, "hi").await, Ok(number));
    }
    let kept = history(&room, 0).await;
    assert_eq!((kept.len(), kept[0].number), (803, 201));
    let asked = room.excerpt(Wanted { after: Some(150), before: None, limit: 100 }).await.unwrap();
    assert_eq!((asked.older, asked.lines.len()), (Span { first: 151, last: 200 }, 50));
}

#[tokio::test]
async fn no_line_is_said_or_dropped_while_older_ones_cannot_be_moved() {
    let ctx = Ctx::detached("lobby").answers::<RoomsRef>(ListOfRooms::Takes).answers::<LeafRef>(AnyLeaf::Fails);
    let mut room = RoomGrain::activate(ctx).await.unwrap();
    for number in 1..=1000 {
        assert_eq!(say(&mut room, "hi").await, Ok(number));
    }
    let refused = say(&mut room, "one more").await;
    assert!(matches!(refused, Err(RoomError::NotMoved(_))), "{refused:?}");
    assert_eq!(history(&room, 0).await.len(), 1000);
}

#[tokio::test]
async fn a_line_that_is_said_again_has_its_number_also_in_the_next_life() {
    let store = FaultyStore::new(MemoryStore::default());
    let ctx = lobby(ListOfRooms::Takes).stored_in(store.clone());
    let mut room = RoomGrain::activate(ctx.clone()).await.unwrap();
    let first = SayId::random();
    assert_eq!(say_as(&mut room, first, "one").await, Ok(1));
    assert_eq!(say_as(&mut room, first, "one").await, Ok(1));
    assert_eq!(say_as(&mut room, first.next(), "two").await, Ok(2));

    let mut next_life = RoomGrain::activate(ctx).await.unwrap();
    assert_eq!(say_as(&mut next_life, first.next(), "two").await, Ok(2));
    assert_eq!(say_as(&mut next_life, first, "one").await, Err(RoomError::Passed), "a late copy is not said");
    assert_eq!(texts(&history(&next_life, 0).await), [(1, "one"), (2, "two")]);
}

#[tokio::test]
async fn the_longest_lines_fit_into_a_state() {
    let mut room = room().await;
    let text = "👋".repeat(1000);
    for number in 1..=300 {
        assert_eq!(say(&mut room, &text).await, Ok(number));
    }
}

#[tokio::test]
async fn everybody_hears_a_line_once_it_is_stored() {
    let mut room = room().await;
    say(&mut room, "before").await.unwrap();
    let mut watch = room.watch(None).await.unwrap();
    assert_eq!((watch.said, watch.excerpt.lines.len()), (1, 0));

    say(&mut room, "after").await.unwrap();
    let Some(Ok(Event::Said(line))) = watch.events.next().await else { panic!("no line") };
    assert_eq!((line.number, line.text.as_str()), (2, "after"));
    drop(room);
    assert_eq!(watch.events.next().await, Some(Err(StreamError::ActivationGone)));
}

#[tokio::test]
async fn a_line_the_store_refuses_was_not_said() {
    let store = FaultyStore::new(MemoryStore::default());
    let ctx = lobby(ListOfRooms::Takes).stored_in(store.clone());
    let mut room = RoomGrain::activate(ctx).await.unwrap();
    say(&mut room, "one").await.unwrap();
    let mut watch = room.watch(None).await.unwrap();

    store.script_commits([Fault::Refuse]);
    let refused = say(&mut room, "two").await;
    assert!(matches!(refused, Err(RoomError::NotStored(CommitError::NotStored { .. }))), "{refused:?}");
    assert_eq!(texts(&history(&room, 0).await), [(1, "one")], "memory does not run ahead of the store");
    assert_eq!(say(&mut room, "three").await, Ok(2), "and the refused line left no gap");
    drop(room);
    let Some(Ok(Event::Said(heard))) = watch.events.next().await else { panic!("the second line is heard") };
    assert_eq!((heard.number, heard.text.as_str()), (2, "three"));
    assert_eq!(watch.events.next().await, Some(Err(StreamError::ActivationGone)), "nobody heard the refused one");
}

#[tokio::test]
async fn no_more_rooms_are_opened_than_can_be_listed() {
    let mut room = RoomGrain::activate(lobby(ListOfRooms::Full)).await.unwrap();
    let refused = say(&mut room, "one").await;
    assert_eq!(refused, Err(RoomError::NotOpened(CallError::Grain(RoomsError::Full))));
    assert_eq!(history(&room, 0).await, []);
}

#[tokio::test]
async fn somebody_with_two_windows_is_here_once_until_both_are_closed() {
    let ctx = lobby(ListOfRooms::Takes);
    let mut room = RoomGrain::activate(ctx.clone()).await.unwrap();
    let mut bob = room.enter(name("bob"), Mark::default()).await.unwrap();
    assert_eq!(bob.here, [name("bob")]);

    let one = room.enter(name("ann"), Mark::default()).await.unwrap();
    let two = room.enter(name("ann"), Mark::default()).await.unwrap();
    assert_eq!(two.here, [name("ann"), name("bob")]);
    assert_eq!(bob.watch.events.next().await, Some(Ok(Event::Joined(name("ann")))));

    drop(one);
    room.look_who_left().await.unwrap();
    drop(two);
    room.look_who_left().await.unwrap();
    room.enter(name("cat"), Mark::default()).await.unwrap();
    assert_eq!(bob.watch.events.next().await, Some(Ok(Event::Left(name("ann")))), "once, after the second");
    assert_eq!(bob.watch.events.next().await, Some(Ok(Event::Joined(name("cat")))));
}

#[tokio::test]
async fn coming_back_at_once_is_not_leaving() {
    let mut room = room().await;
    let mut bob = room.enter(name("bob"), Mark::default()).await.unwrap();
    drop(room.enter(name("ann"), Mark::default()).await.unwrap());
    let _again = room.enter(name("ann"), Mark::default()).await.unwrap();
    room.look_who_left().await.unwrap();
    say(&mut room, "hi").await.unwrap();
    assert_eq!(bob.watch.events.next().await, Some(Ok(Event::Joined(name("ann")))));
    assert!(matches!(bob.watch.events.next().await, Some(Ok(Event::Said(_)))));
}

#[tokio::test]
async fn the_door_is_watched_while_somebody_is_here() {
    let ctx = lobby(ListOfRooms::Takes);
    let mut room = RoomGrain::activate(ctx.clone()).await.unwrap();
    assert_eq!(ctx.test().timers().len(), 0);
    let ann = room.enter(name("ann"), Mark::default()).await.unwrap();
    room.look_who_left().await.unwrap();
    assert_eq!(ctx.test().timers().len(), 1);
    drop(ann);
    room.look_who_left().await.unwrap();
    assert_eq!(ctx.test().timers().len(), 0);
}

#[tokio::test]
async fn a_crowded_room_says_so_and_has_room_again_when_somebody_leaves() {
    let mut room = room().await;
    let seats_max = FanoutLimits::default().subscribers_max;
    let mut visits = Vec::new();
    for _ in 0..seats_max {
        visits.push(room.enter(name("ann"), Mark::default()).await.unwrap());
    }
    let refused = room.enter(name("bob"), Mark::default()).await;
    assert!(matches!(refused, Err(RoomError::Crowded(_))), "{refused:?}");
    visits.pop();
    assert_eq!(room.enter(name("bob"), Mark::default()).await.unwrap().here, [name("ann"), name("bob")]);
}

#[tokio::test]
async fn it_is_told_who_is_here_and_who_was() {
    let ctx = lobby(ListOfRooms::Takes);
    let mut room = RoomGrain::activate(ctx.clone()).await.unwrap();
    let ann = room.enter(name("ann"), Mark::default()).await.unwrap();
    say(&mut room, "one").await.unwrap();
    assert_eq!(ctx.test().sent(), ["user/ann.seen", "online/.tell"], "once, and nobody waited for it");
    ctx.test().advance(online::TELL_PERIOD);
    room.look_who_left().await.unwrap();
    room.look_who_left().await.unwrap();
    assert_eq!(ctx.test().sent()[2..], ["online/.tell"], "now and then");
    drop(ann);
    room.look_who_left().await.unwrap();
    assert_eq!(ctx.test().sent()[3..], ["online/.tell", "user/ann.seen"], "and at once when it changes");
}

#[tokio::test]
async fn a_room_keeps_its_history_number_with_its_lines() {
    let ctx = lobby(ListOfRooms::Takes);
    let mut room = RoomGrain::activate(ctx.clone()).await.unwrap();
    let begun = room.watch(None).await.unwrap().history;
    say(&mut room, "one").await.unwrap();
    let next_life = RoomGrain::activate(ctx).await.unwrap();
    assert_eq!(next_life.watch(None).await.unwrap().history, begun);
    let other = self::room().await;
    assert_ne!(other.watch(None).await.unwrap().history, 0);
}

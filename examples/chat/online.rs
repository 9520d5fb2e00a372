//! Who is online, over all rooms: a grain that every room tells who is there, now and then and at every change. It lives in
//! memory: when its node is gone it is told again within seconds, and of a room that is gone it forgets what it was told.

use std::{collections::BTreeMap, time::Duration};

use grains::{Instant, prelude::*};
use serde::{Deserialize, Serialize};

use crate::words::{RoomName, UserName};

/// How often a room tells.
pub const TELL_PERIOD: Duration = Duration::from_secs(2);
/// How long a room is believed that tells nothing more: some of what it says may be lost.
const ROOM_LIFE: Duration = Duration::from_secs(7);
/// How many rooms with people in them are known. Of more, none is added.
const ROOMS_MAX: usize = 1000;
/// How many people of a room are known, and how many are listed: more than anybody reads.
pub const PEOPLE_MAX: usize = 500;

/// Who is where.
#[rpc_trait(key = ())]
pub trait Online {
    /// These are in `room` now, and nobody else.
    #[rpc(idempotent)]
    async fn tell(&mut self, room: RoomName, here: Vec<UserName>) -> Result<()>;
    /// The people who are in some room, in the order of their names, [`PEOPLE_MAX`] of them at most.
    #[rpc(idempotent)]
    async fn list(&self) -> Result<Vec<Person>>;
}

/// Somebody who is online.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Their name.
    pub who: UserName,
    /// The rooms they are in.
    pub rooms: Vec<RoomName>,
}

/// The grain behind [`Online`].
#[grain(Online)]
pub struct OnlineGrain {
    ctx: Ctx<Self>,
    rooms: BTreeMap<RoomName, (Instant, Vec<UserName>)>,
}

impl Lifecycle for OnlineGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        Ok(Self { ctx, rooms: BTreeMap::new() })
    }
}

impl Online for OnlineGrain {
    async fn tell(&mut self, room: RoomName, mut here: Vec<UserName>) -> Result<()> {
        let now = self.ctx.now();
        self.rooms.retain(|_, (told, _)| now.since(*told) < ROOM_LIFE);
        if here.is_empty() {
            self.rooms.remove(&room);
        } else if self.rooms.len() < ROOMS_MAX || self.rooms.contains_key(&room) {
            here.truncate(PEOPLE_MAX);
            self.rooms.insert(room, (now, here));
        }
        Ok(())
    }

    async fn list(&self) -> Result<Vec<Person>> {
        let now = self.ctx.now();
        let mut people: BTreeMap<&UserName, Vec<RoomName>> = BTreeMap::new();
        for (room, (_, here)) in self.rooms.iter().filter(|(_, (told, _))| now.since(*told) < ROOM_LIFE) {
            for who in here {
                people.entry(who).or_default().push(room.clone());
            }
        }
        let person = |(who, rooms): (&UserName, _)| Person { who: who.clone(), rooms };
        Ok(people.into_iter().take(PEOPLE_MAX).map(person).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn online() -> (Ctx<OnlineGrain>, OnlineGrain) {
        let ctx = Ctx::detached(());
        (ctx.clone(), OnlineGrain::activate(ctx).await.unwrap())
    }

    fn room(n: usize) -> RoomName {
        format!("room-{n}").parse().unwrap()
    }

    async fn listed(online: &OnlineGrain) -> Vec<(String, usize)> {
        let people = online.list().await.unwrap();
        people.into_iter().map(|person| (person.who.to_string(), person.rooms.len())).collect()
    }

    #[tokio::test]
    async fn people_are_listed_once_with_all_their_rooms() {
        let (_, mut online) = online().await;
        let names = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        online.tell(room(1), names(&["bob", "ann"])).await.unwrap();
        online.tell(room(2), names(&["ann"])).await.unwrap();
        assert_eq!(listed(&online).await, [("ann".to_owned(), 2), ("bob".to_owned(), 1)]);
        online.tell(room(1), names(&[])).await.unwrap();
        assert_eq!(listed(&online).await, [("ann".to_owned(), 1)]);
    }

    #[tokio::test]
    async fn a_room_that_tells_nothing_more_is_forgotten() {
        let (ctx, mut online) = online().await;
        online.tell(room(1), vec!["ann".parse().unwrap()]).await.unwrap();
        ctx.test().advance(ROOM_LIFE);
        assert_eq!(listed(&online).await, []);
    }

    #[tokio::test]
    async fn no_more_rooms_and_people_are_known_than_there_is_room_for() {
        let (_, mut online) = online().await;
        let crowd = |n: usize| (0..=PEOPLE_MAX).map(|who| format!("u{n}-{who}").parse().unwrap()).collect();
        for n in 0..=ROOMS_MAX {
            let here = if n == 0 { crowd(n) } else { vec!["ann".parse().unwrap()] };
            online.tell(room(n), here).await.unwrap();
        }
        assert_eq!(online.rooms.len(), ROOMS_MAX);
        assert_eq!(online.rooms[&room(0)].1.len(), PEOPLE_MAX);
        assert_eq!(listed(&online).await.len(), PEOPLE_MAX);
    }
}

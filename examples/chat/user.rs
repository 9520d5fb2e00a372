//! A user: what is kept of a person, under their name. Rooms tell of it.

use std::{collections::BTreeMap, time::Duration};

use grains::{CommitError, Instant, prelude::*};
use serde::{Deserialize, Serialize};

use crate::words::{RoomName, UserName};

/// How many rooms of a user are kept: those they were in last.
const ROOMS_MAX: usize = 50;
/// How often a room tells of somebody who stays.
const TELL_PERIOD: Duration = Duration::from_secs(60);
/// Of how many people a room knows when it told of them last; of more it tells later.
const TOLD_MAX: usize = 2000;

/// A person, by their name.
#[rpc_trait]
pub trait User {
    /// They were in `room` at this time, in milliseconds since 1970.
    #[rpc(idempotent)]
    async fn seen(&mut self, room: RoomName, at_ms: u64) -> Result<(), UserError>;
    /// What is known of them; `None` if they were never seen.
    #[rpc(idempotent)]
    async fn profile(&self) -> Result<Option<Profile>>;
}

/// Why something was not kept. It is told again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error(transparent)]
pub struct UserError(#[from] CommitError);

/// What is known of a person. Times are in milliseconds since 1970, and at most a minute old while they are in a room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// When they were first seen.
    pub first_seen_ms: u64,
    /// When they were last seen.
    pub last_seen_ms: u64,
    /// The rooms they were in, and when last.
    pub rooms: BTreeMap<RoomName, u64>,
}

/// The grain behind [`User`].
#[grain(User)]
pub struct UserGrain {
    profile: State<Option<Profile>>,
}

impl Lifecycle for UserGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        Ok(Self { profile: ctx.state("profile").await? })
    }
}

impl User for UserGrain {
    async fn seen(&mut self, room: RoomName, at_ms: u64) -> Result<(), UserError> {
        let mut profile = self.profile.edit();
        profile.get_or_insert_default().see(room, at_ms);
        Ok(profile.commit().await?)
    }

    async fn profile(&self) -> Result<Option<Profile>> {
        Ok(self.profile.clone())
    }
}

impl Profile {
    fn see(&mut self, room: RoomName, at_ms: u64) {
        if self.rooms.is_empty() {
            self.first_seen_ms = at_ms;
        }
        self.last_seen_ms = self.last_seen_ms.max(at_ms);
        let seen = self.rooms.entry(room).or_default();
        *seen = at_ms.max(*seen);
        if self.rooms.len() > ROOMS_MAX
            && let Some(oldest) = self.rooms.iter().min_by_key(|(_, at)| **at).map(|(room, _)| room.clone())
        {
            self.rooms.remove(&oldest);
        }
    }
}

/// Of whom a room has told lately.
#[derive(Default)]
pub struct Told(BTreeMap<UserName, Instant>);

impl Told {
    /// Whether it is time to tell of `who`; if so, it is told.
    pub fn is_due(&mut self, who: &UserName, now: Instant) -> bool {
        let is_recent = |told: &Instant| now.since(*told) < TELL_PERIOD;
        if self.0.get(who).is_some_and(is_recent) {
            return false;
        }
        if self.0.len() >= TOLD_MAX {
            self.0.retain(|_, told| is_recent(told));
        }
        if self.0.len() >= TOLD_MAX {
            return false;
        }
        self.0.insert(who.clone(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(n: usize) -> RoomName {
        format!("room-{n}").parse().unwrap()
    }

    #[tokio::test]
    async fn a_user_is_remembered_with_their_rooms() {
        let ctx = Ctx::detached("ann");
        let mut ann = UserGrain::activate(ctx.clone()).await.unwrap();
        assert_eq!(ann.profile().await.unwrap(), None);
        for (n, at_ms) in [(1, 10), (2, 30), (1, 20)] {
            ann.seen(room(n), at_ms).await.unwrap();
        }
        let next_life = UserGrain::activate(ctx).await.unwrap();
        let rooms = BTreeMap::from([(room(1), 20), (room(2), 30)]);
        let known = Profile { first_seen_ms: 10, last_seen_ms: 30, rooms };
        assert_eq!(next_life.profile().await.unwrap(), Some(known));
    }

    #[test]
    fn the_room_they_were_in_longest_ago_is_forgotten() {
        let mut profile = Profile::default();
        for n in 0..=ROOMS_MAX {
            profile.see(room(n), 100 + n as u64);
        }
        assert_eq!((profile.rooms.len(), profile.rooms.contains_key(&room(0))), (ROOMS_MAX, false));
        assert_eq!(profile.first_seen_ms, 100);
    }

    #[test]
    fn a_room_tells_of_each_now_and_then_and_of_no_more_than_it_can_remember() {
        let (ctx, mut told) = (Ctx::<UserGrain>::detached("any"), Told::default());
        let name = |n: usize| format!("user-{n}").parse().unwrap();
        assert!(told.is_due(&name(0), ctx.now()) && !told.is_due(&name(0), ctx.now()));
        for n in 1..TOLD_MAX {
            assert!(told.is_due(&name(n), ctx.now()));
        }
        assert!(!told.is_due(&name(TOLD_MAX), ctx.now()));
        ctx.test().advance(TELL_PERIOD);
        assert!(told.is_due(&name(0), ctx.now()) && told.is_due(&name(TOLD_MAX), ctx.now()));
    }
}

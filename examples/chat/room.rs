//! A room: the grain that gives lines their numbers, keeps them, and tells everybody who is there.

use std::time::Duration;

use grains::{CommitError, FanoutLimits, Instant, ScheduleError, prelude::*, stream::FanoutFull};
use serde::{Deserialize, Serialize};

use crate::{
    log::{Line, Log, Mark},
    presence::{Arrival, Presence, Seat},
    rooms::{RoomsError, RoomsRef},
    words::{LineText, RoomName, UserName},
};

#[cfg(test)]
mod tests;

/// A chat room.
#[rpc_trait]
pub trait Room {
    /// Says a line and answers its number. The line is stored when the answer comes.
    async fn say(&mut self, who: UserName, text: LineText) -> Result<u64, RoomError>;
    /// The lines kept with numbers above `after`, oldest first.
    #[rpc(idempotent)]
    async fn history(&self, after: u64) -> Result<Vec<Line>>;
    /// The lines above `after` and everything from now on, without being seen. `None`: only from now on.
    #[rpc(idempotent)]
    async fn watch(&self, after: Option<Mark>) -> Result<Watch, RoomError>;
    /// Takes a seat in the room: the same as `watch`, and being here until the seat is dropped.
    #[rpc(idempotent)]
    async fn enter(&mut self, who: UserName, after: Mark) -> Result<Visit, RoomError>;
}

/// What a room asks of itself.
#[rpc_trait(grain_type = "room")]
pub trait Doorkeeper {
    /// Tells everybody who has left, and the list of rooms, now and then, that the room is there.
    #[rpc(idempotent)]
    async fn look_who_left(&mut self) -> Result<()>;
}

/// The answer to [`Room::watch`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Watch {
    /// Which history of the room this is.
    pub history: u64,
    /// The number of the last line of the room.
    pub said: u64,
    /// The lines that were asked for, oldest first.
    pub lines: Vec<Line>,
    /// What happens after them.
    pub events: Streaming<Event>,
}

/// The answer to [`Room::enter`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Visit {
    /// Everybody who is here, the visitor included.
    pub here: Vec<UserName>,
    /// Keep it to stay.
    pub seat: Seat,
    /// What there is to see.
    pub watch: Watch,
}

/// What happens in a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A line was said, and is stored.
    Said(Line),
    /// Somebody came.
    Joined(UserName),
    /// Somebody has left.
    Left(UserName),
}

/// Why a room refused. What was asked for did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum RoomError {
    /// The store did not take the line; it may later.
    #[error("the line was not said: {0}")]
    NotStored(#[from] CommitError),
    /// The room could not be put on the list of rooms.
    #[error("the room could not be opened: {0}")]
    NotOpened(#[from] CallError<RoomsError>),
    /// Too many people are here, or just were; try later.
    #[error("the room is crowded: {0}")]
    Crowded(#[from] FanoutFull),
    /// The timer that watches the door could not be started.
    #[error("the room has no doorkeeper: {0}")]
    Unattended(String),
}

/// The grain behind [`Room`].
#[grain(Room, Doorkeeper)]
pub struct RoomGrain {
    ctx: Ctx<Self>,
    log: State<Log>,
    /// The history of `log`, or the one that begins with the first line.
    history: u64,
    /// When the list of rooms was last told of this one.
    listed: Option<Instant>,
    events: Fanout<Event>,
    presence: Presence,
}

impl Lifecycle for RoomGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        let log: State<Log> = ctx.state("log").await?;
        let history = log.history().unwrap_or_else(|| ctx.random_u64() >> (u64::BITS - HISTORY_BITS));
        Ok(Self { ctx, log, history, listed: None, events: Fanout::default(), presence: Presence::default() })
    }
}

impl Room for RoomGrain {
    async fn say(&mut self, who: UserName, text: LineText) -> Result<u64, RoomError> {
        if self.log.said() == 0 {
            self.open().await?;
        }
        self.stay_listed();
        let mut log = self.log.edit();
        log.begin(self.history);
        let line = log.push(self.ctx.wall_ms(), who, text);
        log.commit().await?;
        let number = line.number;
        self.events.send(Event::Said(line));
        Ok(number)
    }

    async fn history(&self, after: u64) -> Result<Vec<Line>> {
        Ok(self.log.after(Mark { history: None, number: after }))
    }

    async fn watch(&self, after: Option<Mark>) -> Result<Watch, RoomError> {
        let said = self.log.said();
        let lines = self.log.after(after.unwrap_or(Mark { history: None, number: said }));
        Ok(Watch { history: self.history, said, lines, events: self.events.try_subscribe()? })
    }

    async fn enter(&mut self, who: UserName, after: Mark) -> Result<Visit, RoomError> {
        self.has_room()?;
        self.watch_the_door()?;
        let (arrival, seat) = self.presence.sit(who.clone());
        if arrival == Arrival::New {
            self.events.send(Event::Joined(who));
        }
        let watch = self.watch(Some(after)).await?;
        Ok(Visit { here: self.presence.here(), seat, watch })
    }
}

impl Doorkeeper for RoomGrain {
    async fn look_who_left(&mut self) -> Result<()> {
        self.say_who_left();
        self.stay_listed();
        if self.presence.is_empty() {
            self.ctx.cancel_timer(DOOR_TIMER);
        }
        Ok(())
    }
}

impl RoomGrain {
    /// Puts the room on the list. Before the first line is stored, not after: a room that is listed and empty does no
    /// harm, one with lines that nobody finds does.
    async fn open(&mut self) -> Result<(), RoomError> {
        self.ctx.get::<RoomsRef>(()).add(self.name()).await?;
        self.listed = Some(self.ctx.now());
        Ok(())
    }

    /// Puts the room on the list again when the list may have been lost with its node. Nobody waits for that.
    fn stay_listed(&mut self) {
        let now = self.ctx.now();
        let is_listed = self.listed.is_some_and(|listed| now.since(listed) < LISTED_FOR);
        if self.log.said() == 0 || is_listed {
            return;
        }
        self.listed = Some(now);
        if let Err(error) = self.ctx.get::<RoomsRef>(()).add(self.name()).send() {
            tracing::info!(%error, "the list of rooms cannot be told");
        }
    }

    fn name(&self) -> RoomName {
        RoomName::try_from(self.ctx.key()).expect("rooms are called by names that were checked")
    }

    /// Looks at the door from the first visitor to the last. These looks are calls, so that a room does not become idle
    /// while somebody sits there in silence.
    fn watch_the_door(&self) -> Result<(), RoomError> {
        if !self.presence.is_empty() {
            return Ok(());
        }
        let look = self.ctx.me::<DoorkeeperRef>().look_who_left();
        self.ctx
            .call_every(DOOR_TIMER, DOOR_PERIOD, look)
            .map_err(|error: ScheduleError| RoomError::Unattended(error.to_string()))
    }

    /// Whether one more can come in. Seats count until the next look at the door, unless that decides.
    fn has_room(&mut self) -> Result<(), RoomError> {
        let subscribers_max = FanoutLimits::default().subscribers_max;
        if self.presence.seats() >= subscribers_max {
            self.say_who_left();
        }
        let taken = self.presence.seats().max(self.events.subscribers());
        if taken < subscribers_max { Ok(()) } else { Err(FanoutFull { subscribers_max }.into()) }
    }

    fn say_who_left(&mut self) {
        for who in self.presence.sweep() {
            self.events.send(Event::Left(who));
        }
    }
}

const DOOR_TIMER: &str = "door";
/// Long enough that reloading a page is not leaving.
const DOOR_PERIOD: Duration = Duration::from_secs(1);
/// How long the list of rooms is trusted to know this one.
const LISTED_FOR: Duration = Duration::from_secs(10);
/// As many as a number of JavaScript holds.
const HISTORY_BITS: u32 = 53;

//! A room: the grain that gives lines their numbers, keeps them, and tells everybody who is there.

use std::time::Duration;

use grains::{CommitError, FanoutLimits, Instant, ScheduleError, prelude::*, stream::FanoutFull};
use serde::{Deserialize, Serialize};

use crate::{
    leaf::{self, LeafError, LeafRef},
    log::{Excerpt, Line, Log, Mark, Span, Wanted},
    online::{self, OnlineRef},
    presence::{Arrival, Presence, Seat},
    rooms::{RoomsError, RoomsRef},
    said::{Memory, SayId},
    user::{Told, UserRef},
    words::{LineText, RoomName, UserName},
};

#[cfg(test)]
mod tests;

/// A chat room.
#[rpc_trait]
pub trait Room {
    /// Says a line and answers its number. The line is stored when the answer comes. The same `id` again is the same line,
    /// and gets the same answer.
    #[rpc(idempotent)]
    async fn say(&mut self, id: SayId, who: UserName, text: LineText) -> Result<u64, RoomError>;
    /// Some lines of the history, as far as the room keeps them itself.
    #[rpc(idempotent)]
    async fn excerpt(&self, wanted: Wanted) -> Result<Excerpt>;
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
    /// Tells everybody who has left, and those who keep it, now and then, who is here.
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
    /// The lines that were asked for.
    pub excerpt: Excerpt,
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
    /// Older lines have to make room, and could not be moved; they may later.
    #[error("the line was not said, because older lines could not be moved: {0}")]
    NotMoved(#[from] CallError<LeafError>),
    /// Lines of a client are said in order.
    #[error("the line comes too late: its client has said a later one")]
    Passed,
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
    events: Fanout<Event>,
    presence: Presence,
    /// When it was last told who is here.
    counted: Option<Instant>,
    told: Told,
}

impl Lifecycle for RoomGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        let log: State<Log> = ctx.state("log").await?;
        let history = log.history().unwrap_or_else(|| ctx.random_u64() >> (u64::BITS - HISTORY_BITS));
        let (events, presence, told) = Default::default();
        Ok(Self { ctx, log, history, events, presence, counted: None, told })
    }
}

impl Room for RoomGrain {
    async fn say(&mut self, id: SayId, who: UserName, text: LineText) -> Result<u64, RoomError> {
        match self.log.recall(id) {
            Memory::Said(number) => return Ok(number),
            Memory::Passed => return Err(RoomError::Passed),
            Memory::None => {}
        }
        if self.log.said() == 0 {
            self.open().await?;
        }
        self.tell_of(&who);
        let name = self.ctx.key();
        let mut log = self.log.edit();
        log.begin(self.history);
        // Kept there before they are dropped here: whatever happens between, no line is in neither place. They are dropped
        // with the commit of the new line.
        while let Some(surplus) = log.surplus() {
            let Some(newest) = surplus.last().map(|line| line.number) else { break };
            self.ctx.get::<LeafRef>((name.clone(), leaf::of(newest))).keep(surplus).await?;
            log.forget(newest);
        }
        let line = log.push(id, self.ctx.wall_ms(), who, text);
        log.commit().await?;
        let number = line.number;
        self.events.send(Event::Said(line));
        Ok(number)
    }

    async fn excerpt(&self, wanted: Wanted) -> Result<Excerpt> {
        Ok(self.log.excerpt(wanted))
    }

    async fn watch(&self, after: Option<Mark>) -> Result<Watch, RoomError> {
        let said = self.log.said();
        let none = Excerpt { older: Span::NONE, lines: Vec::new() };
        let excerpt = after.map_or(none, |mark| self.log.after(mark));
        Ok(Watch { history: self.history, said, excerpt, events: self.events.try_subscribe()? })
    }

    async fn enter(&mut self, who: UserName, after: Mark) -> Result<Visit, RoomError> {
        self.has_room()?;
        self.watch_the_door()?;
        let (arrival, seat) = self.presence.sit(who.clone());
        self.tell_of(&who);
        if arrival == Arrival::New {
            self.events.send(Event::Joined(who));
            self.tell_who_is_here();
        }
        let watch = self.watch(Some(after)).await?;
        Ok(Visit { here: self.presence.here(), seat, watch })
    }
}

impl Doorkeeper for RoomGrain {
    async fn look_who_left(&mut self) -> Result<()> {
        self.say_who_left();
        let now = self.ctx.now();
        if self.counted.is_none_or(|counted| now.since(counted) >= online::TELL_PERIOD) {
            self.tell_who_is_here();
        }
        for who in self.presence.here() {
            self.tell_of(&who);
        }
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
        Ok(())
    }

    /// Tells who is here to the grain that knows it of all rooms. Nobody waits for that: it is told again.
    fn tell_who_is_here(&mut self) {
        self.counted = Some(self.ctx.now());
        if let Err(error) = self.ctx.get::<OnlineRef>(()).tell(self.name(), self.presence.here()).send() {
            tracing::info!(%error, "it cannot be told who is here");
        }
    }

    /// Tells the grain of a user that they are here, unless it was told lately.
    fn tell_of(&mut self, who: &UserName) {
        if self.told.is_due(who, self.ctx.now()) {
            self.seen(who);
        }
    }

    fn seen(&self, who: &UserName) {
        let user: UserRef = self.ctx.get(who.to_string());
        if let Err(error) = user.seen(self.name(), self.ctx.wall_ms()).send() {
            tracing::info!(%error, "a user cannot be told of");
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
        let left = self.presence.sweep();
        if left.is_empty() {
            return;
        }
        self.tell_who_is_here();
        for who in left {
            self.seen(&who);
            self.events.send(Event::Left(who));
        }
    }
}

const DOOR_TIMER: &str = "door";
/// Long enough that reloading a page is not leaving.
const DOOR_PERIOD: Duration = Duration::from_secs(1);
/// As many as a number of JavaScript holds.
const HISTORY_BITS: u32 = 53;

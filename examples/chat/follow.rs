//! Following a room: every line after a number, in order, without gap or repeat, whatever happens to the stream. The
//! WebSocket of the page and the `watch` of the command line both read from here.

use std::collections::VecDeque;

use grains::{CallError, StreamError, Streaming};
use serde::Serialize;

use crate::{
    log::Line,
    presence::Seat,
    room::{Event, RoomError, RoomRef, Visit, Watch},
    words::UserName,
};

#[cfg(test)]
mod tests;

/// What a follower sees. In JSON, an object whose `type` is the name of the variant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Step {
    /// It has entered, for the first time or again. The lines up to `said` follow that are kept and that it has not seen.
    Entered {
        /// The number of the room's last line.
        said: u64,
        /// Everybody who is here.
        here: Vec<UserName>,
    },
    /// One line or more, each with the number after the last it has seen. A larger number first: those between are not
    /// kept any more.
    Lines {
        /// The lines.
        lines: Vec<Line>,
    },
    /// Somebody came.
    Joined {
        /// Their name.
        who: UserName,
    },
    /// Somebody has left.
    Left {
        /// Their name.
        who: UserName,
    },
    /// It read too slowly, and so much was dropped. `Entered` follows, with the lines that were among it.
    Missed {
        /// How many events.
        events: u64,
    },
}

/// Reads a room from some line on. When the stream of the room breaks, it asks the room again for what came after the
/// last line it has, so whoever reads here need not know.
pub struct Follower {
    room: RoomRef,
    seat: Option<(UserName, Seat)>,
    /// The number of the last line that was put into `steps`, or that nobody wants.
    last: u64,
    /// What was read and not yet given; three at most.
    steps: VecDeque<Step>,
    /// `None` from the moment a stream breaks until there is another: asking can be dropped half-way.
    events: Option<Streaming<Event>>,
}

/// How often a call that failed before it ran is made again.
const RETRIES: u32 = 3;

impl Follower {
    /// Follows without being seen: lines above `after`, or only new ones.
    pub async fn watch(room: RoomRef, after: Option<u64>) -> Result<Self, CallError<RoomError>> {
        let watch = room.watch(after).retry(RETRIES).await?;
        let mut follower = Self::new(room, after.unwrap_or(watch.said));
        follower.take(watch);
        Ok(follower)
    }

    /// Enters the room as `who`, who has seen the lines up to `after`.
    pub async fn enter(room: RoomRef, who: UserName, after: u64) -> Result<Self, CallError<RoomError>> {
        let mut follower = Self::new(room, after);
        follower.take_seat(who).await?;
        Ok(follower)
    }

    fn new(room: RoomRef, last: u64) -> Self {
        Self { room, seat: None, last, steps: VecDeque::new(), events: None }
    }

    /// What happens next; `None` when nothing more will. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Step, CallError<RoomError>>> {
        loop {
            if let Some(step) = self.steps.pop_front() {
                return Some(Ok(step));
            }
            let Some(events) = &mut self.events else {
                match self.ask_again().await {
                    Ok(()) => continue,
                    Err(error) => return Some(Err(error)),
                }
            };
            match events.next().await? {
                Ok(event) => self.see(event),
                Err(StreamError::Missed { items }) => {
                    self.steps.push_back(Step::Missed { events: items });
                    self.events = None;
                }
                Err(StreamError::ActivationGone) => self.events = None,
                Err(error) => {
                    tracing::warn!(%error, "the events of a room have ended");
                    return None;
                }
            }
        }
    }

    async fn ask_again(&mut self) -> Result<(), CallError<RoomError>> {
        match &self.seat {
            Some((who, _)) => self.take_seat(who.clone()).await,
            None => {
                let watch = self.room.watch(Some(self.last)).retry(RETRIES).await?;
                self.take(watch);
                Ok(())
            }
        }
    }

    /// The seat it had is given back after it has the new one: to the room, it never left.
    async fn take_seat(&mut self, who: UserName) -> Result<(), CallError<RoomError>> {
        let Visit { here, seat, watch } = self.room.enter(who.clone(), self.last).retry(RETRIES).await?;
        self.seat = Some((who, seat));
        self.steps.push_back(Step::Entered { said: watch.said, here });
        self.take(watch);
        Ok(())
    }

    fn take(&mut self, watch: Watch) {
        if !watch.lines.is_empty() {
            self.steps.push_back(Step::Lines { lines: watch.lines });
        }
        self.last = watch.said;
        self.events = Some(watch.events);
    }

    fn see(&mut self, event: Event) {
        self.steps.push_back(match event {
            Event::Said(line) => {
                self.last = line.number;
                Step::Lines { lines: vec![line] }
            }
            Event::Joined(who) => Step::Joined { who },
            Event::Left(who) => Step::Left { who },
        });
    }
}

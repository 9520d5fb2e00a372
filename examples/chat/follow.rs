//! Following a room: every line after a mark, in order, without gap or repeat; when the node of the room dies, the follower
//! waits for the room's next life. The WebSocket of the page and the `watch` of the command line both read from here.

use std::{collections::VecDeque, time::Duration};

use grains::{CallError, Node, Outcome, StreamError, Streaming};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep_until};

use crate::{
    leaf::{self, LeafRef},
    log::{Line, Mark, Span},
    presence::Seat,
    room::{Event, RoomError, RoomRef, Visit, Watch},
    words::{RoomName, UserName},
};

#[cfg(test)]
mod tests;

/// What a follower sees. In JSON, an object whose `type` is the name of the variant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Step {
    /// It has entered, for the first time or again. The lines up to `said` follow that it has not seen; the first time, the
    /// last ones.
    Entered {
        /// Which history of the room it is. Another one than before: what the nodes kept was deleted, and numbers begin at 1
        /// again.
        history: u64,
        /// The number of the room's last line.
        said: u64,
        /// Everybody who is here.
        here: Vec<UserName>,
    },
    /// The same for those who follow without being seen.
    Watching {
        /// Which history of the room it is.
        history: u64,
        /// The number of the room's last line.
        said: u64,
    },
    /// The room is gone, often with its node. `Entered` or `Watching` follows when it lives again.
    Gone,
    /// One line or more, each with the number after the last it has seen, but for the first of all.
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
    room: Followed,
    seat: Option<(UserName, Seat)>,
    /// The last line that was put into `steps`, or that nobody wants.
    seen: Mark,
    /// What was read and not yet given; three at most.
    steps: VecDeque<Step>,
    /// Lines that come before the next event.
    behind: Option<Behind>,
    events: Events,
}

/// The room that is followed.
#[derive(Clone)]
pub struct Followed {
    /// Where its leaves are reached.
    pub node: Node,
    /// Its name.
    pub name: RoomName,
}

impl Followed {
    fn room(&self) -> RoomRef {
        self.node.get(self.name.to_string())
    }

    fn leaf(&self, line: u64) -> LeafRef {
        leaf::with(&self.node, &self.name, line)
    }
}

/// Lines on leaves that were not read yet, and those that follow them.
struct Behind {
    older: Span,
    lines: Vec<Line>,
    /// Since when leaves have not answered.
    broken: Option<Break>,
}

/// Why a room cannot be followed any more.
#[derive(Debug, thiserror::Error)]
pub enum Unfollowable {
    /// The room does not answer.
    #[error(transparent)]
    Room(#[from] CallError<RoomError>),
    /// A leaf with older lines does not answer.
    #[error("older lines cannot be read: {0}")]
    Leaf(#[from] CallError),
}

/// Where the next event comes from.
enum Events {
    /// From the room.
    Flowing(Streaming<Event>),
    /// From nowhere: the room has to be asked again. Kept here because asking can be dropped half-way.
    Broken(Break),
}

/// A time without a stream.
#[derive(Clone, Copy)]
struct Break {
    since: Instant,
    /// When to ask next, and how long to wait after that.
    next: Instant,
    pause: Duration,
}

/// How often a call that failed before it ran is made again when a room is entered: for some seconds, in which a grain
/// whose node has died finds another.
const RETRIES: u32 = 24;
/// How long the first call may take: less than a page waits before it tries another node.
const ENTER_MAX: Duration = Duration::from_secs(4);
/// How long one call may take that asks again: it may wait for a node that is gone.
const ASK_MAX: Duration = Duration::from_secs(3);
/// How long a follower asks again for a room before it gives up. Several times what a cluster needs to find a grain
/// another node.
const BREAK_MAX: Duration = Duration::from_secs(30);
/// The pauses between, doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_millis(250);

impl Follower {
    /// Follows without being seen: lines above `after`, or only new ones.
    pub async fn watch(room: Followed, after: Option<Mark>) -> Result<Self, CallError<RoomError>> {
        let watch = room.room().watch(after).timeout(ENTER_MAX).retry(RETRIES).await?;
        let mut follower = Self::new(room, after.unwrap_or_default());
        follower.take_watch(watch);
        Ok(follower)
    }

    /// Enters the room as `who`, who has seen the lines up to `after`.
    pub async fn enter(room: Followed, who: UserName, after: Mark) -> Result<Self, CallError<RoomError>> {
        let visit = room.room().enter(who.clone(), after).timeout(ENTER_MAX).retry(RETRIES).await?;
        let mut follower = Self::new(room, after);
        follower.take_seat(who, visit);
        Ok(follower)
    }

    fn new(room: Followed, seen: Mark) -> Self {
        let events = Events::Broken(Break::now());
        Self { room, seat: None, seen, steps: VecDeque::new(), behind: None, events }
    }

    /// Whether it has a seat, so that the others see it.
    pub fn is_seen(&self) -> bool {
        self.seat.is_some()
    }

    /// What happens next; `None` when nothing more will. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Step, Unfollowable>> {
        loop {
            if let Some(step) = self.steps.pop_front() {
                return Some(Ok(step));
            }
            if self.behind.is_some() {
                if let Err(error) = self.catch_up().await {
                    return Some(Err(error));
                }
                continue;
            }
            match &mut self.events {
                Events::Broken(_) => {
                    if let Err(error) = self.mend().await {
                        return Some(Err(error.into()));
                    }
                }
                Events::Flowing(events) => match events.next().await? {
                    Ok(event) => self.see(event),
                    Err(error) => self.break_off(&error),
                },
            }
        }
    }

    /// Reads the next of the lines that come before the next event.
    async fn catch_up(&mut self) -> Result<(), Unfollowable> {
        let Some(behind) = &mut self.behind else { return Ok(()) };
        if behind.older.is_empty() {
            let lines = std::mem::take(&mut behind.lines);
            self.behind = None;
            self.give(lines);
            return Ok(());
        }
        if let Some(Break { next, .. }) = behind.broken {
            sleep_until(next).await;
        }
        let (part, rest) = leaf::split(behind.older);
        match self.room.leaf(part.first).lines(part).timeout(ASK_MAX).await {
            Ok(lines) => {
                (behind.older, behind.broken) = (rest, None);
                self.give(lines);
                Ok(())
            }
            Err(error) => {
                let broken = behind.broken.get_or_insert_with(Break::now);
                if broken.since.elapsed() >= BREAK_MAX || !may_pass(&error) {
                    return Err(error.into());
                }
                tracing::info!(%error, "a leaf does not answer yet");
                broken.put_off();
                Ok(())
            }
        }
    }

    fn give(&mut self, lines: Vec<Line>) {
        if let Some(last) = lines.last() {
            self.seen.number = last.number;
            self.steps.push_back(Step::Lines { lines });
        }
    }

    fn break_off(&mut self, error: &StreamError) {
        tracing::info!(%error, "the events of a room have ended");
        self.steps.push_back(match error {
            StreamError::Missed { items } => Step::Missed { events: *items },
            _ => Step::Gone,
        });
        self.events = Events::Broken(Break::now());
    }

    /// Asks the room again until it answers.
    async fn mend(&mut self) -> Result<(), CallError<RoomError>> {
        while let Events::Broken(Break { since, next, .. }) = self.events {
            sleep_until(next).await;
            match self.ask_again().await {
                Ok(()) => {}
                Err(error) if since.elapsed() < BREAK_MAX && may_pass(&error) => {
                    tracing::info!(%error, "a room does not answer yet");
                    if let Events::Broken(broken) = &mut self.events {
                        broken.put_off();
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn ask_again(&mut self) -> Result<(), CallError<RoomError>> {
        match &self.seat {
            Some((who, _)) => {
                let who = who.clone();
                let visit = self.room.room().enter(who.clone(), self.seen).timeout(ASK_MAX).await?;
                self.take_seat(who, visit);
            }
            None => {
                let watch = self.room.room().watch(Some(self.seen)).timeout(ASK_MAX).await?;
                self.take_watch(watch);
            }
        }
        Ok(())
    }

    /// The seat it had is given back after it has the new one: to the room, it never left.
    fn take_seat(&mut self, who: UserName, Visit { here, seat, watch }: Visit) {
        self.seat = Some((who, seat));
        self.steps.push_back(Step::Entered { history: watch.history, said: watch.said, here });
        self.take(watch);
    }

    fn take_watch(&mut self, watch: Watch) {
        self.steps.push_back(Step::Watching { history: watch.history, said: watch.said });
        self.take(watch);
    }

    /// Should the events break before all lines are read, `seen` says where to go on.
    fn take(&mut self, Watch { history, said, excerpt, events }: Watch) {
        let first = [excerpt.older.first].into_iter().filter(|_| !excerpt.older.is_empty());
        let first = first.chain(excerpt.lines.first().map(|line| line.number)).next();
        self.seen = Mark { history: Some(history), number: first.map_or(said, |first| first - 1) };
        self.behind = Some(Behind { older: excerpt.older, lines: excerpt.lines, broken: None });
        self.events = Events::Flowing(events);
    }

    fn see(&mut self, event: Event) {
        self.steps.push_back(match event {
            Event::Said(line) => {
                self.seen.number = line.number;
                Step::Lines { lines: vec![line] }
            }
            Event::Joined(who) => Step::Joined { who },
            Event::Left(who) => Step::Left { who },
        });
    }
}

impl Break {
    fn now() -> Self {
        let now = Instant::now();
        Self { since: now, next: now, pause: PAUSE_MIN }
    }

    fn put_off(&mut self) {
        self.next = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}

/// Whether asking again may help. What a room is asked here may be asked twice.
fn may_pass<E>(error: &CallError<E>) -> bool {
    match error {
        CallError::Timeout { .. } | CallError::Overloaded { .. } | CallError::NotActivated { .. } => true,
        // When it is this node that stops, whoever reads here is told so elsewhere.
        CallError::NotReady { .. } | CallError::NoHost { .. } | CallError::Stopped { .. } => true,
        CallError::Grain(_) => false,
        other => other.outcome() == Outcome::Unknown,
    }
}

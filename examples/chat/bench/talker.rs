//! One client of a bench: it sits in a room and remembers what it sees, and says lines and remembers what it is told.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use grains::Result;

use super::{lock, tally::Talk};
use crate::{
    client::{Happened, Nodes, Speaker, Watching},
    log::Mark,
    words::{LineText, RoomName, UserName},
};

/// How long a client thinks before it says the next line.
const THINK: Duration = Duration::from_millis(20);

/// When nodes were killed, and started again.
#[derive(Default)]
pub struct Kills {
    last: Mutex<Option<Instant>>,
    returns: Mutex<Vec<Instant>>,
}

impl Kills {
    /// A node is killed now.
    pub fn note(&self) {
        *lock(&self.last) = Some(Instant::now());
    }

    /// A node that was killed is started again now, while the others serve.
    pub fn returns(&self) {
        lock(&self.returns).push(Instant::now());
    }

    /// When one was started again.
    pub fn all_returns(&self) -> Vec<Instant> {
        lock(&self.returns).clone()
    }

    fn last(&self) -> Option<Instant> {
        *lock(&self.last)
    }
}

/// A client.
pub struct Talker {
    number: usize,
    /// The number of its room.
    pub room: usize,
    name: RoomName,
    nodes: Nodes,
    kills: Arc<Kills>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Whether it has ever been in its room.
    has_come: bool,
    /// Whether it is there now, as far as it knows.
    is_in: bool,
    /// Since the kill by which its node or its room went away, until it has said a line again.
    down: Option<Instant>,
    talk: Talk,
}

impl Talker {
    /// Client number `number`, for the room with the number `room`.
    pub fn new(number: usize, room: usize, name: RoomName, nodes: Nodes, kills: Arc<Kills>) -> Self {
        let state = Mutex::new(State { talk: Talk { room, ..Talk::default() }, ..State::default() });
        Self { number, room, name, nodes, kills, state }
    }

    /// Whether it has come into its room.
    pub fn has_come(&self) -> bool {
        lock(&self.state).has_come
    }

    /// The number of the last line it has heard.
    pub fn heard(&self) -> u64 {
        lock(&self.state).talk.heard.last().map_or(0, |(number, _)| *number)
    }

    /// What it was told and has heard.
    pub fn talk(&self) -> Talk {
        lock(&self.state).talk.clone()
    }

    fn who(&self) -> UserName {
        format!("client-{}", self.number).parse().expect("letters, digits and a dash")
    }

    /// Sits in the room as long as there is a node.
    pub fn sit(&self) {
        let watching = Watching::new(self.nodes.clone(), self.name.clone()).seen_as(self.who()).from(Mark::default());
        let ended = watching.run(|_, happened| {
            self.see(happened);
            Ok(())
        });
        if let Err(error) = ended {
            // At the end of the bench there is none any more; before, it counts as lines that were missed.
            tracing::info!(%error, "a client has left its room");
        }
    }

    fn see(&self, happened: Happened) {
        let mut state = lock(&self.state);
        match happened {
            Happened::Entered { .. } | Happened::Back => (state.has_come, state.is_in) = (true, true),
            Happened::Line(line) => state.talk.heard.push((line.number, line.text)),
            Happened::Gone | Happened::Ended(_) => {
                state.is_in = false;
                if state.down.is_none() {
                    state.down = self.kills.last();
                }
            }
            Happened::Joined(_) | Happened::Left(_) | Happened::Missed(_) | Happened::OtherHistory => {}
        }
    }

    /// Says lines until then.
    pub fn speak(&self, until: Instant) -> Result<()> {
        let mut speaker = Speaker::new(self.nodes.clone(), self.name.clone(), self.who());
        for n in 0.. {
            if Instant::now() >= until {
                break;
            }
            let text = format!("line {n} of client {}", self.number);
            let line: LineText = text.parse().expect("letters, digits and spaces");
            let begun = Instant::now();
            let number = speaker.say(&line)?;
            self.told(number, text, begun);
            thread::sleep(THINK);
        }
        Ok(())
    }

    fn told(&self, number: u64, text: String, begun: Instant) {
        let mut state = lock(&self.state);
        state.talk.acked.push((number, text));
        state.talk.say.push((begun, begun.elapsed()));
        if state.is_in
            && let Some(killed) = state.down.take()
        {
            state.talk.recovery.push(killed.elapsed());
        }
    }
}

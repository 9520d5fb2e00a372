//! Saying lines so that each is said once, however often it takes to ask.

use grains::Result;
use serde::Deserialize;
use serde_json::json;

use super::{Nodes, nodes::read, percent_encoded};
use crate::{
    said::SayId,
    words::{LineText, RoomName, UserName},
};

/// Somebody who says one line after the other in a room.
pub struct Speaker {
    nodes: Nodes,
    room: RoomName,
    who: UserName,
    id: SayId,
}

impl Speaker {
    /// A client of its own.
    pub fn new(nodes: Nodes, room: RoomName, who: UserName) -> Self {
        Self { nodes, room, who, id: SayId::random() }
    }

    /// Says a line and gives its number. While no answer comes the same line is said again, through other nodes, too.
    pub fn say(&mut self, text: &LineText) -> Result<u64> {
        #[derive(Deserialize)]
        struct Said {
            number: u64,
        }
        let line = json!({ "who": self.who, "text": text, "id": self.id }).to_string();
        self.id = self.id.next();
        let room = percent_encoded(&self.room.to_string());
        let Said { number } = self.nodes.ask(
            |agent, node| {
                let to = format!("{node}/rooms/{room}/lines");
                agent.post(to).content_type("application/json").send(&line)
            },
            read,
        )?;
        Ok(number)
    }
}

//! Watching a room: a stream of one node after the other, without gap or repeat.

use std::io::{BufRead, BufReader};

use grains::Result;
use serde::Deserialize;
use ureq::{Body, http::Response};

use super::{
    Nodes,
    nodes::{Unread, parse},
    percent_encoded,
};
use crate::{
    follow::Step,
    log::{Line, Mark},
    url::NodeUrl,
    words::{RoomName, UserName},
};

/// Somebody who watches a room.
pub struct Watching {
    nodes: Nodes,
    room: RoomName,
    who: Option<UserName>,
    seen: Option<Mark>,
    is_gone: bool,
}

/// What happens to whoever watches.
#[derive(Debug)]
pub enum Happened {
    /// The room is watched, for the first time or again through some node.
    Entered {
        /// Whether it is the first time.
        first: bool,
    },
    /// A line was said.
    Line(Line),
    /// Somebody came. Only those who are seen hear it.
    Joined(UserName),
    /// Somebody has left. Only those who are seen hear it.
    Left(UserName),
    /// The room is gone, often with its node.
    Gone,
    /// The room that was gone is there again.
    Back,
    /// So many events were dropped because they were read too slowly. The lines among them follow.
    Missed(u64),
    /// The room has another history than before, whose lines follow.
    OtherHistory,
    /// The stream has ended: with a word if it broke, and without if its node has stopped.
    Ended(Option<String>),
}

/// What a watch tells.
#[derive(Deserialize)]
#[serde(untagged)]
enum Piece {
    Step(Step),
    Line(Line),
}

impl Watching {
    /// Somebody who sees new lines, and is not seen.
    pub fn new(nodes: Nodes, room: RoomName) -> Self {
        Self { nodes, room, who: None, seen: None, is_gone: false }
    }

    /// The same, but seen by the others under this name.
    pub fn seen_as(self, who: UserName) -> Self {
        Self { who: Some(who), ..self }
    }

    /// The same, from behind the mark on.
    pub fn from(self, mark: Mark) -> Self {
        Self { seen: Some(mark), ..self }
    }

    /// Tells what happens, and through which node, until the only node has stopped, or no node answers any more.
    pub fn run(mut self, mut see: impl FnMut(&NodeUrl, Happened) -> Result<()>) -> Result<()> {
        let mut first = true;
        loop {
            let url = self.url();
            let answer =
                self.nodes.ask(|agent, node| agent.get(format!("{node}{url}")).call(), |_, answer| Ok(answer))?;
            see(self.nodes.current(), Happened::Entered { first })?;
            (first, self.is_gone) = (false, false);
            let ended = self.follow(answer, &mut see)?;
            let is_end = ended.is_none() && !self.nodes.has_others();
            see(self.nodes.current(), Happened::Ended(ended))?;
            if is_end {
                return Ok(());
            }
            self.nodes.turn();
            self.nodes.meet();
        }
    }

    fn url(&self) -> String {
        let mut query = Vec::new();
        query.extend(self.who.as_ref().map(|who| format!("who={}", percent_encoded(&who.to_string()))));
        if let Some(Mark { history, number }) = self.seen {
            query.push(format!("after={number}"));
            query.extend(history.map(|history| format!("history={history}")));
        }
        format!("/rooms/{}/watch?{}", percent_encoded(&self.room.to_string()), query.join("&"))
    }

    /// Tells what a node tells, until that ends; then how.
    fn follow(
        &mut self,
        answer: Response<Body>,
        see: &mut impl FnMut(&NodeUrl, Happened) -> Result<()>,
    ) -> Result<Option<String>> {
        let body = BufReader::new(answer.into_body().into_reader());
        for piece in body.lines() {
            let piece = match piece {
                Ok(piece) if piece.is_empty() => continue,
                Ok(piece) => piece,
                Err(error) => return Ok(Some(error.to_string())),
            };
            let piece = match parse(self.nodes.current(), &piece) {
                Ok(piece) => piece,
                // Cut off in the middle, as when its node was killed.
                Err(Unread::Broken(why)) => return Ok(Some(why)),
                Err(Unread::Foreign(error)) => return Err(error),
            };
            let Some(happened) = self.take(piece) else { continue };
            see(self.nodes.current(), happened)?;
        }
        Ok(None)
    }

    fn take(&mut self, piece: Piece) -> Option<Happened> {
        Some(match piece {
            Piece::Line(line) => {
                if let Some(mark) = &mut self.seen {
                    mark.number = line.number;
                }
                Happened::Line(line)
            }
            Piece::Step(Step::Watching { history, said } | Step::Entered { history, said, .. }) => {
                let before = self.seen.unwrap_or(Mark { history: Some(history), number: said });
                let is_other = before.number > 0 && before.history.is_some_and(|before| before != history);
                // The lines up to `said` follow, so they count only when they have come.
                let number = if is_other { 0 } else { before.number };
                self.seen = Some(Mark { history: Some(history), number });
                let is_back = std::mem::take(&mut self.is_gone);
                return if is_other { Some(Happened::OtherHistory) } else { is_back.then_some(Happened::Back) };
            }
            Piece::Step(Step::Gone) => {
                self.is_gone = true;
                Happened::Gone
            }
            Piece::Step(Step::Missed { events }) => Happened::Missed(events),
            Piece::Step(Step::Joined { who }) => Happened::Joined(who),
            Piece::Step(Step::Left { who }) => Happened::Left(who),
            Piece::Step(Step::Lines { .. }) => return None,
        })
    }
}

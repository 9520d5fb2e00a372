//! A leaf: lines of a room that have become too many for the room itself. A room moves them here before it drops them.

use grains::{CommitError, Node, prelude::*};
use serde::{Deserialize, Serialize};

use crate::{
    log::{Line, Span},
    words::RoomName,
};

/// How many lines are on a leaf: so many of the longest fit into a state.
pub const LINES_MAX: usize = 200;

/// A leaf of the history of a room, by the room's name and the leaf's number.
#[rpc_trait(key = (String, u64))]
pub trait Leaf {
    /// Keeps lines, in order. Those that it has it keeps as they are.
    #[rpc(idempotent)]
    async fn keep(&mut self, lines: Vec<Line>) -> Result<(), LeafError>;
    /// Those of these lines that it has, in order.
    #[rpc(idempotent)]
    async fn lines(&self, span: Span) -> Result<Vec<Line>>;
}

/// Why lines were not kept. All or none of them are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error(transparent)]
pub struct LeafError(#[from] CommitError);

/// The grain behind [`Leaf`].
#[grain(Leaf)]
pub struct LeafGrain {
    lines: State<Vec<Line>>,
}

impl Lifecycle for LeafGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        Ok(Self { lines: ctx.state("lines").await? })
    }
}

impl Leaf for LeafGrain {
    async fn keep(&mut self, mut lines: Vec<Line>) -> Result<(), LeafError> {
        let kept = self.lines.last().map_or(0, |line| line.number);
        lines.retain(|line| line.number > kept);
        if lines.is_empty() {
            return Ok(());
        }
        let mut all = self.lines.edit();
        all.extend(lines);
        Ok(all.commit().await?)
    }

    async fn lines(&self, span: Span) -> Result<Vec<Line>> {
        Ok(self.lines.iter().filter(|line| span.has(line.number)).cloned().collect())
    }
}

/// The number of the leaf on which this line goes.
pub fn of(line: u64) -> u64 {
    (line - 1) / LINES_MAX as u64
}

/// The part of `span` that is on the leaf of its first line, and the rest.
pub fn split(span: Span) -> (Span, Span) {
    let end = ((of(span.first) + 1) * LINES_MAX as u64).min(span.last);
    (Span { last: end, ..span }, Span { first: end + 1, ..span })
}

/// The leaf of a room that has this line.
pub fn with(node: &Node, room: &RoomName, line: u64) -> LeafRef {
    node.get((room.to_string(), of(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u64) -> Line {
        Line { number, at_ms: 7, who: "ann".into(), text: "hi".into() }
    }

    #[tokio::test]
    async fn lines_that_are_moved_again_are_there_once() {
        let ctx = Ctx::detached(("lobby".to_owned(), 0));
        let mut leaf = LeafGrain::activate(ctx.clone()).await.unwrap();
        leaf.keep((1..=3).map(line).collect()).await.unwrap();
        leaf.keep((1..=5).map(line).collect()).await.unwrap();
        leaf.keep((2..=4).map(line).collect()).await.unwrap();
        let next_life = LeafGrain::activate(ctx).await.unwrap();
        let all = next_life.lines(Span { first: 1, last: 99 }).await.unwrap();
        assert_eq!(all, (1..=5).map(line).collect::<Vec<_>>());
        assert_eq!(next_life.lines(Span { first: 2, last: 3 }).await.unwrap(), [line(2), line(3)]);
    }

    #[tokio::test]
    async fn a_leaf_of_the_longest_lines_fits_into_a_state() {
        let mut leaf = LeafGrain::activate(Ctx::detached(("lobby".to_owned(), 0))).await.unwrap();
        let (who, text) = ("👋".repeat(32), "👋".repeat(1000));
        let longest = |number| Line { number, at_ms: u64::MAX, who: who.clone(), text: text.clone() };
        leaf.keep((1..=LINES_MAX as u64).map(longest).collect()).await.unwrap();
    }

    #[test]
    fn a_span_is_read_leaf_by_leaf() {
        let mut rest = Span { first: 150, last: 450 };
        let mut parts = Vec::new();
        while !rest.is_empty() {
            let (part, after) = split(rest);
            parts.push((of(part.first), part.first, part.last));
            rest = after;
        }
        assert_eq!(parts, [(0, 150, 200), (1, 201, 400), (2, 401, 450)]);
    }
}

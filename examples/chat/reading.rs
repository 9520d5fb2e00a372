//! Reading the history of a room across its leaves.

use std::time::Duration;

use grains::{CallError, Node};

use crate::{
    leaf,
    log::{Excerpt, Line, Wanted},
    room::RoomRef,
    words::RoomName,
};

/// How many lines are read at once at most: those of six leaves.
pub const LINES_MAX: u64 = 1000;

/// The lines of `room` that are wanted, oldest first. Each call may take `limit`.
pub async fn lines(node: &Node, room: &RoomName, wanted: Wanted, limit: Duration) -> Result<Vec<Line>, CallError> {
    let wanted = Wanted { limit: wanted.limit.min(LINES_MAX), ..wanted };
    let asked = node.get::<RoomRef>(room.to_string()).excerpt(wanted).timeout(limit).retry(RETRIES);
    // First the room: lines only ever move from there to leaves.
    let Excerpt { older: mut rest, lines: newer } = asked.await?;
    let mut lines = Vec::new();
    while !rest.is_empty() {
        let (part, after) = leaf::split(rest);
        lines.extend(leaf::with(node, room, part.first).lines(part).timeout(limit).retry(RETRIES).await?);
        rest = after;
    }
    lines.extend(newer);
    Ok(lines)
}

/// How often a call is made again that failed: until its time is over.
const RETRIES: u32 = 100;

//! Snapshots on their way to another voter: in parts, each in a body of its own, so that nothing has to be in memory as a
//! whole.

use serde::{Deserialize, Serialize};

use super::{
    machine::{Driven, Image, Incoming},
    types::{SnapshotMeta, Vote},
};
use crate::NodeId;

/// How long a part is. Little beside what a connection moves in the time of an election.
pub(super) const PART_BYTES: usize = 1024 * 1024;

/// What is said of each part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PartHead {
    pub(super) vote: Vote,
    pub(super) meta: SnapshotMeta,
    /// Which sending: a random number.
    pub(super) sending: u64,
    /// Which part of it, from 0.
    pub(super) part: u64,
    /// Nothing follows. This part has no bytes.
    pub(super) last: bool,
}

/// The one snapshot that a voter takes in at a time.
pub(super) struct Arriving {
    from: NodeId,
    sending: u64,
    next: u64,
    incoming: Incoming,
}

/// What a part came to.
pub(super) enum Arrived {
    /// It was taken.
    Part,
    /// It was the last: the whole snapshot.
    Whole(Image),
}

/// Takes a part: the first begins a snapshot, and ends one that was under way; any other has to be the next of its sending,
/// or the one before it again.
pub(super) async fn arrive(
    place: &mut Option<Arriving>,
    driven: &Driven,
    from: NodeId,
    head: &PartHead,
    bytes: &[u8],
) -> Result<Arrived, String> {
    if head.part == 0 && place.as_ref().is_none_or(|arriving| arriving.sending != head.sending) {
        *place = Some(Arriving { from, sending: head.sending, next: 0, incoming: driven.incoming() });
    }
    let known = |arriving: &mut Arriving| arriving.from == from && arriving.sending == head.sending;
    // Taken out while it works: a part that is cut off half-way ends the snapshot.
    let Some(mut arriving) = place.take_if(known) else {
        return Err("this snapshot was given up".to_owned());
    };
    let again = !head.last && head.part.checked_add(1) == Some(arriving.next);
    if !again && head.part != arriving.next {
        return Err(format!("part {} of a snapshot where part {} should be", head.part, arriving.next));
    }
    if head.last {
        return arriving.incoming.whole().await.map(Arrived::Whole).map_err(|error| error.to_string());
    }
    if !again {
        arriving.incoming.add(bytes).await.map_err(|error| error.to_string())?;
        arriving.next += 1;
    }
    *place = Some(arriving);
    Ok(Arrived::Part)
}

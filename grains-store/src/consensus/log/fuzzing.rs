//! The journal, as a function of bytes: see `crate::fuzzing`.

use super::{
    journal::{FIRST_FRAME, Journaled, frame_of, frames},
    rows::Change,
};
use crate::fuzzing::same;

/// Which frames count.
const GENERATION: u64 = 7;

/// A journal as it is, then as one whose only frame has these changes.
pub(crate) fn journal(bytes: &[u8]) {
    same::<Journaled>(bytes);
    for frame in frames(bytes, GENERATION).into_iter().flat_map(|(frames, _)| frames) {
        same::<Vec<Change>>(frame);
    }
    let mut file = vec![0; FIRST_FRAME];
    file.extend(frame_of(GENERATION, bytes));
    let read = frames(&file, GENERATION).map(|(frames, _)| frames);
    assert_eq!(read, Some(vec![bytes]), "a frame is read as something else");
    assert_eq!(frames(&file, GENERATION + 1).map(|(frames, _)| frames), Some(vec![]), "a frame of another generation");
    same::<Vec<Change>>(bytes);
}

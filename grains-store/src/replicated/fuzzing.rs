//! What nodes say to each other about states, and a whole state on its way, as functions of bytes: see `crate::fuzzing`.

use grains_core::codec;

pub(crate) use super::state::fuzzing::snapshot;
use super::words::{Answer, Command, Envelope, Outcome};
use crate::fuzzing::{encoded, same};

/// A question, an answer, a command of the log or what it came to.
pub(crate) fn states(bytes: &[u8]) {
    same::<Envelope>(bytes);
    same::<Answer>(bytes);
    same::<Outcome>(bytes);
    if let Ok(command) = codec::decode::<Command<'_>>(bytes) {
        let written = encoded(&command);
        assert_eq!(codec::decode(&written), Ok(command), "a command means something else");
    }
}

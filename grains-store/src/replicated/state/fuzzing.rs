//! A part of a snapshot, as a function of bytes: see `crate::fuzzing`.

use super::{
    clients::Row,
    pages::{numbers, push, split},
};
use crate::fuzzing::same;

/// A part of a snapshot, or the row of a client in it.
pub(crate) fn snapshot(bytes: &[u8]) {
    same::<Row>(bytes);
    let (mut rest, mut read) = (bytes, Vec::new());
    while let Some(((table, key, value), behind)) = split(rest) {
        push(&mut read, table, key, value);
        if let Ok(counts) = numbers::<3>(value) {
            assert_eq!(counts.map(u64::to_le_bytes).concat(), value);
        }
        rest = behind;
    }
    assert_eq!(read, bytes[..bytes.len() - rest.len()], "a row means something else");
}

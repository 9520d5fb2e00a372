//! Rows: how grains and states become keys and values, and back. Pure; the tables are listed in the parent.

use grains_core::{
    FencingToken, Version,
    store::{LoadError, Stored},
};
use redb::TableDefinition;

use super::rules::GrainRow;

/// The format number, and the last epoch given.
pub(crate) const META: TableDefinition<'_, &[u8], u64> = TableDefinition::new("meta");
/// By grain: the epoch and the counter of the newest token, and how many of its states have a value.
pub(crate) const GRAINS: TableDefinition<'_, &[u8], (u64, u64, u64)> = TableDefinition::new("grains");
/// By grain and name: one state.
pub(crate) const STATES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("states");

/// The row of [`META`] that says how the others are written.
pub(crate) const FORMAT: &[u8] = b"format";
/// The row of [`META`] with the last epoch.
pub(crate) const EPOCH: &[u8] = b"epoch";
/// The row of [`META`] that is there once a cluster has the states.
pub(crate) const MOVED: &[u8] = b"moved";
/// The format that this file describes.
pub(crate) const FORMAT_KNOWN: u64 = 1;

const REMOVED: u8 = 0;
const PRESENT: u8 = 1;

/// What precedes a value: its version and whether there is one.
const HEAD_BYTES: usize = 9;

/// Where all grains of a type begin, and where those of the next may.
pub(crate) fn type_bounds(grain_type: &str) -> (Vec<u8>, Vec<u8>) {
    let mut first = Vec::with_capacity(grain_type.len() + 2);
    push_part(&mut first, grain_type);
    let mut end = first.clone();
    // The terminator is `00 00`, and nothing of the type is beyond `00 00 ..`.
    if let Some(last) = end.last_mut() {
        *last = 1;
    }
    (first, end)
}

/// The key of a grain's row.
pub(crate) fn grain_key(grain_type: &str, key: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(grain_type.len() + key.len() + 4);
    push_part(&mut out, grain_type);
    push_part(&mut out, key);
    out
}

/// The key of a state's row, from that of its grain.
pub(crate) fn state_key(grain_key: &[u8], name: &str) -> Vec<u8> {
    [grain_key, name.as_bytes()].concat()
}

/// The text of the key in a grain's row, which begins with `first`, as [`type_bounds`] gave it.
pub(crate) fn key_of_row(row: &[u8], first: &[u8]) -> Result<String, LoadError> {
    let damaged = || LoadError::Damaged { why: format!("key of a grain: {row:02x?}") };
    match row.strip_prefix(first).and_then(split_part) {
        Some((key, [])) => Ok(key),
        _ => Err(damaged()),
    }
}

/// The grain type and the key in a grain's row, and the rest, which in a state's row is its name.
#[cfg(feature = "consensus")]
pub(crate) fn parts_of_row(row: &[u8]) -> Result<(String, String, &[u8]), LoadError> {
    let damaged = || LoadError::Damaged { why: format!("key of a row: {row:02x?}") };
    let (grain_type, rest) = split_part(row).ok_or_else(damaged)?;
    let (key, rest) = split_part(rest).ok_or_else(damaged)?;
    Ok((grain_type, key, rest))
}

/// Reads what [`push_part`] wrote, from the beginning.
fn split_part(row: &[u8]) -> Option<(String, &[u8])> {
    let mut text = Vec::new();
    let mut rest = row;
    loop {
        match rest {
            [0, 0, end @ ..] => return Some((String::from_utf8(text).ok()?, end)),
            [0, 0xFF, more @ ..] => {
                text.push(0);
                rest = more;
            }
            [byte, more @ ..] if *byte != 0 => {
                text.push(*byte);
                rest = more;
            }
            _ => return None,
        }
    }
}

/// The row of a grain.
pub(crate) fn grain_row(GrainRow { newest, present }: GrainRow) -> (u64, u64, u64) {
    (newest.epoch, newest.counter, present)
}

/// Reads the row of a grain.
pub(crate) fn read_grain((epoch, counter, present): (u64, u64, u64)) -> GrainRow {
    GrainRow { newest: FencingToken { epoch, counter }, present }
}

/// The epoch after `last`.
pub(crate) fn epoch_after(last: u64) -> Result<u64, redb::Error> {
    last.checked_add(1).ok_or_else(|| redb::Error::Corrupted("no epoch is left".into()))
}

/// How long a state's row is for a value.
pub(crate) fn state_row_len(value: Option<&[u8]>) -> usize {
    HEAD_BYTES + value.map_or(0, <[u8]>::len)
}

/// Fills a state's row, of the length that [`state_row_len`] gave.
pub(crate) fn fill_state_row(row: &mut [u8], version: Version, value: Option<&[u8]>) {
    let (head, body) = row.split_at_mut(HEAD_BYTES);
    head[..8].copy_from_slice(&version.0.to_le_bytes());
    head[8] = if value.is_some() { PRESENT } else { REMOVED };
    body.copy_from_slice(value.unwrap_or_default());
}

/// Reads a state's row.
pub(crate) fn read_state_row(row: &[u8]) -> Result<Stored, LoadError> {
    let (version, present, body) = split_state_row(row)?;
    Ok(Stored { version, value: present.then(|| body.to_vec()) })
}

/// The version in a state's row, and whether it has a value.
pub(crate) fn read_state_head(row: &[u8]) -> Result<(Version, bool), LoadError> {
    split_state_row(row).map(|(version, present, _)| (version, present))
}

fn split_state_row(row: &[u8]) -> Result<(Version, bool, &[u8]), LoadError> {
    let damaged = |why: &str| LoadError::Damaged { why: format!("row of a state: {why}") };
    let (version, rest) = row.split_first_chunk::<8>().ok_or_else(|| damaged("too short"))?;
    let version = Version(u64::from_le_bytes(*version));
    match rest.split_first() {
        Some((&PRESENT, body)) => Ok((version, true, body)),
        Some((&REMOVED, [])) => Ok((version, false, &[])),
        Some((flag, _)) => Err(damaged(&format!("unknown flag {flag}"))),
        None => Err(damaged("too short")),
    }
}

/// Appends `part` so that rows sort as their parts do and no part runs into the next: NUL is written `00 FF`, and
/// `00 00` ends the part.
fn push_part(out: &mut Vec<u8>, part: &str) {
    for &byte in part.as_bytes() {
        out.push(byte);
        if byte == 0 {
            out.push(0xFF);
        }
    }
    out.extend([0, 0]);
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTS: [&str; 9] = ["", "\0", "\0\0", "a", "a\0", "a\0b", "a\u{1}", "ab", "ö"];

    #[test]
    fn rows_sort_as_their_parts_do() {
        let pairs: Vec<_> = PARTS.iter().flat_map(|t| PARTS.iter().map(move |k| (*t, *k))).collect();
        assert!(pairs.is_sorted());
        let rows: Vec<_> = pairs.iter().map(|(t, k)| grain_key(t, k)).collect();
        assert!(rows.is_sorted_by(|one, next| one < next), "every row is beyond the one before");
    }

    #[test]
    fn a_type_holds_its_rows_and_no_others() {
        let rows = || PARTS.iter().flat_map(|t| PARTS.iter().map(move |k| (*t, *k, grain_key(t, k))));
        for grain_type in PARTS {
            let (first, end) = type_bounds(grain_type);
            for (other, key, row) in rows() {
                let inside = first <= row && row < end;
                assert_eq!(inside, other == grain_type, "{other:?} in {grain_type:?}");
                if inside {
                    assert_eq!(key_of_row(&row, &first).as_deref(), Ok(key));
                }
            }
        }
    }

    #[cfg(feature = "consensus")]
    #[test]
    fn rows_are_read_back_part_by_part() {
        for (grain_type, key) in PARTS.iter().flat_map(|t| PARTS.iter().map(move |k| (*t, *k))) {
            for name in PARTS {
                let row = state_key(&grain_key(grain_type, key), name);
                assert_eq!(parts_of_row(&row), Ok((grain_type.to_owned(), key.to_owned(), name.as_bytes())));
            }
        }
        for row in [&b""[..], b"a", b"a\0", b"a\0\0", b"a\0\0k\0", b"a\0\x01\0\0k\0\0", b"\xFF\0\0k\0\0"] {
            assert!(matches!(parts_of_row(row), Err(LoadError::Damaged { .. })), "{row:?}");
        }
    }

    #[test]
    fn states_survive_their_rows() {
        for value in [None, Some(&b""[..]), Some(b"\0"), Some(b"value")] {
            let mut row = vec![0xAA; state_row_len(value)];
            fill_state_row(&mut row, Version(7), value);
            let stored = Stored { version: Version(7), value: value.map(<[u8]>::to_vec) };
            assert_eq!(read_state_row(&row), Ok(stored));
        }
    }

    #[test]
    fn damaged_rows_are_errors() {
        for row in [&b""[..], b"1234567", b"12345678", b"12345678\x02", b"12345678\0more"] {
            assert!(matches!(read_state_row(row), Err(LoadError::Damaged { .. })), "{row:?}");
        }
        for row in [&b"a\0\0"[..], b"a\0\0k", b"a\0\0k\0", b"a\0\0k\0k\0\0", b"a\0\0\xFF\0\0"] {
            assert!(matches!(key_of_row(row, b"a\0\0"), Err(LoadError::Damaged { .. })), "{row:?}");
        }
    }
}

//! The rows of states, in files and in snapshots, byte for byte: see `tests/golden/compare.rs`.

use grains_core::Version;

use super::{
    clients::Row,
    pages::{push, split},
};
use crate::{
    compare::{Sample, check},
    redb::layout::{fill_state_row, grain_key, parts_of_row, read_state_row, state_key, state_row_len},
};

#[test]
fn the_rows_of_states_are_as_they_were() {
    check("rows.txt", &rows());
}

fn state(name: &'static str, value: Option<&[u8]>) -> Sample {
    let mut row = vec![0; state_row_len(value)];
    fill_state_row(&mut row, Version(3), value);
    Sample::new(name, row, format!("{:?}", (Version(3), value)), |bytes| {
        let stored = read_state_row(bytes).map_err(|why| why.to_string())?;
        Ok(format!("{:?}", (stored.version, stored.value)))
    })
}

fn rows() -> Vec<Sample> {
    let key = state_key(&grain_key("cart", "a\0b"), "sum");
    let key = Sample::new("key", key, format!("{:?}", ("cart", "a\0b", b"sum")), |bytes| {
        let (grain_type, key, name) = parts_of_row(bytes).map_err(|why| why.to_string())?;
        Ok(format!("{:?}", (grain_type, key, name)))
    });
    let mut part = Vec::new();
    push(&mut part, 0, b"format", &1_u64.to_le_bytes());
    push(&mut part, 2, b"cart\0\x007\0\0sum", b"value");
    let part = Sample::new("snapshot.part", part, format!("{:?}", (0, b"format", 2, b"value")), |bytes| {
        let ((first, key, _), rest) = split(bytes).ok_or("no row")?;
        let ((second, _, value), rest) = split(rest).ok_or("one row")?;
        if rest.is_empty() { Ok(format!("{:?}", (first, key, second, value))) } else { Err("three rows".into()) }
    });
    let client = Row { serial: 6, index: 12, outcome: vec![1, 0xff] };
    vec![state("state", Some(&[7, 0xff])), state("state.empty", Some(&[])), state("state.removed", None), key, part, {
        Sample::packed("client", &client)
    }]
}

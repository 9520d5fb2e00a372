//! Everything here that reads bytes from other nodes or from files, as a function of bytes alone: see
//! `grains_runtime::fuzzing`, which is the same for the layer above.
#![allow(missing_docs, reason = "no interface: hidden, and with a feature that only our own tests have")]

use grains_core::codec;
use serde::{Serialize, de::DeserializeOwned};

/// A name, and what reads the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All that is here.
pub const TARGETS: &[Target] = &[
    ("raft", crate::consensus::fuzzing::raft),
    ("log", crate::consensus::fuzzing::log),
    ("journal", crate::consensus::fuzzing::journal),
    ("states", crate::replicated::fuzzing::states),
    ("snapshot", crate::replicated::fuzzing::snapshot),
    ("rows", rows),
];

/// Keys and values of the tables of states.
fn rows(bytes: &[u8]) {
    use crate::redb::layout::{
        fill_state_row, grain_key, key_of_row, parts_of_row, read_state_row, state_key, state_row_len, type_bounds,
    };
    if let Ok(stored) = read_state_row(bytes) {
        let mut row = vec![0; state_row_len(stored.value.as_deref())];
        fill_state_row(&mut row, stored.version, stored.value.as_deref());
        assert_eq!(row, bytes, "a row of a state means something else");
    }
    if let Ok((grain_type, key, name)) = parts_of_row(bytes) {
        let grain = grain_key(&grain_type, &key);
        assert_eq!([&grain, name].concat(), bytes, "a key of a row means something else");
        let (first, end) = type_bounds(&grain_type);
        assert!(first <= grain && grain < end, "a grain is outside of its type");
        assert_eq!(key_of_row(&grain, &first), Ok(key));
        if let Ok(name) = std::str::from_utf8(name) {
            assert_eq!(state_key(&grain, name), bytes);
        }
    }
}

/// What can be read, means the same when it is written and read again.
pub(crate) fn same<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let Ok(value) = codec::decode::<T>(bytes) else { return };
    let written = encoded(&value);
    let again: T = codec::decode(&written).unwrap_or_else(|why| panic!("what was written cannot be read: {why}"));
    assert_eq!(encoded(&again), written, "what was read is written otherwise");
}

pub(crate) fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
    codec::encode(value).expect("what was read can be written")
}

//! Reading from a snapshot.

use std::ops::Bound;

use grains_core::store::{LoadError, Stored};
use redb::ReadTransaction;

use super::{
    layout::{self, GRAINS, STATES},
    unavailable,
};

pub(crate) fn load(snapshot: &ReadTransaction, row: &[u8]) -> Result<Option<Stored>, LoadError> {
    let states = snapshot.open_table(STATES).map_err(|e| load_error(e.into()))?;
    let row = states.get(row).map_err(|e| load_error(e.into()))?;
    row.map(|row| layout::read_state_row(row.value())).transpose()
}

pub(crate) fn list(
    snapshot: &ReadTransaction,
    first: &[u8],
    after: Option<&[u8]>,
    end: &[u8],
    limit: usize,
) -> Result<Vec<String>, LoadError> {
    let grains = snapshot.open_table(GRAINS).map_err(|e| load_error(e.into()))?;
    let from = after.map_or(Bound::Included(first), Bound::Excluded);
    let rows = grains.range::<&[u8]>((from, Bound::Excluded(end))).map_err(|e| load_error(e.into()))?;
    let mut keys = Vec::new();
    for row in rows {
        if keys.len() == limit {
            break;
        }
        let (key, grain) = row.map_err(|e| load_error(e.into()))?;
        let (_, _, present) = grain.value();
        if present > 0 {
            keys.push(layout::key_of_row(key.value(), first)?);
        }
    }
    Ok(keys)
}

pub(super) fn load_error(error: redb::Error) -> LoadError {
    match error {
        redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::DatabaseClosed => unavailable(&error.to_string()),
        error => LoadError::Damaged { why: error.to_string() },
    }
}

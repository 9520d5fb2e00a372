//! Reading from a snapshot.

use std::ops::Bound;

use grains_core::{
    Version,
    store::{LoadError, Stored},
};
use redb::{ReadTransaction, ReadableTable};

use super::{
    layout::{self, EPOCH, GRAINS, STATES},
    rules::GrainRow,
    unavailable,
};

/// What is kept of a grain beside its states.
pub(crate) fn grain(
    grains: &impl ReadableTable<&'static [u8], (u64, u64, u64)>,
    grain_key: &[u8],
) -> Result<Option<GrainRow>, redb::Error> {
    Ok(grains.get(grain_key)?.map(|row| layout::read_grain(row.value())))
}

/// The version of a state and whether it has a value.
pub(crate) fn state_head(
    states: &impl ReadableTable<&'static [u8], &'static [u8]>,
    grain_key: &[u8],
    name: &str,
) -> Result<Result<(Version, bool), LoadError>, redb::Error> {
    let row = states.get(layout::state_key(grain_key, name).as_slice())?;
    Ok(row.map_or(Ok((Version(0), false)), |row| layout::read_state_head(row.value())))
}

/// The last epoch that was given.
pub(crate) fn last_epoch(meta: &impl ReadableTable<&'static [u8], u64>) -> Result<u64, redb::Error> {
    Ok(meta.get(EPOCH)?.map_or(0, |row| row.value()))
}

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

/// One grain as it is stored.
#[cfg(feature = "consensus")]
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct KeptGrain {
    pub(crate) grain_type: String,
    pub(crate) key: String,
    /// Its states that have a value, by name.
    pub(crate) states: Vec<(String, Vec<u8>)>,
}

/// Some grains in the order of their rows, with the row of the last of them: at most `limit`, and no more once their states
/// have `bytes`.
#[cfg(feature = "consensus")]
pub(super) fn grains(
    snapshot: &ReadTransaction,
    after: Option<&[u8]>,
    limit: usize,
    bytes: usize,
) -> Result<(Vec<KeptGrain>, Option<Vec<u8>>), LoadError> {
    let grains = snapshot.open_table(GRAINS).map_err(|e| load_error(e.into()))?;
    let states = snapshot.open_table(STATES).map_err(|e| load_error(e.into()))?;
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let (mut kept, mut last, mut sum) = (Vec::new(), None, 0);
    for row in grains.range::<&[u8]>((from, Bound::Unbounded)).map_err(|e| load_error(e.into()))? {
        if kept.len() == limit || sum >= bytes {
            break;
        }
        let (row, grain) = row.map_err(|e| load_error(e.into()))?;
        let row = row.value();
        last = Some(row.to_vec());
        let (_, _, present) = grain.value();
        if present == 0 {
            continue;
        }
        let (grain_type, key, _) = layout::parts_of_row(row)?;
        let mut of_grain = Vec::new();
        for state in states.range::<&[u8]>(row..).map_err(|e| load_error(e.into()))? {
            let (state_row, value) = state.map_err(|e| load_error(e.into()))?;
            let Some(name) = state_row.value().strip_prefix(row) else { break };
            let name = std::str::from_utf8(name).map_err(|why| LoadError::Damaged { why: why.to_string() })?;
            if let Some(value) = layout::read_state_row(value.value())?.value {
                sum += value.len();
                of_grain.push((name.to_owned(), value));
            }
        }
        kept.push(KeptGrain { grain_type, key, states: of_grain });
    }
    Ok((kept, last))
}

pub(super) fn load_error(error: redb::Error) -> LoadError {
    match error {
        redb::Error::Io(_) | redb::Error::PreviousIo | redb::Error::DatabaseClosed => unavailable(&error.to_string()),
        error => LoadError::Damaged { why: error.to_string() },
    }
}

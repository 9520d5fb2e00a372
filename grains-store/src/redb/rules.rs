//! What a set of writes must fit to, and what it changes. One for all who hold rows: a transaction of redb, and the memory that
//! is in front of one.

use grains_core::{
    FencingToken, Version,
    store::{CommitError, LoadError, Write},
    switches::{Mechanism, on},
};

/// The rows that a set is held against.
pub(crate) trait Rows {
    fn grain(&mut self, grain_key: &[u8]) -> Result<Option<GrainRow>, redb::Error>;
    /// The version of a state and whether it has a value.
    fn state_head(&mut self, grain_key: &[u8], name: &str) -> Result<Result<(Version, bool), LoadError>, redb::Error>;
    fn put_grain(&mut self, grain_key: &[u8], grain: GrainRow) -> Result<(), redb::Error>;
    fn put_state(
        &mut self,
        grain_key: &[u8],
        name: &str,
        version: Version,
        value: Option<&[u8]>,
    ) -> Result<(), redb::Error>;
}

/// What is kept of a grain beside its states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GrainRow {
    pub(crate) newest: FencingToken,
    /// How many states have a value.
    pub(crate) present: u64,
}

/// One state to write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OneWrite<'w> {
    pub(crate) name: &'w str,
    pub(crate) expected: Version,
    pub(crate) value: Option<&'w [u8]>,
}

impl<'w> From<&'w Write> for OneWrite<'w> {
    fn from(Write { name, expected, value }: &'w Write) -> Self {
        Self { name, expected: *expected, value: value.as_deref() }
    }
}

/// Why a set was not applied.
#[derive(Debug)]
pub(crate) enum Refused {
    /// Its token or a version does not fit: nothing of it is here.
    Rules(CommitError),
    /// What is there cannot be read: nothing of it is here.
    Damaged(String),
    /// The file: nothing of the transaction may be kept.
    File(redb::Error),
}

impl From<redb::Error> for Refused {
    fn from(error: redb::Error) -> Self {
        Self::File(error)
    }
}

/// Applies the writes of one grain, or none of them.
pub(crate) fn apply<'w>(
    rows: &mut impl Rows,
    grain_key: &[u8],
    token: FencingToken,
    writes: impl Iterator<Item = OneWrite<'w>> + Clone,
) -> Result<(), Refused> {
    let grain = rows.grain(grain_key)?;
    if let Some(grain) = &grain
        && grain.newest > token
        && on(Mechanism::TokenIsChecked)
    {
        return Err(Refused::Rules(CommitError::Fenced { ours: token, newest: grain.newest }));
    }
    let mut present = grain.as_ref().map_or(0, |grain| grain.present);
    for OneWrite { name, expected, value } in writes.clone() {
        let head = rows.state_head(grain_key, name)?;
        let (found, had_value) = head.map_err(|damaged| Refused::Damaged(damaged.to_string()))?;
        if found != expected && on(Mechanism::VersionIsChecked) {
            return Err(Refused::Rules(CommitError::Conflict { name: name.to_owned(), expected, found }));
        }
        // Saturating, because a damaged count must not end the writer.
        present = present.saturating_add(u64::from(value.is_some())).saturating_sub(u64::from(had_value));
    }
    for OneWrite { name, expected, value } in writes {
        rows.put_state(grain_key, name, expected.next(), value)?;
    }
    // Most commits of an activation leave it as it is.
    let after = GrainRow { newest: token, present };
    if grain != Some(after) {
        rows.put_grain(grain_key, after)?;
    }
    Ok(())
}

//! What the file holds: a table of entries and one of facts, and how both are read and written.

use grains_core::codec;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, TableError, TableHandle};
use serde::de::DeserializeOwned;

use super::{Held, Kept, Stored, disk::Change};
use crate::{
    redb::Why,
    {NodeId, NodeName},
};

/// By index: one entry.
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
/// By name: everything that there is one of.
const FACTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("consensus");

/// The format that this file describes.
pub(super) const FORMAT_KNOWN: u64 = 1;

/// A row of [`FACTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    Format,
    Node,
    Name,
    Vote,
    Committed,
    Purged,
    SnapshotMeta,
    Snapshot,
}

impl Fact {
    fn name(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Node => "node",
            Self::Name => "name",
            Self::Vote => "vote",
            Self::Committed => "committed",
            Self::Purged => "purged",
            Self::SnapshotMeta => "snapshot_meta",
            Self::Snapshot => "snapshot",
        }
    }
}

/// Looks whether the file is a log of ours, and makes it one for the node `fresh` of this name if it is empty.
pub(super) fn check(database: &Database, fresh: NodeId, name: &NodeName) -> Result<(), Why> {
    let snapshot = database.begin_read().map_err(redb::Error::from)?;
    let tables = snapshot.list_tables()?.map(|table| table.name().to_owned()).collect::<Vec<_>>();
    if tables.is_empty() {
        let format = codec::encode(&FORMAT_KNOWN).map_err(Why::damaged)?;
        let node = codec::encode(&fresh).map_err(Why::damaged)?;
        let name = codec::encode(name).map_err(Why::damaged)?;
        let facts = Change::Facts(vec![(Fact::Format, format), (Fact::Node, node), (Fact::Name, name)]);
        return Ok(write(database, [&facts])?);
    }
    if !tables.iter().any(|table| table == FACTS.name()) {
        return Err(Why::Foreign);
    }
    // A table of that name with other types is somebody else's.
    let facts = snapshot.open_table(FACTS).map_err(|_| Why::Foreign)?;
    match fact::<u64>(&facts, Fact::Format)? {
        Some(FORMAT_KNOWN) => Ok(()),
        Some(found) => Err(Why::Format(found)),
        None => Err(Why::Foreign),
    }
}

/// Reads everything.
pub(super) fn read(database: &Database) -> Result<(NodeId, NodeName, Kept), Why> {
    let snapshot = database.begin_read().map_err(redb::Error::from)?;
    let facts = snapshot.open_table(FACTS).map_err(redb::Error::from)?;
    let node = fact(&facts, Fact::Node)?.ok_or_else(|| Why::damaged("the number of the node is missing"))?;
    let name = fact(&facts, Fact::Name)?.ok_or_else(|| Why::damaged("the name of the node is missing"))?;
    let mut kept = Kept {
        vote: fact(&facts, Fact::Vote)?,
        committed: fact::<Option<_>>(&facts, Fact::Committed)?.flatten(),
        purged: fact(&facts, Fact::Purged)?,
        ..Kept::default()
    };
    if let (Some(meta), Some(row)) = (fact(&facts, Fact::SnapshotMeta)?, facts.get(Fact::Snapshot.name())?) {
        kept.snapshot = Some(Stored { meta, bytes: row.value().to_vec() }.into());
    }
    let log = match snapshot.open_table(LOG) {
        Ok(log) => log,
        Err(TableError::TableDoesNotExist(_)) => return Ok((node, name, kept)),
        Err(error) => return Err(redb::Error::from(error).into()),
    };
    for row in log.iter()? {
        let (index, row) = row?;
        let entry = decoded(row.value(), "an entry of the log")?;
        kept.entries.insert(index.value(), Held { entry, bytes: row.value().len() });
    }
    no_holes(&kept)?;
    Ok((node, name, kept))
}

/// Raft looks at the last entry only and takes it that all before it are there.
fn no_holes(kept: &Kept) -> Result<(), Why> {
    let first = kept.purged.map_or(0, |purged| purged.index + 1);
    for (expected, (index, held)) in (first..).zip(&kept.entries) {
        if *index != expected || held.entry.log_id.index != expected {
            return Err(Why::damaged(format!("entry {expected} of the log is missing")));
        }
    }
    Ok(())
}

fn fact<T: DeserializeOwned>(
    facts: &impl ReadableTable<&'static str, &'static [u8]>,
    fact: Fact,
) -> Result<Option<T>, Why> {
    facts.get(fact.name())?.map(|row| decoded(row.value(), fact.name())).transpose()
}

fn decoded<T: DeserializeOwned>(row: &[u8], what: &str) -> Result<T, Why> {
    codec::decode(row).map_err(|error| Why::damaged(format!("{what} cannot be read: {error}")))
}

/// Applies the changes in their order, all or none, and returns when they would survive a power cut.
pub(super) fn write<'c>(database: &Database, changes: impl IntoIterator<Item = &'c Change>) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    // One fsync. Without the second one of a quick repair, the next open after a crash reads the whole file; snapshots
    // keep it small.
    transaction.set_durability(Durability::Immediate)?;
    {
        let mut log = transaction.open_table(LOG)?;
        let mut facts = transaction.open_table(FACTS)?;
        for change in changes {
            match change {
                Change::Append(rows) => {
                    for (index, row) in rows {
                        log.insert(index, row.as_slice())?;
                    }
                }
                Change::Truncate { from } => log.retain_in(*from.., |_, _| false)?,
                Change::Purge { upto, purged } => {
                    log.retain_in(..=*upto, |_, _| false)?;
                    facts.insert(Fact::Purged.name(), purged.as_slice())?;
                }
                Change::Facts(rows) => {
                    for (fact, row) in rows {
                        facts.insert(fact.name(), row.as_slice())?;
                    }
                }
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

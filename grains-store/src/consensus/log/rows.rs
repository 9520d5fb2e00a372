//! What redb's file holds: a table of entries and one of facts, and how both are read and written.

use std::io;

use grains_core::codec;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, TableError, TableHandle};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Held, Kept, Stored, journal::Journaled};
use crate::{
    redb::Why,
    {NodeId, NodeName},
};

/// By index: one entry.
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
/// By name: everything that there is one of.
const FACTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("consensus");

/// The format that this file and the journal's describe.
pub(super) const FORMAT_KNOWN: u64 = 2;

/// What changes in a log. Its encoding is part of the format: raise [`FORMAT_KNOWN`] with any change of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Change {
    Append(Vec<Row>),
    Truncate { from: u64 },
    Purge { upto: u64, purged: Value },
    Facts(Vec<(Fact, Value)>),
}

/// An entry by its index.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Row(pub(super) u64, #[serde(with = "codec::bytes")] pub(super) Vec<u8>);

/// The bytes of a fact.
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Value(#[serde(with = "codec::bytes")] pub(super) Vec<u8>);

impl Change {
    /// About as many bytes as it takes, and not more.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Append(rows) => rows.iter().map(|row| row.1.len()).sum(),
            Self::Truncate { .. } => 0,
            Self::Purge { purged, .. } => purged.0.len(),
            Self::Facts(facts) => facts.iter().map(|(_, value)| value.0.len()).sum(),
        }
    }
}

/// A row of [`FACTS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Fact {
    Format,
    Node,
    Name,
    Journal,
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
            Self::Journal => "journal",
            Self::Vote => "vote",
            Self::Committed => "committed",
            Self::Purged => "purged",
            Self::SnapshotMeta => "snapshot_meta",
            Self::Snapshot => "snapshot",
        }
    }
}

/// Whose log a file is.
pub(super) struct Identity {
    pub(super) node: NodeId,
    pub(super) name: NodeName,
    pub(super) journaled: Journaled,
}

/// Makes an empty file a log.
pub(super) fn found(database: &Database, identity: &Identity) -> Result<(), Why> {
    let facts = [
        (Fact::Format, codec::encode(&FORMAT_KNOWN)),
        (Fact::Node, codec::encode(&identity.node)),
        (Fact::Name, codec::encode(&identity.name)),
    ];
    let facts = facts.map(|(fact, value)| Ok((fact, Value(value.map_err(Why::damaged)?))));
    let facts = Change::Facts(facts.into_iter().collect::<Result<_, Why>>()?);
    Ok(write(database, [&facts], identity.journaled)?)
}

/// Whose log the file is, if it is one of ours; none for an empty one.
pub(super) fn identity(database: &Database) -> Result<Option<Identity>, Why> {
    let snapshot = database.begin_read().map_err(redb::Error::from)?;
    let tables = snapshot.list_tables()?.map(|table| table.name().to_owned()).collect::<Vec<_>>();
    if tables.is_empty() {
        return Ok(None);
    }
    if !tables.iter().any(|table| table == FACTS.name()) {
        return Err(Why::Foreign);
    }
    // A table of that name with other types is somebody else's.
    let facts = snapshot.open_table(FACTS).map_err(|_| Why::Foreign)?;
    match fact::<u64>(&facts, Fact::Format)? {
        Some(FORMAT_KNOWN) => {}
        Some(found) => return Err(Why::Format(found)),
        None => return Err(Why::Foreign),
    }
    let missing = |what| move || Why::damaged(format!("the {what} is missing"));
    Ok(Some(Identity {
        node: fact(&facts, Fact::Node)?.ok_or_else(missing("number of the node"))?,
        name: fact(&facts, Fact::Name)?.ok_or_else(missing("name of the node"))?,
        journaled: fact(&facts, Fact::Journal)?.ok_or_else(missing("number of its journal"))?,
    }))
}

/// Reads everything.
pub(super) fn read(database: &Database) -> Result<Kept, Why> {
    let snapshot = database.begin_read().map_err(redb::Error::from)?;
    let facts = snapshot.open_table(FACTS).map_err(redb::Error::from)?;
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
        Err(TableError::TableDoesNotExist(_)) => return Ok(kept),
        Err(error) => return Err(redb::Error::from(error).into()),
    };
    for row in log.iter()? {
        let (index, row) = row?;
        let entry = decoded(row.value(), "an entry of the log")?;
        kept.entries.insert(index.value(), Held { entry, bytes: row.value().len() });
    }
    no_holes(&kept)?;
    Ok(kept)
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

/// Applies the changes in their order, all or none, and returns when they would survive a power cut. What the journal says
/// from then on must be of the generation in `journaled`.
pub(super) fn write<'c>(
    database: &Database,
    changes: impl IntoIterator<Item = &'c Change>,
    journaled: Journaled,
) -> Result<(), redb::Error> {
    let journaled = codec::encode(&journaled).map_err(io::Error::other)?;
    let mut transaction = database.begin_write()?;
    // One fsync. Without the second one of a quick repair, the next open after a crash reads the whole file; snapshots
    // keep it small.
    transaction.set_durability(Durability::Immediate)?;
    {
        let mut log = transaction.open_table(LOG)?;
        let mut facts = transaction.open_table(FACTS)?;
        facts.insert(Fact::Journal.name(), journaled.as_slice())?;
        for change in changes {
            match change {
                Change::Append(rows) => {
                    for Row(index, row) in rows {
                        log.insert(index, row.as_slice())?;
                    }
                }
                Change::Truncate { from } => log.retain_in(*from.., |_, _| false)?,
                Change::Purge { upto, purged } => {
                    log.retain_in(..=*upto, |_, _| false)?;
                    facts.insert(Fact::Purged.name(), purged.0.as_slice())?;
                }
                Change::Facts(rows) => {
                    for (fact, Value(value)) in rows {
                        facts.insert(fact.name(), value.as_slice())?;
                    }
                }
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

//! A whole state in parts: read out of one file row by row, and into tables beside those of another.
//!
//! A part is rows one after the other: the number of the table, the lengths of key and value (`u32`, little-endian), both.

use std::{io, ops::Bound};

use redb::{Database, ReadTransaction, ReadableDatabase, TableDefinition, TableError};

use super::{CLIENTS, POSITION, begin, broken, corrupted};
use crate::{
    consensus::Reading,
    redb::layout::{FORMAT, GRAINS, META, STATES},
};

/// What comes in, until it is whole.
const META_INCOMING: TableDefinition<'_, &[u8], u64> = TableDefinition::new("meta.incoming");
const GRAINS_INCOMING: TableDefinition<'_, &[u8], (u64, u64, u64)> = TableDefinition::new("grains.incoming");
const STATES_INCOMING: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("states.incoming");
const CLIENTS_INCOMING: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("clients.incoming");

/// The tables in the order of their numbers.
const TABLES: u8 = 4;

/// The rows of a snapshot.
pub(super) struct Pages {
    snapshot: ReadTransaction,
    /// The table, and the last key that was read of it.
    table: u8,
    after: Option<Vec<u8>>,
}

/// Appends rows of a table to a part until that is long enough. Gives the last key; none once the table is at its end.
macro_rules! read_rows {
    ($pages:expr, $definition:expr, $out:expr, $bytes:expr, $value:expr) => {{
        let table = match $pages.snapshot.open_table($definition) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let from = $pages.after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut last = None;
        for row in table.range::<&[u8]>((from, Bound::Unbounded))? {
            let (key, value) = row?;
            push($out, $pages.table, key.value(), $value(value.value()).as_ref());
            if $out.len() >= $bytes {
                last = Some(key.value().to_vec());
                break;
            }
        }
        Ok(last)
    }};
}

impl Pages {
    pub(super) fn of(snapshot: ReadTransaction) -> Self {
        Self { snapshot, table: 0, after: None }
    }

    fn rows(&self, out: &mut Vec<u8>, bytes: usize) -> Result<Option<Vec<u8>>, redb::Error> {
        match self.table {
            0 => read_rows!(self, META, out, bytes, u64::to_le_bytes),
            1 => read_rows!(self, GRAINS, out, bytes, grain_bytes),
            2 => read_rows!(self, STATES, out, bytes, <[u8]>::to_vec),
            _ => read_rows!(self, CLIENTS, out, bytes, <[u8]>::to_vec),
        }
    }
}

impl Reading for Pages {
    fn part(&mut self, bytes: usize) -> io::Result<Option<Vec<u8>>> {
        let mut out = Vec::new();
        while self.table < TABLES && out.len() < bytes {
            self.after = self.rows(&mut out, bytes).map_err(broken)?;
            if self.after.is_none() {
                self.table += 1;
            }
        }
        Ok((!out.is_empty()).then_some(out))
    }
}

fn grain_bytes((epoch, counter, present): (u64, u64, u64)) -> [u8; 24] {
    let mut bytes = [0; 24];
    for (place, number) in bytes.chunks_exact_mut(8).zip([epoch, counter, present]) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    bytes
}

pub(super) fn push(out: &mut Vec<u8>, table: u8, key: &[u8], value: &[u8]) {
    // A key is a type, a key and a name, a value a state: far below 4 GB.
    let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes();
    out.push(table);
    out.extend(len(key));
    out.extend(len(value));
    out.extend(key);
    out.extend(value);
}

/// A row of a part: the number of its table, its key and its value.
pub(super) type Row<'p> = (u8, &'p [u8], &'p [u8]);

/// The first row of a part and the rest.
pub(super) fn split(part: &[u8]) -> Option<(Row<'_>, &[u8])> {
    let (table, rest) = part.split_first()?;
    let (key_len, rest) = rest.split_first_chunk()?;
    let (value_len, rest) = rest.split_first_chunk()?;
    let len = |bytes: &[u8; 4]| usize::try_from(u32::from_le_bytes(*bytes)).ok();
    let (key, rest) = rest.split_at_checked(len(key_len)?)?;
    let (value, rest) = rest.split_at_checked(len(value_len)?)?;
    Some(((*table, key, value), rest))
}

pub(super) fn numbers<const N: usize>(value: &[u8]) -> Result<[u64; N], redb::Error> {
    let (chunks, rest) = value.as_chunks::<8>();
    match <[[u8; 8]; N]>::try_from(chunks) {
        Ok(chunks) if rest.is_empty() => Ok(chunks.map(u64::from_le_bytes)),
        _ => Err(corrupted("a row that came in has another length")),
    }
}

/// Forgets what came in.
pub(super) fn clear(database: &Database) -> Result<(), redb::Error> {
    let transaction = begin(database, false)?;
    transaction.delete_table(META_INCOMING)?;
    transaction.delete_table(GRAINS_INCOMING)?;
    transaction.delete_table(STATES_INCOMING)?;
    transaction.delete_table(CLIENTS_INCOMING)?;
    transaction.commit()?;
    Ok(())
}

/// Takes a part in.
pub(super) fn add(database: &Database, part: &[u8]) -> Result<(), redb::Error> {
    // Durable, so that what is not does not pile up in memory while gigabytes come in.
    let transaction = begin(database, true)?;
    {
        let mut meta = transaction.open_table(META_INCOMING)?;
        let mut grains = transaction.open_table(GRAINS_INCOMING)?;
        let mut states = transaction.open_table(STATES_INCOMING)?;
        let mut clients = transaction.open_table(CLIENTS_INCOMING)?;
        let mut rest = part;
        while !rest.is_empty() {
            let ((table, key, value), behind) =
                split(rest).ok_or_else(|| corrupted("a part that is cut off in a row"))?;
            rest = behind;
            match table {
                0 => drop(meta.insert(key, numbers::<1>(value)?[0])?),
                1 => {
                    let [epoch, counter, present] = numbers(value)?;
                    grains.insert(key, (epoch, counter, present))?;
                }
                2 => drop(states.insert(key, value)?),
                3 => drop(clients.insert(key, value)?),
                _ => return Err(corrupted(format!("a row of the unknown table {table}"))),
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

/// The format of what came in.
pub(super) fn format(database: &Database) -> Result<Option<u64>, redb::Error> {
    match database.begin_read()?.open_table(META_INCOMING) {
        Ok(meta) => Ok(meta.get(FORMAT)?.map(|row| row.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Puts what came in in the place of what is here.
pub(super) fn install(database: &Database, position: &[u8]) -> Result<(), redb::Error> {
    let transaction = begin(database, true)?;
    // Those that had no rows did not come.
    drop(transaction.open_table(META_INCOMING)?);
    drop(transaction.open_table(GRAINS_INCOMING)?);
    drop(transaction.open_table(STATES_INCOMING)?);
    drop(transaction.open_table(CLIENTS_INCOMING)?);
    transaction.delete_table(META)?;
    transaction.delete_table(GRAINS)?;
    transaction.delete_table(STATES)?;
    transaction.delete_table(CLIENTS)?;
    transaction.rename_table(META_INCOMING, META)?;
    transaction.rename_table(GRAINS_INCOMING, GRAINS)?;
    transaction.rename_table(STATES_INCOMING, STATES)?;
    transaction.rename_table(CLIENTS_INCOMING, CLIENTS)?;
    transaction.open_table(POSITION)?.insert("", position)?;
    transaction.commit()?;
    Ok(())
}

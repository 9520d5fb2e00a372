//! The states of grains as every voter has them: the tables of the store of one node, and two more. Applied command by command
//! of the log, the same on every voter, to memory (`recent`), and from there to the file.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta`, `grains`, `states` | | as in `redb.rs` |
//! | `clients` | a client's number | its last serial, the index of its entry, the encoded outcome |
//! | `position` | `""` | how far in the log this is |
//!
//! While another voter's state comes in, its rows are in tables of their own.

mod clients;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod golden;
mod pages;
mod recent;

use std::{
    fmt, io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use grains_core::{
    store::{LoadError, Stored},
    world::World,
};
use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
    backends::InMemoryBackend,
};

use self::{clients::CLIENTS, recent::Recent};
use super::words::{Name, Work};
use crate::{
    consensus::{DiskState, Read},
    redb::{OpenError, check_format, layout, no_panic, open_checked, read},
};

/// One row: the position.
const POSITION: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("position");

/// How much of the file is kept in memory.
const CACHE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How much is held in memory before it goes to the file: some thousand rows, which take a few milliseconds.
const RECENT_BYTES_MAX: usize = 256 * 1024;

/// The largest commands that are applied on a thread that others wait for: some tens of microseconds.
const NOW_BYTES_MAX: usize = 16 * 1024;

/// The states of one node. Locked in the order of the fields.
pub(super) struct States {
    /// The number of the state that comes in.
    incoming: Mutex<u64>,
    recent: Mutex<Recent>,
    access: RwLock<Option<Database>>,
}

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("States").finish_non_exhaustive()
    }
}

impl States {
    /// Those in the file at `path`, made if there is none.
    pub(super) fn in_file(world: &World, path: &Path) -> Result<Self, OpenError> {
        Self::in_file_with(world, path, CACHE_BYTES_MAX, RECENT_BYTES_MAX)
    }

    /// The same with so much of it kept in memory, and so much before it goes to the file.
    pub(super) fn in_file_with(
        world: &World,
        path: &Path,
        cache_bytes_max: usize,
        recent_bytes_max: usize,
    ) -> Result<Self, OpenError> {
        open_checked(world, path, cache_bytes_max, check_format).map(|database| Self::of(database, recent_bytes_max))
    }

    /// Some that die with the process.
    pub(super) fn in_memory() -> io::Result<Self> {
        let database = redb::Builder::new()
            .set_cache_size(CACHE_BYTES_MAX)
            .create_with_backend(InMemoryBackend::new())
            .map_err(io::Error::other)?;
        check_format(&database).map_err(|why| io::Error::other(format!("{why:?}")))?;
        Ok(Self::of(database, RECENT_BYTES_MAX))
    }

    fn of(database: Database, recent_bytes_max: usize) -> Self {
        Self {
            incoming: Mutex::new(0),
            recent: Mutex::new(Recent::new(recent_bytes_max)),
            access: RwLock::new(Some(database)),
        }
    }

    fn recent(&self) -> io::Result<MutexGuard<'_, Recent>> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        match recent.over() {
            None => Ok(recent),
            Some(why) => Err(io::Error::other(why)),
        }
    }

    /// Puts what was applied into the file, not durably.
    fn write_recent(&self, recent: &mut Recent) -> io::Result<()> {
        if recent.position().is_none() {
            return Ok(());
        }
        self.with(|database| {
            let transaction = begin(database, false)?;
            recent.write(&transaction)?;
            transaction.commit()?;
            Ok(())
        })?;
        recent.written();
        Ok(())
    }

    pub(super) fn load(&self, names: &[Name], bytes_max: usize) -> Vec<Result<Option<Stored>, LoadError>> {
        let mut bytes = 0;
        let mut loaded = Vec::new();
        for Name { grain_type, key, name } in names {
            if bytes >= bytes_max {
                break;
            }
            let one = self.load_one(&layout::grain_key(grain_type, key), name);
            bytes += one.iter().flatten().filter_map(|stored| stored.value.as_ref()).map(Vec::len).sum::<usize>();
            loaded.push(one);
        }
        loaded
    }

    fn load_one(&self, grain_key: &[u8], name: &str) -> Result<Option<Stored>, LoadError> {
        // A statement of its own, or the lock would be held while the file is read.
        let known = self.recent().map_err(unavailable)?.stored(grain_key, name);
        known.unwrap_or_else(|| self.read_with(|snapshot| read::load(snapshot, &layout::state_key(grain_key, name))))
    }

    pub(super) fn list(&self, grain_type: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>, LoadError> {
        self.recent().and_then(|mut recent| self.write_recent(&mut recent)).map_err(unavailable)?;
        let (first, end) = layout::type_bounds(grain_type);
        let after = after.map(|key| layout::grain_key(grain_type, key));
        self.read_with(|snapshot| read::list(snapshot, &first, after.as_deref(), &end, limit))
    }

    /// The right to go on with a state that comes in, if no other has been begun since.
    fn of_incoming(&self, incoming: u64) -> io::Result<MutexGuard<'_, u64>> {
        let known = self.incoming.lock().unwrap_or_else(PoisonError::into_inner);
        match *known == incoming {
            true => Ok(known),
            false => Err(io::Error::other("another state comes in now")),
        }
    }

    fn read_with<T>(&self, work: impl FnOnce(&ReadTransaction) -> Result<T, LoadError>) -> Result<T, LoadError> {
        let reading = self.with(|database| {
            let snapshot = database.begin_read().map_err(redb::Error::from)?;
            Ok(work(&snapshot))
        });
        reading.unwrap_or_else(|error| Err(unavailable(error)))
    }

    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> io::Result<T> {
        let access = self.access.read().unwrap_or_else(PoisonError::into_inner);
        let database = access.as_ref().ok_or_else(|| io::Error::other("the states were closed"))?;
        // redb panics on some damaged pages.
        let worked = no_panic(|| work(database));
        worked.unwrap_or_else(|| Err(redb::Error::Corrupted("pages contradict each other".into()))).map_err(broken)
    }
}

fn unavailable(error: io::Error) -> LoadError {
    LoadError::Unavailable { why: error.to_string() }
}

fn broken(error: redb::Error) -> io::Error {
    match error {
        redb::Error::Io(error) => error,
        error => io::Error::other(error),
    }
}

fn corrupted(why: impl ToString) -> redb::Error {
    redb::Error::Corrupted(why.to_string())
}

/// Begins a transaction. One that is not durable may be undone by a crash, with all that come after it.
fn begin(database: &Database, durable: bool) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(if durable { Durability::Immediate } else { Durability::None })?;
    if durable {
        // Without it a crash makes the next start read the whole file.
        transaction.set_quick_repair(true);
    }
    Ok(transaction)
}

impl DiskState for States {
    fn position(&self) -> io::Result<Option<Vec<u8>>> {
        match self.recent()?.position() {
            Some(position) => Ok(Some(position.to_vec())),
            None => self.with(|database| position(&database.begin_read()?)),
        }
    }

    fn apply(&self, commands: &[(u64, Arc<[u8]>)], position: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let mut recent = self.recent()?;
        let outcomes = self.with(|database| recent.apply_all(database, commands, position))?;
        if recent.is_full() {
            self.write_recent(&mut recent)?;
        }
        Ok(outcomes)
    }

    fn apply_now(&self, commands: &[(u64, Arc<[u8]>)], position: &[u8]) -> Option<io::Result<Vec<Vec<u8>>>> {
        if commands.iter().map(|(_, command)| command.len()).sum::<usize>() > NOW_BYTES_MAX {
            return None;
        }
        // Whoever has it may be about to write to the file.
        let mut recent = self.recent.try_lock().ok()?;
        match recent.over() {
            None => recent.apply_known(commands, position).map(|applied| applied.map_err(broken)),
            Some(why) => Some(Err(io::Error::other(why))),
        }
    }

    fn persist(&self) -> io::Result<()> {
        // Others wait for this, not for the disk.
        self.recent().and_then(|mut recent| self.write_recent(&mut recent))?;
        self.with(|database| {
            let transaction = begin(database, true)?;
            {
                // Something to commit: the position as it is.
                let mut table = transaction.open_table(POSITION)?;
                let position = table.get("")?.map(|row| row.value().to_vec());
                if let Some(position) = position {
                    table.insert("", position.as_slice())?;
                }
            }
            transaction.commit()?;
            Ok(())
        })
    }

    fn read(&self) -> io::Result<Read> {
        let mut recent = self.recent()?;
        self.write_recent(&mut recent)?;
        self.with(|database| {
            let snapshot = database.begin_read()?;
            let position = position(&snapshot)?;
            Ok((Box::new(pages::Pages::of(snapshot)) as Box<_>, position))
        })
    }

    fn begin(&self) -> io::Result<u64> {
        let mut incoming = self.incoming.lock().unwrap_or_else(PoisonError::into_inner);
        self.with(pages::clear)?;
        *incoming += 1;
        Ok(*incoming)
    }

    fn add(&self, incoming: u64, part: &[u8]) -> io::Result<()> {
        let _known = self.of_incoming(incoming)?;
        self.with(|database| pages::add(database, part))
    }

    fn can_take(&self, incoming: u64) -> io::Result<()> {
        let _known = self.of_incoming(incoming)?;
        match self.with(pages::format)? {
            Some(layout::FORMAT_KNOWN) => Ok(()),
            Some(found) => {
                let known = layout::FORMAT_KNOWN;
                Err(io::Error::other(format!("a state of format {found}, this version of grains knows {known}")))
            }
            None => Err(io::Error::other("a state without a format")),
        }
    }

    fn install(&self, incoming: u64, position: &[u8]) -> io::Result<()> {
        let mut known = self.of_incoming(incoming)?;
        // What comes after it is another one.
        *known += 1;
        let mut recent = self.recent()?;
        self.with(|database| pages::install(database, position))?;
        recent.replaced();
        Ok(())
    }

    fn close(&self) {
        if let Ok(mut recent) = self.recent() {
            // What does not get there is in the log.
            let _ = self.write_recent(&mut recent);
            recent.end("the states were closed");
        }
        let open = self.access.write().unwrap_or_else(PoisonError::into_inner).take();
        // What redb fails to tidy up here, the next open repairs.
        let _ = no_panic(|| drop(open));
    }
}

fn position(snapshot: &ReadTransaction) -> Result<Option<Vec<u8>>, redb::Error> {
    match snapshot.open_table(POSITION) {
        Ok(table) => Ok(table.get("")?.map(|row| row.value().to_vec())),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

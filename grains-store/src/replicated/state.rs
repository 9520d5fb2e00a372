//! The states of grains as every voter has them: the tables of the store of one node, and two more. Applied command by command
//! of the log, the same on every voter.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta`, `grains`, `states` | | as in `redb.rs` |
//! | `clients` | a client's number | its last serial, the index of its entry, the encoded outcome |
//! | `position` | `""` | how far in the log this is |
//!
//! While another voter's state comes in, its rows are in tables of their own.

mod pages;

use std::{
    fmt, io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use grains_core::{
    codec,
    store::{CommitError, LoadError, Stored, Write},
    world::World,
};
use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table,
    TableDefinition, WriteTransaction, backends::InMemoryBackend,
};
use serde::{Deserialize, Serialize};

use super::words::{Command, Name, Outcome, Set, Work};
use crate::{
    consensus::{DiskState, Read},
    redb::{
        OpenError, check_format, layout, no_panic, open_checked, read,
        writer::{Refused, Rows},
    },
};

/// By number: a client's last command.
const CLIENTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("clients");
/// One row: the position.
const POSITION: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("position");

/// How many clients are remembered, those heard of last. Every process is one. A command that is sent again after so many
/// others came finds versions that do not fit: it is refused, and never applied twice.
const CLIENTS_MAX: u64 = 1024;

/// How much of the file is kept in memory.
const CACHE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The states of one node.
pub(super) struct States {
    access: RwLock<Option<Database>>,
    /// The number of the state that comes in.
    incoming: Mutex<u64>,
}

#[derive(Serialize, Deserialize)]
struct Last {
    serial: u64,
    index: u64,
    #[serde(with = "grains_core::codec::bytes")]
    outcome: Vec<u8>,
}

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("States").finish_non_exhaustive()
    }
}

impl States {
    /// Those in the file at `path`, made if there is none.
    pub(super) fn in_file(world: &World, path: &Path) -> Result<Self, OpenError> {
        Self::in_file_with(world, path, CACHE_BYTES_MAX)
    }

    /// The same with so much of it kept in memory.
    pub(super) fn in_file_with(world: &World, path: &Path, cache_bytes_max: usize) -> Result<Self, OpenError> {
        open_checked(world, path, cache_bytes_max, check_format).map(Self::of)
    }

    /// Some that die with the process.
    pub(super) fn in_memory() -> io::Result<Self> {
        let database = redb::Builder::new()
            .set_cache_size(CACHE_BYTES_MAX)
            .create_with_backend(InMemoryBackend::new())
            .map_err(io::Error::other)?;
        check_format(&database).map_err(|why| io::Error::other(format!("{why:?}")))?;
        Ok(Self::of(database))
    }

    fn of(database: Database) -> Self {
        Self { access: RwLock::new(Some(database)), incoming: Mutex::new(0) }
    }

    pub(super) fn load(&self, names: &[Name], bytes_max: usize) -> Vec<Result<Option<Stored>, LoadError>> {
        let mut bytes = 0;
        let mut loaded = Vec::new();
        for Name { grain_type, key, name } in names {
            if bytes >= bytes_max {
                break;
            }
            let row = layout::state_key(&layout::grain_key(grain_type, key), name);
            let one = self.read_with(|snapshot| read::load(snapshot, &row));
            bytes += one.iter().flatten().filter_map(|stored| stored.value.as_ref()).map(Vec::len).sum::<usize>();
            loaded.push(one);
        }
        loaded
    }

    pub(super) fn list(&self, grain_type: &str, after: Option<&str>, limit: usize) -> Result<Vec<String>, LoadError> {
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
        reading.unwrap_or_else(|error| Err(LoadError::Unavailable { why: error.to_string() }))
    }

    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> io::Result<T> {
        let access = self.access.read().unwrap_or_else(PoisonError::into_inner);
        let database = access.as_ref().ok_or_else(|| io::Error::other("the states were closed"))?;
        // redb panics on some damaged pages.
        let worked = no_panic(|| work(database));
        worked.unwrap_or_else(|| Err(redb::Error::Corrupted("pages contradict each other".into()))).map_err(broken)
    }
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
        self.with(|database| position(&database.begin_read()?))
    }

    fn apply(&self, commands: Vec<(u64, Arc<[u8]>)>, position: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        self.with(|database| {
            let transaction = begin(database, false)?;
            let mut outcomes = Vec::with_capacity(commands.len());
            {
                let mut rows = Rows::open(&transaction)?;
                let mut clients = transaction.open_table(CLIENTS)?;
                for (index, command) in commands {
                    outcomes.push(apply(&mut rows, &mut clients, index, &command)?);
                }
                forget_clients(&mut clients)?;
                transaction.open_table(POSITION)?.insert("", position)?;
            }
            transaction.commit()?;
            Ok(outcomes)
        })
    }

    fn persist(&self) -> io::Result<()> {
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
        self.with(|database| pages::install(database, position))
    }

    fn close(&self) {
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

fn apply(
    rows: &mut Rows<'_>,
    clients: &mut Table<'_, &'static [u8], &'static [u8]>,
    index: u64,
    command: &[u8],
) -> Result<Vec<u8>, redb::Error> {
    // An error stops this node: it cannot read what the others have agreed on.
    let Command { client, serial, work } = codec::decode(command).map_err(corrupted)?;
    let row = client.to_be_bytes();
    let last =
        clients.get(row.as_slice())?.map(|row| codec::decode::<Last>(row.value())).transpose().map_err(corrupted)?;
    if let Some(last) = last.filter(|last| serial <= last.serial) {
        return match serial == last.serial {
            true => Ok(last.outcome),
            false => codec::encode(&Outcome::Overtaken).map_err(corrupted),
        };
    }
    let outcome = match work {
        Work::Write(sets) => Outcome::Written(sets.into_iter().map(|set| write(rows, set)).collect::<Result<_, _>>()?),
        Work::Epoch => Outcome::Epoch(rows.next_epoch()?),
    };
    let outcome = codec::encode(&outcome).map_err(corrupted)?;
    let last = codec::encode(&Last { serial, index, outcome: outcome.clone() }).map_err(corrupted)?;
    clients.insert(row.as_slice(), last.as_slice())?;
    Ok(outcome)
}

fn write(rows: &mut Rows<'_>, set: Set) -> Result<Result<(), CommitError>, redb::Error> {
    let Set { grain_type, key, token, writes } = set;
    let writes: Vec<_> = writes.into_iter().map(Write::from).collect();
    match rows.apply(&grain_type, &key, token, &writes) {
        Ok(()) => Ok(Ok(())),
        Err(Refused::Rules(why)) => Ok(Err(why)),
        // Other voters may be able to read it: going on would make this one another state.
        Err(Refused::Damaged(why)) => Err(corrupted(why)),
        Err(Refused::File(error)) => Err(error),
    }
}

/// Lets go of those that were not heard of for longest.
fn forget_clients(clients: &mut Table<'_, &'static [u8], &'static [u8]>) -> Result<(), redb::Error> {
    let many = clients.len()?.saturating_sub(CLIENTS_MAX);
    if many == 0 {
        return Ok(());
    }
    let mut heard = Vec::new();
    for row in clients.iter()? {
        let (client, last) = row?;
        let Last { index, .. } = codec::decode(last.value()).map_err(corrupted)?;
        heard.push((index, client.value().to_vec()));
    }
    heard.sort_unstable();
    for (_, client) in heard.into_iter().take(usize::try_from(many).unwrap_or(usize::MAX)) {
        clients.remove(client.as_slice())?;
    }
    Ok(())
}

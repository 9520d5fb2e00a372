//! Opening a file with care: one that is foreign, damaged or taken is named, and left as it was.

use std::{
    io,
    path::{Path, PathBuf},
};

use grains_core::world::{DiskFile, World};
use redb::{Builder, Database, DatabaseError, ReadableDatabase, StorageError, TableHandle};

use super::{
    RedbConfig,
    backend::Backend,
    layout::{FORMAT, FORMAT_KNOWN, META, MOVED},
    no_panic,
    writer::{self, Failed},
};

/// Why a [`RedbStore`](super::RedbStore) could not be opened. What the file holds is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Somebody else has it open.
    #[error("`{path}` is open in another process or another store: stop that one first, or use another path")]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// It is not ours.
    #[error("`{path}` is not a store of grains: use another path, or move that file away")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// It was written by a version of grains that stores differently.
    #[error("`{path}` has format {found}, this version of grains knows {known}: use the version that wrote it")]
    Format {
        /// The file.
        path: PathBuf,
        /// The number in the file.
        found: u64,
        /// The number that this version writes.
        known: u64,
    },
    /// A cluster has its states now.
    #[error("the states of `{path}` were moved to a cluster: give the node the `cluster` that has them")]
    Moved {
        /// The file.
        path: PathBuf,
    },
    /// It was a store and cannot be read any more.
    #[error("`{path}` is damaged ({why}): restore it from a backup, or move it away to start empty")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// The disk said no.
    #[error("`{path}` cannot be opened: check its folder, the permissions and the space on the disk")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
}

pub(super) fn open(world: &World, path: &Path, config: &RedbConfig) -> Result<Database, OpenError> {
    open_checked(world, path, config.cache_bytes_max, |database| match check_format(database) {
        Ok(()) if is_moved(database)? => Err(Why::Moved),
        checked => checked,
    })
}

fn is_moved(database: &Database) -> Result<bool, Why> {
    let snapshot = database.begin_read().map_err(redb::Error::from)?;
    let meta = snapshot.open_table(META).map_err(redb::Error::from)?;
    Ok(meta.get(MOVED)?.is_some())
}

/// Opens redb's file at `path`, made if there is none, and lets `check` look at what it holds. For other rooms that keep
/// tables of their own; a file that redb did not write is left as it was.
pub(crate) fn open_checked(
    world: &World,
    path: &Path,
    cache_bytes_max: usize,
    check: impl FnOnce(&Database) -> Result<(), Why>,
) -> Result<Database, OpenError> {
    let failed = |why: Why| why.at(path);
    let file = world.disk.open(path).map_err(|e| failed(Why::of_opening(e)))?;
    recognise(file.as_ref()).map_err(failed)?;
    let open = || {
        let database = Builder::new().set_cache_size(cache_bytes_max).create_with_backend(Backend(file))?;
        check(&database)?;
        Ok(database)
    };
    no_panic(open).unwrap_or_else(|| Err(Why::damaged("its pages contradict each other"))).map_err(failed)
}

/// An [`OpenError`] that does not know the path yet.
#[derive(Debug)]
pub(crate) enum Why {
    Locked,
    Foreign,
    Format(u64),
    Moved,
    Damaged(String),
    Io(io::Error),
}

impl Why {
    pub(crate) fn at(self, path: &Path) -> OpenError {
        let path = path.to_owned();
        match self {
            Self::Locked => OpenError::Locked { path },
            Self::Foreign => OpenError::Foreign { path },
            Self::Format(found) => OpenError::Format { path, found, known: FORMAT_KNOWN },
            Self::Moved => OpenError::Moved { path },
            Self::Damaged(why) => OpenError::Damaged { path, why },
            Self::Io(source) => OpenError::Io { path, source },
        }
    }

    pub(crate) fn damaged(why: impl ToString) -> Self {
        Self::Damaged(why.to_string())
    }

    pub(crate) fn of_opening(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock => Self::Locked,
            _ => Self::Io(error),
        }
    }
}

impl From<io::Error> for Why {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Self::damaged(error),
            _ => Self::Io(error),
        }
    }
}

impl From<redb::Error> for Why {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => error.into(),
            redb::Error::DatabaseAlreadyOpen => Self::Locked,
            error => Self::damaged(error),
        }
    }
}

impl From<DatabaseError> for Why {
    fn from(error: DatabaseError) -> Self {
        redb::Error::from(error).into()
    }
}

impl From<StorageError> for Why {
    fn from(error: StorageError) -> Self {
        redb::Error::from(error).into()
    }
}

/// Tells our files from others before anything is written, and empties one whose making was interrupted.
fn recognise(file: &dyn DiskFile) -> Result<(), Why> {
    let len = file.len()?;
    if len == 0 {
        return Ok(());
    }
    let mut head = vec![0; HEAD_BYTES.min(usize::try_from(len).unwrap_or(HEAD_BYTES))];
    file.read_at(0, &mut head)?;
    if head.starts_with(MAGIC) {
        return Ok(());
    }
    // redb writes its magic bytes last: a file without them that holds nothing else was being made when the power went.
    let unmade = len <= UNMADE_BYTES_MAX && head.iter().take(MAGIC.len()).all(|&b| b == 0) && is_blank(file, len)?;
    if !unmade {
        return Err(Why::Foreign);
    }
    file.set_len(0)?;
    file.sync()?;
    Ok(())
}

/// Whether everything beyond the head is zero.
fn is_blank(file: &dyn DiskFile, len: u64) -> Result<bool, Why> {
    let mut block = vec![0; 64 * 1024];
    let mut at = HEAD_BYTES as u64;
    while at < len {
        let wanted = usize::try_from(len - at).unwrap_or(usize::MAX).min(block.len());
        let block = &mut block[..wanted];
        file.read_at(at, block)?;
        if block.iter().any(|&b| b != 0) {
            return Ok(false);
        }
        at += wanted as u64;
    }
    Ok(true)
}

/// Looks whether the file is a store of this format, and makes an empty one one.
pub(crate) fn check_format(database: &Database) -> Result<(), Why> {
    match format(database)? {
        Some(FORMAT_KNOWN) => Ok(()),
        Some(found) => Err(Why::Format(found)),
        None => writer::transact(database, |rows| rows.found()).map_err(|failed| match failed {
            Failed::Untouched(why) | Failed::InDoubt(why) => Why::Io(io::Error::other(why)),
        }),
    }
}

/// The format number; `None` in a file without tables, which was made and not yet used.
fn format(database: &Database) -> Result<Option<u64>, Why> {
    let snapshot = database.begin_read().map_err(redb::Error::from)?;
    let mut tables = snapshot.list_tables()?.peekable();
    if tables.peek().is_none() {
        return Ok(None);
    }
    if !tables.any(|table| table.name() == "meta") {
        return Err(Why::Foreign);
    }
    // A table of that name with other types is somebody else's.
    let meta = snapshot.open_table(META).map_err(|_| Why::Foreign)?;
    let format = meta.get(FORMAT)?.ok_or(Why::Foreign)?;
    Ok(Some(format.value()))
}

/// What every file of redb begins with.
const MAGIC: &[u8] = b"redb\x1A\x0A\xA9\x0D\x0A";
/// The part of the file that redb fills before it adds the magic bytes: one sector, so they come as a whole.
const HEAD_BYTES: usize = 512;
/// No file is longer than this before its first commit.
const UNMADE_BYTES_MAX: u64 = 16 * 1024 * 1024;

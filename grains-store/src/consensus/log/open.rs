//! Opening a log with care: a file that is foreign, damaged or taken is named with its folder, and nothing in it is lost.

use std::{
    io,
    path::{Path, PathBuf},
};

use grains_core::world::World;
use redb::Database;

use super::{
    Kept,
    files::{self, Files},
    journal::{self, Journal, Journaled},
    rows::{self, Identity},
};
use crate::{
    consensus::Part,
    redb::{self as store, Why, open_checked},
    {NodeId, NodeName},
};

/// How much of the file is kept in memory beside what is read from it at the start.
const CACHE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why a node cannot take part in its cluster. Nothing in its folder is lost.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Somebody else has it open.
    #[error(
        "`{folder}` belongs to a node that runs: stop that one first, or give this one a folder of its own (a copied \
         folder would make two nodes of one number)"
    )]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// It is not ours.
    #[error("`{file}` in `{folder}` is not a cluster log of grains: use another folder, or move that file away")]
    Foreign {
        /// The folder.
        folder: PathBuf,
        /// The file in it.
        file: String,
    },
    /// It was written by a version of grains that stores differently.
    #[error(
        "`{file}` in `{folder}` has format {found}, this version of grains knows {known}: use the version that wrote it"
    )]
    Format {
        /// The folder.
        folder: PathBuf,
        /// The file in it.
        file: String,
        /// The number in the file.
        found: u64,
        /// The number that this version writes.
        known: u64,
    },
    /// It is the log of another node.
    #[error(
        "`{folder}` is the folder of node \"{found}\", and this one is called \"{wanted}\": give it a folder of its own, or \
         its old name"
    )]
    OtherNode {
        /// The folder.
        folder: PathBuf,
        /// Whose it is.
        found: NodeName,
        /// Who wants it.
        wanted: NodeName,
    },
    /// It is the log of a node of this name and another number.
    #[error(
        "`{file}` in `{folder}` belongs to a node of another number than the other files there: move the folder away, and \
         the node joins its cluster as a new one"
    )]
    OtherNumber {
        /// The folder.
        folder: PathBuf,
        /// The file in it.
        file: String,
    },
    /// It was a log and cannot be read any more.
    #[error(
        "`{file}` in `{folder}` is damaged ({why}): move the folder away, and the node joins its cluster as a new one. \
         Do not restore it from a backup, which would make the node forget what it has promised"
    )]
    Damaged {
        /// The folder.
        folder: PathBuf,
        /// The file in it.
        file: String,
        /// What was found.
        why: String,
    },
    /// The disk said no.
    #[error("`{file}` in `{folder}` cannot be opened: check the folder, its permissions and the space on the disk")]
    Io {
        /// The folder.
        folder: PathBuf,
        /// The file in it.
        file: String,
        /// What the disk said.
        source: io::Error,
    },
    /// Raft did not start with what was stored.
    #[error("the cluster log cannot be used: {why}")]
    Unusable {
        /// What Raft said.
        why: String,
    },
}

impl OpenError {
    fn of(error: store::OpenError, folder: &Path, file: &str) -> Self {
        let (folder, file) = (folder.to_owned(), file.to_owned());
        match error {
            store::OpenError::Locked { .. } => Self::Locked { folder },
            store::OpenError::Foreign { .. } => Self::Foreign { folder, file },
            store::OpenError::Format { found, .. } => Self::Format { folder, file, found, known: rows::FORMAT_KNOWN },
            // Only a store of states is ever moved away.
            store::OpenError::Moved { .. } => Self::Foreign { folder, file },
            store::OpenError::Damaged { why, .. } => Self::Damaged { folder, file, why },
            store::OpenError::Io { source, .. } => Self::Io { folder, file, source },
        }
    }
}

/// An open log and what it held.
pub(super) struct Opened {
    pub(super) files: Files,
    pub(super) node: NodeId,
    pub(super) kept: Kept,
}

/// Opens the log in `folder` where that blocks nobody.
pub(super) async fn open(world: &World, folder: &Path, file: &str, part: &Part) -> Result<Opened, OpenError> {
    let (on, at, of, whose) = (world.clone(), folder.to_owned(), file.to_owned(), part.clone());
    // If the caller stops waiting, the file is closed again with the answer.
    let opened = world.off_thread(move || open_now(&on, &at, &of, &whose)).await;
    let ended = || OpenError::Io {
        folder: folder.to_owned(),
        file: file.to_owned(),
        source: io::Error::other("the runtime has ended"),
    };
    opened.unwrap_or_else(|| Err(ended()))
}

fn open_now(world: &World, folder: &Path, file: &str, part: &Part) -> Result<Opened, OpenError> {
    let mut looked = None;
    let look = |database: &Database| {
        looked = Some(look(world, &folder.join(journal::file_of(file)), part, database)?);
        Ok(())
    };
    let database = open_checked(world, &folder.join(file), CACHE_BYTES_MAX, look);
    let database = database.map_err(|error| OpenError::of(error, folder, file))?;
    match looked {
        Some(Looked::Ours { node, journal, kept }) => {
            Ok(Opened { files: Files::new(world, database, journal), node, kept })
        }
        Some(Looked::OtherNode(found)) => {
            Err(OpenError::OtherNode { folder: folder.to_owned(), found, wanted: part.name.clone() })
        }
        Some(Looked::OtherNumber) => Err(OpenError::OtherNumber { folder: folder.to_owned(), file: file.to_owned() }),
        None => Err(OpenError::of(Why::damaged("nothing was read").at(folder), folder, file)),
    }
}

/// What was found in redb's file and in the journal beside it.
enum Looked {
    Ours { node: NodeId, journal: Journal, kept: Kept },
    OtherNode(NodeName),
    OtherNumber,
}

fn look(world: &World, journal: &Path, part: &Part, database: &Database) -> Result<Looked, Why> {
    let (disk, random) = (&*world.disk, &world.random);
    let Some(Identity { node, name, journaled }) = rows::identity(database)? else {
        let journaled = Journaled { number: random.next_u64(), generation: random.next_u64() };
        let journal = Journal::create(disk, journal, journaled)?;
        // The number must be in the file before anybody hears it.
        let node = part.node.unwrap_or_else(|| NodeId(random.next_u64()));
        rows::found(database, &Identity { node, name: part.name.clone(), journaled })?;
        return Ok(Looked::Ours { node, journal, kept: rows::read(database)? });
    };
    if name != part.name {
        return Ok(Looked::OtherNode(name));
    }
    if part.node.is_some_and(|wanted| wanted != node) {
        return Ok(Looked::OtherNumber);
    }
    let (mut journal, changes) = Journal::open(disk, journal, journaled)?;
    // Always: where the journal ends may be a frame that is not whole, and a new one may not come to lie on parts of it.
    files::empty(&mut journal, &changes, database, world)?;
    Ok(Looked::Ours { node, journal, kept: rows::read(database)? })
}

//! Opening a log with care: a file that is foreign, damaged or taken is named with its folder, and left as it was.

use std::{
    io,
    path::{Path, PathBuf},
};

use grains_core::world::World;
use redb::Database;

use super::{Kept, rows};
use crate::{
    consensus::Part,
    redb::{self as store, Why, open_checked},
    {NodeId, NodeName},
};

/// How much of the file is kept in memory beside what is read from it at the start.
const CACHE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Why a node cannot take part in its cluster. What its folder holds is as it was.
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

/// An open file and what it held.
pub(super) struct Opened {
    pub(super) database: Database,
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
    let mut read = None;
    // Drawn before it is known whether it is needed: the number must be in the file before anybody hears it.
    let fresh = part.node.unwrap_or_else(|| NodeId(world.random.next_u64()));
    let look = |database: &Database| {
        rows::check(database, fresh, &part.name)?;
        read = Some(rows::read(database)?);
        Ok(())
    };
    let database = open_checked(world, &folder.join(file), CACHE_BYTES_MAX, look);
    let database = database.map_err(|error| OpenError::of(error, folder, file))?;
    match read {
        Some((_, found, _)) if found != part.name => {
            Err(OpenError::OtherNode { folder: folder.to_owned(), found, wanted: part.name.clone() })
        }
        Some((node, ..)) if part.node.is_some_and(|wanted| wanted != node) => {
            Err(OpenError::OtherNumber { folder: folder.to_owned(), file: file.to_owned() })
        }
        Some((node, _, kept)) => Ok(Opened { database, node, kept }),
        None => Err(OpenError::of(Why::damaged("nothing was read").at(folder), folder, file)),
    }
}

//! Files that are whole or not there: whoever reads one never sees half of it, also after a crash.

#[cfg(unix)]
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write},
    path::Path,
};

use super::CaError;
use crate::world::sync_folder;

/// What to do about a file that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Leave it as it is, and fail.
    Refuse,
    /// Put the new one in its place, at one stroke.
    Replace,
}

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secrecy {
    /// Its owner.
    Secret,
    /// Whoever the system lets.
    Open,
}

/// Makes a folder, for its owner only, unless it is there.
pub(super) fn folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    builder.mode(0o700);
    builder.create(path)
}

/// Fails if there is such a file.
pub(super) fn is_free(path: &Path) -> Result<(), CaError> {
    match fs::exists(path) {
        Ok(false) => Ok(()),
        Ok(true) => Err(CaError::File { path: path.to_owned(), why: there() }),
        Err(why) => Err(CaError::File { path: path.to_owned(), why }),
    }
}

fn there() -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, "it is there already: choose another folder, or say `--replace`")
}

/// Writes a file beside its place, and puts it there when it is whole and durable.
pub(super) fn put(
    folder: &Path,
    name: &str,
    bytes: &[u8],
    secrecy: Secrecy,
    existing: Existing,
) -> Result<(), CaError> {
    let path = folder.join(name);
    // What a crash has left of an earlier try is of no use to anybody.
    let beside = folder.join(format!(".{name}.new"));
    let failed = |why| CaError::File { path: path.clone(), why };
    match fs::remove_file(&beside) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(failed(why)),
        _ => {}
    }
    let written = write(&beside, bytes, secrecy).and_then(|()| match existing {
        Existing::Replace => fs::rename(&beside, &path),
        // Unlike a rename this fails if there is such a file by now.
        Existing::Refuse => fs::hard_link(&beside, &path).and_then(|()| fs::remove_file(&beside)),
    });
    if let Err(why) = written {
        drop(fs::remove_file(&beside));
        return Err(failed(if why.kind() == io::ErrorKind::AlreadyExists { there() } else { why }));
    }
    sync_folder(folder).map_err(failed)
}

fn write(path: &Path, bytes: &[u8], secrecy: Secrecy) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    options.mode(match secrecy {
        Secrecy::Secret => 0o600,
        Secrecy::Open => 0o644,
    });
    #[cfg(not(unix))]
    let _ = secrecy;
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

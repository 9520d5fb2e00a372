//! Files that keep other openers out and survive a crash once synced.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use grains_core::world::{Disk, DiskFile};

#[cfg(test)]
mod tests;

/// The files of the operating system.
pub(super) struct OsDisk;

impl Disk for OsDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        open(path).map(|file| Box::new(file) as Box<dyn DiskFile>).map_err(|why| about(path, why))
    }

    fn has(&self, path: &Path) -> io::Result<bool> {
        path.try_exists().map_err(|why| about(path, why))
    }
}

fn open(path: &Path) -> io::Result<OsFile> {
    let folder = folder_of(path);
    let created_folders = create_folders(folder)?;
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(io::Error::new(ErrorKind::WouldBlock, "it is open already, here or in another process"));
        }
        Err(TryLockError::Error(why)) => return Err(why),
    }
    // An empty file may be one that was created and whose folder was never synced, by us or by a process that crashed.
    if file.metadata()?.len() == 0 {
        sync_folder(folder)?;
        created_folders.iter().try_for_each(|created| sync_folder(folder_of(created)))?;
    }
    Ok(OsFile { file, path: path.into(), sync_failed: AtomicBool::new(false) })
}

/// Creates `folder` and those above it that are missing; the result names them.
fn create_folders(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let missing = folder.ancestors().take_while(|above| !above.as_os_str().is_empty() && !above.exists());
    let missing = missing.map(Path::to_owned).collect();
    fs::create_dir_all(folder)?;
    Ok(missing)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Returns when the names in `folder` will survive a crash.
#[cfg(unix)]
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Elsewhere folders cannot be synced, and NTFS keeps a journal of names itself.
#[cfg(not(unix))]
pub(crate) fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

/// One file, locked until it is dropped.
#[derive(Debug)]
struct OsFile {
    file: File,
    path: PathBuf,
    /// After a failed sync the kernel may have dropped what it could not write, and the next sync would find nothing
    /// to do and succeed (Rebello et al., "Can applications recover from fsync failures?", 2020).
    sync_failed: AtomicBool,
}

impl OsFile {
    fn sync_with(&self, sync: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
        if self.sync_failed.load(Ordering::SeqCst) {
            return Err(io::Error::other("an earlier sync failed, so what this file holds is unknown: open it again"));
        }
        sync(&self.file).inspect_err(|_| self.sync_failed.store(true, Ordering::SeqCst))
    }
}

impl DiskFile for OsFile {
    fn len(&self) -> io::Result<u64> {
        self.file.metadata().map(|metadata| metadata.len()).map_err(|why| about(&self.path, why))
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        os::read_at(&self.file, offset, out).map_err(|why| about(&self.path, why))
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        os::write_at(&self.file, offset, data).map_err(|why| about(&self.path, why))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len).map_err(|why| about(&self.path, why))
    }

    /// `sync_data` also writes the length where it has changed: POSIX asks for all that is needed to read the data.
    fn sync(&self) -> io::Result<()> {
        self.sync_with(File::sync_data).map_err(|why| about(&self.path, why))
    }
}

fn about(path: &Path, why: io::Error) -> io::Error {
    io::Error::new(why.kind(), format!("{}: {why}", path.display()))
}

#[cfg(unix)]
mod os {
    use std::{fs::File, io, os::unix::fs::FileExt};

    pub(super) fn read_at(file: &File, offset: u64, out: &mut [u8]) -> io::Result<()> {
        file.read_exact_at(out, offset)
    }

    pub(super) fn write_at(file: &File, offset: u64, data: &[u8]) -> io::Result<()> {
        file.write_all_at(data, offset)
    }
}

#[cfg(windows)]
mod os {
    use std::{
        fs::File,
        io::{self, ErrorKind},
        os::windows::fs::FileExt,
    };

    pub(super) fn read_at(file: &File, mut offset: u64, mut out: &mut [u8]) -> io::Result<()> {
        while !out.is_empty() {
            let read = file.seek_read(out, offset)?;
            if read == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            out = &mut out[read..];
            offset += read as u64;
        }
        Ok(())
    }

    pub(super) fn write_at(file: &File, mut offset: u64, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let written = file.seek_write(data, offset)?;
            if written == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
            data = &data[written..];
            offset += written as u64;
        }
        Ok(())
    }
}

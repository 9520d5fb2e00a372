//! Files in the memory of the simulator. They outlive the lives of their machine, but for what was not synced.

use std::{
    io::{self, ErrorKind},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use grains_core::world::{Disk, DiskFile};

use super::{
    engine::{Engine, Life, MachineId, State},
    random::Chance,
    trace::{What, hash_of},
};

/// The largest file: a larger one is a mistaken offset.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// How many separate changes are remembered until the next sync; more become one that spans them all.
const CHANGES_MAX: usize = 4096;
const SECTOR_BYTES: usize = 512;

/// What can be wrong with the disk of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// No file can become longer: [`ErrorKind::StorageFull`].
    Full,
    /// What was written cannot be made durable, and an error says so.
    Fails,
    /// It says that what was written is durable, and does nothing for it.
    Lies,
}

/// One file.
#[derive(Default)]
pub(super) struct FileState {
    /// What a reader sees.
    seen: Vec<u8>,
    /// What survives a crash.
    synced: Vec<u8>,
    /// Where the two may differ.
    changed: Vec<Range<usize>>,
    /// The handle that keeps others out.
    open: Option<u64>,
    opened: u64,
}

impl FileState {
    fn change(&mut self, range: Range<usize>) {
        if self.changed.len() >= CHANGES_MAX {
            let all = self.changed.drain(..).reduce(|a, b| a.start.min(b.start)..a.end.max(b.end));
            self.changed.extend(all);
        }
        self.changed.push(range);
    }

    fn write(&mut self, offset: usize, data: &[u8]) {
        let end = offset + data.len();
        if self.seen.len() < end {
            self.set_len(end);
        }
        self.seen[offset..end].copy_from_slice(data);
        self.change(offset..end);
    }

    fn set_len(&mut self, len: usize) {
        let old = self.seen.len();
        self.seen.resize(len, 0);
        self.change(old.min(len)..old.max(len));
    }

    fn sync(&mut self) {
        self.synced.resize(self.seen.len(), 0);
        for range in self.changed.drain(..) {
            copy(&self.seen, &mut self.synced, range);
        }
    }

    /// The power goes: what was not synced is lost, but for sectors that were lucky.
    fn crash(&mut self, kept_chance: f64, chance: &mut Chance) {
        let length_kept = !self.changed.is_empty() && chance.happens(kept_chance);
        let len = if length_kept { self.seen.len() } else { self.synced.len() };
        self.synced.resize(len, 0);
        let changed = std::mem::take(&mut self.changed);
        for sector in changed.iter().cloned().flat_map(sectors) {
            if chance.happens(kept_chance) {
                copy(&self.seen, &mut self.synced, sector);
            }
        }
        self.seen.resize(len, 0);
        changed.into_iter().for_each(|range| copy(&self.synced, &mut self.seen, range));
        self.open = None;
    }
}

/// Copies as much of `range` as there is in both.
fn copy(from: &[u8], to: &mut [u8], range: Range<usize>) {
    let end = range.end.min(from.len()).min(to.len());
    if range.start < end {
        to[range.start..end].copy_from_slice(&from[range.start..end]);
    }
}

/// The parts of a range that a disk writes as a whole.
fn sectors(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let mut at = range.start;
    std::iter::from_fn(move || {
        let sector = at..((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(range.end);
        at = sector.end;
        (!sector.is_empty()).then_some(sector)
    })
}

impl State {
    pub(super) fn lose_unsynced(&mut self, machine: MachineId) {
        let kept_chance = self.settings.unsynced_kept_chance;
        for file in self.machines[machine.index()].files.values_mut() {
            file.crash(kept_chance, &mut self.chance.disk);
        }
    }
}

/// The disk of one life of a machine.
pub(super) struct SimDisk {
    engine: Arc<Engine>,
    life: Life,
}

impl SimDisk {
    pub(super) fn new(engine: Arc<Engine>, life: Life) -> Self {
        Self { engine, life }
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let handle = self.engine.with(|state| {
            if !state.is_live(self.life) {
                return Err(crashed(path));
            }
            let files = &mut state.machines[self.life.machine.index()].files;
            let file = files.entry(path.to_owned()).or_default();
            if file.open.is_some() {
                return Err(io::Error::new(ErrorKind::WouldBlock, format!("{}: it is open already", path.display())));
            }
            file.opened += 1;
            file.open = Some(file.opened);
            Ok(file.opened)
        })?;
        Ok(Box::new(SimFile { engine: self.engine.clone(), life: self.life, path: path.to_owned(), handle }))
    }

    fn has(&self, path: &Path) -> io::Result<bool> {
        self.engine.with(|state| match state.is_live(self.life) {
            true => Ok(state.machines[self.life.machine.index()].files.contains_key(path)),
            false => Err(crashed(path)),
        })
    }
}

fn crashed(path: &Path) -> io::Error {
    io::Error::other(format!("{}: the machine crashed", path.display()))
}

/// One open file.
struct SimFile {
    engine: Arc<Engine>,
    life: Life,
    path: PathBuf,
    handle: u64,
}

impl std::fmt::Debug for SimFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SimFile").field(&self.path).finish()
    }
}

impl SimFile {
    /// Does `work` on the file, unless the machine has crashed since it was opened.
    fn with<R>(&self, work: impl FnOnce(&mut FileState, Option<DiskFault>) -> io::Result<R>) -> io::Result<R> {
        self.engine.with(|state| {
            if !state.is_live(self.life) {
                return Err(crashed(&self.path));
            }
            let machine = &mut state.machines[self.life.machine.index()];
            let file = machine.files.get_mut(&self.path);
            work(file.ok_or_else(|| crashed(&self.path))?, machine.disk_fault)
        })
    }
}

/// Whether a file may come to this length.
fn room(file: &FileState, len: usize, fault: Option<DiskFault>) -> io::Result<()> {
    match fault {
        Some(DiskFault::Full) if len > file.seen.len() => Err(ErrorKind::StorageFull.into()),
        _ => Ok(()),
    }
}

fn place(offset: u64, bytes: usize) -> io::Result<usize> {
    match offset.checked_add(bytes as u64) {
        Some(end) if end <= FILE_BYTES_MAX => Ok(offset as usize),
        _ => Err(io::Error::new(ErrorKind::StorageFull, format!("a file may have {FILE_BYTES_MAX} bytes"))),
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.with(|file, _| Ok(file.seen.len() as u64))
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|file, _| {
            let offset = place(offset, out.len())?;
            let found = file.seen.get(offset..offset + out.len()).ok_or(ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(found);
            Ok(())
        })
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with(|file, fault| {
            let offset = place(offset, data.len())?;
            room(file, offset + data.len(), fault)?;
            file.write(offset, data);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|file, fault| {
            let len = place(len, 0)?;
            room(file, len, fault)?;
            file.set_len(len);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        let len = self.with(|file, fault| {
            match fault {
                Some(DiskFault::Fails) => return Err(io::Error::other("the disk cannot make this durable")),
                Some(DiskFault::Lies) => {}
                None | Some(DiskFault::Full) => file.sync(),
            }
            Ok(file.seen.len() as u64)
        })?;
        let name = hash_of(self.path.as_os_str().as_encoded_bytes());
        self.engine.with(|state| state.note(self.life.machine, What::Sync, [name, len, 0]));
        Ok(())
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        // A later life may have opened it meanwhile: that handle is another one, and so it stays.
        self.engine.with(|state| {
            let file = state.machines[self.life.machine.index()].files.get_mut(&self.path);
            if let Some(file) = file.filter(|file| file.open == Some(self.handle)) {
                file.open = None;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn synced(text: &str) -> FileState {
        let mut file = FileState::default();
        file.write(0, text.as_bytes());
        file.sync();
        file
    }

    #[test]
    fn a_crash_gives_back_exactly_what_was_synced() {
        let mut chance = Chance::new(1, "test");
        let mut file = synced("0123456789");
        file.write(2, b"ab");
        file.set_len(4);
        file.write(12, b"z");
        file.crash(0.0, &mut chance);
        assert_eq!((&*file.seen, &*file.synced), (&b"0123456789"[..], &b"0123456789"[..]));

        file.set_len(3);
        file.set_len(6);
        file.sync();
        file.write(0, b"xxxxxxxxx");
        file.crash(0.0, &mut chance);
        assert_eq!(file.seen, b"012\0\0\0");
    }

    #[test]
    fn many_changes_are_remembered_as_one_and_none_is_forgotten() {
        let mut file = synced(&"-".repeat(2 * CHANGES_MAX + 10));
        let before = file.seen.clone();
        for at in 0..2 * CHANGES_MAX {
            file.write(at, b"x");
        }
        assert!(file.changed.len() <= CHANGES_MAX);
        file.crash(0.0, &mut Chance::new(1, "test"));
        assert_eq!(file.seen, before);
    }

    #[test]
    fn lucky_sectors_survive_whole() {
        let mut file = synced(&"a".repeat(100 * SECTOR_BYTES));
        file.write(0, &vec![b'b'; 100 * SECTOR_BYTES]);
        file.crash(0.5, &mut Chance::new(1, "test"));
        let (sectors, rest) = file.seen.as_chunks::<SECTOR_BYTES>();
        let kept = sectors.iter().filter(|sector| sector[0] == b'b').count();
        assert!(rest.is_empty() && sectors.iter().all(|sector| sector.iter().all(|byte| *byte == sector[0])));
        assert!((20..80).contains(&kept), "{kept}");
    }
}

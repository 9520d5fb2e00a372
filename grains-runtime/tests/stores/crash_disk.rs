//! A disk in memory whose power can be cut: at any write, and with any part of what was not synced lost.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use grains_core::world::{Disk, DiskFile};

const SECTOR_BYTES: usize = 512;

/// Files by their path; one that was opened is there from then on, as the names on a real disk are. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct CrashDisk {
    platter: Arc<Mutex<Platter>>,
}

/// What is left of the bytes that were not synced.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Left {
    Nothing,
    Everything,
    /// Each sector by the toss of a coin.
    Some(u64),
}

#[derive(Debug, Default)]
struct Platter {
    files: BTreeMap<PathBuf, Bytes>,
    /// Files made, changes and syncs so far, over all files; the failed syncs among them.
    steps: usize,
    syncs: usize,
    power: Power,
}

/// One file.
#[derive(Debug, Default)]
struct Bytes {
    /// What a reader sees.
    now: Vec<u8>,
    /// What survives for sure.
    synced: Vec<u8>,
    pending: Vec<Change>,
    open: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Power {
    #[default]
    On,
    /// Fails, until it works again.
    Failing,
    /// Fails to sync, until it works again.
    NoSync,
    /// Goes off before this step, for good.
    OffAt(usize),
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, data: Vec<u8> },
    Len(usize),
}

impl CrashDisk {
    pub(crate) fn cut_at(&self, step: usize) {
        self.platter().power = Power::OffAt(step);
    }

    pub(crate) fn cut_now(&self) {
        self.cut_at(0);
    }

    pub(crate) fn fail(&self) {
        self.platter().power = Power::Failing;
    }

    pub(crate) fn fail_syncs(&self) {
        self.platter().power = Power::NoSync;
    }

    pub(crate) fn work(&self) {
        self.platter().power = Power::On;
    }

    pub(crate) fn steps(&self) -> usize {
        self.platter().steps
    }

    pub(crate) fn syncs(&self) -> usize {
        self.platter().syncs
    }

    /// The disk that the machine finds when it starts again.
    pub(crate) fn after_crash(&self, left: Left) -> Self {
        let mut coin = Coin(left);
        let files =
            self.platter().files.iter().map(|(path, file)| (path.clone(), file.after_crash(&mut coin))).collect();
        Self::holding(files)
    }

    /// What is in a file; nothing if there is none.
    pub(crate) fn bytes(&self, path: &Path) -> Vec<u8> {
        self.platter().files.get(path).map(|file| file.now.clone()).unwrap_or_default()
    }

    /// A disk with one file.
    pub(crate) fn with_bytes(path: &Path, bytes: Vec<u8>) -> Self {
        Self::holding([(path.to_owned(), Bytes::durable(bytes))].into())
    }

    fn holding(files: BTreeMap<PathBuf, Bytes>) -> Self {
        Self { platter: Arc::new(Mutex::new(Platter { files, ..Platter::default() })) }
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.platter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bytes {
    fn durable(bytes: Vec<u8>) -> Self {
        Self { now: bytes.clone(), synced: bytes, ..Self::default() }
    }

    fn after_crash(&self, coin: &mut Coin) -> Self {
        let mut kept = self.synced.clone();
        for change in &self.pending {
            match change {
                Change::Len(len) if coin.keeps() => kept.resize(*len, 0),
                Change::Len(_) => {}
                Change::Write { offset, data } => keep_sectors(&mut kept, *offset, data, coin),
            }
        }
        Self::durable(kept)
    }

    fn write(&mut self, offset: usize, data: &[u8]) {
        put(&mut self.now, offset, data);
        self.pending.push(Change::Write { offset, data: data.to_vec() });
    }

    fn set_len(&mut self, len: usize) {
        self.now.resize(len, 0);
        self.pending.push(Change::Len(len));
    }

    fn sync(&mut self) {
        for change in self.pending.drain(..) {
            match change {
                Change::Len(len) => self.synced.resize(len, 0),
                Change::Write { offset, data } => put(&mut self.synced, offset, &data),
            }
        }
        debug_assert_eq!(self.now.len(), self.synced.len());
    }
}

fn put(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(data);
}

fn keep_sectors(kept: &mut Vec<u8>, offset: usize, data: &[u8], coin: &mut Coin) {
    let mut at = offset;
    while at < offset + data.len() {
        let end = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(offset + data.len());
        if coin.keeps() {
            put(kept, at, &data[at - offset..end - offset]);
        }
        at = end;
    }
}

struct Coin(Left);

impl Coin {
    fn keeps(&mut self) -> bool {
        match &mut self.0 {
            Left::Nothing => false,
            Left::Everything => true,
            Left::Some(seed) => {
                *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *seed >> 63 == 1
            }
        }
    }
}

impl Platter {
    fn step(&mut self) -> io::Result<()> {
        self.check()?;
        self.steps += 1;
        Ok(())
    }

    fn check(&self) -> io::Result<()> {
        match self.power {
            Power::On | Power::NoSync => Ok(()),
            Power::OffAt(step) if self.steps < step => Ok(()),
            Power::Failing | Power::OffAt(_) => Err(io::Error::other("the power is off")),
        }
    }

    fn file(&mut self, path: &Path) -> &mut Bytes {
        self.files.get_mut(path).expect("it was made when it was opened")
    }
}

impl Disk for CrashDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut platter = self.platter();
        platter.check()?;
        if !platter.files.contains_key(path) {
            platter.step()?;
        }
        let file = platter.files.entry(path.to_owned()).or_default();
        if std::mem::replace(&mut file.open, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(CrashFile { disk: self.clone(), path: path.to_owned() }))
    }

    fn has(&self, path: &Path) -> io::Result<bool> {
        let platter = self.platter();
        platter.check()?;
        Ok(platter.files.contains_key(path))
    }
}

#[derive(Debug)]
struct CrashFile {
    disk: CrashDisk,
    path: PathBuf,
}

impl CrashFile {
    fn read<T>(&self, work: impl FnOnce(&[u8]) -> io::Result<T>) -> io::Result<T> {
        let mut platter = self.disk.platter();
        platter.check()?;
        work(&platter.file(&self.path).now)
    }

    fn change(&self, work: impl FnOnce(&mut Bytes)) -> io::Result<()> {
        let mut platter = self.disk.platter();
        platter.step()?;
        work(platter.file(&self.path));
        Ok(())
    }
}

impl Drop for CrashFile {
    fn drop(&mut self) {
        self.disk.platter().file(&self.path).open = false;
    }
}

impl DiskFile for CrashFile {
    fn len(&self) -> io::Result<u64> {
        self.read(|bytes| Ok(bytes.len() as u64))
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let offset = place(offset)?;
        self.read(|bytes| {
            let found = bytes.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(found);
            Ok(())
        })
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = place(offset)?;
        self.change(|file| file.write(offset, data))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = place(len)?;
        self.change(|file| file.set_len(len))
    }

    fn sync(&self) -> io::Result<()> {
        let mut platter = self.disk.platter();
        platter.step()?;
        platter.syncs += 1;
        if platter.power == Power::NoSync {
            return Err(io::Error::other("the disk lost what it had cached"));
        }
        platter.file(&self.path).sync();
        Ok(())
    }
}

fn place(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(io::Error::other)
}

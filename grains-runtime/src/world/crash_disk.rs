//! A disk in memory whose power can be cut: at any write, and with any part of what was not synced lost.
//! For the tests of what we keep on disk, here and in `grains-store`.

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
pub struct CrashDisk {
    platter: Arc<Mutex<Platter>>,
}

/// What is left of the bytes that were not synced.
#[derive(Clone, Copy, Debug)]
pub enum Left {
    /// Only what was synced is there.
    Nothing,
    /// All was written, though not synced.
    Everything,
    /// Each sector by the toss of a coin.
    Some(u64),
}

#[derive(Debug, Default)]
struct Platter {
    files: BTreeMap<PathBuf, Bytes>,
    /// Failed syncs are among them.
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
    /// Lets so many steps happen; after them the power is off, for good.
    pub fn cut_at(&self, step: usize) {
        self.platter().power = Power::OffAt(step);
    }

    /// The power is off, for good.
    pub fn cut_now(&self) {
        self.cut_at(0);
    }

    /// Everything fails, until it is told to [`work`](Self::work).
    pub fn fail(&self) {
        self.platter().power = Power::Failing;
    }

    /// Every sync fails, until it is told to [`work`](Self::work).
    pub fn fail_syncs(&self) {
        self.platter().power = Power::NoSync;
    }

    /// It works again.
    pub fn work(&self) {
        self.platter().power = Power::On;
    }

    /// How many steps it has taken: files made, changes and syncs, over all files.
    pub fn steps(&self) -> usize {
        self.platter().steps
    }

    /// How many syncs it was asked for.
    pub fn syncs(&self) -> usize {
        self.platter().syncs
    }

    /// The disk that the machine finds when it starts again.
    pub fn after_crash(&self, left: Left) -> Self {
        let mut coin = Coin(left);
        let files =
            self.platter().files.iter().map(|(path, file)| (path.clone(), file.after_crash(&mut coin))).collect();
        Self::holding(files)
    }

    /// The disk that the next process finds when only this one was killed: what it sees may be lost all the same.
    pub fn after_kill(&self) -> Self {
        let files = self.platter().files.iter().map(|(path, file)| (path.clone(), file.after_kill())).collect();
        Self::holding(files)
    }

    /// What is in a file; nothing if there is none.
    pub fn bytes(&self, path: &Path) -> Vec<u8> {
        self.platter().files.get(path).map(|file| file.now.clone()).unwrap_or_default()
    }

    /// Writes a whole file, durably.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        self.platter().files.insert(path.to_owned(), Bytes::durable(bytes.to_vec()));
    }

    /// Takes a file away that nobody has open.
    pub fn remove(&self, path: &Path) {
        self.platter().files.remove(path);
    }

    /// A disk with one file.
    pub fn with_bytes(path: &Path, bytes: Vec<u8>) -> Self {
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

    fn after_kill(&self) -> Self {
        Self { now: self.now.clone(), synced: self.synced.clone(), pending: self.pending.clone(), open: false }
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
            return Err(io::Error::other("the disk is on fire: it lost what it had cached"));
        }
        platter.file(&self.path).sync();
        Ok(())
    }
}

fn place(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_keeps_what_was_synced_and_sectors_that_were_lucky() {
        let disk = CrashDisk::default();
        let [one, two] = ["one", "two"].map(Path::new);
        let files = [one, two].map(|path| disk.open(path).unwrap());
        for file in &files {
            file.write_at(0, &[1; 2 * SECTOR_BYTES]).unwrap();
        }
        files[0].sync().unwrap();
        files[0].write_at(0, &[2; 2 * SECTOR_BYTES]).unwrap();
        assert_eq!((disk.steps(), disk.syncs()), (6, 1));
        let kept = |left| [one, two].map(|path| disk.after_crash(left).bytes(path));
        let whole = |byte| vec![byte; 2 * SECTOR_BYTES];
        assert_eq!(kept(Left::Nothing), [whole(1), vec![]]);
        assert_eq!(kept(Left::Everything), [whole(2), whole(1)]);
        let killed = disk.after_kill();
        assert_eq!([one, two].map(|path| killed.bytes(path)), [whole(2), whole(1)]);
        assert_eq!([one, two].map(|path| killed.after_crash(Left::Nothing).bytes(path)), [whole(1), vec![]]);
        let torn = [vec![1; SECTOR_BYTES], vec![2; SECTOR_BYTES]].concat();
        assert!((0..20).any(|seed| kept(Left::Some(seed))[0] == torn), "half of it may come");
    }

    #[test]
    fn a_file_is_there_once_it_was_opened() {
        let disk = CrashDisk::default();
        let (made, missing) = (Path::new("made"), Path::new("missing"));
        let file = disk.open(made).unwrap();
        assert_eq!(disk.open(made).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        disk.cut_at(1);
        assert!(file.write_at(0, b"x").is_err() && disk.open(missing).is_err(), "the power is off");
        let disk = disk.after_crash(Left::Everything);
        assert_eq!((disk.has(made).unwrap(), disk.has(missing).unwrap()), (true, false));
        disk.open(made).unwrap();
        assert_eq!(disk.steps(), 0, "nothing was made");
    }
}

//! A disk in memory whose power can be cut: at any write, and with any part of what was not synced lost.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

use grains_core::world::{Disk, DiskFile};

const SECTOR_BYTES: usize = 512;

/// One file under any path. Clones are the same disk.
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
    /// What a reader sees.
    now: Vec<u8>,
    /// What survives for sure.
    synced: Vec<u8>,
    pending: Vec<Change>,
    /// Changes and syncs so far, the failed ones among them.
    steps: usize,
    syncs: usize,
    power: Power,
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
        let platter = self.platter();
        let mut kept = platter.synced.clone();
        let mut coin = Coin(left);
        for change in &platter.pending {
            match change {
                Change::Len(len) if coin.keeps() => kept.resize(*len, 0),
                Change::Len(_) => {}
                Change::Write { offset, data } => keep_sectors(&mut kept, *offset, data, &mut coin),
            }
        }
        let platter = Platter { now: kept.clone(), synced: kept, ..Platter::default() };
        Self { platter: Arc::new(Mutex::new(platter)) }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.platter().now.clone()
    }

    pub(crate) fn with_bytes(bytes: Vec<u8>) -> Self {
        let platter = Platter { now: bytes.clone(), synced: bytes, ..Platter::default() };
        Self { platter: Arc::new(Mutex::new(platter)) }
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.platter.lock().unwrap()
    }
}

fn keep_sectors(kept: &mut Vec<u8>, offset: usize, data: &[u8], coin: &mut Coin) {
    let mut at = offset;
    while at < offset + data.len() {
        let end = ((at / SECTOR_BYTES + 1) * SECTOR_BYTES).min(offset + data.len());
        if coin.keeps() {
            if kept.len() < end {
                kept.resize(end, 0);
            }
            kept[at..end].copy_from_slice(&data[at - offset..end - offset]);
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
}

impl Disk for CrashDisk {
    fn open(&self, _: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut platter = self.platter();
        platter.check()?;
        if std::mem::replace(&mut platter.open, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(CrashFile(self.clone())))
    }

    fn has(&self, _: &Path) -> io::Result<bool> {
        Ok(true)
    }
}

#[derive(Debug)]
struct CrashFile(CrashDisk);

impl Drop for CrashFile {
    fn drop(&mut self) {
        self.0.platter().open = false;
    }
}

impl DiskFile for CrashFile {
    fn len(&self) -> io::Result<u64> {
        let platter = self.0.platter();
        platter.check()?;
        Ok(platter.now.len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.0.platter();
        platter.check()?;
        let offset = usize::try_from(offset).unwrap();
        let found = platter.now.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut platter = self.0.platter();
        platter.step()?;
        let offset = usize::try_from(offset).unwrap();
        let end = offset + data.len();
        if platter.now.len() < end {
            platter.now.resize(end, 0);
        }
        platter.now[offset..end].copy_from_slice(data);
        platter.pending.push(Change::Write { offset, data: data.to_vec() });
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut platter = self.0.platter();
        platter.step()?;
        let len = usize::try_from(len).unwrap();
        platter.now.resize(len, 0);
        platter.pending.push(Change::Len(len));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut platter = self.0.platter();
        platter.step()?;
        platter.syncs += 1;
        if platter.power == Power::NoSync {
            return Err(io::Error::other("the disk lost what it had cached"));
        }
        let Platter { now, synced, pending, .. } = &mut *platter;
        for change in pending.drain(..) {
            match change {
                Change::Len(len) => synced.resize(len, 0),
                Change::Write { offset, data } => {
                    let end = offset + data.len();
                    if synced.len() < end {
                        synced.resize(end, 0);
                    }
                    synced[offset..end].copy_from_slice(&data);
                }
            }
        }
        debug_assert_eq!(now.len(), synced.len());
        Ok(())
    }
}

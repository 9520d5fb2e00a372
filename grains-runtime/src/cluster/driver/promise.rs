//! The promise that a fresh node with a disk has made about who founds its cluster, in a small file of its own.

use std::{io, path::PathBuf};

use grains_core::{
    codec,
    switches::{Mechanism, on},
    world::{DiskFile, World},
};
use serde::{Deserialize, Serialize};

use crate::{cluster::founding::Promise, fnv::fnv1a};

const FILE: &str = "founding";
/// Promises are written to these two places of the file in turn, so that one which is cut short takes nothing away from
/// the one before it.
const SLOTS: [u64; 2] = [0, SLOT_BYTES];
/// More than a list of a thousand addresses takes.
const SLOT_BYTES: u64 = 64 * 1024;
/// A checksum and a length stand before what is kept.
const HEAD_BYTES: usize = 12;

#[derive(Serialize, Deserialize)]
struct Kept {
    /// Which promise of this node it is: the later one counts.
    serial: u64,
    promise: Promise,
}

/// Reads the latest promise in `folder`. One that was cut short was never relied on.
pub(super) async fn read(world: &World, folder: PathBuf) -> io::Result<Option<Promise>> {
    let disk = world.disk.clone();
    let kept = blocking(world, move || latest(&*disk.open(&folder.join(FILE))?)).await?;
    Ok(kept.map(|kept| kept.promise))
}

/// Makes `promise` durable. Until it is, the one before it stands.
pub(super) async fn write(world: &World, folder: PathBuf, promise: &Promise) -> io::Result<()> {
    if !on(Mechanism::PromiseIsDurable) {
        return Ok(());
    }
    let (disk, promise) = (world.disk.clone(), promise.clone());
    blocking(world, move || {
        let file = disk.open(&folder.join(FILE))?;
        let serial = latest(&*file)?.map_or(0, |kept| kept.serial + 1);
        let kept = codec::encode(&Kept { serial, promise }).map_err(io::Error::other)?;
        if (HEAD_BYTES + kept.len()) as u64 > SLOT_BYTES {
            let why = format!("the addresses in `join` take {} bytes, the limit is {SLOT_BYTES}", kept.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let counted = [&(kept.len() as u32).to_le_bytes(), &*kept].concat();
        let slot = [&checksum(&counted).to_le_bytes(), &*counted].concat();
        file.write_at(SLOTS[(serial % 2) as usize], &slot)?;
        file.sync()
    })
    .await
}

fn latest(file: &dyn DiskFile) -> io::Result<Option<Kept>> {
    let len = file.len()?;
    let mut found: Option<Kept> = None;
    for slot in SLOTS.into_iter().filter(|slot| *slot < len) {
        let mut bytes = vec![0; (len - slot).min(SLOT_BYTES) as usize];
        file.read_at(slot, &mut bytes)?;
        found = found.into_iter().chain(whole(&bytes)).max_by_key(|kept| kept.serial);
    }
    Ok(found)
}

/// What is kept in a slot, if it was written to its end.
fn whole(slot: &[u8]) -> Option<Kept> {
    let (sum, counted) = slot.split_first_chunk::<8>()?;
    let (len, rest) = counted.split_first_chunk::<4>()?;
    let kept = rest.get(..u32::from_le_bytes(*len) as usize)?;
    let intact = u64::from_le_bytes(*sum) == checksum(&counted[..4 + kept.len()]);
    intact.then(|| codec::decode(kept).ok()).flatten()
}

/// FNV-1a: against torn writes, not against people.
fn checksum(bytes: &[u8]) -> u64 {
    fnv1a(bytes.iter().copied())
}

async fn blocking<T: Send + 'static>(
    world: &World,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let worked = world.off_thread(work).await;
    worked.unwrap_or_else(|| Err(io::Error::other("the runtime is ending")))
}

#[cfg(all(test, feature = "sim"))]
pub(in crate::cluster) mod tests {
    use std::{path::Path, sync::Arc};

    use grains_core::world::Disk;

    use super::*;
    use crate::{
        cluster::names::{NodeId, NodeName},
        sim::Sim,
    };

    fn promise(founder: u64) -> Promise {
        let list: Vec<_> = (0..40).map(|n| format!("127.0.0.{n}:7101")).collect();
        Promise { cluster: NodeName::new("c").expect("a name"), list: list.into(), founder: NodeId(founder), place: 0 }
    }

    fn founder(promise: Option<Promise>) -> Option<u64> {
        promise.map(|promise| promise.founder.0)
    }

    /// What goes wrong when a machine loses its power after a promise of its node was heard.
    #[cfg(feature = "switches")]
    pub(in crate::cluster) fn harm() -> Option<String> {
        let mut left = None;
        Sim::builder().without(&[Mechanism::PromiseIsDurable]).run(async |sim| {
            let machine = sim.machine("a");
            write(&machine.world(), "data".into(), &promise(1)).await.expect("the disk is in order");
            machine.crash();
            left = founder(read(&machine.world(), "data".into()).await.expect("the disk is in order"));
        });
        left.is_none().then(|| "a node has forgotten whom it has promised to follow".into())
    }

    #[test]
    fn the_latest_promise_is_read() {
        Sim::builder().seed(1).run(async |sim| {
            let world = sim.machine("a").world();
            assert_eq!(founder(read(&world, "data".into()).await.unwrap()), None);
            for n in 1..6 {
                write(&world, "data".into(), &promise(n)).await.unwrap();
                assert_eq!(founder(read(&world, "data".into()).await.unwrap()), Some(n));
            }
        });
    }

    /// A disk that loses its power before anything is synced.
    struct Powerless(Arc<dyn Disk>);

    #[derive(Debug)]
    struct PowerlessFile(Box<dyn DiskFile>);

    impl Disk for Powerless {
        fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
            Ok(Box::new(PowerlessFile(self.0.open(path)?)))
        }

        fn has(&self, path: &Path) -> io::Result<bool> {
            self.0.has(path)
        }
    }

    impl DiskFile for PowerlessFile {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }

        fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.0.read_at(offset, out)
        }

        fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            self.0.write_at(offset, data)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.0.set_len(len)
        }

        fn sync(&self) -> io::Result<()> {
            Err(io::Error::other("the power is gone"))
        }
    }

    #[test]
    fn a_promise_that_is_cut_short_leaves_the_one_before_it() {
        let mut found = Vec::new();
        for seed in 0..100 {
            Sim::builder().seed(seed).unsynced_kept_chance(0.5).run(async |sim| {
                let machine = sim.machine("a");
                let world = machine.world();
                write(&world, "data".into(), &promise(1)).await.unwrap();
                write(&world, "data".into(), &promise(2)).await.unwrap();
                let powerless = World { disk: Arc::new(Powerless(world.disk.clone())), ..world };
                write(&powerless, "data".into(), &promise(3)).await.unwrap_err();
                machine.crash();
                let left = founder(read(&machine.world(), "data".into()).await.unwrap());
                found.extend(left);
            });
        }
        found.sort();
        found.dedup();
        assert_eq!(found, [2, 3], "torn or whole, never less than the one before");
    }
}

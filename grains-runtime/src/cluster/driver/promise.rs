//! The promise that a fresh node with a disk has made about who founds its cluster, in a small file of its own.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use grains_core::{codec, world::World};

use crate::{activation::lock, cluster::founding::Promise, fnv::fnv1a};

const FILE: &str = "founding";
/// More than a list of a thousand addresses takes.
const BYTES_MAX: u64 = 64 * 1024;

/// Reads the promise in `folder`, if there is a whole one. One that was cut short was never relied on.
pub(super) async fn read(world: &World, folder: PathBuf) -> io::Result<Option<Promise>> {
    let disk = world.disk.clone();
    blocking(world, move || {
        let file = disk.open(&folder.join(FILE))?;
        let len = file.len()?.min(BYTES_MAX);
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
        file.read_at(0, &mut bytes)?;
        let Some((sum, promise)) = bytes.split_first_chunk::<8>() else { return Ok(None) };
        let whole = u64::from_le_bytes(*sum) == checksum(promise);
        Ok(whole.then(|| codec::decode(promise).ok()).flatten())
    })
    .await
}

/// Makes `promise` durable.
pub(super) async fn write(world: &World, folder: PathBuf, promise: &Promise) -> io::Result<()> {
    let promise = codec::encode(promise).map_err(io::Error::other)?;
    let disk = world.disk.clone();
    blocking(world, move || {
        let file = disk.open(&folder.join(FILE))?;
        let mut bytes = checksum(&promise).to_le_bytes().to_vec();
        bytes.extend(promise);
        file.write_at(0, &bytes)?;
        file.set_len(bytes.len() as u64)?;
        file.sync()
    })
    .await
}

/// FNV-1a: against torn writes, not against people.
fn checksum(bytes: &[u8]) -> u64 {
    fnv1a(bytes.iter().copied())
}

async fn blocking<T: Send + 'static>(
    world: &World,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let result = Arc::new(Mutex::new(None));
    let place = result.clone();
    world.tasks.blocking(Box::new(move || *lock(&place) = Some(work()))).await;
    let result = lock(&result).take();
    result.unwrap_or_else(|| Err(io::Error::other("the runtime is ending")))
}

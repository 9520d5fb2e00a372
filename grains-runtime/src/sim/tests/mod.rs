//! What the simulator promises, as a test that uses it would notice.

mod disk;
mod faults;
mod lives;
mod network;
mod replay;
mod time;
mod worlds;

use std::{future::poll_fn, io, time::Duration};

use grains_core::world::{ByteReader, ByteWriter, Connection, World};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

async fn write_all(writer: &mut Box<dyn ByteWriter>, mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        let written = poll_fn(|cx| writer.poll_write(cx, data)).await?;
        data = &data[written..];
    }
    Ok(())
}

async fn read_some(reader: &mut Box<dyn ByteReader>) -> io::Result<Vec<u8>> {
    let mut out = [0; 4096];
    let read = poll_fn(|cx| reader.poll_read(cx, &mut out)).await?;
    Ok(out[..read].to_vec())
}

async fn read_exactly(reader: &mut Box<dyn ByteReader>, bytes: usize) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    while all.len() < bytes {
        let mut out = vec![0; bytes - all.len()];
        let read = poll_fn(|cx| reader.poll_read(cx, &mut out)).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        all.extend_from_slice(&out[..read]);
    }
    Ok(all)
}

async fn read_to_end(reader: &mut Box<dyn ByteReader>) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let some = read_some(reader).await?;
        if some.is_empty() {
            return Ok(all);
        }
        all.extend(some);
    }
}

/// Both ends of a new connection: who dialled, who listened.
async fn connected(from: &World, to: &World, address: &str) -> (Connection, Connection) {
    let mut listener = to.transport.listen(address).await.unwrap();
    let address = listener.local_address().unwrap();
    let dialled = from.transport.dial(&address).await.unwrap();
    (dialled, listener.accept().await.unwrap())
}

//! Connections over real loopback sockets.

use std::{io::ErrorKind, sync::Arc};

use super::*;
use crate::world::tokio_world;

fn tcp() -> Arc<dyn Transport> {
    tokio_world().unwrap().transport
}

/// Both ends of one connection: who dialled, who accepted.
async fn pair() -> (Connection, Connection) {
    let tcp = tcp();
    let mut listener = tcp.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_address().unwrap();
    let dialled = tcp.dial(&address).await.unwrap();
    assert_eq!(dialled.peer, address);
    (dialled, listener.accept().await.unwrap())
}

async fn write_all(writer: &mut Box<dyn ByteWriter>, mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        let written = poll_fn(|cx| writer.poll_write(cx, data)).await?;
        data = &data[written..];
    }
    Ok(())
}

async fn read_to_end(reader: &mut Box<dyn ByteReader>) -> io::Result<Vec<u8>> {
    let (mut all, mut some) = (Vec::new(), [0; 4096]);
    loop {
        match poll_fn(|cx| reader.poll_read(cx, &mut some)).await? {
            0 => return Ok(all),
            read => all.extend_from_slice(&some[..read]),
        }
    }
}

#[tokio::test]
async fn bytes_arrive_in_order_and_come_back() {
    let (mut here, mut there) = pair().await;
    let echo = tokio::spawn(async move {
        let mut some = [0; 1000];
        loop {
            let read = poll_fn(|cx| there.reader.poll_read(cx, &mut some)).await.unwrap();
            if read == 0 {
                return poll_fn(|cx| there.writer.poll_close(cx)).await.unwrap();
            }
            write_all(&mut there.writer, &some[..read]).await.unwrap();
        }
    });
    // Far more than the sockets' buffers hold, so that both sides have to wait for each other.
    let sent: Vec<u8> = (0..8_000_000_u32).map(|n| (n % 251) as u8).collect();
    let expected = sent.clone();
    let mut writer = here.writer;
    let writes = tokio::spawn(async move {
        write_all(&mut writer, &sent).await.unwrap();
        poll_fn(|cx| writer.poll_close(cx)).await.unwrap();
    });
    assert!(read_to_end(&mut here.reader).await.unwrap() == expected);
    writes.await.unwrap();
    echo.await.unwrap();
}

#[tokio::test]
async fn one_direction_can_end_before_the_other() {
    let (mut here, mut there) = pair().await;
    write_all(&mut here.writer, b"question").await.unwrap();
    drop(here.writer);
    assert_eq!(read_to_end(&mut there.reader).await.unwrap(), b"question");
    write_all(&mut there.writer, b"answer").await.unwrap();
    poll_fn(|cx| there.writer.poll_close(cx)).await.unwrap();
    assert_eq!(read_to_end(&mut here.reader).await.unwrap(), b"answer");
}

#[tokio::test]
async fn a_refused_connection_names_the_address() {
    let mut listener = tcp().listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_address().unwrap();
    drop(tcp().dial(&address).await.unwrap());
    drop(listener.accept().await.unwrap());
    drop(listener);
    let error = tcp().dial(&address).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(error.to_string().starts_with(&format!("cannot connect to {address}: ")), "{error}");
}

#[tokio::test]
async fn a_taken_port_names_the_address() {
    let listener = tcp().listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_address().unwrap();
    let Err(error) = tcp().listen(&address).await else { panic!("it was taken twice") };
    assert_eq!(error.kind(), ErrorKind::AddrInUse);
    assert!(error.to_string().starts_with(&format!("cannot listen at {address}: ")), "{error}");
}

#[tokio::test]
async fn a_host_name_is_looked_up() {
    let mut listener = tcp().listen("localhost:0").await.unwrap();
    let address = listener.local_address().unwrap();
    let tcp = tcp();
    let name = format!("localhost:{}", address.rsplit(':').next().unwrap());
    let (dialled, accepted) = tokio::join!(tcp.dial(&name), listener.accept());
    assert!(dialled.is_ok() && accepted.is_ok());
}

#[tokio::test]
async fn a_reset_names_the_peer() {
    let (mut here, there) = pair().await;
    write_all(&mut here.writer, b"never read").await.unwrap();
    // Closing with bytes unread makes TCP reset the connection.
    drop(there);
    let error = loop {
        if let Err(error) = write_all(&mut here.writer, &[0; 1000]).await {
            break error;
        }
        tokio::task::yield_now().await;
    };
    assert!(error.to_string().starts_with(&format!("connection to {}: ", here.peer)), "{error}");
}

#[tokio::test]
async fn small_writes_are_sent_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    assert!(!stream.nodelay().unwrap());
    let (_, writer) = halves(stream).unwrap();
    assert!(writer.half.as_ref().nodelay().unwrap());
}

#[test]
fn a_connection_can_be_made_from_outside_of_the_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let tcp = runtime.block_on(async { tcp() });
    // An executor without sockets of its own.
    let plain = tokio::runtime::Builder::new_current_thread().build().unwrap();
    plain.block_on(async {
        let mut listener = tcp.listen("127.0.0.1:0").await.unwrap();
        let address = listener.local_address().unwrap();
        let mut dialled = tcp.dial(&address).await.unwrap();
        let mut accepted = listener.accept().await.unwrap();
        write_all(&mut dialled.writer, b"x").await.unwrap();
        drop(dialled);
        assert_eq!(read_to_end(&mut accepted.reader).await.unwrap(), b"x");
    });
}

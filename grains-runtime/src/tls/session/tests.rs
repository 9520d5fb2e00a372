//! What a writer may say of bytes that leave in parts, or not at all.

use std::task::Waker;

use rustls::{ClientConnection, ServerConnection, pki_types::UnixTime};

use super::{
    super::material::{Material, Whose},
    *,
};
use crate::{
    ca::{Holder, Validity, testing::Root},
    cluster::NodeName,
};

/// Both sides of a connection after its handshake.
fn pair() -> (Tls, Tls) {
    let name = |text| NodeName::new(text).unwrap();
    let pem = Root::new("c").issue(&Holder::Node(name("a")), Validity::days(1));
    let material = Material::new(pem, &name("c"), &Whose::Node(name("a")), UnixTime::now()).unwrap();
    let mut client: Tls =
        ClientConnection::new(material.client.clone(), "node.invalid".try_into().unwrap()).unwrap().into();
    let mut server: Tls = ServerConnection::new(material.server.clone()).unwrap().into();
    while client.is_handshaking() || server.is_handshaking() {
        pass_on(&mut client, &mut server);
        pass_on(&mut server, &mut client);
    }
    (client, server)
}

fn pass_on(from: &mut Tls, to: &mut Tls) {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    hear(to, &bytes);
}

/// What `tls` reads of these.
fn hear(tls: &mut Tls, mut bytes: &[u8]) -> Vec<u8> {
    let mut heard = Vec::new();
    while !bytes.is_empty() {
        tls.read_tls(&mut bytes).unwrap();
        tls.process_new_packets().unwrap();
        drop(io::Read::read_to_end(&mut tls.reader(), &mut heard));
    }
    heard
}

/// What has left, and how much more may; after that it waits, or breaks.
#[derive(Default)]
struct Line {
    left: Vec<u8>,
    room: usize,
    breaks: bool,
}

#[derive(Clone)]
struct Narrow(Arc<Mutex<Line>>);

impl ByteWriter for Narrow {
    fn poll_write(&mut self, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let mut line = lock(&self.0);
        let some = data.len().min(line.room);
        if some == 0 {
            return if line.breaks { Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) } else { Poll::Pending };
        }
        line.room -= some;
        line.left.extend_from_slice(&data[..some]);
        Poll::Ready(Ok(some))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

struct Nothing;

impl ByteReader for Nothing {
    fn poll_read(&mut self, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }
}

fn writer(tls: Tls, room: usize) -> (Writer, Narrow) {
    let narrow = Narrow(Arc::new(Mutex::new(Line { room, ..Line::default() })));
    let (_, writer) = split(tls, Box::new(Nothing), Incoming::default(), Box::new(narrow.clone()));
    (writer, narrow)
}

#[test]
fn what_may_have_left_is_never_said_not_to_have() {
    let (client, mut server) = pair();
    // The first of two records leaves whole.
    let (mut writer, narrow) = writer(client, 18_000);
    lock(&narrow.0).breaks = true;
    let cx = &mut Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(taken)) = writer.poll_write(cx, &[7; 20_000]) else { panic!("it says that nothing has left") };
    let heard = hear(&mut server, &lock(&narrow.0).left).len();
    assert!(heard > 10_000 && heard <= taken, "{heard} arrived, {taken} may have left");
    assert!(matches!(writer.poll_write(cx, &[8]), Poll::Ready(Err(_))), "and then it says what happened");
}

#[test]
fn what_did_not_fit_leaves_before_anything_else_is_taken() {
    let (client, mut server) = pair();
    let (mut writer, narrow) = writer(client, 100);
    let cx = &mut Context::from_waker(Waker::noop());
    assert!(matches!(writer.poll_write(cx, &[7; 1000]), Poll::Ready(Ok(1000))));
    assert!(writer.poll_flush(cx).is_pending() && writer.poll_write(cx, &[8; 1000]).is_pending());
    lock(&narrow.0).room = usize::MAX;
    assert!(matches!(writer.poll_flush(cx), Poll::Ready(Ok(()))));
    assert_eq!(hear(&mut server, &lock(&narrow.0).left), [7; 1000]);
}

#[test]
fn no_more_is_encrypted_than_may_wait() {
    let (client, _server) = pair();
    let (mut writer, _narrow) = writer(client, 0);
    let cx = &mut Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(taken)) = writer.poll_write(cx, &vec![7; 1 << 20]) else { panic!("it takes some") };
    assert!((1..=UNSENT_BYTES_MAX).contains(&taken), "{taken}");
    assert!(writer.poll_write(cx, &[8]).is_pending());
}

//! Wires over TLS: the certificates of tests, and nodes that are not who they say.

use std::{io, sync::OnceLock};

use grains_core::world::{Clock, Listener, Transport};

use super::{
    dial::{read_frame, write_all},
    frame::Decoder,
    handshake::{Greeting, Purpose},
    tools::{RAW, greeting, member},
    *,
};
use crate::{
    ca::{Holder, Validity, testing::Root},
    tls::{Tls, Whose},
};

/// The authority of cluster "c".
fn root() -> &'static Root {
    static ROOT: OnceLock<Root> = OnceLock::new();
    ROOT.get_or_init(|| Root::new("c"))
}

fn tls(name: &str) -> Arc<Tls> {
    let name = NodeName::new(name).unwrap();
    let pem = root().issue(&Holder::Node(name.clone()), Validity::days(1));
    Arc::new(Tls::of_pem(pem, &NodeName::new("c").unwrap(), Whose::Node(name)).unwrap())
}

/// That of node `name` of cluster "c".
pub(super) fn security(name: &str) -> Security {
    Security::Tls(tls(name))
}

/// Connections in the hands of a test, with a certificate for [`RAW`].
pub(super) struct Raws(pub(super) Arc<dyn Transport>);

fn clock() -> Arc<dyn Clock> {
    tokio_world().unwrap().clock
}

fn failed(why: Unsecured) -> io::Error {
    match why {
        Unsecured::Broken(why) => why,
        Unsecured::Untrusted(why) => io::Error::other(why),
    }
}

impl Transport for Raws {
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Ok(Box::new(Port(self.0.listen(address).await?, tls(RAW))) as Box<dyn Listener>) })
    }

    fn dial<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Connection>> {
        Box::pin(async { Ok(tls(RAW).dialled(self.0.dial(address).await?, &clock()).await.map_err(failed)?.0) })
    }
}

struct Port(Box<dyn Listener>, Arc<Tls>);

impl Listener for Port {
    fn local_address(&self) -> io::Result<String> {
        self.0.local_address()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(async { Ok(self.1.accepted(self.0.accept().await?, &clock()).await.map_err(failed)?.0) })
    }
}

/// What `a` says of whoever answers its call to member 2 with `welcome`, having the certificate of [`RAW`].
async fn said_of(welcome: Greeting) -> (RequestError, Vec<(MemberId, u64, u64)>) {
    let setup = Setup::over_tls();
    let (a, seen) = setup.node(1).await;
    let mut listener = setup.raw.listen("127.0.0.1:0").await.unwrap();
    let address = listener.local_address().unwrap();
    let peer = tokio::spawn(async move {
        for purpose in [Purpose::Data, Purpose::Control] {
            let mut connection = listener.accept().await.unwrap();
            let mut decoder = Decoder::new(1024);
            let (kind, _) = read_frame(&mut connection.reader, &mut decoder).await.unwrap();
            assert_eq!(kind, frame::HELLO);
            let welcome = Greeting { purpose, ..welcome.clone() };
            write_all(&mut connection.writer, &welcome.frame(frame::WELCOME)).await.unwrap();
            drop(read_frame(&mut connection.reader, &mut decoder).await);
        }
    });
    let link = a.link(member(2), &address);
    link.send(1, |out| out.push(1)).ok();
    let down = seen.down(1).await;
    let asked = a.request(&address, Lane::Control, b"hi".to_vec(), Duration::from_secs(5)).await;
    peer.abort();
    (asked.unwrap_err(), down)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_answers_under_another_name_than_its_certificates_is_told_nothing() {
    let mut welcome = greeting(2, Purpose::Data);
    welcome.about.name = NodeName::new("node-2").unwrap();
    let (error, down) = said_of(welcome).await;
    assert_eq!(down[0].2, 0, "no call has left");
    let RequestError::Refused(refused) = error else { panic!("{error:?}") };
    assert_eq!(refused.reason, Reason::Certificate);
    assert!(refused.text.contains("for node \"raw\", and it calls itself \"node-2\""), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_answers_for_another_member_is_told_nothing() {
    let mut welcome = greeting(2, Purpose::Data);
    welcome.about.node = NodeId(tools::NAMED);
    let (error, _) = said_of(welcome).await;
    let RequestError::Refused(refused) = error else { panic!("{error:?}") };
    assert!(refused.text.contains("which is node \"named\""), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dials_under_another_name_is_refused_and_hears_why() {
    let setup = Setup::over_tls();
    let (a, seen) = setup.node(1).await;
    for (name, node, why) in
        [("node-2", 2, "it calls itself \"node-2\""), (RAW, tools::NAMED, "which is node \"named\"")]
    {
        let mut hello = greeting(node, Purpose::Data);
        hello.about.name = NodeName::new(name).unwrap();
        let mut connection = setup.raw.dial(a.address()).await.unwrap();
        write_all(&mut connection.writer, &hello.frame(frame::HELLO)).await.unwrap();
        let said = read_frame(&mut connection.reader, &mut Decoder::new(1024)).await.unwrap();
        assert_eq!(said.0, frame::REFUSE);
        let text = String::from_utf8_lossy(&said.1);
        assert!(text.contains(why) && text.contains("node \"raw\""), "{text}");
        let mut call = Vec::new();
        frame::write(&mut call, 1, |out| out.push(7));
        write_all(&mut connection.writer, &call).await.ok();
        assert!(read_frame(&mut connection.reader, &mut Decoder::new(1024)).await.is_err());
    }
    assert!(lock(&seen.data).is_empty() && lock(&seen.asked).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_another_cluster_is_refused_though_its_root_is_trusted() {
    let setup = Setup::over_tls();
    let (a, _) = setup.node(1).await;
    let name = NodeName::new("node-2").unwrap();
    let cluster = NodeName::new("d").unwrap();
    let other = root().issue_for(&cluster, &Holder::Node(name.clone()), Validity::days(1));
    let other = Tls::of_pem(other, &cluster, Whose::Node(name)).unwrap();
    let connection = setup.world.transport.dial(a.address()).await.unwrap();
    let (mut connection, proven) = other.dialled(connection, &setup.world.clock).await.unwrap();
    // The other way round as well: it is the name of the cluster in the certificate that counts, not who vouches for it.
    let mine = identity::node_of(&cluster, a.address(), &proven).unwrap_err();
    assert!(mine.text.contains("for cluster \"c\", and this is \"d\""), "{mine}");
    let hello = greeting(2, Purpose::Control).frame(frame::HELLO);
    write_all(&mut connection.writer, &hello).await.unwrap();
    let (kind, body) = read_frame(&mut connection.reader, &mut Decoder::new(1024)).await.unwrap();
    assert_eq!(kind, frame::REFUSE);
    let text = String::from_utf8_lossy(&body);
    assert!(text.contains("for cluster \"d\", and this is \"c\""), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_number_that_turns_out_to_be_anothers_ends_what_came_under_it() {
    for purpose in [Purpose::Data, Purpose::Control] {
        let setup = Setup::over_tls();
        let (a, seen) = setup.node(1).await;
        let mut raw = raw_dial(&setup, &a, 5, purpose).await;
        let kind = if purpose == Purpose::Data { 1 } else { frame::REQUEST };
        let heard = || lock(&seen.data).len() + lock(&seen.asked).len();
        assert!(raw.say(kind, &question(1)).await);
        until("it is heard, as nobody knows better", || heard() == 1).await;
        *lock(&seen.named_since) = Some(NodeId(5));
        raw.say(kind, &question(2)).await;
        while raw.hear().await.is_some() {}
        assert_eq!(heard(), 1, "and no more, once the view says whose number that is");
    }
}

fn question(id: u64) -> Vec<u8> {
    let mut body = id.to_le_bytes().to_vec();
    body.extend([0; 32]);
    body
}

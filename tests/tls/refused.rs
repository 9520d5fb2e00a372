//! Who is not let in, and what both sides hear.

use std::{
    io::Write,
    net::TcpListener,
    time::{Duration, SystemTime},
};

use grains::{
    ClusterConfig, StartError,
    ca::{Authority, Existing, Holder, Issued, Validity},
    config::{Settings, Sources},
    prelude::*,
};
use rustls::AlertDescription;

use crate::{
    Authorities, TallyRef, describe, log,
    peer::{HELLO, Met, Peer, answers_to},
};

const REFUSE: u8 = 0x82;

/// Node `a` of cluster `test`, alone, and what it has to do with.
struct Alone {
    authorities: Authorities,
    node: Node,
    address: String,
}

impl Alone {
    async fn new() -> Self {
        log::listen();
        let authorities = Authorities::make();
        let config = ClusterConfig::new("test").tls_folder(authorities.certify("a"));
        let node = describe("a", config).start().await.unwrap();
        let address = node.address().unwrap();
        Self { authorities, node, address }
    }

    fn issued(&self, name: &str) -> Issued {
        self.authorities.issued(&Holder::node(name).unwrap(), Validity::days(1))
    }

    async fn meets(&self, peer: &Peer) -> Met {
        let (address, peer) = (self.address.clone(), peer.clone());
        tokio::task::spawn_blocking(move || peer.meets(&address, &HELLO)).await.unwrap()
    }

    async fn answers_to(&self, bytes: &[u8]) -> Vec<u8> {
        let (address, bytes) = (self.address.clone(), bytes.to_vec());
        tokio::task::spawn_blocking(move || answers_to(&address, &bytes)).await.unwrap()
    }

    /// It is as it was.
    async fn works_on(self) {
        let tally: TallyRef = self.node.get("x");
        assert_eq!(tally.add(1).await.unwrap().0, 1);
        self.node.stop().await;
    }
}

/// An authority of its own, also for cluster `test`.
fn other_authority(authorities: &Authorities, name: &str) -> Authority {
    let folder = authorities.folder.path().join(name);
    Authority::init(&folder, "test", Validity::of_root()).unwrap()
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_certificate_of_the_cluster_opens_the_port() {
    let alone = Alone::new().await;
    // So the others are refused for what they have, not for what they say.
    let Met::Through(said) = alone.meets(&Peer::with(&alone.issued("b"))).await else {
        panic!("a good one is refused")
    };
    assert!(said.is_empty(), "its greeting is no greeting: closed without a word");

    assert_eq!(alone.meets(&Peer::without_certificate()).await, Met::Refused(AlertDescription::CertificateRequired));
    log::says(&["connection refused", "it has no certificate", "grains ca issue"]).await;

    let other = other_authority(&alone.authorities, "other");
    let foreign = other.issue(&Holder::node("b").unwrap(), Validity::days(1)).unwrap();
    assert_eq!(alone.meets(&Peer::with(&foreign)).await, Met::Refused(AlertDescription::UnknownCA));
    log::says(&["connection refused", "not from an authority", "`tls.roots`"]).await;

    let past = Validity { from: now() - 1000, until: now() - 1 };
    let expired = alone.authorities.issued(&Holder::node("b").unwrap(), past);
    assert_eq!(alone.meets(&Peer::with(&expired)).await, Met::Refused(AlertDescription::CertificateExpired));
    log::says(&["connection refused", "has expired", "grains ca issue"]).await;

    let future = Validity { from: now() + 1000, until: now() + 2000 };
    let early = alone.authorities.issued(&Holder::node("b").unwrap(), future);
    assert_eq!(alone.meets(&Peer::with(&early)).await, Met::Refused(AlertDescription::CertificateExpired));

    let stolen = Peer::with(&Issued::clone(&alone.issued("b")));
    let elsewhere = Peer { protocols: vec![b"h2".to_vec()], ..stolen.clone() };
    assert_eq!(alone.meets(&elsewhere).await, Met::Refused(AlertDescription::NoApplicationProtocol));
    let silent = Peer { protocols: Vec::new(), ..stolen };
    assert_eq!(alone.meets(&silent).await, Met::Through(Vec::new()));
    log::says(&["connection refused", "not as a node"]).await;
    alone.works_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_refused_on_the_port_of_nodes_and_both_sides_say_so() {
    let alone = Alone::new().await;
    let client = alone.authorities.issued(&Holder::client("web-shop").unwrap(), Validity::days(1));
    let Met::Through(said) = alone.meets(&Peer::with(&client)).await else { panic!("it is told why") };
    assert_eq!(said[4], REFUSE);
    let text = String::from_utf8_lossy(&said);
    assert!(text.contains("client \"web-shop\", and only nodes connect here"), "{text}");
    log::says(&["connection refused", "client \"web-shop\"", "`--node`"]).await;
    alone.works_on().await;
}

/// What TLS 1.2 clients begin with: the same for all of them but for what is random.
fn hello_of_tls_1_2(versions: &[u8]) -> Vec<u8> {
    let suites = [0xc0, 0x2b, 0xc0, 0x2f, 0xc0, 0x2c, 0xc0, 0x30, 0x13, 0x01, 0x13, 0x02];
    let mut extensions = vec![0, 10, 0, 4, 0, 2, 0, 23, 0, 13, 0, 6, 0, 4, 4, 3, 8, 4, 0, 11, 0, 2, 1, 0];
    extensions.extend_from_slice(versions);
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, suites.len() as u8]);
    body.extend(suites);
    body.extend([1, 0]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let mut record = vec![22, 3, 1];
    record.extend((body.len() as u16 + 4).to_be_bytes());
    record.extend([1, 0]);
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_tls_and_no_tls_at_all_get_nothing() {
    let alone = Alone::new().await;
    // An alert of TLS: fatal, `protocol_version`.
    let too_old = [21, 3, 3, 0, 2, 2, 70];
    assert_eq!(alone.answers_to(&hello_of_tls_1_2(&[])).await, too_old);
    assert_eq!(alone.answers_to(&hello_of_tls_1_2(&[0, 43, 0, 3, 2, 3, 3])).await, too_old);
    log::says(&["connection refused", "does not speak TLS 1.3"]).await;
    let plain = alone.answers_to(&HELLO).await;
    assert!(plain.is_empty() || plain[0] == 21, "an alert at most: {plain:?}");
    log::says(&["connection refused", "does not speak TLS", "give it `cluster.tls`"]).await;
    alone.works_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_refused_and_stays_does_not_hide_why() {
    let alone = Alone::new().await;
    let mut stays = std::net::TcpStream::connect(&alone.address).unwrap();
    stays.write_all(&HELLO).unwrap();
    log::says(&["connection refused", &stays.local_addr().unwrap().to_string(), "does not speak TLS"]).await;
    alone.works_on().await;
    // The other way round: another service is at that address, which speaks first and waits.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut dialled = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.write_all(b"220 ready\r\n").unwrap();
            dialled.push(stream);
        }
    });
    let authorities = Authorities::make();
    let config = ClusterConfig::new("test").join([address.clone()]).tls_folder(authorities.certify("b"));
    let config = config.configure(|config| config.join_timeout = Duration::from_millis(1500));
    let why = describe("b", config).start().await.expect_err("nobody is there").to_string();
    assert!(why.contains(&address) && why.contains("does not speak TLS"), "{why}");
}

/// Why a node with these certificates does not become a member of the cluster of `alone`.
async fn why_not(alone: &Alone, name: &str, tls: impl FnOnce(ClusterConfig) -> ClusterConfig) -> String {
    let config = ClusterConfig::new("test").join([alone.address.clone()]);
    let config = tls(config).configure(|config| config.join_timeout = Duration::from_millis(1500));
    describe(name, config).start().await.expect_err("it is not let in").to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_not_let_in_says_why() {
    let alone = Alone::new().await;
    let folder = alone.authorities.folder.path();
    // Neither trusts the other.
    let other = other_authority(&alone.authorities, "other");
    let foreign = other.issue(&Holder::node("b").unwrap(), Validity::days(1)).unwrap();
    foreign.write_to(&folder.join("foreign"), Existing::Refuse).unwrap();
    let why = why_not(&alone, "b", |config| config.tls_folder(folder.join("foreign"))).await;
    assert!(
        why.contains(&alone.address) && why.contains("not from an authority that this node's `tls.roots` have"),
        "{why}"
    );
    // It trusts the other, which does not trust it.
    let mut one_sided = foreign;
    one_sided.roots += &alone.issued("b").roots;
    one_sided.write_to(&folder.join("one-sided"), Existing::Refuse).unwrap();
    let why = why_not(&alone, "b", |config| config.tls_folder(folder.join("one-sided"))).await;
    assert!(why.contains("it refused this node's certificate: its `tls.roots` do not have"), "{why}");
    // The other knows TLS, and it does not.
    let why = why_not(&alone, "b", |config| config).await;
    assert!(why.contains("TLS") && why.contains("`cluster.tls`"), "{why}");
    alone.works_on().await;
    // The other way round.
    let plain = describe("a", ClusterConfig::new("test")).start().await.unwrap();
    let authorities = Authorities::make();
    let alone = Alone { address: plain.address().unwrap(), node: plain, authorities };
    let certified = alone.authorities.certify("b");
    let why = why_not(&alone, "b", |config| config.tls_folder(certified)).await;
    assert!(why.contains("`cluster.tls`"), "{why}");
    alone.works_on().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_starts_only_with_a_certificate_of_its_own() {
    let authorities = Authorities::make();
    let of_a = authorities.certify("a");
    let start = |name: &str, cluster: &str| describe(name, ClusterConfig::new(cluster).tls_folder(&of_a)).start();
    for (name, cluster) in [("b", "test"), ("a", "other")] {
        let error = start(name, cluster).await.unwrap_err();
        assert!(matches!(error, StartError::Certificates { .. }), "{error:?}");
        let text = error.to_string();
        assert!(
            text.contains("spiffe://test/node/a")
                && text.contains(&format!("node \"{name}\" of cluster \"{cluster}\"")),
            "{text}"
        );
    }
    std::fs::remove_file(of_a.join("key.pem")).unwrap();
    let missing = start("a", "test").await.unwrap_err().to_string();
    assert!(missing.contains("`tls.key`") && missing.contains("key.pem"), "{missing}");
    let half = ClusterConfig::new("test").configure(|config| config.tls.key = Some("x".into()));
    let half = describe("a", half).start().await.unwrap_err().to_string();
    assert!(half.contains("`tls.certificate`, `tls.key` and `tls.roots` are wanted together"), "{half}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_other_machines_can_reach_takes_certificates_or_a_word() {
    log::listen();
    let authorities = Authorities::make();
    let anywhere = || ClusterConfig::new("test").listen("0.0.0.0:0").advertise("127.0.0.1");
    let error = describe("a", anywhere()).start().await.unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }), "{error:?}");
    let text = error.to_string();
    assert!(["0.0.0.0", "`tls`", "`plaintext_on_any_network`"].iter().all(|word| text.contains(word)), "{text}");
    let both =
        anywhere().tls_folder(authorities.certify("a")).configure(|config| config.plaintext_on_any_network = true);
    let both = describe("a", both).start().await.unwrap_err().to_string();
    assert!(both.contains("`plaintext_on_any_network` is for nodes without certificates"), "{both}");
    let secret = describe("a", anywhere().tls_folder(authorities.certify("a"))).start().await.unwrap();
    secret.stop().await;
    assert!(!log::has(&["PLAINTEXT", "loud-1"]));
    let loud = anywhere().configure(|config| config.plaintext_on_any_network = true);
    for name in ["loud-1", "loud-2"] {
        describe(name, loud.clone()).start().await.unwrap().stop().await;
        log::says(&["WARN", "PLAINTEXT", name]).await;
    }
    // Nobody else can reach this one, so nobody is warned.
    let quiet = ClusterConfig::new("test").configure(|config| config.plaintext_on_any_network = true);
    describe("quiet", quiet).start().await.unwrap().stop().await;
    assert!(!log::has(&["PLAINTEXT", "quiet"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_say_where_certificates_are_and_mistakes_where_they_were_said() {
    let authorities = Authorities::make();
    let of_a = authorities.certify("a");
    let path = |file: &str| of_a.join(file).display().to_string();
    let file = format!(
        "name = 'a'\n[cluster]\nname = 'test'\n[cluster.tls]\ncertificate = '{}'\nkey = '{}'\n",
        path("certificate.pem"),
        path("key.pem")
    );
    let settings = |sources: Sources| Settings::default().read(&sources).unwrap();
    let sources = || Sources::new().file("a.toml", &file);
    let missing = Node::builder().settings(settings(sources())).start().await.unwrap_err().to_string();
    assert!(missing.contains("`tls.roots` are wanted together") && missing.contains("a.toml:5"), "{missing}");
    let roots = |file: &str| sources().set(format!("cluster.tls.roots={}", path(file)));
    let wrong = Node::builder().settings(settings(roots("nowhere.pem"))).start().await.unwrap_err().to_string();
    assert!(wrong.contains("nowhere.pem") && wrong.contains("argument --set cluster.tls.roots"), "{wrong}");
    let node = Node::builder().settings(settings(roots("roots.pem"))).start().await.unwrap();
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_handshake_holds_nobody_up() {
    let alone = Alone::new().await;
    let begun: Vec<_> = (0..20)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(&alone.address).unwrap();
            stream.write_all(&hello_of_tls_1_2(&[])[..30]).unwrap();
            stream
        })
        .collect();
    let config = ClusterConfig::new("test").join([alone.address.clone()]).tls_folder(alone.authorities.certify("b"));
    let second = describe("b", config).start().await.unwrap();
    drop(begun);
    second.stop().await;
    alone.works_on().await;
}

//! Thousands of connections that mean harm, while a cluster serves calls, loses its leader and takes a node in. They come by
//! TLS, as a port that strangers reach is to have it. A few hundred here; `tests/hostile` brings ten thousand.
#![cfg(feature = "ca")]

use std::{
    env, fs,
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use grains::ca::{Authority, Existing, Holder, Validity};
use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::ring, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    runtime::Runtime,
};

use crate::{
    cluster::{Cluster, measured, members, name},
    process::Process,
};

/// How many connections there are at a time, unless `GRAINS_HOSTILE` says otherwise.
const CONNECTIONS: usize = 300;

/// How long somebody waits at least who was shown the door, before the next try.
const PAUSE_MIN: Duration = Duration::from_secs(2);

/// How many come in a second, about: what a machine has to do for more is measured by nobody here, and all of this runs on one.
const PER_SECOND: u32 = 500;

/// How much memory strangers may cost a node: 64 KiB for each of the 64 that are in their handshake at a time, and as much
/// again for what the node does meanwhile for those it knows.
const GROWTH_BYTES_MAX: u64 = 2 * 64 * 64 * 1024 + 16 * 1024 * 1024;

/// How many files a node has open beside what its connections take: far below any limit that systems set.
const FILES_MAX: usize = 250;

#[test]
fn strangers_by_the_thousand_hold_up_nobody() {
    let connections = env::var("GRAINS_HOSTILE").map_or(CONNECTIONS, |number| number.parse().unwrap());
    may_open(connections + 500);
    let mut cluster = certified();
    (0..3).for_each(|n| cluster.begin_traffic(n, "k", 60));
    cluster.traffic_flows(50);
    let before: Vec<u64> = (0..3).map(|n| memory(cluster.node(n))).collect();

    let addresses = cluster.orders.iter().map(|orders| orders.listen.clone()).collect();
    let attack = Attack::begin(addresses, connections);
    cluster.until("strangers have come", |_| attack.met.load(Relaxed) >= connections as u64);
    let begun = Instant::now();
    cluster.traffic_flows(50);
    measured("calls with strangers at the door", begun.elapsed());
    for (n, before) in before.iter().enumerate() {
        let node = cluster.node(n);
        let (now, files) = (memory(node), open_files(node));
        eprintln!("{}: {} KiB more memory, {files} files open", node.name(), now.saturating_sub(*before) / 1024);
        assert!(now < before + GROWTH_BYTES_MAX, "{} has grown from {before} to {now} bytes", node.name());
        assert!(files < FILES_MAX, "{} has {files} files open", node.name());
    }

    let (leader, term) = cluster.raft_leader();
    let leader = cluster.place_of(&leader);
    let died = Instant::now();
    cluster.kill(leader);
    measured("a leader's death with strangers at the door", cluster.sweep("k", 60, died));
    let (_, next) = cluster.raft_leader();
    assert!(next > term, "there is another leader");

    let started = Instant::now();
    cluster.start(leader);
    cluster.settled();
    cluster.begin_traffic(leader, "k", 60);
    measured("a start with strangers at the door", started.elapsed());
    cluster.traffic_flows(20);
    let met = attack.end();
    println!("{met} connections of {connections} strangers");
    cluster.keeps_its_promises();
}

/// A process with as many files as it may have takes no connections, and does again when it can.
#[test]
fn too_many_open_files_are_survived() {
    let mut cluster = certified();
    let before = members(&cluster.node(0).ask("status"));
    (0..3).for_each(|n| cluster.begin_traffic(n, "k", 20));
    cluster.traffic_flows(20);
    let node = cluster.node(0);
    prlimit(node.id(), open_files(node) + 10);
    let attack = Attack::begin(vec![cluster.orders[0].listen.clone()], 100);
    cluster.until("it says so", |cluster| cluster.node(0).stderr().contains("cannot take connections, trying on"));
    // Those who have their connections do not notice.
    cluster.traffic_flows(30);
    (0..3).for_each(|n| drop(cluster.node(n).ask("settle")));
    let (begun, was) = (Instant::now(), spent(cluster.node(0)));
    thread::sleep(Duration::from_secs(1));
    let busy = (spent(cluster.node(0)) - was).as_secs_f64() / begun.elapsed().as_secs_f64();
    assert!(busy < 0.5, "it spins: {busy} of a processor");
    attack.end();
    // The third node, started again, finds nobody's door closed.
    cluster.kill(2);
    cluster.start(2);
    cluster.settled();
    assert!(
        members(&cluster.node(0).ask("status")).get("a") == before.get("a"),
        "it has been the same member throughout"
    );
}

/// Three nodes with certificates.
fn certified() -> Cluster {
    let mut cluster = Cluster::of(3);
    let folder = cluster.folder.path().join("ca");
    let authority = Authority::init(&folder, "test", Validity::of_root()).unwrap();
    for n in 0..3 {
        let certificates = cluster.folder.path().join(format!("certificates-{n}"));
        let issued = authority.issue(&Holder::node(&name(n)).unwrap(), Validity::days(1)).unwrap();
        issued.write_to(&certificates, Existing::Replace).unwrap();
        cluster.orders[n].certificates = Some(certificates);
        cluster.start(n);
    }
    cluster.ready();
    cluster
}

/// What strangers do, each over one connection after the other.
struct Attack {
    runtime: Runtime,
    over: Arc<AtomicBool>,
    /// How many connections there have been.
    met: Arc<AtomicU64>,
}

/// What one does who is let in.
#[derive(Clone, Copy)]
enum Harm {
    Silence,
    /// A byte of a greeting each second.
    Loris,
    Garbage,
    /// The beginning of a handshake of TLS, then nothing: the answer is not read.
    HalfTls,
    /// The same, cut in the middle of a record.
    CutTls,
    /// A greeting in the clear.
    Clear,
}

impl Attack {
    fn begin(addresses: Vec<String>, connections: usize) -> Self {
        let runtime = Runtime::new().unwrap();
        let pause = PAUSE_MIN.max(Duration::from_secs(1) * connections as u32 / PER_SECOND);
        let (over, met) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let hello: Arc<[u8]> = client_hello().into();
        for n in 0..connections {
            let (over, met, hello) = (over.clone(), met.clone(), hello.clone());
            let to: SocketAddr = addresses[n % addresses.len()].parse().unwrap();
            // From a few networks; one in ten from where the nodes themselves are.
            let from = if n % 10 == 0 { Ipv4Addr::LOCALHOST } else { Ipv4Addr::new(127, 9, 0, (n % 7) as u8 + 1) };
            let harm = [Harm::Silence, Harm::Loris, Harm::Garbage, Harm::HalfTls, Harm::CutTls, Harm::Clear][n % 6];
            runtime.spawn(async move {
                // Not all in the same moment.
                tokio::time::sleep(pause * n as u32 / connections as u32).await;
                while !over.load(Relaxed) {
                    if let Ok(stream) = dial(from, to).await {
                        met.fetch_add(1, Relaxed);
                        harm.done(stream, &hello).await;
                    }
                    tokio::time::sleep(pause).await;
                }
            });
        }
        Self { runtime, over, met }
    }

    fn end(self) -> u64 {
        self.over.store(true, Relaxed);
        self.runtime.shutdown_background();
        self.met.load(Relaxed)
    }
}

async fn dial(from: Ipv4Addr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect(to).await
}

impl Harm {
    /// Until the node has enough of it.
    async fn done(self, mut stream: TcpStream, hello: &[u8]) {
        let said = match self {
            Self::Silence | Self::Loris => Ok(()),
            Self::Garbage => stream.write_all(&[0xa5; 4096]).await,
            Self::HalfTls => stream.write_all(hello).await,
            Self::CutTls => stream.write_all(&hello[..hello.len() / 2]).await,
            Self::Clear => stream.write_all(b"\x0a\0\0\0\x80GRNSC\x01\0\x01\0").await,
        };
        let mut place = 0;
        let mut byte = [0];
        while said.is_ok() {
            // What the node says is left in the connection, but for one byte a second: so its end is seen.
            match tokio::time::timeout(Duration::from_secs(1), stream.read(&mut byte)).await {
                Ok(Ok(1..)) => tokio::time::sleep(Duration::from_secs(1)).await,
                Ok(_) => return,
                Err(_) if matches!(self, Self::Loris) => {
                    if stream.write_all(&hello[place % hello.len()..][..1]).await.is_err() {
                        return;
                    }
                    place += 1;
                }
                Err(_) => {}
            }
        }
    }
}

/// The first record of a handshake, of somebody without a certificate.
fn client_hello() -> Vec<u8> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
    let mut config = builder.with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    config.alpn_protocols = vec![b"grains-node".to_vec()];
    let mut tls = ClientConnection::new(Arc::new(config), ServerName::try_from("anybody").unwrap()).unwrap();
    let mut hello = Vec::new();
    tls.write_tls(&mut hello).unwrap();
    hello
}

/// What a process has in memory, in bytes.
fn memory(node: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", node.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

/// How long it has had a processor, to 10 ms.
fn spent(node: &Process) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", node.id())).unwrap();
    // Behind its name, which may have anything in it: the state, then numbers. User and system time are the 12th and the 13th.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<u64>().unwrap();
    Duration::from_millis(10 * (ticks(11) + ticks(12)))
}

fn open_files(node: &Process) -> usize {
    fs::read_dir(format!("/proc/{}/fd", node.id())).unwrap().count()
}

/// Lets this process open so many files, if the machine allows it. Nodes that it starts later may as well.
fn may_open(files: usize) {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    if line.split_whitespace().next().unwrap().parse().is_ok_and(|now: usize| now < files) {
        prlimit(std::process::id(), files);
    }
}

fn prlimit(process: u32, files: usize) {
    let command = format!("--nofile={files}:");
    let done = Command::new("prlimit").args(["--pid", &process.to_string(), &command]).status().unwrap();
    assert!(done.success(), "a limit of {files} open files: raise that of the shell, `ulimit -Hn`");
}

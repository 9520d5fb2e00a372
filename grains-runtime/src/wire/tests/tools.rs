//! Nodes that note what they see, and raw connections that do what they like.

use std::task::{Context, Poll};

use grains_core::world::{TaskHandle, Tasks, Transport};

use super::{
    dial::{read_frame, write_all},
    frame::Decoder,
    handshake::{About, Greeting, Purpose, VERSIONS},
    memory::Memory,
    *,
};

/// One world, and how its nodes are told to be.
pub(super) struct Setup {
    pub(super) world: World,
    pub(super) limits: Limits,
    pub(super) cluster: &'static str,
    pub(super) running: Arc<AtomicUsize>,
    /// What connections in the hands of a test are made by: secret if those of nodes are.
    pub(super) raw: Arc<dyn Transport>,
    pub(super) security: fn(&str) -> Security,
}

impl Setup {
    pub(super) fn tcp() -> Self {
        let mut world = tokio_world().unwrap();
        let running = Arc::<AtomicUsize>::default();
        world.tasks = Arc::new(Counted { tasks: world.tasks.clone(), running: running.clone() });
        let raw = world.transport.clone();
        Self { world, limits: Limits::default(), cluster: "c", running, raw, security: |_| Security::Plain }
    }

    pub(super) fn in_memory() -> Self {
        let mut setup = Self::tcp();
        setup.world.transport = Arc::new(Memory::default());
        setup.raw = setup.world.transport.clone();
        setup
    }

    #[cfg(feature = "ca")]
    pub(super) fn over_tls() -> Self {
        let mut setup = Self::tcp();
        setup.security = certificates::security;
        setup.raw = Arc::new(certificates::Raws(setup.world.transport.clone()));
        setup
    }

    /// Node `n`, in its life `n + 100`.
    pub(super) async fn node(&self, n: u64) -> (Arc<Wire>, Arc<Seen>) {
        self.node_at(n, "127.0.0.1:0").await
    }

    pub(super) async fn node_at(&self, n: u64, listen: &str) -> (Arc<Wire>, Arc<Seen>) {
        let seen = Arc::new(Seen { clock: Some(self.world.clone()), ..Seen::default() });
        let config = WireConfig {
            cluster: NodeName::new(self.cluster).unwrap(),
            name: NodeName::new(&format!("node-{n}")).unwrap(),
            node: NodeId(n),
            listen: listen.to_owned(),
            advertise: None,
            reach: Reach::Loopback,
            security: (self.security)(&format!("node-{n}")),
            limits: self.limits.clone(),
        };
        let wire = Wire::listen(&self.world, config, seen.clone()).await.unwrap();
        wire.set_incarnation(Some(Incarnation(n + 100)));
        (wire, seen)
    }
}

pub(super) fn member(n: u64) -> MemberId {
    MemberId { node: NodeId(n), incarnation: Incarnation(n + 100) }
}

/// What nodes in the hands of a test are called.
pub(super) const RAW: &str = "raw";

/// A node that is a member called "named".
pub(super) const NAMED: u64 = 77;

/// What a raw connection says it is.
pub(super) fn greeting(n: u64, purpose: Purpose) -> Greeting {
    let about = About {
        cluster: NodeName::new("c").unwrap(),
        generation: None,
        name: NodeName::new(RAW).unwrap(),
        node: NodeId(n),
        incarnation: Some(Incarnation(n + 100)),
        to: None,
        link: None,
        frame_bytes_max: 4 << 20,
        features: 0,
    };
    Greeting { purpose, versions: VERSIONS, about }
}

/// A connection in the hands of a test.
pub(super) struct Raw {
    pub(super) connection: Connection,
    pub(super) decoder: Decoder,
}

impl Raw {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, decoder: Decoder::new(5 << 20) }
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> bool {
        write_all(&mut self.connection.writer, bytes).await.is_ok()
    }

    pub(super) async fn say(&mut self, kind: u8, body: &[u8]) -> bool {
        let mut bytes = Vec::new();
        frame::write(&mut bytes, kind, |out| out.extend_from_slice(body));
        self.write(&bytes).await
    }

    /// The next frame; none once the connection has ended.
    pub(super) async fn hear(&mut self) -> Option<(u8, Vec<u8>)> {
        read_frame(&mut self.connection.reader, &mut self.decoder).await.ok()
    }

    /// The next frame that is no sign of life.
    pub(super) async fn hear_word(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            match self.hear().await? {
                (frame::PING | frame::PONG, _) => {}
                word => return Some(word),
            }
        }
    }

    /// Takes the part of the node that was dialled.
    pub(super) async fn welcome(&mut self, n: u64) -> Vec<u8> {
        let (kind, hello) = self.hear().await.unwrap();
        assert_eq!(kind, frame::HELLO);
        assert!(self.write(&greeting(n, Purpose::Data).frame(frame::WELCOME)).await);
        hello
    }
}

/// A connection to `wire` after its handshake.
pub(super) async fn raw_dial(setup: &Setup, wire: &Wire, n: u64, purpose: Purpose) -> Raw {
    let mut raw = Raw::new(setup.raw.dial(wire.address()).await.unwrap());
    assert!(raw.write(&greeting(n, purpose).frame(frame::HELLO)).await);
    assert_eq!(raw.hear().await.unwrap().0, frame::WELCOME);
    raw
}

/// Waits until it is so.
pub(super) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let limit = tokio::time::Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(tokio::time::Instant::now() < limit, "never: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

type EndSeen = (MemberId, u64, Option<(u64, u64)>, usize);

/// What a node saw.
#[derive(Default)]
pub(super) struct Seen {
    clock: Option<World>,
    pub(super) data: Mutex<Vec<(MemberId, u8, Vec<u8>)>>,
    pub(super) asked: Mutex<Vec<(PeerInfo, Vec<u8>)>>,
    pub(super) down: Mutex<Vec<(MemberId, u64, u64)>>,
    /// A node that has become a member called "named" since.
    pub(super) named_since: Mutex<Option<NodeId>>,
    /// What has ended, and how many frames had come by then.
    pub(super) ended: Mutex<Vec<EndSeen>>,
}

impl Seen {
    pub(super) async fn down(&self, count: usize) -> Vec<(MemberId, u64, u64)> {
        until("links go down", || lock(&self.down).len() >= count).await;
        lock(&self.down).clone()
    }
}

impl WireHandler for Seen {
    fn control(&self, from: PeerInfo, body: Vec<u8>) -> BoxFuture<'static, Vec<u8>> {
        lock(&self.asked).push((from, body.clone()));
        let clock = self.clock.clone().unwrap().clock;
        Box::pin(async move {
            match &body[..] {
                b"never" => std::future::pending().await,
                b"panic" => panic!("asked to"),
                b"large" => vec![1; 5 << 20],
                b"soon" => {
                    clock.sleep_until(clock.now() + Duration::from_millis(5)).await;
                    body
                }
                _ => body,
            }
        })
    }

    fn data(&self, from: MemberId, _: u64, kind: u8, body: &[u8], _: &mut u64) -> Result<(), Unreadable> {
        if body == b"unreadable" {
            return Err(Unreadable("that nobody can read"));
        }
        lock(&self.data).push((from, kind, body.to_vec()));
        Ok(())
    }

    fn name_of(&self, node: NodeId) -> Option<NodeName> {
        (node == NodeId(NAMED) || Some(node) == *lock(&self.named_since)).then(|| NodeName::new("named").unwrap())
    }

    fn data_ended(&self, from: MemberId, link: u64, asked: Option<(u64, Marks)>) {
        let frames = lock(&self.data).len();
        lock(&self.ended).push((from, link, asked.map(|(link, asked)| (link, asked.short)), frames));
    }

    fn link_down(&self, to: MemberId, link: u64, written: Marks) {
        lock(&self.down).push((to, link, written.short));
    }
}

/// Tasks, and how many of them run.
struct Counted {
    tasks: Arc<dyn Tasks>,
    running: Arc<AtomicUsize>,
}

struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Tasks for Counted {
    fn spawn(&self, task: BoxFuture<'static, ()>) -> TaskHandle {
        self.running.fetch_add(1, SeqCst);
        let running = Running(self.running.clone());
        self.tasks.spawn(Box::pin(async move {
            task.await;
            drop(running);
        }))
    }
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        self.tasks.blocking(work)
    }
    fn here(&self) -> bool {
        self.tasks.here()
    }
    fn give_way(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.tasks.give_way(cx)
    }
    fn behind_others(&self, cx: &mut Context<'_>) {
        self.tasks.behind_others(cx);
    }
}

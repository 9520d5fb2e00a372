//! What unit tests of this folder share: a grain written by hand, and a world without sockets and threads, which `tests/miri`
//! can run.

use std::{
    collections::BTreeMap,
    future::{Future, poll_fn},
    hint::spin_loop,
    io,
    path::Path,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use grains_core::{
    AnsweredBy, Answers, Call, CallError, Ctx, DeactivationReason, Error, Exclusive, Grain, Instant, Interface,
    Lifecycle, Method, MethodId, MethodInfo, RawRef, Result, Shared, Turns, Workers,
    codec::{ArgsReader, ArgsWriter, CodecError},
    world::{BoxFuture, Clock, Connection, Disk, DiskFile, Listener, Random, TaskHandle, Tasks, Transport, World},
};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::lock;
use crate::{GrainOptions, Node, NodeConfig};

/// What a turn does after its first letter and before its second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Deed {
    Nothing,
    /// Takes a permit of the gate of its grain.
    Wait,
    Panic,
    WaitAndPanic,
    Leave,
    /// Takes its time on its thread, and notes that it came.
    Note(u32),
}

/// Answers the text as it is; a shared turn.
pub(crate) struct Read(pub(crate) Deed);
/// Adds two letters; an exclusive turn.
pub(crate) struct Write(pub(crate) Deed);

/// What the grains of one key have in common.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) gate: Semaphore,
    pub(crate) begun: AtomicUsize,
    pub(crate) deactivated: AtomicUsize,
    pub(crate) dropped: AtomicUsize,
    /// In the order in which they came.
    pub(crate) noted: Mutex<Vec<u32>>,
}

static SCENES: Mutex<BTreeMap<String, Arc<Scene>>> = Mutex::new(BTreeMap::new());

/// That of this key: one for each test.
pub(crate) fn scene(key: &str) -> Arc<Scene> {
    let new = || {
        let (begun, deactivated, dropped) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Scene { gate: Semaphore::new(0), begun, deactivated, dropped, noted: Mutex::default() })
    };
    lock(&SCENES).entry(key.to_owned()).or_insert_with(new).clone()
}

impl Scene {
    /// How many were activated, deactivated and dropped.
    pub(crate) fn lives(&self) -> (usize, usize, usize) {
        let of = |count: &AtomicUsize| count.load(Ordering::SeqCst);
        (of(&self.begun), of(&self.deactivated), of(&self.dropped))
    }
}

/// A text that is kept on the heap; with workers if there are `MANY`.
pub(crate) struct Desk<const MANY: bool> {
    ctx: Ctx<Self>,
    scene: Arc<Scene>,
    text: String,
}

impl<const MANY: bool> Desk<MANY> {
    async fn does(&self, deed: Deed) -> Result<()> {
        if let Deed::Wait | Deed::WaitAndPanic = deed {
            self.scene.gate.acquire().await.map_err(Error::from)?.forget();
        }
        match deed {
            Deed::Panic | Deed::WaitAndPanic => panic!("as it was told"),
            Deed::Leave => self.ctx.deactivate_on_idle(),
            Deed::Note(number) => {
                (0..200).for_each(|_| spin_loop());
                lock(&self.scene.noted).push(number);
            }
            Deed::Nothing | Deed::Wait => {}
        }
        Ok(())
    }
}

impl<const MANY: bool> Grain for Desk<MANY> {
    type Key = String;
    type Interfaces = (DeskRef<MANY>,);
    const GRAIN_TYPE: &'static str = DeskRef::<MANY>::GRAIN_TYPE;
    const WORKERS: Option<Workers> = if MANY { Some(Workers::at_most(2)) } else { None };
}

impl<const MANY: bool> Lifecycle for Desk<MANY> {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        let scene = scene(&ctx.key());
        scene.begun.fetch_add(1, Ordering::SeqCst);
        Ok(Self { ctx, scene, text: String::new() })
    }

    async fn deactivate(&mut self, _: DeactivationReason) -> Result<()> {
        self.text.push('.');
        self.scene.deactivated.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

impl<const MANY: bool> Drop for Desk<MANY> {
    fn drop(&mut self) {
        // So that the text is touched to the last.
        self.scene.dropped.fetch_add(usize::from(self.text.len() < 1000), Ordering::SeqCst);
    }
}

impl<const MANY: bool> AnsweredBy<Desk<MANY>> for Read {
    async fn answer<'g>(self, desk: &'g Desk<MANY>) -> Result<String>
    where
        Desk<MANY>: 'g,
    {
        let before = desk.text.len();
        desk.does(self.0).await?;
        assert_eq!(desk.text.len(), before, "nobody writes beside it");
        Ok(desk.text.clone())
    }
}

impl<const MANY: bool> AnsweredBy<Desk<MANY>> for Write {
    async fn answer<'g>(self, desk: &'g mut Desk<MANY>) -> Result<String>
    where
        Desk<MANY>: 'g,
    {
        desk.text.push('(');
        desk.does(self.0).await?;
        desk.text.push(')');
        Ok(desk.text.clone())
    }
}

macro_rules! method {
    ($name:ident, $text:literal, $access:ident) => {
        impl Method for $name {
            const INFO: MethodInfo = MethodInfo::new($text, <$access as grains_core::Access>::KIND);
            type Access = $access;
            type Reply = Result<String>;
            fn encode_args(&self, args: &mut ArgsWriter<'_>) -> std::result::Result<(), CodecError> {
                args.len(1)?;
                args.element(&self.0)
            }
            fn decode_args(args: &mut ArgsReader<'_>) -> std::result::Result<Self, CodecError> {
                Ok(Self(args.element("deed")?))
            }
        }
    };
}
method!(Read, "read", Shared);
method!(Write, "write", Exclusive);

#[derive(Clone)]
pub(crate) struct DeskRef<const MANY: bool>(RawRef);

impl<const MANY: bool> DeskRef<MANY> {
    pub(crate) fn read(&self, deed: Deed) -> Call<Read> {
        self.0.call(Read(deed))
    }

    pub(crate) fn write(&self, deed: Deed) -> Call<Write> {
        self.0.call(Write(deed))
    }
}

impl<const MANY: bool> Interface for DeskRef<MANY> {
    const GRAIN_TYPE: &'static str = if MANY { "desks" } else { "desk" };
    const NAME: &'static str = "Desk";
    const METHODS: &'static [MethodInfo] = &[Read::INFO, Write::INFO];
    type Key = String;
    fn from_raw(raw: RawRef) -> Self {
        Self(raw)
    }
    fn as_raw(&self) -> &RawRef {
        &self.0
    }
}

impl<const MANY: bool> Answers<Desk<MANY>> for DeskRef<MANY> {
    fn dispatch<T: Turns<Desk<MANY>>>(method: MethodId, turns: T) -> std::result::Result<T::Output, T> {
        match method {
            _ if method == Read::INFO.id => Ok(turns.turn::<Read>()),
            _ if method == Write::INFO.id => Ok(turns.turn::<Write>()),
            _ => Err(turns),
        }
    }
}

/// A node that hosts both, on this runtime.
pub(crate) async fn node(options: GrainOptions) -> Node {
    // Whoever looks for turns that wait keeps their activations, so that nothing but the turn itself does.
    node_with(options, |config| config.slow_turn = Duration::ZERO).await
}

/// The same with limits of its own.
pub(crate) async fn node_with(options: GrainOptions, change: impl FnOnce(&mut NodeConfig)) -> Node {
    let builder = Node::builder().host_with::<Desk<false>>(options).host::<Desk<true>>().world(world());
    // Whoever looks for blocked threads is a thread that outlives its test.
    builder.configure(|config| config.blocked_turn = Duration::ZERO).configure(change).start().await.unwrap()
}

/// Runs `test` on one thread, in time that passes when nothing else can.
pub(crate) fn on_one_thread(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().unwrap().block_on(test);
}

/// Polls `call` once.
pub(crate) async fn poll_once<F: Future + Unpin>(call: &mut F) -> Poll<F::Output> {
    poll_fn(|cx| Poll::Ready(Pin::new(&mut *call).poll(cx))).await
}

/// Lets tasks run, until none of them can go on.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// The answer, or the failure's name.
pub(crate) async fn said(call: impl Future<Output = std::result::Result<String, CallError<Error>>>) -> String {
    pin!(call).await.unwrap_or_else(|error| format!("{error:?}").split([' ', '(']).next().unwrap().to_owned())
}

/// The world of the tokio runtime this is called in.
fn world() -> World {
    let here = Arc::new(Here { origin: tokio::time::Instant::now(), drawn: AtomicU64::new(1) });
    World { clock: here.clone(), tasks: here.clone(), random: here.clone(), disk: here.clone(), transport: here }
}

struct Here {
    origin: tokio::time::Instant,
    drawn: AtomicU64,
}

impl Clock for Here {
    fn now(&self) -> Instant {
        Instant::from_nanos(u64::try_from(self.origin.elapsed().as_nanos()).unwrap())
    }
    fn wall_ms(&self) -> u64 {
        0
    }
    fn sleep_until(&self, at: Instant) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep_until(self.origin + Duration::from_nanos(at.as_nanos())))
    }
}

impl Tasks for Here {
    fn spawn(&self, task: BoxFuture<'static, ()>) -> TaskHandle {
        let task = tokio::spawn(task).abort_handle();
        TaskHandle::new(move || task.abort())
    }
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        Box::pin(async move { work() })
    }
    fn here(&self) -> bool {
        tokio::runtime::Handle::try_current().is_ok()
    }
    fn give_way(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }
}

impl Random for Here {
    fn next_u64(&self) -> u64 {
        self.drawn.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }
}

impl Disk for Here {
    fn open(&self, _: &Path) -> io::Result<Box<dyn DiskFile>> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn has(&self, _: &Path) -> io::Result<bool> {
        Ok(false)
    }
}

impl Transport for Here {
    fn listen<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
    fn dial<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Connection>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
}

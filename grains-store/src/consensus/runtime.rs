//! openraft's runtime over the seams. Its functions are static, so the world is ambient: set at every poll of a task that
//! was spawned here and of every future in [`in_world`]. openraft runs nowhere else.

use std::{
    future::Future,
    io,
    ops::{Add, AddAssign, Sub, SubAssign},
    pin::{Pin, pin},
    sync::{Arc, Condvar, Mutex, PoisonError},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use grains_core::{
    Instant,
    world::{BoxFuture, World},
};
use openraft_rt::{
    AsyncRuntime, Instant as _, OptionalSend, deterministic_rng::DeterministicRng, task_local::TaskLocalFuture,
};
use openraft_rt_tokio::{TokioMpsc, TokioMutex, TokioOneshot, TokioRuntime, TokioWatch};
use pin_project_lite::pin_project;
use tokio::sync::oneshot;

use grains_core::catch_unwind;

#[cfg(test)]
mod tests;

openraft_rt::task_local! {
    static WORLD: World;
}

/// `future`, with `world` as the one that openraft finds when it is polled or dropped.
pub(super) fn in_world<F: Future>(world: &World, future: F) -> TaskLocalFuture<World, F> {
    WORLD.scope(world.clone(), future)
}

/// A random number of this world.
pub(super) fn random() -> u64 {
    world().random.next_u64()
}

/// A copy, so that nothing is borrowed while the world works: a runtime that has ended drops a new task on the spot.
fn world() -> World {
    match WORLD.try_get() {
        Ok(world) => world,
        Err(_) => panic!("openraft was polled outside of `in_world`"),
    }
}

/// The seams, as openraft wants them. Channels and locks are tokio's, which need no tokio runtime.
#[derive(Debug)]
pub(crate) struct WorldRuntime {
    world: World,
}

impl AsyncRuntime for WorldRuntime {
    type JoinError = JoinError;
    type JoinHandle<T: OptionalSend + 'static> = JoinHandle<T>;
    type Sleep = BoxFuture<'static, ()>;
    type Instant = WorldInstant;
    type TimeoutError = TimedOut;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = Timeout<T>;
    type ThreadLocalRng = Rng;
    type Mpsc = TokioMpsc;
    type Watch = TokioWatch;
    type Oneshot = TokioOneshot;
    type Mutex<T: OptionalSend + 'static> = TokioMutex<T>;

    fn spawn<T>(future: T) -> JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        let world = world();
        let (end, ended) = oneshot::channel();
        let task = async move {
            let result = catch_unwind(future).await.map_err(|panic| JoinError::Panicked(said(panic.as_ref())));
            // An error means that nobody waits for its end.
            drop(end.send(result));
        };
        world.tasks.spawn(Box::pin(in_world(&world, task)));
        JoinHandle(ended)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        Self::sleep_until(WorldInstant::now() + duration)
    }

    fn sleep_until(deadline: WorldInstant) -> Self::Sleep {
        world().clock.sleep_until(deadline.of_the_clock())
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Timeout<F> {
        Self::timeout_at(WorldInstant::now() + duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: WorldInstant, future: F) -> Timeout<F> {
        Timeout { future, sleep: Self::sleep_until(deadline) }
    }

    fn is_panic(error: &JoinError) -> bool {
        matches!(error, JoinError::Panicked(_))
    }

    fn thread_rng() -> Rng {
        seeded(world().random.next_u64())
    }

    /// For openraft's tests of runtimes only, as is [`block_on`](Self::block_on): a node brings its world with it.
    fn new(_threads: usize) -> Self {
        Self { world: world() }
    }

    fn block_on<F: Future<Output = T>, T>(&mut self, future: F) -> T {
        let bell = Arc::new(Bell::default());
        let waker = Waker::from(bell.clone());
        let mut future = pin!(in_world(&self.world, future));
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return output;
            }
            bell.wait();
        }
    }

    fn spawn_blocking<F, T>(work: F) -> impl Future<Output = io::Result<T>> + Send
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let running = world().off_thread(work);
        async move { running.await.ok_or_else(|| io::Error::other("the runtime has ended")) }
    }
}

/// The generator that openraft's own runtime for simulations uses. It gives one out only inside its scope.
type Seeded = DeterministicRng<TokioRuntime>;
type Rng = <Seeded as AsyncRuntime>::ThreadLocalRng;

fn seeded(seed: u64) -> Rng {
    let drawn = pin!(Seeded::scope(seed, async { Seeded::thread_rng() }));
    match drawn.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(rng) => rng,
        Poll::Pending => unreachable!("nothing in it waits"),
    }
}

/// The clock of the node, begun earlier: openraft subtracts from now what may be longer than the node has been up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WorldInstant(u64);

/// How much earlier: a day.
const BIAS_NANOS: u64 = 24 * 60 * 60 * 1_000_000_000;

impl WorldInstant {
    fn of_the_clock(self) -> Instant {
        Instant::from_nanos(self.0.saturating_sub(BIAS_NANOS))
    }
}

impl openraft_rt::Instant for WorldInstant {
    fn now() -> Self {
        Self(world().clock.now().as_nanos().saturating_add(BIAS_NANOS))
    }
}

impl Add<Duration> for WorldInstant {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self((Instant::from_nanos(self.0) + duration).as_nanos())
    }
}

impl AddAssign<Duration> for WorldInstant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for WorldInstant {
    type Output = Self;
    fn sub(self, duration: Duration) -> Self {
        Self((Instant::from_nanos(self.0) - duration).as_nanos())
    }
}

impl SubAssign<Duration> for WorldInstant {
    fn sub_assign(&mut self, duration: Duration) {
        *self = *self - duration;
    }
}

impl Sub for WorldInstant {
    type Output = Duration;
    fn sub(self, earlier: Self) -> Duration {
        Instant::from_nanos(self.0).since(Instant::from_nanos(earlier.0))
    }
}

/// Waits for the end of a task; dropping it leaves the task running.
pub(crate) struct JoinHandle<T>(oneshot::Receiver<Result<T, JoinError>>);

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, JoinError>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|ended| ended.unwrap_or(Err(JoinError::Stopped)))
    }
}

/// A task that came to no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JoinError {
    #[error("panicked: {0}")]
    Panicked(String),
    #[error("stopped before its end")]
    Stopped,
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a message").to_owned()
}

/// The time was over first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("timed out")]
pub(crate) struct TimedOut;

pin_project! {
    /// A future that has to end before a sleep does.
    pub(crate) struct Timeout<F> {
        #[pin]
        future: F,
        sleep: BoxFuture<'static, ()>,
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, TimedOut>;
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let me = self.project();
        if let Poll::Ready(output) = me.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        me.sleep.as_mut().poll(cx).map(|()| Err(TimedOut))
    }
}

/// What `block_on` waits for.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    rings: Condvar,
}

impl Bell {
    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        while !std::mem::take(&mut *rung) {
            rung = self.rings.wait(rung).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.rings.notify_one();
    }
}

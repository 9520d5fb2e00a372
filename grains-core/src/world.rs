//! The seams: everything through which a node touches the world. The runtime implements them over tokio and the
//! operating system, the simulator over virtual time and one seed; nothing else may read a clock, spawn or draw.

use std::{
    fmt,
    future::Future,
    io,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use crate::{reply::Young, time::Instant};

/// A boxed future that can move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// All seams of one node.
#[derive(Clone)]
pub struct World {
    /// What time it is, and waiting for a time.
    pub clock: Arc<dyn Clock>,
    /// Running tasks.
    pub tasks: Arc<dyn Tasks>,
    /// Chance.
    pub random: Arc<dyn Random>,
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// Connections.
    pub transport: Arc<dyn Transport>,
}

impl World {
    /// Runs work that blocks its thread where it holds up no task, from now on, and gives its result; `None` if the runtime
    /// ends before it ran. When the future is dropped, the work goes on and its result is dropped where it ends.
    pub fn off_thread<T: Send + 'static, W: FnOnce() -> T + Send + 'static>(
        &self,
        work: W,
    ) -> impl Future<Output = Option<T>> + Send + use<T, W> {
        let result = Arc::new(Mutex::new(None));
        let place = result.clone();
        let running = self.tasks.blocking(Box::new(move || {
            let done = work();
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
        }));
        async move {
            running.await;
            result.lock().unwrap_or_else(PoisonError::into_inner).take()
        }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

/// The clocks of a node.
pub trait Clock: Send + Sync + 'static {
    /// Now, by a clock that never goes back and does not stop while the machine sleeps.
    fn now(&self) -> Instant;
    /// A moment that has just passed: a few milliseconds before [`now`](Self::now) at most, but for the time a machine has
    /// slept since. It costs a fraction of that, and is for limits of seconds.
    fn recent(&self) -> Instant {
        self.now()
    }
    /// Milliseconds since 1970 by the wall clock, for people to read. It may jump; nothing may depend on it.
    fn wall_ms(&self) -> u64;
    /// Waits until `at` has passed.
    fn sleep_until(&self, at: Instant) -> BoxFuture<'static, ()>;
    /// Has `caller` [grow up](Young::grow_up) in 10 to 100 ms, if it still waits by then, for less than a timer costs. `false` where
    /// there is no such thing: then it was not kept.
    fn wake_later(&self, caller: Arc<dyn Young>) -> bool {
        let _ = caller;
        false
    }
}

/// The tasks of a node.
pub trait Tasks: Send + Sync + 'static {
    /// Runs `task` beside everything else.
    fn spawn(&self, task: BoxFuture<'static, ()>) -> TaskHandle;
    /// Runs work that blocks its thread, such as an fsync, where it holds up no task. It starts at once; dropping the
    /// future leaves it running; a panic in it goes on in whoever awaits. If the runtime ends first, it is dropped unrun.
    fn blocking(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()>;
    /// Whether this thread is polling a task of this node's runtime, so that timers and sockets made now belong to it.
    fn here(&self) -> bool;
    /// Ready, unless this task has run for so long that it should let others run first.
    fn give_way(&self, cx: &mut Context<'_>) -> Poll<()>;
    /// Wakes `cx` once when those tasks have run that can run now, or some dozens of them: for who does better with what
    /// they leave behind than with what there is.
    fn behind_others(&self, cx: &mut Context<'_>) {
        cx.waker().wake_by_ref();
    }
    /// Calls `look` every `period` on a thread of its own until it says `false`: for what has to look when all threads of
    /// tasks are blocked. Worlds of one thread, such as the simulator, have nobody who could, and never call it.
    fn beside(&self, period: Duration, look: Box<dyn FnMut() -> bool + Send>) {
        let _ = (period, look);
    }
}

/// A running task. Dropping the handle leaves it running.
pub struct TaskHandle(Box<dyn Fn() + Send + Sync>);

impl TaskHandle {
    /// A handle that stops its task by calling `abort`.
    pub fn new(abort: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Box::new(abort))
    }

    /// Drops the task's future at its next chance, unless it has ended.
    pub fn abort(&self) {
        (self.0)();
    }
}

impl fmt::Debug for TaskHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TaskHandle")
    }
}

/// Chance. Not for secrets.
pub trait Random: Send + Sync + 'static {
    /// The next number, every bit as likely as not.
    fn next_u64(&self) -> u64;
}

/// Files, by the operations that matter after a crash. Every call may block.
pub trait Disk: Send + Sync + 'static {
    /// Opens the file for reading and writing, made empty (its folder too) if there is none, and keeps every other
    /// process and every other `open` out of it until it is dropped (error kind `WouldBlock` for those).
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Whether there is such a file.
    fn has(&self, path: &Path) -> io::Result<bool>;
}

/// One open file.
pub trait DiskFile: Send + Sync + fmt::Debug + 'static {
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Fills `out` from `offset`; an error if the file ends before.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
    /// Writes `data` at `offset`. It survives a crash only after [`sync`](Self::sync).
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Cuts or extends (with zeros) to `len` bytes.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Returns when all earlier writes will survive a crash. After a failure every later call fails.
    fn sync(&self) -> io::Result<()>;
}

/// Connections: ordered, reliable streams of bytes between two addresses.
pub trait Transport: Send + Sync + 'static {
    /// Listens at `address`, `"127.0.0.1:7101"`; port 0 picks a free one.
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>>;
    /// Connects to `address`.
    fn dial<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Connection>>;
}

/// Takes incoming connections.
pub trait Listener: Send + 'static {
    /// The address it listens at, with the port it got.
    fn local_address(&self) -> io::Result<String>;
    /// The next connection. An error does not end the listener.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connection>>;
}

/// One connection, its two directions apart, so that each can belong to its own task.
pub struct Connection {
    /// The address of the other side.
    pub peer: String,
    /// Bytes from the other side.
    pub reader: Box<dyn ByteReader>,
    /// Bytes to the other side. Dropping it tells the other side that no more will come.
    pub writer: Box<dyn ByteWriter>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// The incoming half of a connection.
pub trait ByteReader: Send + 'static {
    /// Reads some bytes into `out`; 0 when the other side has ended.
    fn poll_read(&mut self, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>>;
}

/// The outgoing half of a connection.
pub trait ByteWriter: Send + 'static {
    /// Writes some of `data` and says how much.
    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>>;
    /// Ready when nothing of what was written is kept back. Writers that keep something back, as those that encrypt it, are
    /// asked to go on by this; for all others there is nothing to do.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let _ = cx;
        Poll::Ready(Ok(()))
    }
    /// Hands everything written to the other side and says that no more will come.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

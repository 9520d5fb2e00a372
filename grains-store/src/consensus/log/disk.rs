//! The one writer of a log's files. Changes wait in a queue; the writer takes all of them, commits them together and then
//! says so. After one failure nothing is written any more: what a failed fsync has left behind, only the file can tell.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use grains_core::world::{BoxFuture, World};
use openraft::storage::IOFlushed;
use tokio::sync::oneshot;

use super::{
    super::types::Types,
    files::Files,
    rows::{Change, Fact, Value},
};

/// How long a committed index may be known and not written: each write of it holds up the entries behind it for an fsync. A node
/// that starts again applies so much less until it hears of a leader.
const COMMITTED_LINGER: Duration = Duration::from_millis(250);

/// Who is told when a change is durable, or never will be.
pub(super) enum Done {
    Nobody,
    Flushed(IOFlushed<Types>),
    Waiter(oneshot::Sender<io::Result<()>>),
}

impl Done {
    fn tell(self, result: io::Result<()>) {
        match self {
            Self::Nobody => {}
            Self::Flushed(flushed) => flushed.io_completed(result),
            // An error means that the waiter was dropped; what it waited for is so all the same.
            Self::Waiter(waiter) => drop(waiter.send(result)),
        }
    }
}

/// Open files with their queue.
pub(super) struct Disk {
    world: World,
    queue: Mutex<Queue>,
    access: Mutex<Access>,
}

#[derive(Default)]
struct Queue {
    /// Not bounded by itself: openraft waits for its votes, and has no more entries under way than its channels hold.
    waiting: Vec<(Change, Done)>,
    /// The committed index, if it is newer than the one in the file. Somebody will see to it that it does not stay here.
    committed: Option<Vec<u8>>,
    writer: Writer,
}

#[derive(Default)]
enum Writer {
    #[default]
    Idle,
    Running,
    /// Nothing will be written any more, and why.
    Over(String),
}

enum Access {
    Open(Files),
    Over,
}

impl Disk {
    pub(super) fn new(world: &World, files: Files) -> Self {
        Self { world: world.clone(), queue: Mutex::default(), access: Mutex::new(Access::Open(files)) }
    }

    /// Writes `change` after all earlier ones.
    pub(super) fn write(self: &Arc<Self>, change: Change, done: Done) {
        self.write_with(|_| change, done);
    }

    fn write_with(self: &Arc<Self>, change: impl FnOnce(&mut Queue) -> Change, done: Done) {
        // A block of its own, or the lock would be held while somebody is told or the writer is started.
        let pushed = {
            let mut queue = self.queue();
            let change = change(&mut queue);
            queue.push(change, done)
        };
        match pushed {
            Pushed::WriterRuns => {}
            Pushed::WriterNeeded => self.start_writer(),
            Pushed::Refused(done, why) => done.tell(Err(failed(&why))),
        }
    }

    /// As [`write`](Self::write), and waits for it.
    pub(super) fn written(self: &Arc<Self>, change: Change) -> BoxFuture<'static, io::Result<()>> {
        self.written_with(|_| change)
    }

    fn written_with(self: &Arc<Self>, change: impl FnOnce(&mut Queue) -> Change) -> BoxFuture<'static, io::Result<()>> {
        let (done, is_done) = oneshot::channel();
        self.write_with(change, Done::Waiter(done));
        Box::pin(async move { is_done.await.unwrap_or_else(|_| Err(failed("the writer has ended"))) })
    }

    /// Remembers the committed index and writes it a little later.
    pub(super) fn write_soon(self: &Arc<Self>, committed: Vec<u8>) -> io::Result<()> {
        {
            let mut queue = self.queue();
            if let Writer::Over(why) = &queue.writer {
                return Err(failed(why));
            }
            if queue.committed.replace(committed).is_some() {
                return Ok(());
            }
        }
        let disk = self.clone();
        self.world.tasks.spawn(Box::pin(async move {
            let clock = &disk.world.clock;
            clock.sleep_until(clock.now() + COMMITTED_LINGER).await;
            disk.write_with(Queue::committed, Done::Nobody);
        }));
        Ok(())
    }

    /// Writes what waits, then closes the file.
    pub(super) async fn close(self: &Arc<Self>) {
        let _ = self.written_with(Queue::committed).await;
        self.queue().refuse("the log was closed");
        let disk = self.clone();
        // The lock waits for the transaction under way.
        self.world.tasks.blocking(Box::new(move || disk.end_access())).await;
    }

    fn start_writer(self: &Arc<Self>) {
        let writing = Writing { disk: self.clone(), state: State::Begun };
        // It runs whether it is waited for or not.
        drop(self.world.tasks.blocking(Box::new(move || writing.run())));
    }

    fn write_batch(&self, batch: Vec<(Change, Done)>) {
        let (changes, dones): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let result = self.transact(changes);
        if let Err(why) = &result {
            self.refuse_all(&format!("a write failed, so this node must stop: {why}"));
        }
        for done in dones {
            done.tell(result.clone().map_err(|why| failed(&why)));
        }
    }

    fn transact(&self, changes: Vec<Change>) -> Result<(), String> {
        let mut access = self.access();
        let Access::Open(files) = &mut *access else { return Err("the log was closed".into()) };
        // redb panics on some damaged pages.
        let write = || files.write(changes);
        let result = match catch_unwind(AssertUnwindSafe(write)) {
            Ok(result) => result.map_err(|error| error.to_string()),
            Err(_) => Err("its pages contradict each other".into()),
        };
        if result.is_err() {
            *access = Access::Over;
        }
        result
    }

    fn refuse_all(&self, why: &str) {
        let waiting = self.queue().refuse(why);
        for (_, done) in waiting {
            done.tell(Err(failed(why)));
        }
    }

    fn end_access(&self) {
        *self.access() = Access::Over;
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn access(&self) -> MutexGuard<'_, Access> {
        self.access.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What to do after a push.
enum Pushed {
    WriterRuns,
    WriterNeeded,
    Refused(Done, String),
}

impl Queue {
    /// The committed index, if it is newer than the one in the file. It goes after all entries that it speaks of.
    fn committed(&mut self) -> Change {
        Change::Facts(self.committed.take().into_iter().map(|committed| (Fact::Committed, Value(committed))).collect())
    }

    fn push(&mut self, change: Change, done: Done) -> Pushed {
        if let Writer::Over(why) = &self.writer {
            return Pushed::Refused(done, why.clone());
        }
        self.waiting.push((change, done));
        match std::mem::replace(&mut self.writer, Writer::Running) {
            Writer::Running => Pushed::WriterRuns,
            _ => Pushed::WriterNeeded,
        }
    }

    /// Everything that waits; `None` ends the writer.
    fn next_batch(&mut self) -> Option<Vec<(Change, Done)>> {
        let batch = std::mem::take(&mut self.waiting);
        if batch.is_empty() {
            if let Writer::Running = self.writer {
                self.writer = Writer::Idle;
            }
            return None;
        }
        Some(batch)
    }

    /// Refuses everything from now on, for the first reason given, and gives what waits.
    fn refuse(&mut self, why: &str) -> Vec<(Change, Done)> {
        if !matches!(self.writer, Writer::Over(_)) {
            self.writer = Writer::Over(why.to_owned());
        }
        std::mem::take(&mut self.waiting)
    }
}

/// The right to write, held by one thread at a time. If it is dropped on the way, those who wait are told.
struct Writing {
    disk: Arc<Disk>,
    state: State,
}

enum State {
    Begun,
    Ended,
}

impl Writing {
    fn run(mut self) {
        loop {
            // A binding of its own, or the lock would be held while it is written.
            let batch = self.disk.queue().next_batch();
            let Some(batch) = batch else { break };
            self.disk.write_batch(batch);
        }
        self.state = State::Ended;
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if let State::Begun = self.state {
            self.disk.refuse_all("the writer was stopped");
        }
    }
}

fn failed(why: &str) -> io::Error {
    io::Error::other(why.to_owned())
}

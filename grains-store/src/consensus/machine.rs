//! What a group agrees on, as openraft drives it: commands are applied in the order of the log, then those who asked are
//! answered. A small state lives in memory (`memory`), a large one on disk (`disk`). Both behind a pointer and in one type,
//! so that all of openraft is compiled once, here.

mod disk;
mod memory;

use std::{future::poll_fn, io, pin::Pin, sync::Arc};

use futures_core::Stream;
use grains_core::world::World;
use openraft::{
    OptionalSend, RaftSnapshotBuilder,
    alias::SnapshotOf,
    storage::{EntryResponder, RaftStateMachine, Snapshot},
};

use self::{
    disk::{OnDisk, Pages, Shelf},
    memory::InMemory,
};
use super::{
    log::Log,
    snapshot::PART_BYTES,
    types::{LogId, Membership, SnapshotMeta, Types},
};

/// A state in memory: the same commands make the same state on every node.
pub trait Machine: Send + 'static {
    /// Does `command`, the entry `index` of the log, proposed by the leader of `term`, and says what it came to. It must
    /// not panic: all voters would, again and again. An error stops this node: it cannot read what the others have agreed on.
    fn apply(&mut self, index: u64, term: u64, command: &[u8]) -> io::Result<Vec<u8>>;

    /// Everything up to the entry `index` of `term` is applied: now it may be seen.
    fn publish(&mut self, index: u64, term: u64);

    /// The state of this moment, encoded when it is asked for, where that holds nobody up.
    fn picture(&self) -> Picture;

    /// Whether [`restore`](Self::restore) would take this picture.
    fn can_read(&self, picture: &[u8]) -> io::Result<()>;

    /// Takes a picture, made after the entry `index`, for the state. All or nothing.
    fn restore(&mut self, index: u64, picture: &[u8]) -> io::Result<()>;
}

/// See [`Machine::picture`].
pub type Picture = Box<dyn FnOnce() -> io::Result<Vec<u8>> + Send + Sync>;

/// A state on disk: the same commands make the same state on every node. With it, it keeps a position, which says how far in
/// the log it is. Everything here may block, and each call happens whole or not at all.
pub trait DiskState: Send + Sync + 'static {
    /// The position it has; `None` for a state to which nothing was applied.
    fn position(&self) -> io::Result<Option<Vec<u8>>>;

    /// Applies commands in their order, each with its index in the log, keeps the position, and says what each came to. A
    /// crash may undo it, with everything applied later. It must not panic, and an error stops this node.
    fn apply(&self, commands: &[(u64, Arc<[u8]>)], position: &[u8]) -> io::Result<Vec<Vec<u8>>>;

    /// The same if it takes no longer than a task may without giving way, and blocks nowhere; otherwise `None`, and nothing was
    /// done.
    fn apply_now(&self, commands: &[(u64, Arc<[u8]>)], position: &[u8]) -> Option<io::Result<Vec<Vec<u8>>>>;

    /// Returns when everything applied before would survive a crash.
    fn persist(&self) -> io::Result<()>;

    /// The state as it is now, to be read in parts, and its position.
    fn read(&self) -> io::Result<Read>;

    /// Begins to take in another state beside this one, and gives its number. One that was under way is forgotten.
    fn begin(&self) -> io::Result<u64>;

    /// Takes in the next part of the other state; an error if that was forgotten.
    fn add(&self, incoming: u64, part: &[u8]) -> io::Result<()>;

    /// Whether the other state, which is whole now, is one that this version can read.
    fn can_take(&self, incoming: u64) -> io::Result<()>;

    /// Puts the other state in the place of this one, with its position, durably.
    fn install(&self, incoming: u64, position: &[u8]) -> io::Result<()>;

    /// Lets go of the file.
    fn close(&self);
}

/// A state as it is read, and its position.
pub type Read = (Box<dyn Reading>, Option<Vec<u8>>);

/// A state at one moment, whatever happens to it later.
pub trait Reading: Send + Sync {
    /// The next part, of about `bytes`; `None` after the last.
    fn part(&mut self, bytes: usize) -> io::Result<Option<Vec<u8>>>;
}

/// What a group agrees on.
pub enum State {
    /// In memory. Snapshots of it are gathered in memory, too.
    Memory(Box<dyn Machine>),
    /// On disk.
    Disk(Arc<dyn DiskState>),
}

/// Entries that are to be applied, and who is to be told.
type Batch = Vec<EntryResponder<Types>>;

/// A state and how far it has come. Shared by openraft's task, which drives it, and what takes in snapshots.
#[derive(Clone)]
pub(super) enum Driven {
    Memory(InMemory),
    Disk(OnDisk),
}

impl Driven {
    pub(super) async fn new(world: &World, log: Log, state: State) -> io::Result<Self> {
        match state {
            State::Memory(machine) => Ok(Self::Memory(InMemory::new(log, machine))),
            State::Disk(state) => Ok(Self::Disk(OnDisk::new(Arc::new(Shelf::new(world, state))).await?)),
        }
    }

    /// Returns when everything applied before would survive a crash, where the log is not kept for that.
    pub(super) async fn persist(&self) -> io::Result<()> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Disk(state) => state.shelf().persist().await,
        }
    }

    /// Waits until so much was applied that a snapshot should be made, beyond what openraft's policy says.
    pub(super) async fn grown(&self) {
        match self {
            Self::Memory(_) => std::future::pending().await,
            Self::Disk(state) => state.shelf().grown().await,
        }
    }

    /// Lets go of the file.
    pub(super) async fn close(&self) {
        if let Self::Disk(state) = self {
            state.shelf().close().await;
        }
    }

    /// Begins to take in a snapshot.
    pub(super) fn incoming(&self) -> Incoming {
        match self {
            Self::Memory(state) => Incoming::Memory(state.clone(), Vec::new()),
            Self::Disk(state) => Incoming::Disk(state.shelf().clone(), None),
        }
    }
}

/// A snapshot: one that is sent, or one that has come in.
pub(super) enum Image {
    Bytes(Vec<u8>),
    Pages(Pages),
}

impl Image {
    /// The next part to be sent, of about [`PART_BYTES`]; `None` after the last.
    pub(super) async fn part(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self {
            Self::Bytes(rest) => {
                let behind = rest.split_off(rest.len().min(PART_BYTES));
                let part = std::mem::replace(rest, behind);
                Ok((!part.is_empty()).then_some(part))
            }
            Self::Pages(pages) => pages.part().await,
        }
    }
}

/// The largest snapshot that is gathered in memory. A thousand members and as many partitions take less than a megabyte.
const GATHERED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A snapshot that comes in. Nothing of the state changes before it is installed.
pub(super) enum Incoming {
    Memory(InMemory, Vec<u8>),
    Disk(Arc<Shelf>, Option<u64>),
}

impl Incoming {
    /// Takes the next part.
    pub(super) async fn add(&mut self, part: &[u8]) -> io::Result<()> {
        match self {
            Self::Memory(_, gathered) => {
                if gathered.len() + part.len() > GATHERED_BYTES_MAX {
                    return Err(io::Error::other(format!("a snapshot of more than {GATHERED_BYTES_MAX} bytes")));
                }
                gathered.extend(part);
                Ok(())
            }
            Self::Disk(shelf, number) => {
                let begun = match *number {
                    Some(begun) => begun,
                    None => *number.insert(shelf.off_thread(|state| state.begin()).await?),
                };
                let part = part.to_vec();
                shelf.off_thread(move |state| state.add(begun, &part)).await
            }
        }
    }

    /// That was the last part. openraft would stop this node for a snapshot it cannot read; that of another version is no
    /// reason to.
    pub(super) async fn whole(self) -> io::Result<Image> {
        match self {
            Self::Memory(state, gathered) => state.can_read(&gathered).map(|()| Image::Bytes(gathered)),
            Self::Disk(shelf, number) => {
                let number = match number {
                    Some(number) => number,
                    None => shelf.off_thread(|state| state.begin()).await?,
                };
                shelf.off_thread(move |state| state.can_take(number)).await?;
                Ok(Image::Pages(Pages::Came(number)))
            }
        }
    }
}

impl RaftStateMachine<Types> for Driven {
    type SnapshotData = Image;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), io::Error> {
        Ok(match self {
            Self::Memory(state) => state.position(),
            Self::Disk(state) => state.position(),
        })
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        // From memory, and no more than the log holds.
        let mut batch = Batch::new();
        while let Some(next) = poll_fn(|cx| Pin::new(&mut entries).poll_next(cx)).await {
            batch.push(next?);
        }
        match self {
            Self::Memory(state) => state.apply(batch),
            Self::Disk(state) => state.apply(batch).await,
        }
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        match self {
            Self::Memory(state) => Builder::Memory(state.builder()),
            Self::Disk(state) => Builder::Disk(state.shelf().clone()),
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, image: Image) -> Result<(), io::Error> {
        match (self, image) {
            (Self::Memory(state), Image::Bytes(bytes)) => state.install(meta, bytes).await,
            (Self::Disk(state), Image::Pages(pages)) => state.install(meta, pages).await,
            _ => Err(io::Error::other("a snapshot of another kind of state")),
        }
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<Types, Image>>, io::Error> {
        match self {
            Self::Memory(state) => Ok(state.snapshot().map(|(meta, bytes)| snapshot(meta, Image::Bytes(bytes)))),
            Self::Disk(state) => {
                let pages = state.snapshot().await?;
                Ok(pages.map(|(meta, pages)| snapshot(meta, Image::Pages(pages))))
            }
        }
    }
}

fn snapshot(meta: SnapshotMeta, image: Image) -> SnapshotOf<Types, Image> {
    Snapshot { meta, snapshot: image }
}

/// Makes a snapshot.
pub(super) enum Builder {
    Memory(memory::Builder),
    Disk(Arc<Shelf>),
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Image;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Types, Image>, io::Error> {
        match self {
            Self::Memory(builder) => builder.build().await.map(|(meta, bytes)| snapshot(meta, Image::Bytes(bytes))),
            Self::Disk(shelf) => shelf.picture().await.map(|(meta, pages)| snapshot(meta, Image::Pages(pages))),
        }
    }
}

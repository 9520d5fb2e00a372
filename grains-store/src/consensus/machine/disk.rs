//! A large state on disk: its file is the snapshot. Commands are applied in transactions that are not durable by themselves,
//! because the log is; now and then the state is made durable, and the log before it goes.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use grains_core::{codec, world::World};
use openraft::EntryPayload;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::Notify;

use super::{
    super::{
        snapshot::PART_BYTES,
        types::{LogId, Membership, SnapshotMeta},
    },
    Batch, DiskState, Read, Reading,
};

/// The state is made durable after so many bytes of commands, or so many entries: until then the log keeps them in memory,
/// and a restart applies them again.
const PERSIST_BYTES: usize = 8 * 1024 * 1024;
const PERSIST_ENTRIES: usize = 4096;

/// The state of one node and what was applied to it since it was last durable.
pub(in crate::consensus) struct Shelf {
    world: World,
    state: Arc<dyn DiskState>,
    bytes: AtomicUsize,
    entries: AtomicUsize,
    /// So much was applied that the state should be made durable.
    grown: Notify,
}

impl Shelf {
    pub(super) fn new(world: &World, state: Arc<dyn DiskState>) -> Self {
        let (bytes, entries) = Default::default();
        Self { world: world.clone(), state, bytes, entries, grown: Notify::new() }
    }

    /// Does `work` where it holds up nobody.
    pub(super) async fn off_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn DiskState) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let state = self.state.clone();
        let worked = self.world.off_thread(move || work(state.as_ref())).await;
        worked.unwrap_or_else(|| Err(io::Error::other("the runtime has ended")))
    }

    pub(super) async fn grown(&self) {
        self.grown.notified().await;
    }

    pub(super) async fn close(&self) {
        // An error means that the runtime has ended, and with it all access.
        let _ = self
            .off_thread(|state| {
                state.close();
                Ok(())
            })
            .await;
    }

    fn applied(&self, entries: usize, bytes: usize) {
        let entries = self.entries.fetch_add(entries, Ordering::Relaxed) + entries;
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if entries >= PERSIST_ENTRIES || bytes >= PERSIST_BYTES {
            self.grown.notify_one();
        }
    }

    fn persisted(&self) {
        self.entries.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
    }

    pub(super) async fn persist(&self) -> io::Result<()> {
        self.persisted();
        self.off_thread(DiskState::persist).await
    }

    /// Makes the state durable, and gives what is: then the log before it may go.
    pub(super) async fn picture(self: &Arc<Self>) -> io::Result<(SnapshotMeta, Pages)> {
        self.persisted();
        let read = self.off_thread(|state| {
            // In this order: what is read is no newer than what is durable.
            let read = state.read()?;
            state.persist()?;
            Ok(read)
        });
        self.pages(read.await?)
    }

    /// The state as it is now, to be sent. It need not be durable here, and is asked for again and again while a voter
    /// that is far behind cannot be reached.
    async fn view(self: &Arc<Self>) -> io::Result<(SnapshotMeta, Pages)> {
        self.pages(self.off_thread(DiskState::read).await?)
    }

    fn pages(self: &Arc<Self>, (reading, position): Read) -> io::Result<(SnapshotMeta, Pages)> {
        let (last_log_id, last_membership) = position.map_or(Ok(Default::default()), |bytes| decoded(&bytes))?;
        Ok((SnapshotMeta { last_log_id, last_membership }, Pages::Reading(self.clone(), Some(reading))))
    }
}

/// The state and how far it has come. Clones share both.
#[derive(Clone)]
pub(in crate::consensus) struct OnDisk {
    shelf: Arc<Shelf>,
    position: Arc<Mutex<(Option<LogId>, Membership)>>,
}

impl OnDisk {
    /// Over a state, wherever in the log it is.
    pub(super) async fn new(shelf: Arc<Shelf>) -> io::Result<Self> {
        let position = shelf.off_thread(|state| state.position()).await?;
        let position = position.map_or(Ok(Default::default()), |position| decoded(&position))?;
        Ok(Self { shelf, position: Arc::new(Mutex::new(position)) })
    }

    pub(super) fn shelf(&self) -> &Arc<Shelf> {
        &self.shelf
    }

    pub(super) fn position(&self) -> (Option<LogId>, Membership) {
        self.position.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn move_to(&self, position: (Option<LogId>, Membership)) {
        *self.position.lock().unwrap_or_else(PoisonError::into_inner) = position;
    }

    pub(super) async fn apply(&self, batch: Batch) -> io::Result<()> {
        let (mut commands, mut waiting) = (Vec::new(), Vec::new());
        let (entries, mut bytes) = (batch.len(), 0);
        let (mut last, mut membership) = self.position();
        for (entry, responder) in batch {
            let mut place = None;
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(proposal) => {
                    bytes += proposal.0.len();
                    place = Some(commands.len());
                    commands.push((entry.log_id.index, proposal.0));
                }
                EntryPayload::Membership(new) => membership = Membership::new(Some(entry.log_id), new),
            }
            last = Some(entry.log_id);
            waiting.extend(responder.map(|responder| (responder, place)));
        }
        let position = encoded(&(&last, &membership))?;
        let wanted = commands.len();
        let mut outcomes = match self.shelf.state.apply_now(&commands, &position) {
            Some(applied) => applied?,
            None => self.shelf.off_thread(move |state| state.apply(&commands, &position)).await?,
        };
        if outcomes.len() != wanted {
            return Err(io::Error::other(format!("{wanted} commands came to {} outcomes", outcomes.len())));
        }
        self.move_to((last, membership));
        self.shelf.applied(entries, bytes);
        for (responder, place) in waiting {
            responder.send(place.map(|place| std::mem::take(&mut outcomes[place])));
        }
        Ok(())
    }

    pub(super) async fn install(&self, meta: &SnapshotMeta, pages: Pages) -> io::Result<()> {
        // At the start openraft installs what it has just read from here.
        let Pages::Came(number) = pages else { return Ok(()) };
        let position = (meta.last_log_id, meta.last_membership.clone());
        let row = encoded(&position)?;
        self.shelf.off_thread(move |state| state.install(number, &row)).await?;
        self.move_to(position);
        self.shelf.persisted();
        Ok(())
    }

    pub(super) async fn snapshot(&self) -> io::Result<Option<(SnapshotMeta, Pages)>> {
        match self.position() {
            (Some(_), _) => self.shelf.view().await.map(Some),
            (None, _) => Ok(None),
        }
    }
}

/// A state that is sent, or one that has come in.
pub(in crate::consensus) enum Pages {
    /// To be sent. None while a part is read.
    Reading(Arc<Shelf>, Option<Box<dyn Reading>>),
    /// Has come in under this number.
    Came(u64),
}

impl Pages {
    pub(super) async fn part(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Self::Reading(shelf, place) = self else { return Err(io::Error::other("it came from another node")) };
        let Some(mut reading) = place.take() else { return Err(io::Error::other("it was cut off")) };
        let (reading, part) = shelf.off_thread(move |_| reading.part(PART_BYTES).map(|part| (reading, part))).await?;
        *place = Some(reading);
        Ok(part)
    }
}

fn encoded<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    codec::encode(value).map_err(io::Error::other)
}

fn decoded<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    codec::decode(bytes).map_err(io::Error::other)
}

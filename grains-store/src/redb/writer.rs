//! The one writer: takes what waits, checks and applies it in one transaction, answers. Runs on a thread that may block.

use std::sync::Arc;

use grains_core::{
    Version,
    store::{CommitError, LoadError, WriteSet},
};
use redb::{Database, Durability, Table, TableError, WriteTransaction};

use super::{
    Shared, answer_not_stored,
    layout::{self, EPOCH, GRAINS, META, STATES},
    queue::{Waiting, not_stored},
    read,
    rules::{self, GrainRow, OneWrite, Refused, Rows},
};

/// A transaction that did not end well.
#[derive(Debug)]
pub(super) enum Failed {
    /// The file is as it was, and may be written again if redb lets us.
    Untouched(String),
    /// The file has the whole transaction or nothing of it.
    InDoubt(String),
}

impl Failed {
    fn untouched(error: impl Into<redb::Error>) -> Self {
        Self::Untouched(error.into().to_string())
    }
}

/// The right to write, held by one task at a time. If it is dropped on the way, those who wait are answered.
pub(super) struct Writing {
    shared: Arc<Shared>,
    state: State,
}

enum State {
    Begun,
    Ended,
}

impl Writing {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, state: State::Begun }
    }

    /// Writes until nothing waits. Each batch is a hop to another thread of its own: while it comes back, those just
    /// answered can commit again, so that all of them share the next batch instead of taking turns by halves.
    pub(super) async fn run(mut self) {
        loop {
            let batch = self.shared.queue().next_batch();
            let Some(batch) = batch else { break };
            let shared = self.shared.clone();
            self.shared.world.tasks.blocking(Box::new(move || write_batch(&shared, batch))).await;
        }
        self.state = State::Ended;
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        if let State::Begun = self.state {
            let waiting = self.shared.queue().writer_ended();
            answer_not_stored(waiting, "the runtime has ended");
        }
    }
}

fn write_batch(shared: &Shared, batch: Vec<Waiting>) {
    let answers = match shared.write(|database| transact(database, |rows| rows.apply_all(&batch))) {
        Ok(answers) => answers,
        // Also those that were refused: what they lost to was in the same transaction.
        Err(failed) => vec![Err(commit_error(&failed)); batch.len()],
    };
    for (one, answer) in batch.into_iter().zip(answers) {
        one.answer(answer);
    }
}

fn commit_error(failed: &Failed) -> CommitError {
    match failed {
        Failed::Untouched(why) => not_stored(why),
        Failed::InDoubt(why) => CommitError::Unknown { why: why.clone() },
    }
}

/// Gives the next epoch, durably.
pub(super) fn next_epoch(database: &Database) -> Result<u64, Failed> {
    transact(database, |rows| rows.next_epoch())
}

/// Says that others have all that is here, durably.
#[cfg(feature = "consensus")]
pub(super) fn moved(database: &Database) -> Result<(), Failed> {
    transact(database, |rows| rows.moved())
}

/// Runs `work` in a transaction and commits it if it changed anything.
pub(super) fn transact<T>(
    database: &Database,
    work: impl FnOnce(&mut Tables<'_>) -> Result<T, redb::Error>,
) -> Result<T, Failed> {
    let mut transaction = database.begin_write().map_err(Failed::untouched)?;
    transaction.set_durability(Durability::Immediate).map_err(Failed::untouched)?;
    // Costs a second fsync per transaction; without it a crash makes the next start read the whole file.
    transaction.set_quick_repair(true);
    let mut rows = Tables::open(&transaction).map_err(Failed::untouched)?;
    let result = work(&mut rows).map_err(Failed::untouched)?;
    let changed = rows.changed;
    drop(rows);
    if !changed {
        return Ok(result);
    }
    match transaction.commit() {
        Ok(()) => Ok(result),
        Err(redb::CommitError::TransactionPoisoned) => Err(Failed::untouched(redb::CommitError::TransactionPoisoned)),
        Err(error) => Err(Failed::InDoubt(error.to_string())),
    }
}

/// The tables of a transaction.
pub(super) struct Tables<'t> {
    meta: Table<'t, &'static [u8], u64>,
    grains: Table<'t, &'static [u8], (u64, u64, u64)>,
    states: Table<'t, &'static [u8], &'static [u8]>,
    changed: bool,
}

impl<'t> Tables<'t> {
    fn open(transaction: &'t WriteTransaction) -> Result<Self, TableError> {
        Ok(Self {
            meta: transaction.open_table(META)?,
            grains: transaction.open_table(GRAINS)?,
            states: transaction.open_table(STATES)?,
            changed: false,
        })
    }

    /// Writes the format into an empty file.
    pub(super) fn found(&mut self) -> Result<(), redb::Error> {
        self.meta.insert(layout::FORMAT, layout::FORMAT_KNOWN)?;
        self.changed = true;
        Ok(())
    }

    #[cfg(feature = "consensus")]
    fn moved(&mut self) -> Result<(), redb::Error> {
        self.meta.insert(layout::MOVED, 1)?;
        self.changed = true;
        Ok(())
    }

    fn next_epoch(&mut self) -> Result<u64, redb::Error> {
        let next = layout::epoch_after(read::last_epoch(&self.meta)?)?;
        self.meta.insert(EPOCH, next)?;
        self.changed = true;
        Ok(next)
    }

    /// Applies the sets in order, each seeing those before it. An error means that none of them may be kept.
    fn apply_all(&mut self, batch: &[Waiting]) -> Result<Vec<Result<(), CommitError>>, redb::Error> {
        let refused = |refused| match refused {
            Refused::Rules(why) => Ok(Err(why)),
            // The others are as good as ever.
            Refused::Damaged(why) => Ok(Err(not_stored(&why))),
            Refused::File(error) => Err(error),
        };
        batch.iter().map(|waiting| self.apply(&waiting.set).map(Ok).or_else(refused)).collect()
    }

    fn apply(&mut self, set: &WriteSet) -> Result<(), Refused> {
        let grain_key = layout::grain_key(set.grain.grain_type(), set.grain.key());
        rules::apply(self, &grain_key, set.token, set.writes.iter().map(OneWrite::from))
    }
}

impl Rows for Tables<'_> {
    fn grain(&mut self, grain_key: &[u8]) -> Result<Option<GrainRow>, redb::Error> {
        read::grain(&self.grains, grain_key)
    }

    fn state_head(&mut self, grain_key: &[u8], name: &str) -> Result<Result<(Version, bool), LoadError>, redb::Error> {
        read::state_head(&self.states, grain_key, name)
    }

    fn put_grain(&mut self, grain_key: &[u8], grain: GrainRow) -> Result<(), redb::Error> {
        self.changed = true;
        self.grains.insert(grain_key, layout::grain_row(grain))?;
        Ok(())
    }

    fn put_state(
        &mut self,
        grain_key: &[u8],
        name: &str,
        version: Version,
        value: Option<&[u8]>,
    ) -> Result<(), redb::Error> {
        self.changed = true;
        let (row, len) = (layout::state_key(grain_key, name), layout::state_row_len(value));
        let mut place = self.states.insert_reserve(row.as_slice(), len)?;
        layout::fill_state_row(place.as_mut(), version, value);
        Ok(())
    }
}

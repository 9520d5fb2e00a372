//! Both files of a log: the journal, where a batch becomes durable, and redb's, to which everything goes from there.

use std::mem;

use grains_core::world::World;
use redb::Database;

use super::{
    journal::{Appended, Journal, Journaled},
    rows::{self, Change},
};

/// The open files.
pub(super) struct Files {
    world: World,
    /// Before the other, whose lock keeps others out: it is let go of first.
    journal: Journal,
    database: Database,
    /// What only the journal has: not more than its file holds, but while that is moved, together with what does not fit.
    journaled: Vec<Change>,
}

impl Files {
    /// With nothing in the journal.
    pub(super) fn new(world: &World, database: Database, journal: Journal) -> Self {
        Self { world: world.clone(), database, journal, journaled: Vec::new() }
    }

    /// Applies the changes in their order, all or none, and returns when they would survive a power cut.
    pub(super) fn write(&mut self, changes: Vec<Change>) -> Result<(), redb::Error> {
        let appended = self.journal.append(&changes)?;
        self.journaled.extend(changes);
        match appended {
            Appended::Durable => Ok(()),
            Appended::NoRoom => empty(&mut self.journal, &mem::take(&mut self.journaled), &self.database, &self.world),
        }
    }
}

/// Moves the changes of a journal to redb, so that it can begin again.
pub(super) fn empty(
    journal: &mut Journal,
    changes: &[Change],
    database: &Database,
    world: &World,
) -> Result<(), redb::Error> {
    let next = Journaled { generation: world.random.next_u64(), ..journal.journaled() };
    rows::write(database, changes, next)?;
    journal.start_over(next.generation);
    Ok(())
}

//! What was applied last, in memory, before it goes to the file. A transaction of redb costs more than the rows of a commit, and
//! a state that is written again and again goes to the file once. The log has it all until then.
//!
//! Invariants:
//! 1. A row that is here is at least as new as that of the file: whoever reads looks here first and into the file after that.
//! 2. Rows go to the file all together and with the position, so the file is always a state that the log has led to.
//! 3. After an error half of a batch may be here. Nothing is read or written any more then, and the node stops.

use std::{collections::BTreeMap, sync::Arc};

use grains_core::{
    Version, codec,
    store::{CommitError, LoadError, Stored},
    switches::{Mechanism, on},
};
use litemap::LiteMap;
use redb::{Database, ReadOnlyTable, ReadableDatabase, WriteTransaction};

use super::{
    POSITION, Work,
    clients::{Clients, Heard},
    corrupted,
};
use crate::{
    redb::{
        layout::{self, EPOCH, GRAINS, META, STATES},
        read,
        rules::{self, GrainRow, Refused, Rows},
    },
    replicated::words::{Command, Outcome, Set},
};

/// What a grain and a state take beside their key, name and value.
const ENTRY_BYTES: usize = 128;

pub(super) struct Recent {
    grains: BTreeMap<Vec<u8>, Grain>,
    /// Once they were asked for.
    clients: Option<Clients>,
    /// The last epoch, once it was asked for, and whether the file has it.
    epoch: Option<(u64, Lies)>,
    /// How far in the log this is, unless the file is as far.
    position: Option<Vec<u8>>,
    bytes: usize,
    bytes_max: usize,
    /// Why nothing is read or written any more.
    over: Option<&'static str>,
}

/// Where the newest of something lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lies {
    InFile,
    Here,
}

struct Grain {
    row: Option<GrainRow>,
    lies: Lies,
    /// Some of its states, by name.
    states: LiteMap<Box<str>, State>,
}

struct State {
    /// Its version, and whether it has a value.
    head: (Version, bool),
    /// Its row, unless the file has it.
    row: Option<Vec<u8>>,
}

impl Recent {
    /// Nothing, of at most about `bytes_max` after each batch.
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { grains: BTreeMap::new(), clients: None, epoch: None, position: None, bytes: 0, bytes_max, over: None }
    }

    /// Forgets everything, since the file holds another state now.
    pub(super) fn replaced(&mut self) {
        *self = Self { over: self.over, ..Self::new(self.bytes_max) };
    }

    pub(super) fn over(&self) -> Option<&'static str> {
        self.over
    }

    pub(super) fn end(&mut self, why: &'static str) {
        self.over = Some(why);
    }

    /// How far in the log this is, unless the file is as far.
    pub(super) fn position(&self) -> Option<&[u8]> {
        self.position.as_deref()
    }

    pub(super) fn is_full(&self) -> bool {
        self.bytes >= self.bytes_max
    }

    /// Applies commands in their order, each with its index in the log.
    pub(super) fn apply_all(
        &mut self,
        database: &Database,
        commands: &[(u64, Arc<[u8]>)],
        position: &[u8],
    ) -> Result<Vec<Vec<u8>>, redb::Error> {
        let commands = decoded(commands)?;
        self.apply_decoded(Some(&mut Below { database, tables: None }), commands, position)
    }

    /// The same if that needs nothing of the file and leaves this within its limit; otherwise `None`, and nothing was done.
    pub(super) fn apply_known(
        &mut self,
        commands: &[(u64, Arc<[u8]>)],
        position: &[u8],
    ) -> Option<Result<Vec<Vec<u8>>, redb::Error>> {
        let bytes: usize = commands.iter().map(|(_, command)| command.len()).sum();
        if self.bytes + bytes >= self.bytes_max {
            return None;
        }
        // What cannot be read is told by the other way.
        let decoded = decoded(commands).ok()?;
        let known = decoded.iter().all(|(_, command)| self.knows(command));
        known.then(|| self.apply_decoded(None, decoded, position))
    }

    /// Whether applying this asks for nothing that only the file knows.
    fn knows(&self, command: &Command<'_>) -> bool {
        let Some(clients) = &self.clients else { return false };
        match clients.hear(command.client, command.serial) {
            Heard::BeforeInFile => false,
            Heard::Before(_) | Heard::Overtaken => true,
            Heard::New => match &command.work {
                Work::Epoch => self.epoch.is_some(),
                Work::Write(sets) => sets.iter().all(|set| {
                    let grain = self.grains.get(&key_of(set));
                    grain.is_some_and(|grain| set.writes().all(|write| grain.states.contains_key(write.name)))
                }),
            },
        }
    }

    fn apply_decoded(
        &mut self,
        mut below: Option<&mut Below<'_>>,
        commands: Vec<(u64, Command<'_>)>,
        position: &[u8],
    ) -> Result<Vec<Vec<u8>>, redb::Error> {
        // Taken back at the end: an error or a panic on the way leaves it.
        self.over = Some("a batch was applied in part");
        let mut outcomes = Vec::with_capacity(commands.len());
        for (index, command) in commands {
            outcomes.push(self.apply(below.as_deref_mut(), index, command)?);
        }
        self.position = Some(position.to_vec());
        self.over = None;
        Ok(outcomes)
    }

    fn apply(
        &mut self,
        mut below: Option<&mut Below<'_>>,
        index: u64,
        command: Command<'_>,
    ) -> Result<Vec<u8>, redb::Error> {
        let Command { client, serial, work } = command;
        let clients = match &mut self.clients {
            Some(clients) => clients,
            none => none.insert(Clients::read(file(&mut below)?.database)?),
        };
        match clients.hear(client, serial) {
            Heard::New => {}
            _ if !on(Mechanism::CommitsOnce) => {}
            Heard::Before(outcome) => return Ok(outcome),
            Heard::BeforeInFile => return Clients::outcome_in(file(&mut below)?.database, client),
            Heard::Overtaken => return codec::encode(&Outcome::Overtaken).map_err(corrupted),
        }
        let outcome = match work {
            Work::Write(sets) => {
                let mut rows = View { grains: &mut self.grains, bytes: &mut self.bytes, below };
                Outcome::Written(sets.iter().map(|set| write(&mut rows, set)).collect::<Result<_, _>>()?)
            }
            Work::Epoch => {
                let last = match self.epoch {
                    Some((last, _)) => last,
                    None => file(&mut below)?.epoch()?,
                };
                let next = layout::epoch_after(last)?;
                self.epoch = Some((next, Lies::Here));
                Outcome::Epoch(next)
            }
        };
        let outcome = codec::encode(&outcome).map_err(corrupted)?;
        self.bytes += clients.remember(client, serial, index, outcome.clone());
        Ok(outcome)
    }

    /// What a state holds, if that is known here.
    pub(super) fn stored(&self, grain_key: &[u8], name: &str) -> Option<Result<Option<Stored>, LoadError>> {
        let state = self.grains.get(grain_key)?.states.get(name)?;
        match &state.row {
            Some(row) => Some(layout::read_state_row(row).map(Some)),
            None if state.head.0 == Version(0) => Some(Ok(None)),
            None => None,
        }
    }

    /// Puts what is newer than the file into it.
    pub(super) fn write(&self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        let (mut grains, mut states) = (transaction.open_table(GRAINS)?, transaction.open_table(STATES)?);
        for (grain_key, grain) in &self.grains {
            if let (Some(row), Lies::Here) = (grain.row, grain.lies) {
                grains.insert(grain_key.as_slice(), layout::grain_row(row))?;
            }
            for (name, state) in &grain.states {
                if let Some(row) = &state.row {
                    states.insert(layout::state_key(grain_key, name).as_slice(), row.as_slice())?;
                }
            }
        }
        if let Some((epoch, Lies::Here)) = self.epoch {
            transaction.open_table(META)?.insert(EPOCH, epoch)?;
        }
        if let Some(clients) = &self.clients {
            clients.write(transaction)?;
        }
        if let Some(position) = &self.position {
            transaction.open_table(POSITION)?.insert("", position.as_slice())?;
        }
        Ok(())
    }

    /// The file has everything. Versions and tokens stay here, so that those who write again need not look there.
    pub(super) fn written(&mut self) {
        self.position = None;
        self.epoch = self.epoch.map(|(epoch, _)| (epoch, Lies::InFile));
        if let Some(clients) = &mut self.clients {
            clients.written();
        }
        self.bytes = 0;
        for (grain_key, grain) in &mut self.grains {
            self.bytes += ENTRY_BYTES + grain_key.len();
            grain.lies = Lies::InFile;
            for (name, state) in &mut grain.states {
                self.bytes += ENTRY_BYTES + name.len();
                state.row = None;
            }
        }
        if self.bytes > self.bytes_max / 2 {
            self.grains.clear();
            self.bytes = 0;
        }
    }
}

fn decoded(commands: &[(u64, Arc<[u8]>)]) -> Result<Vec<(u64, Command<'_>)>, redb::Error> {
    // An error stops this node: it cannot read what the others have agreed on.
    commands.iter().map(|(index, command)| Ok((*index, codec::decode(command).map_err(corrupted)?))).collect()
}

fn key_of(set: &Set<'_>) -> Vec<u8> {
    layout::grain_key(set.grain_type, set.key)
}

fn write(rows: &mut View<'_, '_>, set: &Set<'_>) -> Result<Result<(), CommitError>, redb::Error> {
    match rules::apply(rows, &key_of(set), set.token, set.writes()) {
        Ok(()) => Ok(Ok(())),
        Err(Refused::Rules(why)) => Ok(Err(why)),
        // Other voters may be able to read it: going on would make this one another state.
        Err(Refused::Damaged(why)) => Err(corrupted(why)),
        Err(Refused::File(error)) => Err(error),
    }
}

/// The file, opened at the first look.
struct Below<'d> {
    database: &'d Database,
    tables: Option<Tables>,
}

struct Tables {
    grains: ReadOnlyTable<&'static [u8], (u64, u64, u64)>,
    states: ReadOnlyTable<&'static [u8], &'static [u8]>,
    meta: ReadOnlyTable<&'static [u8], u64>,
}

impl Below<'_> {
    fn tables(&mut self) -> Result<&Tables, redb::Error> {
        match &mut self.tables {
            Some(tables) => Ok(tables),
            none => {
                let snapshot = self.database.begin_read()?;
                let (grains, states) = (snapshot.open_table(GRAINS)?, snapshot.open_table(STATES)?);
                Ok(none.insert(Tables { grains, states, meta: snapshot.open_table(META)? }))
            }
        }
    }

    fn grain(&mut self, grain_key: &[u8]) -> Result<Option<GrainRow>, redb::Error> {
        read::grain(&self.tables()?.grains, grain_key)
    }

    fn state_head(&mut self, grain_key: &[u8], name: &str) -> Result<Result<(Version, bool), LoadError>, redb::Error> {
        read::state_head(&self.tables()?.states, grain_key, name)
    }

    fn epoch(&mut self) -> Result<u64, redb::Error> {
        read::last_epoch(&self.tables()?.meta)
    }
}

fn file<'b, 'd>(below: &'b mut Option<&mut Below<'d>>) -> Result<&'b mut Below<'d>, redb::Error> {
    below.as_deref_mut().ok_or_else(|| corrupted("only the file knows that"))
}

/// The rows of the file with those of [`Recent`] in front.
struct View<'r, 'd> {
    grains: &'r mut BTreeMap<Vec<u8>, Grain>,
    bytes: &'r mut usize,
    below: Option<&'r mut Below<'d>>,
}

impl View<'_, '_> {
    fn entry(&mut self, grain_key: &[u8]) -> Result<&mut Grain, redb::Error> {
        if !self.grains.contains_key(grain_key) {
            let row = file(&mut self.below)?.grain(grain_key)?;
            *self.bytes += ENTRY_BYTES + grain_key.len();
            self.grains.insert(grain_key.to_vec(), Grain { row, lies: Lies::InFile, states: LiteMap::new() });
        }
        self.grains.get_mut(grain_key).ok_or_else(|| corrupted("it was put there a moment ago"))
    }
}

impl Rows for View<'_, '_> {
    fn grain(&mut self, grain_key: &[u8]) -> Result<Option<GrainRow>, redb::Error> {
        Ok(self.entry(grain_key)?.row)
    }

    fn state_head(&mut self, grain_key: &[u8], name: &str) -> Result<Result<(Version, bool), LoadError>, redb::Error> {
        if let Some(state) = self.entry(grain_key)?.states.get(name) {
            return Ok(Ok(state.head));
        }
        let head = match file(&mut self.below)?.state_head(grain_key, name)? {
            Ok(head) => head,
            Err(damaged) => return Ok(Err(damaged)),
        };
        *self.bytes += ENTRY_BYTES + name.len();
        self.entry(grain_key)?.states.insert(name.into(), State { head, row: None });
        Ok(Ok(head))
    }

    fn put_grain(&mut self, grain_key: &[u8], row: GrainRow) -> Result<(), redb::Error> {
        let grain = self.entry(grain_key)?;
        (grain.row, grain.lies) = (Some(row), Lies::Here);
        Ok(())
    }

    fn put_state(
        &mut self,
        grain_key: &[u8],
        name: &str,
        version: Version,
        value: Option<&[u8]>,
    ) -> Result<(), redb::Error> {
        let state = self.entry(grain_key)?.states.get_mut(name);
        let state = state.ok_or_else(|| corrupted("a state is written whose version was not looked at"))?;
        state.head = (version, value.is_some());
        let row = state.row.get_or_insert_default();
        let (before, len) = (row.len(), layout::state_row_len(value));
        row.resize(len, 0);
        layout::fill_state_row(row, version, value);
        *self.bytes = (*self.bytes + len).saturating_sub(before);
        Ok(())
    }
}

//! The last command of each client, by which one that comes twice is applied once. Which clients are remembered follows from the
//! commands alone: every voter remembers the same.

use grains_core::codec;
use litemap::LiteMap;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::corrupted;

/// By number: a client's last command.
pub(super) const CLIENTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("clients");

/// How many clients are remembered, those heard of last. Every process is one. A command that is sent again after so many
/// others came finds versions that do not fit: it is refused, and never applied twice.
const CLIENTS_MAX: usize = 1024;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Row {
    pub(super) serial: u64,
    pub(super) index: u64,
    #[serde(with = "grains_core::codec::bytes")]
    pub(super) outcome: Vec<u8>,
}

pub(super) struct Clients {
    known: LiteMap<u64, Last>,
    /// Those whose rows are still in the file.
    forgotten: Vec<u64>,
}

/// The last command of a client.
struct Last {
    serial: u64,
    index: u64,
    /// What it came to; `None` if that is in the file.
    outcome: Option<Vec<u8>>,
}

/// What is known of a command that has come.
pub(super) enum Heard {
    /// Nothing like it has come.
    New,
    /// It came before, and this is what it came to.
    Before(Vec<u8>),
    /// It came before, and the file knows what it came to.
    BeforeInFile,
    /// A later one of its client came before it.
    Overtaken,
}

impl Clients {
    /// Those in the file.
    pub(super) fn read(database: &Database) -> Result<Self, redb::Error> {
        let mut known = LiteMap::new();
        let table = match database.begin_read()?.open_table(CLIENTS) {
            Ok(table) => Some(table),
            Err(TableError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(error.into()),
        };
        for row in table.iter().map(ReadableTable::iter) {
            for row in row? {
                let (client, last) = row?;
                let client = client.value().try_into().map(u64::from_be_bytes);
                let Row { serial, index, outcome: _ } = codec::decode(last.value()).map_err(corrupted)?;
                known.insert(client.map_err(corrupted)?, Last { serial, index, outcome: None });
            }
        }
        Ok(Self { known, forgotten: Vec::new() })
    }

    pub(super) fn hear(&self, client: u64, serial: u64) -> Heard {
        match self.known.get(&client) {
            Some(last) if serial < last.serial => Heard::Overtaken,
            Some(last) if serial == last.serial => last.outcome.clone().map_or(Heard::BeforeInFile, Heard::Before),
            _ => Heard::New,
        }
    }

    /// What the last command of a client came to, from the file.
    pub(super) fn outcome_in(database: &Database, client: u64) -> Result<Vec<u8>, redb::Error> {
        let table = database.begin_read()?.open_table(CLIENTS)?;
        let row = table.get(client.to_be_bytes().as_slice())?;
        let row = row.ok_or_else(|| corrupted("the row of a client is missing"))?;
        Ok(codec::decode::<Row>(row.value()).map_err(corrupted)?.outcome)
    }

    /// Remembers what the command at `index` came to, and forgets the client that was not heard of for longest if there are too
    /// many. Gives how much more is held in memory.
    pub(super) fn remember(&mut self, client: u64, serial: u64, index: u64, outcome: Vec<u8>) -> usize {
        let bytes = outcome.len();
        self.known.insert(client, Last { serial, index, outcome: Some(outcome) });
        if self.known.len() > CLIENTS_MAX
            && let Some(oldest) = self.known.iter().min_by_key(|(_, last)| last.index).map(|(client, _)| *client)
        {
            self.known.remove(&oldest);
            self.forgotten.push(oldest);
        }
        bytes
    }

    /// Puts what is newer than the file into it.
    pub(super) fn write(&self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        let mut table = transaction.open_table(CLIENTS)?;
        for client in &self.forgotten {
            table.remove(client.to_be_bytes().as_slice())?;
        }
        for (client, Last { serial, index, outcome }) in &self.known {
            if let Some(outcome) = outcome {
                let row = Row { serial: *serial, index: *index, outcome: outcome.clone() };
                let row = codec::encode(&row).map_err(corrupted)?;
                table.insert(client.to_be_bytes().as_slice(), row.as_slice())?;
            }
        }
        Ok(())
    }

    /// The file has everything.
    pub(super) fn written(&mut self) {
        self.forgotten.clear();
        self.known.iter_mut().for_each(|(_, last)| last.outcome = None);
    }
}

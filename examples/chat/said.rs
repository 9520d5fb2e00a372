//! How a room knows a line again that is said twice, because the answer to the first time was lost. Used by `log`.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, RandomState},
};

use serde::{Deserialize, Serialize};

/// How many clients a room remembers: those that said something last. A line can be repeated safely as long as fewer others
/// have said their first one since.
pub const CLIENTS_MAX: usize = 256;

/// Which line of which client. A client says one line after the other, and repeats one until it knows its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SayId {
    /// A random number that a client gives itself, of at most 53 bits: as many as a number of JavaScript holds.
    pub client: u64,
    /// Grows with each of its lines.
    pub serial: u64,
}

impl SayId {
    /// The first line of a client that there was not before.
    pub fn random() -> Self {
        // Hashes of the standard library begin with random keys, others for each map.
        let client = RandomState::new().hash_one(std::process::id()) >> (u64::BITS - CLIENT_BITS);
        Self { client, serial: 1 }
    }

    /// The next line of the same client.
    pub fn next(self) -> Self {
        Self { serial: self.serial + 1, ..self }
    }
}

const CLIENT_BITS: u32 = 53;

/// What a room remembers of a line that somebody wants to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Nothing: it was not said.
    None,
    /// It was said, under this number.
    Said(u64),
    /// Its client has said a later one since, so it knows the answer, or no longer wants it.
    Passed,
}

/// The last line of each client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastSaid(VecDeque<(SayId, u64)>);

impl LastSaid {
    /// What is known of this line.
    pub fn recall(&self, id: SayId) -> Memory {
        match self.0.iter().find(|(said, _)| said.client == id.client) {
            Some((said, number)) if said.serial == id.serial => Memory::Said(*number),
            Some((said, _)) if said.serial > id.serial => Memory::Passed,
            _ => Memory::None,
        }
    }

    /// It was said under this number. Beyond the limit, the client that was silent for longest is forgotten.
    pub fn remember(&mut self, id: SayId, number: u64) {
        self.0.retain(|(said, _)| said.client != id.client);
        self.0.push_back((id, number));
        if self.0.len() > CLIENTS_MAX {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(client: u64, serial: u64) -> SayId {
        SayId { client, serial }
    }

    #[test]
    fn the_last_line_of_a_client_is_known_and_earlier_ones_are_passed() {
        let mut last = LastSaid::default();
        last.remember(id(1, 7), 40);
        last.remember(id(2, 1), 41);
        last.remember(id(1, 8), 42);
        assert_eq!(last.recall(id(1, 8)), Memory::Said(42));
        assert_eq!(last.recall(id(1, 7)), Memory::Passed);
        assert_eq!(last.recall(id(1, 9)), Memory::None);
        assert_eq!(last.recall(id(2, 1)), Memory::Said(41));
    }

    #[test]
    fn the_client_that_was_silent_for_longest_is_forgotten() {
        let mut last = LastSaid::default();
        for client in 0..=CLIENTS_MAX as u64 {
            last.remember(id(client, 1), client);
        }
        assert_eq!(last.0.len(), CLIENTS_MAX);
        assert_eq!(last.recall(id(0, 1)), Memory::None);
        assert_eq!(last.recall(id(1, 1)), Memory::Said(1));
    }
}

//! Which commands have been applied: a sender that heard nothing sends again, under the same number.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cluster::command::Outcome;

/// The last command of each sender.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    clients: BTreeMap<u64, Last>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Last {
    serial: u64,
    outcome: Outcome,
    /// The index of the entry by which this sender was last heard of.
    used: u64,
}

/// Every process is a sender, so the table grows with restarts and is cut to those heard of last. A command is sent again
/// within seconds, by a process that is still there; one that outlives 4,096 other senders would be applied a second
/// time, and finds what it speaks of changed: commands name incarnations, which never come back.
const CLIENTS_MAX: usize = 4_096;

impl Seen {
    /// What this command, or one that its sender sent after it, came to. `None`: it is new.
    pub(super) fn before(&mut self, index: u64, client: u64, serial: u64) -> Option<Outcome> {
        let last = self.clients.get_mut(&client).filter(|last| serial <= last.serial)?;
        last.used = index;
        // An older one was given up by its sender before it sent the next: it comes too late, and nobody waits for it.
        let overtaken = || Outcome::Refused(format!("command {serial} came after command {}", last.serial));
        Some(if serial == last.serial { last.outcome.clone() } else { overtaken() })
    }

    pub(super) fn keep(&mut self, index: u64, client: u64, serial: u64, outcome: Outcome) {
        self.clients.insert(client, Last { serial, outcome, used: index });
        while self.clients.len() > CLIENTS_MAX {
            let oldest = self.clients.iter().min_by_key(|(_, last)| last.used).map(|(client, _)| *client);
            oldest.map(|client| self.clients.remove(&client));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_number_has_the_same_outcome_and_an_older_one_is_refused() {
        let mut seen = Seen::default();
        assert_eq!(seen.before(1, 7, 1), None);
        seen.keep(1, 7, 1, Outcome::Done);
        assert_eq!(seen.before(2, 7, 1), Some(Outcome::Done));
        assert_eq!(seen.before(3, 7, 2), None);
        seen.keep(3, 7, 2, Outcome::Stale);
        assert!(matches!(seen.before(4, 7, 1), Some(Outcome::Refused(_))));
        assert_eq!(seen.before(5, 8, 1), None, "another sender has its own numbers");
    }

    #[test]
    fn senders_that_were_not_heard_of_for_longest_are_forgotten() {
        let mut seen = Seen::default();
        for client in 0..CLIENTS_MAX as u64 {
            seen.keep(client, client, 1, Outcome::Done);
        }
        assert!(seen.before(9_000, 0, 1).is_some());
        seen.keep(9_001, u64::MAX, 1, Outcome::Done);
        assert_eq!(seen.clients.len(), CLIENTS_MAX);
        assert!(seen.before(9_002, 0, 1).is_some(), "it was heard of again");
        assert_eq!(seen.before(9_003, 1, 1), None);
    }
}

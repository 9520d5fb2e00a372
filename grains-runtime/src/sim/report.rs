//! What is left of a run.

use std::{fmt, time::Duration};

/// What a run did. Two runs with the same seed and the same code have the same report.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// A hash over all events, polls of tasks among them.
    pub hash: u64,
    /// How many events there were.
    pub events: u64,
    /// How often a task was polled.
    pub polls: u64,
    /// How much virtual time went by.
    pub sim_time: Duration,
    /// The tasks of machines that panicked, in order.
    pub panics: Vec<Panicked>,
    /// The events but for polls, one a line, if the run was told to keep them.
    pub lines: Vec<String>,
}

/// A task of a machine that panicked. The task ended there, the run went on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Panicked {
    /// The name of the machine.
    pub machine: String,
    /// When, in virtual time.
    pub at: Duration,
    /// What it said.
    pub message: String,
}

impl fmt::Display for Panicked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "machine `{}` panicked after {:?}: {}", self.machine, self.at, self.message)
    }
}

//! Where the states of grains are kept, as programs and settings say it.

use std::{convert::Infallible, fmt, str::FromStr};

/// Which store keeps the states of a node's grains, or of one grain type. In settings a word: `store = "redb"`.
///
/// Not chosen, it is [`Replicated`](Self::Replicated) in a cluster, [`Redb`](Self::Redb) on a node alone that has a data
/// directory, and [`Memory`](Self::Memory) otherwise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum StoreChoice {
    /// `"memory"`: in the memory of a node alone, gone with it. In a cluster nowhere: a state lives as long as its activation,
    /// because a grain that came back to a node would find there what it was when it left.
    Memory,
    /// `"redb"`: the embedded store in the data directory of a node alone.
    #[cfg(feature = "redb")]
    Redb,
    /// `"replicated"`: the cluster itself. The nodes that vote have all states, and what is committed outlives any minority
    /// of them, with no database beside; with a data directory on every node it outlives a stop of all.
    #[cfg(feature = "cluster")]
    Replicated,
    /// Any other word: one that the program has given under that name, see `NodeBuilder::named_store`. All nodes of a cluster
    /// have to give the same, for example one database.
    Named(String),
}

impl StoreChoice {
    /// The name of what `NodeBuilder::store` was given.
    pub(crate) const OWN: &str = "own";

    /// The words that name no store of the program.
    pub(crate) fn words() -> Vec<Self> {
        vec![
            Self::Memory,
            #[cfg(feature = "redb")]
            Self::Redb,
            #[cfg(feature = "cluster")]
            Self::Replicated,
        ]
    }

    /// The word for it.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Memory => "memory",
            #[cfg(feature = "redb")]
            Self::Redb => "redb",
            #[cfg(feature = "cluster")]
            Self::Replicated => "replicated",
            Self::Named(name) => name,
        }
    }
}

/// The first epoch of a user of a store that the program has given, which has answered `start` when it was asked for the next
/// one. A user is a node alone, or a whole cluster from its founding on, whose epochs are this and places in its log: more than
/// those of any earlier user, which would otherwise be taken for newer.
pub(crate) fn first_epoch(start: u64) -> u64 {
    start.saturating_mul(EPOCHS_MAX)
}

/// How many epochs one user may come to: an entry every microsecond for twelve days, or a thousand a second for 34 years.
const EPOCHS_MAX: u64 = 1 << 40;

impl fmt::Display for StoreChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<&str> for StoreChoice {
    fn from(word: &str) -> Self {
        Self::words().into_iter().find(|known| known.as_str() == word).unwrap_or_else(|| Self::Named(word.to_owned()))
    }
}

impl FromStr for StoreChoice {
    type Err = Infallible;

    fn from_str(word: &str) -> Result<Self, Infallible> {
        Ok(word.into())
    }
}

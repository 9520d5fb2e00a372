//! A node's name and number, each a type of its own so that none is taken for another.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize};

/// The name of a node, for people and for the rule that no two live nodes share one: 1 to 64 of `a-z A-Z 0-9 - _ .`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct NodeName(Arc<str>);

/// The longest name of a node, in bytes.
pub const NODE_NAME_BYTES_MAX: usize = 64;

/// A text that cannot be the name of a node or a cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{name}\" is no name of a node or cluster: use 1 to {NODE_NAME_BYTES_MAX} of a-z A-Z 0-9 - _ .")]
pub struct BadName {
    /// The text.
    pub name: String,
}

impl NodeName {
    /// Checks and keeps `name`.
    pub fn new(name: &str) -> Result<Self, BadName> {
        let fits = (1..=NODE_NAME_BYTES_MAX).contains(&name.len());
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if fits && plain { Ok(Self(name.into())) } else { Err(BadName { name: name.chars().take(100).collect() }) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for NodeName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A node as Raft knows it: a random number that lives as long as the node's data directory. A node that lost its
/// directory comes back under another one, because a voter that forgot its vote would break Raft.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        assert!(NodeName::new("a-1.b_C").is_ok());
        for bad in ["", "a b", "ä", &"x".repeat(65)] {
            assert!(NodeName::new(bad).is_err(), "{bad:?}");
        }
    }
}

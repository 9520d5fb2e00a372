//! Names of settings: `cluster.listen`, `grain.room.idle_timeout`. Called by all of this room.

use std::fmt;

use toml::de::{DeTable, DeValue};

use super::units::quoted;

/// The tables that a setting is in, and its own word.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name(pub(super) Vec<String>);

impl Name {
    pub(super) const CLUSTER: &str = "cluster";
    pub(super) const GRAIN: &str = "grain";
    #[cfg(feature = "cluster")]
    const CLIENTS: &str = "clients";
    #[cfg(feature = "cluster")]
    const STATES: &str = "states";
    #[cfg(feature = "cluster")]
    const TLS: &str = "tls";

    pub(super) fn top(word: &str) -> Self {
        Self(vec![word.to_owned()])
    }

    pub(super) fn of(table: &str, word: &str) -> Self {
        Self(vec![table.to_owned(), word.to_owned()])
    }

    #[cfg(feature = "cluster")]
    pub(super) fn of_clients(word: &str) -> Self {
        Self::of(Self::CLUSTER, Self::CLIENTS).and(word)
    }

    #[cfg(feature = "cluster")]
    pub(super) fn of_states(word: &str) -> Self {
        Self::of(Self::CLUSTER, Self::STATES).and(word)
    }

    #[cfg(feature = "cluster")]
    pub(super) fn of_tls(word: &str) -> Self {
        Self::of(Self::CLUSTER, Self::TLS).and(word)
    }

    pub(super) fn of_grain(grain_type: &str, word: &str) -> Self {
        Self(vec![Self::GRAIN.to_owned(), grain_type.to_owned(), word.to_owned()])
    }

    /// Reads a name as TOML writes it, with quotes around words that need them.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let line = format!("{text} = 0");
        let document = DeTable::parse(&line).ok()?;
        let mut table = document.get_ref();
        let mut words = Vec::new();
        loop {
            let (word, value) = table.iter().next().filter(|_| table.len() == 1)?;
            words.push(word.get_ref().clone().into_owned());
            match value.get_ref() {
                DeValue::Table(inner) => table = inner,
                _ => return Some(Self(words)),
            }
        }
    }

    /// The name below this one.
    pub(super) fn and(&self, word: &str) -> Self {
        Self(self.0.iter().cloned().chain([word.to_owned()]).collect())
    }

    /// The words of the table that it is in.
    pub(super) fn table(&self) -> Self {
        Self(self.0.iter().take(self.0.len().saturating_sub(1)).cloned().collect())
    }

    pub(super) fn word(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }

    pub(super) fn is_in(&self, table: &str) -> bool {
        self.0.first().is_some_and(|first| first == table)
    }

    pub(super) fn grain_type(&self) -> Option<&str> {
        self.0.get(1).filter(|_| self.is_in(Self::GRAIN)).map(String::as_str)
    }

    #[cfg(feature = "cluster")]
    fn is_within_cluster(&self) -> bool {
        [Self::CLIENTS, Self::STATES, Self::TLS].into_iter().any(|table| *self == Self::of(Self::CLUSTER, table))
    }

    #[cfg(not(feature = "cluster"))]
    fn is_within_cluster(&self) -> bool {
        false
    }

    /// Whether it is the name of a table that is known, not of a setting.
    pub(super) fn is_table(&self) -> bool {
        match self.0.len() {
            1 => self.is_in(Self::GRAIN) || (cfg!(feature = "cluster") && self.is_in(Self::CLUSTER)),
            2 => self.is_in(Self::GRAIN) || self.is_within_cluster(),
            _ => false,
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, word) in self.0.iter().enumerate() {
            let dot = if n == 0 { "" } else { "." };
            let is_bare = !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
            match is_bare {
                true => write!(f, "{dot}{word}")?,
                false => write!(f, "{dot}{}", quoted(word))?,
            }
        }
        Ok(())
    }
}

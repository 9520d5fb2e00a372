//! What sources give, before it is known what it should have been. Made by `document`, `arguments` and `sources`.

use std::{fmt, path::PathBuf};

use super::name::Name;

/// Where the value of a setting came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Nobody has set it.
    #[default]
    Default,
    /// A line of the file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable, by its name.
    Variable(String),
    /// An argument of the command line, up to its `=`.
    Argument(String),
    /// A later call of [`NodeBuilder`](crate::NodeBuilder).
    Code,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Argument(argument) => write!(f, "argument {argument}"),
            Self::Code => f.write_str("code"),
        }
    }
}

/// One setting, or a table of settings, in a source.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: Name,
    pub(super) given: Given,
    pub(super) origin: Origin,
}

/// A value as a source gives it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Given {
    /// From a variable or an argument: the setting says what it should be.
    Word(String),
    Text(String),
    Integer(i128),
    Boolean(bool),
    List(Vec<Self>),
    Table,
    /// What no setting is: its kind, and the value.
    Other(&'static str, String),
}

/// For people who look for what they have written.
impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => write!(f, "{word:?}"),
            Self::Text(text) => write!(f, "the text {text:?}"),
            Self::Integer(number) => write!(f, "the number {number}"),
            Self::Boolean(is_so) => write!(f, "{is_so}"),
            Self::List(_) => f.write_str("a list"),
            Self::Table => f.write_str("a table"),
            Self::Other(kind, value) => write!(f, "the {kind} {value}"),
        }
    }
}

//! What can be wrong with settings. All of it is collected before anything is refused.

use std::{fmt, path::PathBuf};

use super::{
    closest::closest,
    given::{Given, Origin},
    name::Name,
};

/// Settings that cannot be used, with all that is wrong with them. Nothing has been done with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError {
    mistakes: Vec<Mistake>,
}

impl SettingsError {
    pub(super) fn of(mistakes: Vec<Mistake>) -> Result<(), Self> {
        if mistakes.is_empty() { Ok(()) } else { Err(Self { mistakes }) }
    }

    /// What is wrong, at least one thing: first what cannot be read, then what cannot be set, in the order of the sources.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [mistake] = &self.mistakes[..] {
            return mistake.fmt(f);
        }
        write!(f, "{} mistakes in the settings", self.mistakes.len())?;
        self.mistakes.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

impl std::error::Error for SettingsError {}

/// One thing that is wrong with settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Mistake {
    /// Nothing has this name.
    #[error("{origin}: there is no setting `{setting}`{}", did_you_mean(closest.as_deref()))]
    Unknown {
        /// The name.
        setting: String,
        /// Where it is set.
        origin: Origin,
        /// The name that is most like it, if one is.
        closest: Option<String>,
    },
    /// It belongs to a feature that this program was built without.
    #[error("{origin}: `{setting}` needs a program that was built with the feature `{feature}` of grains")]
    NotBuilt {
        /// The name.
        setting: String,
        /// Where it is set.
        origin: Origin,
        /// The feature.
        feature: &'static str,
    },
    /// The value is not of the right sort.
    #[error("{origin}: `{setting}` is {expected}; found {found}")]
    Wrong {
        /// The name.
        setting: String,
        /// Where it is set.
        origin: Origin,
        /// What may be given.
        expected: &'static str,
        /// What was given.
        found: String,
    },
    /// Others of its table are set, and it has no default.
    #[error("{origin}: this makes the node part of a cluster, and `{setting}` is missing")]
    Missing {
        /// The name of what is missing.
        setting: String,
        /// Where another one is set.
        origin: Origin,
    },
    /// The file is no TOML.
    #[error("{}:{line}:{column}: {why}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The character in the line, from 1.
        column: usize,
        /// What is wrong there.
        why: String,
    },
    /// The file cannot be read.
    #[error("cannot read the settings in {}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// A variable or an argument sets nothing.
    #[error("{origin}: {why}")]
    Unclear {
        /// Which.
        origin: Origin,
        /// What is wrong, and the fix.
        why: &'static str,
    },
    /// The grain type is not hosted here.
    #[error("{origin}: grain type {grain_type:?} is not hosted here; this node hosts {}", list(hosted))]
    NotHosted {
        /// The grain type.
        grain_type: String,
        /// Where it is named.
        origin: Origin,
        /// Those that are.
        hosted: Vec<String>,
    },
    /// It means nothing for a singleton.
    #[error("{origin}: `{setting}` means nothing, a singleton is never idle and lives on any node that can host it")]
    Singleton {
        /// The name.
        setting: String,
        /// Where it is set.
        origin: Origin,
    },
    /// It means nothing for a grain type with workers.
    #[error(
        "{origin}: `{setting}` means nothing, this grain type has workers: they live on every node that hosts it, and keep nothing"
    )]
    Workers {
        /// The name.
        setting: String,
        /// Where it is set.
        origin: Origin,
    },
}

impl Mistake {
    pub(super) fn wrong(name: &Name, origin: Origin, expected: &'static str, found: &Given) -> Self {
        Self::Wrong { setting: name.to_string(), origin, expected, found: found.to_string() }
    }

    pub(super) fn unknown(name: &Name, origin: Origin) -> Self {
        let setting = name.to_string();
        if !cfg!(feature = "redb") && *name == Name::top("data_dir") {
            return Self::NotBuilt { setting, origin, feature: "redb" };
        }
        if !cfg!(feature = "cluster") && name.is_in(Name::CLUSTER) {
            return Self::NotBuilt { setting, origin, feature: "cluster" };
        }
        Self::Unknown { setting, origin, closest: closest(name) }
    }
}

fn did_you_mean(closest: Option<&str>) -> String {
    closest.map(|closest| format!(": did you mean `{closest}`?")).unwrap_or_default()
}

fn list(words: &[String]) -> String {
    let quoted: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
    if quoted.is_empty() { "none".to_owned() } else { quoted.join(", ") }
}

//! One typed configuration of a node, read from a file, the environment and the command line. Called by programs before they
//! build a node, and by the builder.
//!
//! Reading order: `sources` (what is given, and in which order it counts), `arguments` and `document` (how it is taken apart),
//! `layout` (**the list of all settings**), `value` and `units` (what a setting may be), `mistake`, `print`, `grains` (what
//! grain types may have of their own); `process` is the only room that asks the system.

mod arguments;
mod closest;
mod document;
mod given;
mod grains;
mod layout;
mod mistake;
mod name;
mod print;
mod process;
mod sources;
#[cfg(test)]
mod tests;
mod units;
mod value;

use std::collections::BTreeMap;
#[cfg(feature = "redb")]
use std::path::PathBuf;

pub use given::Origin;
pub use grains::GrainSettings;
pub(crate) use grains::HostedOptions;
pub use mistake::{Mistake, SettingsError};
pub use sources::Sources;

use self::{
    given::{Entry, Given},
    name::Name,
};
#[cfg(feature = "cluster")]
use crate::cluster::ClusterConfig;
use crate::config::NodeConfig;

/// Everything that can be set about a node, each with where its value came from.
///
/// They are read from [`Sources`] over defaults: a file, then the environment, then the command line; what comes later
/// counts. [`NodeBuilder::settings`](crate::NodeBuilder::settings) takes them over. Shown by `{}`, they are a TOML file that
/// reads back as the same settings, with where each came from.
///
/// ```
/// # mod grains { pub use grains_runtime::settings as config; }
/// use grains::config::{Settings, Sources};
///
/// let file = "name = 'a'\nidle_timeout = '5m'";
/// let sources = Sources::new().file("a.toml", file).variable("GRAINS_CALL_TIMEOUT", "2s").set("name=b");
/// let settings = Settings::default().read(&sources)?;
/// assert_eq!(settings.node.name, "b");
/// assert!(settings.to_string().contains("call_timeout = \"2s\""));
///
/// let wrong = Sources::new().file("a.toml", "name = 'a'\nidle_timout = '5m'");
/// let error = Settings::default().read(&wrong).unwrap_err();
/// assert_eq!(error.to_string(), "a.toml:2: there is no setting `idle_timout`: did you mean `idle_timeout`?");
/// # Ok::<(), grains::config::SettingsError>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Settings {
    /// The limits of the node, and its name.
    pub node: NodeConfig,
    /// Where it keeps what must survive, see [`NodeBuilder::data_dir`](crate::NodeBuilder::data_dir).
    #[cfg(feature = "redb")]
    pub data_dir: Option<PathBuf>,
    /// Its part in a cluster: the table `[cluster]`.
    #[cfg(feature = "cluster")]
    pub cluster: Option<ClusterConfig>,
    /// What differs for single grain types, by their name: the tables `[grain.room]`.
    pub grains: BTreeMap<String, GrainSettings>,
    origins: BTreeMap<Name, Origin>,
}

impl Settings {
    /// Reads `sources` over these settings, which are the defaults.
    ///
    /// # Errors
    /// Everything that is wrong in the sources, at once. Whether values make sense together is checked when the node starts.
    pub fn read(mut self, sources: &Sources) -> Result<Self, SettingsError> {
        let (entries, mut mistakes) = sources.entries();
        mistakes.extend(entries.into_iter().filter_map(|entry| self.set(entry).err()));
        if mistakes.is_empty() {
            mistakes.extend(self.missing());
        }
        SettingsError::of(mistakes)?;
        Ok(self)
    }

    /// Where the value of a setting came from, by its name: `"cluster.listen"`.
    pub fn origin(&self, setting: &str) -> &Origin {
        Name::parse(setting).map_or(&Origin::Default, |name| self.origin_of(&name))
    }

    fn origin_of(&self, name: &Name) -> &Origin {
        self.origins.get(name).unwrap_or(&Origin::Default)
    }

    /// Where the settings come from that are `meant`, by their name and their value as TOML: a sentence to go behind what is
    /// wrong with them. Empty for what the program has set, or nobody.
    pub(crate) fn place_of(&self, meant: impl Fn(&str, &str) -> bool) -> String {
        let mut places = String::new();
        self.clone().each(&mut |name, value| {
            let full = name.to_string();
            if let Some(written) = value.written()
                && meant(&full, &written)
                && !matches!(self.origin_of(&name), Origin::Default | Origin::Code)
            {
                places.push_str(&format!("; `{full} = {written}` is from {}", self.origin_of(&name)));
            }
        });
        places
    }

    /// What is not as in `before` has been changed by the program since.
    pub(crate) fn say_what_code_changed(&mut self, before: &Self) {
        let mut before = before.clone();
        // A cluster that the program has added is compared with the defaults.
        #[cfg(feature = "cluster")]
        if self.cluster.is_some() {
            before.make_room_for(&Name::top(Name::CLUSTER));
        }
        let mut was = BTreeMap::new();
        before.each(&mut |name, value| drop(was.insert(name, value.written())));
        let mut changed = Vec::new();
        self.each(&mut |name, value| {
            if was.get(&name).cloned().flatten() != value.written() {
                changed.push(name);
            }
        });
        self.origins.extend(changed.into_iter().map(|name| (name, Origin::Code)));
    }

    fn set(&mut self, Entry { name, given, origin }: Entry) -> Result<(), Mistake> {
        self.make_room_for(&name);
        if name.is_table() {
            return match given {
                Given::Table => {
                    self.origins.insert(name, origin);
                    Ok(())
                }
                other => Err(Mistake::wrong(&name, origin, "a table", &other)),
            };
        }
        let mut expected = None;
        let mut is_set = false;
        self.each(&mut |known, value| {
            if known == name {
                expected = Some(value.expected());
                is_set = value.set(&given).is_some();
            }
        });
        match expected {
            None => Err(Mistake::unknown(&name, origin)),
            Some(expected) if !is_set => Err(Mistake::wrong(&name, origin, expected, &given)),
            Some(_) => {
                self.origins.insert(name, origin);
                Ok(())
            }
        }
    }

    /// Makes the table that a setting is in.
    fn make_room_for(&mut self, name: &Name) {
        #[cfg(feature = "cluster")]
        if name.is_in(Name::CLUSTER) && self.cluster.is_none() {
            self.cluster = Some(ClusterConfig::new(""));
        }
        if let Some(grain_type) = name.grain_type() {
            self.grains.entry(grain_type.to_owned()).or_default();
        }
    }

    #[cfg(feature = "cluster")]
    fn missing(&self) -> Option<Mistake> {
        self.cluster.as_ref().filter(|cluster| cluster.name.is_empty())?;
        let (_, origin) = self.origins.iter().find(|(name, _)| name.is_in(Name::CLUSTER))?;
        Some(Mistake::Missing { setting: Name::of(Name::CLUSTER, "name").to_string(), origin: origin.clone() })
    }

    #[cfg(not(feature = "cluster"))]
    fn missing(&self) -> Option<Mistake> {
        None
    }
}

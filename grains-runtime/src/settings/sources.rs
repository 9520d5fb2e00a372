//! What settings are read from, and in which order it counts. Nothing here asks the system.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use super::{
    arguments::{self, Taken},
    document,
    given::{Entry, Given, Origin},
    mistake::Mistake,
    name::Name,
};

/// What [`Settings`](super::Settings) are read from: a file, then variables, then arguments. What comes later counts.
///
/// - The file is TOML: `name = "a"`, and `listen = ".."` in the table `[cluster]`.
/// - A variable is `GRAINS_` and the name in capitals, with `__` between tables: `GRAINS_CLUSTER__LISTEN`. In the name of a
///   grain type `_` stands for `-`: `GRAINS_GRAIN__SHOPPING_CART__IDLE_TIMEOUT`.
/// - An argument is `cluster.listen=127.0.0.1:7101`, with the name as in the file. The last of several for one name counts.
///
/// In variables and arguments, texts have no quotes and lists have commas between their items.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    file: Option<(PathBuf, String)>,
    variables: Vec<(String, String)>,
    arguments: Vec<String>,
    mistakes: Vec<Mistake>,
}

impl Sources {
    /// No sources: everything as by default.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads this text, which is that of the file at `path`.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        self.file = Some((path.into(), text.into()));
        self
    }

    /// Reads an environment variable, if it is one for settings.
    #[must_use]
    pub fn variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// Reads an argument as behind `--set`: `"cluster.listen=127.0.0.1:7101"`.
    #[must_use]
    pub fn set(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// The sources of a process with these arguments, the program's name first, and these variables. Also gives the
    /// arguments that are not for settings, in their order, for the program to read.
    ///
    /// For settings are `--config FILE`, `--set NAME=VALUE` (both also with `=` in place of the space) and variables whose
    /// name begins with `GRAINS_`. Arguments behind `--` are the program's. `open` reads the file: that of `--config`, or
    /// else of the variable `GRAINS_CONFIG`, or else `grains.toml`, if it is there.
    ///
    /// ```
    /// # mod grains { pub use grains_runtime::settings as config; }
    /// use grains::config::{Settings, Sources};
    ///
    /// let arguments = ["shop", "--verbose", "--config", "a.toml", "--set", "name=b"].map(Into::into);
    /// let (sources, rest) = Sources::of(arguments, [], |_path| Ok("idle_timeout = '5m'".to_owned()));
    /// assert_eq!(rest, ["shop", "--verbose"]);
    /// assert_eq!(Settings::default().read(&sources)?.node.name, "b");
    /// # Ok::<(), grains::config::SettingsError>(())
    /// ```
    pub fn of(
        arguments: impl IntoIterator<Item = OsString>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
        open: impl FnOnce(&Path) -> io::Result<String>,
    ) -> (Self, Vec<OsString>) {
        let Taken { mut config, set, rest, mistakes } = arguments::take(arguments);
        let mut sources = Self { arguments: set, mistakes, ..Self::default() };
        for (name, value) in variables {
            if name == CONFIG {
                config = config.or(Some(value));
            } else if let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) {
                match value.into_string() {
                    Ok(value) => sources.variables.push((name.to_owned(), value)),
                    Err(_) => sources.mistakes.push(Mistake::Unclear {
                        origin: Origin::Variable(name.to_owned()),
                        why: "its value is not UTF-8",
                    }),
                }
            }
        }
        // The order of variables is that of chance.
        sources.variables.sort();
        let path = config.as_deref().map_or(Path::new(FILE), Path::new);
        match open(path) {
            Ok(text) => sources.file = Some((path.to_owned(), text)),
            Err(error) if config.is_none() && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => sources.mistakes.push(Mistake::File { path: path.to_owned(), why: error.to_string() }),
        }
        (sources, rest)
    }

    /// All that is given, what counts more behind what counts less.
    pub(super) fn entries(&self) -> (Vec<Entry>, Vec<Mistake>) {
        let mut mistakes = self.mistakes.clone();
        let mut entries = Vec::new();
        match self.file.as_ref().map(|(path, text)| document::entries(path, text)) {
            Some(Ok(given)) => entries.extend(given),
            Some(Err(wrong)) => mistakes.extend(wrong),
            None => {}
        }
        entries.extend(self.variables.iter().filter_map(|(name, value)| variable(name, value)));
        for argument in &self.arguments {
            match arguments::entry(argument) {
                Ok(entry) => entries.push(entry),
                Err(mistake) => mistakes.push(mistake),
            }
        }
        (entries, mistakes)
    }
}

const PREFIX: &str = "GRAINS_";
/// Where the file is.
const CONFIG: &str = "GRAINS_CONFIG";
/// Where it is, unless somebody says otherwise.
const FILE: &str = "grains.toml";
/// Variables that are no settings: the file, and which seeds the simulator runs.
const OTHERS: [&str; 3] = [CONFIG, "GRAINS_SEED", "GRAINS_SEEDS"];

fn variable(variable: &str, value: &str) -> Option<Entry> {
    let name = variable.strip_prefix(PREFIX).filter(|_| !OTHERS.contains(&variable))?;
    let mut words: Vec<_> = name.split("__").map(str::to_lowercase).collect();
    if let [table, grain_type, ..] = &mut words[..]
        && table == Name::GRAIN
    {
        *grain_type = grain_type.replace('_', "-");
    }
    let origin = Origin::Variable(variable.to_owned());
    Some(Entry { name: Name(words), given: Given::Word(value.to_owned()), origin })
}

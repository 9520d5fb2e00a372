//! The sources of this process: its arguments, its environment, and the file that they name.

use std::{
    env,
    ffi::OsString,
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use super::{Settings, SettingsError, Sources};

/// Far above what all settings take, and little enough to be read by mistake.
const FILE_BYTES_MAX: u64 = 1 << 20;

impl Sources {
    /// The sources of this process, see [`Sources::of`]; and the arguments that are not for settings, with the program's
    /// name first.
    pub fn of_process() -> (Self, Vec<OsString>) {
        Self::of(env::args_os(), env::vars_os(), read)
    }
}

impl Settings {
    /// Reads the settings of this process over the defaults, see [`Sources::of`]. Also gives the arguments that are not for
    /// settings, with the program's name first, for a parser of command lines.
    ///
    /// Programs with defaults of their own read [`Sources::of_process`] over them.
    ///
    /// ```no_run
    /// # mod grains { pub use grains_runtime::{Node, settings as config}; }
    /// use grains::{Node, config::Settings};
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let (settings, rest) = Settings::of_process()?;
    /// # drop(rest);
    /// let node = Node::builder().settings(settings).start().await?;
    /// # drop(node);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Everything that is wrong in the sources, at once.
    pub fn of_process() -> Result<(Self, Vec<OsString>), SettingsError> {
        let (sources, rest) = Sources::of_process();
        Ok((Self::default().read(&sources)?, rest))
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    match text.len() as u64 <= FILE_BYTES_MAX {
        true => Ok(text),
        false => Err(io::Error::other("it has more than 1 MiB")),
    }
}

//! Where the settings of a node come from, beside the options of the chat: see docs/CONFIGURATION.md.

use std::{env, ffi::OsString, fs};

use grains::{
    Result,
    config::{Settings, Sources},
};

/// What the command line says of settings. `GRAINS_` variables say the same, and count less.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct SettingsArgs {
    /// A TOML file with settings of nodes [default: that of the variable GRAINS_CONFIG, or grains.toml if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
    /// One setting, as `idle_timeout=5m` or `cluster.lease=1s`; as often as you like
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
}

impl SettingsArgs {
    /// Reads everything that is set over these defaults.
    pub fn read(&self, defaults: Settings) -> Result<Settings> {
        let args = [String::new()].into_iter().chain(self.as_args()).map(OsString::from);
        let (sources, _rest) = Sources::of(args, env::vars_os(), |path| fs::read_to_string(path));
        Ok(defaults.read(&sources)?)
    }

    /// The arguments that say the same to another process in this folder.
    pub fn as_args(&self) -> impl Iterator<Item = String> {
        let config = self.config.iter().map(|file| format!("--config={file}"));
        config.chain(self.set.iter().map(|setting| format!("--set={setting}")))
    }
}

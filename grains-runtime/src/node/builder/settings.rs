//! Building a node from settings.

use super::{Hosting, HostingKind, NodeBuilder, StartError};
use crate::settings::{HostedOptions, Settings};

/// The same error, with where in `settings` the values come from that it is about.
pub(super) fn with_places(error: StartError, settings: &Settings) -> StartError {
    match error {
        StartError::ZeroLimit { limit, why, .. } => {
            let place = settings.place_of(|name, _| name == limit);
            StartError::ZeroLimit { limit, why, place }
        }
        StartError::LargeLimit { limit, given, max, .. } => {
            let place = settings.place_of(|name, _| name == limit);
            StartError::LargeLimit { limit, given, max, place }
        }
        StartError::Empty { setting, why, .. } => {
            StartError::Empty { setting, why, place: settings.place_of(|name, _| name == setting) }
        }
        StartError::Store { store, of, why } => {
            let is_choice = |name: &str| name == "store" || (name.starts_with("grain.") && name.ends_with(".store"));
            let place = settings.place_of(|name, value| is_choice(name) && *value == format!("\"{store}\""));
            StartError::Store { store, of, why: why + &place }
        }
        #[cfg(feature = "cluster")]
        StartError::Cluster { why } => {
            let place = settings.place_of(|name, _| {
                let word = name.strip_prefix("cluster.").unwrap_or(name);
                why.contains(&format!("`{word}`"))
            });
            StartError::Cluster { why: why + &place }
        }
        #[cfg(feature = "tls")]
        StartError::Certificates { why } => {
            let place = settings.place_of(|name, _| {
                name.strip_prefix("cluster.").is_some_and(|word| why.contains(&format!("`{word}`")))
            });
            StartError::Certificates { why: why + &place }
        }
        #[cfg(feature = "cluster")]
        StartError::Listen { why } => {
            let place = settings.place_of(|name, _| ["cluster.listen", "cluster.advertise"].contains(&name));
            StartError::Listen { why: why + &place }
        }
        other => other,
    }
}

impl NodeBuilder {
    /// Takes over `settings`: the name, the limits, and the data directory and the cluster if they are set. Call it first:
    /// what is called after it counts more. What is set for a grain type counts more than its
    /// [`GrainOptions`](crate::GrainOptions), whenever they are given.
    ///
    /// ```
    /// # mod grains { pub use grains_runtime::{Node, settings as config}; }
    /// use grains::{
    ///     Node,
    ///     config::{Settings, Sources},
    /// };
    ///
    /// let settings = Settings::default().read(&Sources::new().set("name=a"))?;
    /// let builder = Node::builder().settings(settings).configure(|limits| limits.mailbox_len_max = 10);
    /// let effective = builder.effective_settings().to_string();
    /// assert!(effective.starts_with("name = \"a\""));
    /// # Ok::<(), grains::config::SettingsError>(())
    /// ```
    pub fn settings(mut self, settings: Settings) -> Self {
        self.config.clone_from(&settings.node);
        #[cfg(feature = "redb")]
        if let Some(folder) = &settings.data_dir {
            self.data_dir = Some(folder.clone());
        }
        #[cfg(feature = "cluster")]
        if let Some(cluster) = &settings.cluster {
            self.cluster = Some(cluster.clone());
        }
        self.settings = settings;
        self
    }

    /// The settings that the node would start with: those taken over, and what was called since, which comes from
    /// [`Code`](crate::settings::Origin::Code).
    pub fn effective_settings(&self) -> Settings {
        let mut effective = self.settings.clone();
        effective.node.clone_from(&self.config);
        #[cfg(feature = "redb")]
        effective.data_dir.clone_from(&self.data_dir);
        #[cfg(feature = "cluster")]
        effective.cluster.clone_from(&self.cluster);
        effective.under_grains(self.types.iter().map(|hosting| (hosting.name, &hosting.options)));
        effective.say_what_code_changed(&self.settings);
        effective
    }

    /// Puts what is set for grain types over their options.
    pub(super) fn set_grains(&mut self) -> Result<(), StartError> {
        let hosted = self.types.iter_mut().map(|Hosting { kind, name, options, .. }| match kind {
            HostingKind::Called => (*name, HostedOptions::Called(options)),
            HostingKind::Workers => (*name, HostedOptions::Workers(options)),
            HostingKind::Singleton => (*name, HostedOptions::Singleton(options)),
        });
        Ok(self.settings.over_grains(hosted)?)
    }
}

//! What differs for single grain types: the tables `[grain.room]`. Called by the builder when it starts a node.

use std::time::Duration;

use super::{Mistake, Name, Origin, Settings, SettingsError};
#[cfg(feature = "cluster")]
use crate::cluster::{Placement, Strategy};
use crate::{config::GrainOptions, store::StoreChoice};

/// What is set for one grain type. What is not set is as the program has it, in its [`GrainOptions`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GrainSettings {
    /// How long an activation of this type stays without calls.
    pub idle_timeout: Option<Duration>,
    /// Whether activations of this type stay without calls for ever.
    pub keep_active: Option<bool>,
    /// How many calls may wait for one activation of this type.
    pub mailbox_len_max: Option<usize>,
    /// After how long a turn of this type that still waits is cut.
    pub abandon_after: Option<Duration>,
    /// Which store keeps the states of this type.
    pub store: Option<StoreChoice>,
    /// How the node for a new activation of this type is chosen.
    #[cfg(feature = "cluster")]
    pub placement: Option<Strategy>,
    /// The role of nodes where its activations may live.
    #[cfg(feature = "cluster")]
    pub role: Option<String>,
}

impl GrainSettings {
    /// What differs in these options from those by default.
    fn of(options: GrainOptions) -> Self {
        let GrainOptions {
            idle_timeout,
            keep_active,
            mailbox_len_max,
            abandon_after,
            store,
            #[cfg(feature = "cluster")]
                placement: Placement { strategy, role },
        } = options;
        Self {
            idle_timeout,
            keep_active: Some(keep_active).filter(|keeps| *keeps),
            mailbox_len_max,
            abandon_after,
            store,
            #[cfg(feature = "cluster")]
            placement: Some(strategy).filter(|strategy| *strategy != Strategy::default()),
            #[cfg(feature = "cluster")]
            role,
        }
    }

    /// The words of what is set about where activations live.
    fn placed(&self) -> [Option<&'static str>; 2] {
        #[cfg(feature = "cluster")]
        return [self.placement.map(|_| "placement"), self.role.as_ref().map(|_| "role")];
        #[cfg(not(feature = "cluster"))]
        [None, None]
    }

    fn over(&self, options: &mut GrainOptions) {
        let GrainOptions {
            idle_timeout,
            keep_active,
            mailbox_len_max,
            abandon_after,
            store,
            #[cfg(feature = "cluster")]
                placement: Placement { strategy, role },
        } = options;
        *idle_timeout = self.idle_timeout.or(*idle_timeout);
        *keep_active = self.keep_active.unwrap_or(*keep_active);
        *mailbox_len_max = self.mailbox_len_max.or(*mailbox_len_max);
        *abandon_after = self.abandon_after.or(*abandon_after);
        *store = self.store.clone().or_else(|| store.take());
        #[cfg(feature = "cluster")]
        {
            *strategy = self.placement.unwrap_or(*strategy);
            *role = self.role.clone().or_else(|| role.take());
        }
    }
}

/// A grain type that a node hosts, and what the program says of it.
pub(crate) enum HostedOptions<'t> {
    Called(&'t mut GrainOptions),
    Workers(&'t mut GrainOptions),
    Singleton(&'t mut GrainOptions),
}

impl Settings {
    /// Puts what is set for grain types over the options of those that are hosted.
    pub(crate) fn over_grains<'t>(
        &self,
        hosted: impl IntoIterator<Item = (&'t str, HostedOptions<'t>)>,
    ) -> Result<(), SettingsError> {
        let mut hosted: Vec<_> = hosted.into_iter().collect();
        let mut mistakes = Vec::new();
        for (grain_type, grain) in &self.grains {
            match hosted.iter_mut().find(|(name, _)| name == grain_type) {
                Some((_, HostedOptions::Called(options))) => grain.over(options),
                Some((_, HostedOptions::Singleton(options))) => {
                    mistakes.extend(self.unfit_for_a_singleton(grain_type, grain));
                    grain.over(options);
                }
                Some((_, HostedOptions::Workers(options))) => {
                    mistakes.extend(self.unfit_for_workers(grain_type, grain));
                    grain.over(options);
                }
                None => mistakes.push(Mistake::NotHosted {
                    grain_type: grain_type.clone(),
                    origin: self.origin_of_grain(grain_type),
                    hosted: hosted.iter().map(|(name, _)| (*name).to_owned()).collect(),
                }),
            }
        }
        SettingsError::of(mistakes)
    }

    /// Puts the options of hosted grain types under what is set for them.
    pub(crate) fn under_grains<'t>(&mut self, hosted: impl IntoIterator<Item = (&'t str, &'t GrainOptions)>) {
        for (grain_type, options) in hosted {
            let mut options = options.clone();
            let set = self.grains.remove(grain_type).unwrap_or_default();
            set.over(&mut options);
            let effective = GrainSettings::of(options);
            // What is as by default may be set, too.
            let effective = GrainSettings { keep_active: set.keep_active.or(effective.keep_active), ..effective };
            #[cfg(feature = "cluster")]
            let effective = GrainSettings { placement: set.placement.or(effective.placement), ..effective };
            if effective != GrainSettings::default() {
                self.grains.insert(grain_type.to_owned(), effective);
            }
        }
    }

    /// What is set for a singleton and means nothing there.
    fn unfit_for_a_singleton(&self, grain_type: &str, grain: &GrainSettings) -> Vec<Mistake> {
        let stays = [grain.idle_timeout.map(|_| "idle_timeout"), grain.keep_active.map(|_| "keep_active")];
        let set = stays.into_iter().chain(grain.placed());
        self.mistakes(grain_type, set, |setting, origin| Mistake::Singleton { setting, origin })
    }

    /// What is set for a grain type with workers and means nothing there.
    fn unfit_for_workers(&self, grain_type: &str, grain: &GrainSettings) -> Vec<Mistake> {
        let set = [grain.store.as_ref().map(|_| "store")].into_iter().chain(grain.placed());
        self.mistakes(grain_type, set, |setting, origin| Mistake::Workers { setting, origin })
    }

    fn mistakes(
        &self,
        grain_type: &str,
        words: impl Iterator<Item = Option<&'static str>>,
        mistake: impl Fn(String, Origin) -> Mistake,
    ) -> Vec<Mistake> {
        let names = words.flatten().map(|word| Name::of_grain(grain_type, word));
        names.map(|name| mistake(name.to_string(), self.origin_of(&name).clone())).collect()
    }

    /// Where a grain type is named first.
    fn origin_of_grain(&self, grain_type: &str) -> Origin {
        let mut named = self.origins.iter().filter(|(name, _)| name.grain_type() == Some(grain_type));
        named.next().map(|(_, origin)| origin.clone()).unwrap_or_default()
    }
}

//! What no node can be started with. Called by the builder before anything is opened.

use litemap::LiteMap;

use super::{Hosting, HostingKind, NodeBuilder, StartError};
#[cfg(feature = "cluster")]
use crate::cluster::{Placement, Strategy};
use crate::{activation::backlog, config::NodeConfig};

impl NodeBuilder {
    /// Refuses what is given and says nothing, as settings do.
    pub(super) fn check_empty(&self) -> Result<(), StartError> {
        let refuse = |setting, why| Err(StartError::Empty { setting, why, place: String::new() });
        if self.config.name.is_empty() {
            return refuse("name", "give the node a name, or leave it out for the default");
        }
        #[cfg(feature = "redb")]
        if self.data_dir.as_ref().is_some_and(|folder| folder.as_os_str().is_empty()) {
            return refuse("data_dir", "name a folder, `.` for the working directory, or leave it out to keep nothing");
        }
        Ok(())
    }
}

pub(super) fn check(config: &NodeConfig) -> Result<(), StartError> {
    let limits = [
        ("call_timeout", config.call_timeout.is_zero(), "every call would fail at once"),
        ("activate_timeout", config.activate_timeout.is_zero(), "no grain could be activated"),
        ("deactivate_timeout", config.deactivate_timeout.is_zero(), "no `deactivate` could run"),
        ("store_timeout", config.store_timeout.is_zero(), "no state could be loaded or committed"),
        ("idle_timeout", config.idle_timeout.is_zero(), NEVER_IDLE),
        ("mailbox_len_max", config.mailbox_len_max == 0, NEVER_QUEUED),
        ("waiting_calls_max", config.waiting_calls_max == 0, NEVER_QUEUED),
        ("waiting_bytes_max", config.waiting_bytes_max == 0, NEVER_QUEUED),
        ("activations_max", config.activations_max == 0, "no grain could live on this node"),
        ("state_bytes_max", config.state_bytes_max == 0, "no state could be committed"),
    ];
    if let Some((limit, _, why)) = limits.into_iter().find(|(_, is_zero, _)| *is_zero) {
        return Err(StartError::zero(limit.to_owned(), why));
    }
    let counted = [
        ("waiting_calls_max", config.waiting_calls_max, backlog::CALLS_MAX),
        ("waiting_bytes_max", config.waiting_bytes_max, backlog::BYTES_MAX),
    ];
    match counted.into_iter().find(|(_, given, max)| given > max) {
        Some((limit, given, max)) => Err(StartError::LargeLimit { limit, given, max, place: String::new() }),
        None => Ok(()),
    }
}

const NEVER_IDLE: &str = "every activation would end as soon as it has answered";
const NEVER_WAITS: &str = "every turn that waits for anything would be cut";
const NEVER_QUEUED: &str = "no call could wait for its turn";

impl StartError {
    fn zero(limit: String, why: &'static str) -> Self {
        Self::ZeroLimit { limit, why, place: String::new() }
    }
}

impl Hosting {
    /// What it is given that means nothing for a grain with workers, if it is one.
    fn unfit_for_workers(&self) -> Option<&'static str> {
        #[cfg(feature = "cluster")]
        let Placement { strategy, role } = &self.options.placement;
        let given = [
            (self.kind == HostingKind::Singleton, "`NodeBuilder::singleton`"),
            #[cfg(feature = "cluster")]
            (*strategy != Strategy::default(), "`GrainOptions::placement`"),
            #[cfg(feature = "cluster")]
            (role.is_some(), "`GrainOptions::role`"),
            (self.options.store.is_some(), "`GrainOptions::store`"),
        ];
        given.into_iter().find(|(is_given, _)| self.has_workers && *is_given).map(|(_, what)| what)
    }
}

pub(super) fn check_types(hostings: &[Hosting], config: &NodeConfig) -> Result<(), StartError> {
    let mut rust_names: LiteMap<_, _> = LiteMap::default();
    for hosting in hostings {
        if let Some(first) = rust_names.insert(hosting.name, hosting.rust_name) {
            let second = hosting.rust_name;
            return Err(StartError::HostedTwice { grain_type: hosting.name, first, second });
        }
        if let Some(what) = hosting.unfit_for_workers() {
            let (grain_type, rust_name) = (hosting.name, hosting.rust_name);
            return Err(StartError::Workers { grain_type, rust_name, what });
        }
        // Those of the node are not zero, so it is the type's own.
        if hosting.idle_timeout(config).is_zero() {
            return Err(StartError::zero(format!("grain.{}.idle_timeout", hosting.name), NEVER_IDLE));
        }
        if hosting.mailbox_len_max(config) == 0 {
            return Err(StartError::zero(format!("grain.{}.mailbox_len_max", hosting.name), NEVER_QUEUED));
        }
        if hosting.options.abandon_after.is_some_and(|limit| limit.is_zero()) {
            return Err(StartError::zero(format!("grain.{}.abandon_after", hosting.name), NEVER_WAITS));
        }
    }
    Ok(())
}

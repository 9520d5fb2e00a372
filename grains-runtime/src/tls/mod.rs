//! TLS between nodes: version 1.3, certificates on both sides, nothing resumed. `wire/security.rs` has every connection pass
//! through [`Tls::dialled`] or [`Tls::accepted`] before the handshake of the wire; what a proven identity may do is said in
//! `wire/identity.rs`.
//!
//! Reading order: `material` (certificate, key and roots, read and checked), `verify` (whom they trust), `files` (the only room
//! that reads them), `opening` (how a TLS connection comes about), `session` (its bytes), `telling` (errors for people), and
//! below, what a node has of all that, and how it is kept fresh.

mod files;
mod material;
mod opening;
mod session;
mod telling;
mod verify;

use std::{fmt, sync::Arc, time::Duration};

use grains_core::world::{Clock, Connection, World};
use rustls::pki_types::UnixTime;
use tokio::sync::Notify;

pub(crate) use self::{
    files::Files,
    material::{Bad, Pem, Whose},
};
use self::{material::Material, opening::Opened};
use crate::{
    cluster::NodeName,
    sync::{Mutex, lock},
    timeout::timeout,
    wire::Unsecured,
};

/// Certificate, key and trust roots of a node, as they are now.
pub(crate) struct Tls {
    cluster: NodeName,
    whose: Whose,
    /// Where they come from. Without files they never change.
    files: Option<Files>,
    now: Mutex<Arc<Material>>,
    /// A handshake has failed: there may be newer ones.
    failed: Notify,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("whose", &self.whose).field("files", &self.files).finish_non_exhaustive()
    }
}

/// How often files are looked at: a change is in use on all nodes by the time a person has gone to the next step, and three small
/// files cost nothing.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How soon after a handshake that failed. Whoever makes them fail on purpose gets them read twice a second.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// From when on it is said that a certificate is about to expire: time enough to hear of it and act within work days.
const EXPIRES_SOON: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// How often that is said.
const SAY_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

impl Tls {
    /// With what the files have now. Reads them, so not for a task.
    pub(crate) fn of_files(files: Files, cluster: &NodeName, whose: Whose) -> Result<Self, Bad> {
        let pem = files.read()?;
        Self::with(pem, Some(files), cluster, whose)
    }

    /// With these, for good.
    #[cfg(feature = "ca")]
    pub(crate) fn of_pem(pem: Pem, cluster: &NodeName, whose: Whose) -> Result<Self, Bad> {
        Self::with(pem, None, cluster, whose)
    }

    fn with(pem: Pem, files: Option<Files>, cluster: &NodeName, whose: Whose) -> Result<Self, Bad> {
        let material = Material::new(pem, cluster, &whose, UnixTime::now())?;
        Ok(Self { cluster: cluster.clone(), whose, files, now: Mutex::new(Arc::new(material)), failed: Notify::new() })
    }

    /// Makes a connection of the side that dialled secret, and says who the other side has proven to be.
    pub(crate) async fn dialled(&self, connection: Connection, clock: &Arc<dyn Clock>) -> Result<Opened, Unsecured> {
        let material = lock(&self.now).clone();
        self.noted(opening::dialled(&material, connection, clock).await)
    }

    /// The same for the side that was dialled.
    pub(crate) async fn accepted(&self, connection: Connection, clock: &Arc<dyn Clock>) -> Result<Opened, Unsecured> {
        let material = lock(&self.now).clone();
        self.noted(opening::accepted(&material, connection, clock).await)
    }

    fn noted(&self, opened: Result<Opened, Unsecured>) -> Result<Opened, Unsecured> {
        if let Err(Unsecured::Untrusted(_)) = opened {
            self.look_soon();
        }
        opened
    }

    /// Somebody does not trust this node, or the other way round: newer files may be there.
    pub(crate) fn look_soon(&self) {
        self.failed.notify_one();
    }

    /// Whether they come from files, which may change.
    pub(crate) fn may_change(&self) -> bool {
        self.files.is_some()
    }

    /// Takes over what the files have, whenever they have changed, for connections made after that. Never returns.
    pub(crate) async fn keep_fresh(self: Arc<Self>, world: World) {
        let clock = world.clock.clone();
        let mut refused = None;
        let mut said = None;
        loop {
            let now = clock.now();
            if lock(&self.now).expires_before(UnixTime::now(), EXPIRES_SOON)
                && said.is_none_or(|said| now.since(said) >= SAY_EVERY)
            {
                said = Some(now);
                tracing::warn!(
                    of = %self.whose,
                    "this certificate expires within a week, and then no node talks to its holder: issue a new one"
                );
            }
            clock.sleep_until(now + LOOK_AGAIN).await;
            timeout(&clock, LOOK_EVERY - LOOK_AGAIN, self.failed.notified()).await;
            let me = self.clone();
            match world.off_thread(move || me.look()).await {
                Some(Ok(Looked::Same)) => refused = None,
                Some(Ok(Looked::New)) => {
                    (refused, said) = (None, None);
                    tracing::info!(of = %self.whose, "new certificates are in use");
                }
                // Files that belong together are written one after the other, so the second look counts.
                Some(Err(bad)) => {
                    if refused.as_ref().is_some_and(|(last, told)| *last == bad && !told) {
                        tracing::warn!(of = %self.whose, reason = %bad, "certificates stay as they were");
                        refused = Some((bad, true));
                    } else if refused.as_ref().is_none_or(|(last, _)| *last != bad) {
                        refused = Some((bad, false));
                    }
                }
                None => return std::future::pending().await,
            }
        }
    }

    fn look(&self) -> Result<Looked, Bad> {
        let Some(files) = &self.files else { return Ok(Looked::Same) };
        let pem = files.read()?;
        if lock(&self.now).is_made_of(&pem) {
            return Ok(Looked::Same);
        }
        let material = Material::new(pem, &self.cluster, &self.whose, UnixTime::now())?;
        *lock(&self.now) = Arc::new(material);
        Ok(Looked::New)
    }
}

/// What a look at the files came to.
enum Looked {
    Same,
    New,
}

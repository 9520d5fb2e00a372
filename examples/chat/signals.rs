//! The signals by which people and service managers ask a process to stop: SIGINT (Ctrl-C) and SIGTERM.

use std::io;

/// The signals that ask to stop, from now on in place of the sudden end they mean by default.
pub struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// Takes them over.
    pub fn take() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Returns when one has come.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    /// Takes them over, at the first `next`.
    pub fn take() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Returns when one has come.
    pub async fn next(&mut self) {
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::warn!(%error, "Ctrl-C is not noticed: this process has to be ended");
            std::future::pending::<()>().await;
        }
    }
}

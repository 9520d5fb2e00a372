//! How a node notices that the process that started it is gone: the standard input that it was given ends, however that
//! process did.

use std::{io, thread};

use tokio::sync::oneshot;

/// What holds a node.
pub struct Leash(Option<oneshot::Receiver<()>>);

impl Leash {
    /// Nobody holds it.
    pub fn none() -> Self {
        Self(None)
    }

    /// Whoever has the other end of the standard input holds it.
    pub fn of_stdin() -> io::Result<Self> {
        let (let_go, held) = oneshot::channel();
        // A thread of its own, which ends with the process: reading blocks, and a runtime would wait for it.
        thread::Builder::new().name("leash".into()).spawn(move || {
            let _ = io::copy(&mut io::stdin(), &mut io::sink());
            // An error means that nobody waits any more.
            let _ = let_go.send(());
        })?;
        Ok(Self(Some(held)))
    }

    /// Returns once, when it was let go.
    pub async fn let_go(&mut self) {
        match &mut self.0 {
            Some(held) => {
                // An error means that the thread is gone, which is no better.
                let _ = held.await;
                self.0 = None;
            }
            None => std::future::pending().await,
        }
    }
}

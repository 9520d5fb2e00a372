//! Keeping the log short beside a state on disk: the state is made durable when enough was applied to it, and what the log
//! has from before that goes, but for what a voter that is a little behind may ask for.

use std::time::Duration;

use openraft::{Raft, async_runtime::watch::WatchReceiver, errors::Fatal, rt::AsyncRuntime};

use super::{log::Log, machine::Driven, runtime::WorldRuntime, types::Types};

/// How long until a snapshot that is being made is looked for again: some fsyncs.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Works until openraft ends.
pub(super) async fn short(raft: Raft<Types, Driven>, log: Log, driven: Driven, bytes_kept_max: usize) {
    loop {
        driven.grown().await;
        if shorten(&raft, &log, bytes_kept_max).await.is_err() {
            return;
        }
    }
}

/// Makes the state durable, and has the log before it go, but for so many bytes.
pub(super) async fn shorten(raft: &Raft<Types, Driven>, log: &Log, bytes_kept_max: usize) -> Result<(), Fatal<Types>> {
    let metrics = raft.metrics();
    let applied = metrics.borrow_watched().last_applied;
    // Asked for again until it is there: while one is being made, which may be older, openraft begins no other.
    while metrics.borrow_watched().snapshot < applied {
        raft.trigger().snapshot().await?;
        WorldRuntime::sleep(LOOK_AGAIN).await;
    }
    // openraft drops nothing that the snapshot does not have.
    match log.beyond(bytes_kept_max) {
        Some(upto) => raft.trigger().purge_log(upto).await,
        None => Ok(()),
    }
}

//! The reading side of one stream: a task that tells the sender's node what the reader does.

use std::{future::poll_fn, sync::Arc};

use grains_core::stream::{ImportedStream, Reading, StreamError};

use super::{Hub, StreamLink, frame::StreamId};
use crate::cluster::names::MemberId;

/// Runs until the stream has ended or its reader is gone.
pub(super) async fn watch(
    hub: Arc<Hub>,
    link: Arc<dyn StreamLink>,
    from: MemberId,
    id: StreamId,
    imported: ImportedStream,
) {
    loop {
        match poll_fn(|cx| imported.poll_reading(cx)).await {
            Reading::Over => return,
            Reading::Stopped => {
                close(&hub, from, id);
                // Without the link there is nobody to stop: its end has stopped the sender.
                hub.tell(&*link, &id.stop()).ok();
                return;
            }
            Reading::Took(more) => {
                if hub.tell(&*link, &id.credit(more)).is_err() {
                    close(&hub, from, id);
                    let why = format!("there is no connection to member {from}").into();
                    imported.end(Some(StreamError::Disconnected { why }));
                    return;
                }
            }
        }
    }
}

fn close(hub: &Hub, from: MemberId, id: StreamId) {
    let imported = hub.table().close_import(from, id);
    drop(imported);
}

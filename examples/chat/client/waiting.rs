//! What a person at a terminal is told while an answer takes long: one line, for whom the nodes wait. Used by `nodes`.

use std::{
    sync::mpsc::{RecvTimeoutError, Sender, TryRecvError, channel},
    thread,
    time::Duration,
};

use super::Nodes;

/// How long an answer may take until a person is told: longer than a grain needs to find another node.
const SILENT_MAX: Duration = Duration::from_secs(3);

/// Tells it unless what is returned is dropped before.
pub fn tell(nodes: &Nodes) -> Sender<()> {
    let (done, ended) = channel();
    let nodes = nodes.clone();
    let teller = thread::Builder::new().name("waiting".into()).spawn(move || {
        if let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(SILENT_MAX) {
            let why = nodes.waiting_for().map(|why| format!("; {why}")).unwrap_or_default();
            // It may have come while they were asked.
            if let Err(TryRecvError::Empty) = ended.try_recv() {
                eprintln!("waiting for an answer{why}");
            }
        }
    });
    // Without a thread the answer is waited for in silence.
    drop(teller);
    done
}

//! Calls from every node to every node, on and on, none of which may fail.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use grains::prelude::*;
use tokio::task::JoinHandle;

use crate::TallyRef;

/// Callers, and how many of their calls were answered.
pub struct Load {
    done: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    callers: Vec<JoinHandle<u64>>,
}

const GRAINS: u64 = 12;

impl Load {
    /// Two callers on each node.
    pub fn begin(nodes: &[Node]) -> Self {
        let (done, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let caller = |node: &Node| {
            let (done, answered) = (done.clone(), answered.clone());
            let grains: Vec<TallyRef> = (0..GRAINS).map(|key| node.get(key.to_string())).collect();
            tokio::spawn(async move {
                let mut added = 0;
                while !done.load(Ordering::Relaxed) {
                    for grain in &grains {
                        grain.add(1).await.expect("no call fails");
                        added += 1;
                        answered.fetch_add(1, Ordering::Relaxed);
                        // Steady rather than much: what is to be seen is each change, and other tests run beside.
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
                added
            })
        };
        let callers = nodes.iter().chain(nodes).map(caller).collect();
        Self { done, answered, callers }
    }

    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Ends it. Every call was answered, and has run once: `node` looks.
    pub async fn end(self, node: &Node) -> u64 {
        self.done.store(true, Ordering::Relaxed);
        let mut added = 0;
        for caller in self.callers {
            added += caller.await.unwrap();
        }
        let mut sum = 0;
        for key in 0..GRAINS {
            sum += node.get::<TallyRef>(key.to_string()).add(0).await.unwrap().0;
        }
        assert_eq!(sum, added, "each call has run once");
        added
    }
}

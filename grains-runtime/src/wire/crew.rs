//! The tasks of a wire: all of them end before it is closed.

use std::sync::Arc;

use grains_core::{tasks::TaskSet, world::Tasks};
use tokio::sync::mpsc;

use crate::sync::{Mutex, lock};

/// A set of tasks whose end can be waited for.
pub(super) struct Crew {
    tasks: TaskSet,
    /// Each task has a copy. When the last one is gone, so is the last task.
    alive: Mutex<Option<mpsc::Sender<()>>>,
    gone: tokio::sync::Mutex<mpsc::Receiver<()>>,
}

impl Crew {
    pub(super) fn new(spawner: Arc<dyn Tasks>) -> Self {
        let (alive, gone) = mpsc::channel(1);
        Self { tasks: TaskSet::new(spawner), alive: Mutex::new(Some(alive)), gone: tokio::sync::Mutex::new(gone) }
    }

    /// Runs `task`, unless the crew is closed: then it is dropped, here and now. So not under a lock that its drop needs.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let alive = lock(&self.alive).clone();
        if let Some(alive) = alive {
            self.tasks.spawn(Tagged { task: Box::pin(task), _alive: alive });
        }
    }

    /// Drops all tasks at their next chance.
    pub(super) fn close(&self) {
        lock(&self.alive).take();
        self.tasks.close();
    }

    /// After [`close`](Self::close), returns when the last task was dropped.
    pub(super) async fn gone(&self) {
        let mut gone = self.gone.lock().await;
        while gone.recv().await.is_some() {}
    }
}

/// The task goes first, the tag after it.
struct Tagged {
    task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
    _alive: mpsc::Sender<()>,
}

impl Future for Tagged {
    type Output = ();
    fn poll(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        self.task.as_mut().poll(cx)
    }
}

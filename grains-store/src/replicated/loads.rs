//! Loads that wait in a node, and the few tasks that ask for them: many states with one question, because each question
//! costs the leader a round of heartbeats.

use std::{collections::VecDeque, sync::Arc};

use grains_core::{
    store::{LoadError, Stored},
    world::BoxFuture,
};
use tokio::sync::oneshot;

use super::{
    ReplicatedConfig, Shared, Unanswered, lock,
    words::{Answer, Ask, Name},
};

/// How many states are asked for at once.
const BATCH_LEN_MAX: usize = 128;
/// How many questions are under way.
const ASKING_MAX: usize = 4;

pub(super) struct Loads {
    waiting: VecDeque<Waiting>,
    asking: usize,
    over: Option<String>,
    len_max: usize,
}

struct Waiting {
    name: Name,
    answer: oneshot::Sender<Result<Option<Stored>, LoadError>>,
}

impl Loads {
    pub(super) fn new(config: &ReplicatedConfig) -> Self {
        Self { waiting: VecDeque::new(), asking: 0, over: None, len_max: config.loads_max }
    }

    /// Whether another task has to be started.
    fn push(&mut self, one: Waiting) -> Result<bool, LoadError> {
        if let Some(why) = &self.over {
            return Err(unavailable(why));
        }
        if self.waiting.len() >= self.len_max {
            return Err(unavailable(&format!("{} loads wait already", self.len_max)));
        }
        self.waiting.push_back(one);
        let more = self.asking < ASKING_MAX;
        self.asking += usize::from(more);
        Ok(more)
    }

    /// What to ask for next; nothing ends the task.
    fn next_batch(&mut self) -> Vec<Waiting> {
        let len = self.waiting.len().min(BATCH_LEN_MAX);
        let batch: Vec<_> = self.waiting.drain(..len).collect();
        self.asking -= usize::from(batch.is_empty());
        batch
    }

    /// These were not answered: they go first.
    fn put_back(&mut self, rest: impl DoubleEndedIterator<Item = Waiting>) {
        for one in rest.rev() {
            match &self.over {
                Some(why) => drop(one.answer.send(Err(unavailable(why)))),
                None => self.waiting.push_front(one),
            }
        }
    }

    /// Refuses everything from now on, and what waits.
    pub(super) fn refuse(&mut self, why: &str) {
        self.over = Some(why.to_owned());
        for one in std::mem::take(&mut self.waiting) {
            let _ = one.answer.send(Err(unavailable(why)));
        }
    }
}

fn unavailable(why: &str) -> LoadError {
    LoadError::Unavailable { why: why.to_owned() }
}

impl Shared {
    pub(super) fn load(self: &Arc<Self>, name: Name) -> BoxFuture<'static, Result<Option<Stored>, LoadError>> {
        let (answer, answered) = oneshot::channel();
        let pushed = lock(&self.loads).push(Waiting { name, answer });
        match pushed {
            Err(error) => return Box::pin(async { Err(error) }),
            Ok(true) => drop(self.world.tasks.spawn(Box::pin(Asking(self.clone()).run()))),
            Ok(false) => {}
        }
        Box::pin(async move { answered.await.unwrap_or_else(|_| Err(unavailable("the runtime has ended"))) })
    }
}

/// One of the tasks that ask.
struct Asking(Arc<Shared>);

impl Asking {
    async fn run(self) {
        loop {
            // A binding of its own, or the lock would be held while it is asked.
            let batch = lock(&self.0.loads).next_batch();
            if batch.is_empty() {
                return;
            }
            self.ask(batch).await;
        }
    }

    async fn ask(&self, batch: Vec<Waiting>) {
        // Nobody asks for what nobody waits for any more.
        let batch: Vec<_> = batch.into_iter().filter(|one| !one.answer.is_closed()).collect();
        if batch.is_empty() {
            return;
        }
        let names = batch.iter().map(|one| one.name.clone()).collect();
        let until = self.0.world.clock.now() + self.0.config.patience;
        let loaded = match self.0.ask_leader(&Ask::Load(names), until).await {
            Ok(Answer::Loaded(loaded)) if !loaded.is_empty() => Ok(loaded),
            Err(Unanswered { why, .. }) => Err(unavailable(&why)),
            Ok(_) => Err(unavailable("the answer is to another question")),
        };
        let mut batch = batch.into_iter();
        match loaded {
            Ok(loaded) => {
                for (held, one) in loaded.into_iter().zip(batch.by_ref()) {
                    let _ = one.answer.send(held.map(|held| held.map(Stored::from)));
                }
                lock(&self.0.loads).put_back(batch);
            }
            Err(error) => batch.for_each(|one| drop(one.answer.send(Err(error.clone())))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_loads_than_may_wait_are_refused_by_the_limit() {
        let mut loads = Loads::new(&ReplicatedConfig { loads_max: 1, ..ReplicatedConfig::default() });
        let mut push = || {
            let (answer, answered) = oneshot::channel();
            let name = Name { grain_type: "t".into(), key: "k".into(), name: "s".into() };
            loads.push(Waiting { name, answer }).map(|more| (more, answered))
        };
        let (more, _waits) = push().unwrap();
        assert!(more, "somebody has to ask");
        assert_eq!(push().err(), Some(unavailable("1 loads wait already")));
    }
}

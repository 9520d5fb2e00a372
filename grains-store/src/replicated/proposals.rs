//! What other nodes want written, at the leader: while some of it is agreed on, the rest gathers, and all of it goes together,
//! with one write to the log of each voter. Of each node there is one command at a time, and perhaps an attempt at it that was
//! given up.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use grains_core::{
    timeout::timeout,
    world::{Clock, World},
};
use tokio::sync::{Notify, oneshot};

use super::{Running, lock};
use crate::consensus::{COMMAND_BYTES_MAX, ProposeError, Proposed, check_size};

/// How long those who were just answered are waited for, at most.
const LINGER_MAX: Duration = Duration::from_millis(10);

/// How long what gathers waits for what is agreed on. Longer than that nobody may be left to agree, and a node that does not lead
/// any more has to say so.
const HELD_MAX: Duration = Duration::from_millis(500);

/// Waits for those who were just answered, until `came` says that they are here again, because most come again and a write that
/// all of them share is worth a moment. `rung` rings when more have come.
pub(super) async fn gather(clock: &Arc<dyn Clock>, linger: Duration, rung: &Notify, mut came: impl FnMut() -> bool) {
    let until = clock.now() + linger.min(LINGER_MAX);
    loop {
        let ringing = rung.notified();
        let now = clock.now();
        if came() || now >= until {
            return;
        }
        timeout(clock, until.since(now), ringing).await;
    }
}

/// The commands that wait at one node, and the right to propose them.
#[derive(Default)]
pub(super) struct Proposals {
    waiting: Mutex<Waiting>,
    /// Rung when as many wait as are waited for.
    gathered: Notify,
}

#[derive(Default)]
struct Waiting {
    commands: Vec<One>,
    /// How many are waited for.
    expected: usize,
    is_proposing: bool,
}

struct One {
    command: Vec<u8>,
    answer: oneshot::Sender<Proposed>,
}

impl Waiting {
    /// What goes next: those that somebody still waits for, as far as they fit, but at least one.
    fn next_batch(&mut self) -> Vec<One> {
        self.commands.retain(|one| !one.answer.is_closed());
        let mut bytes = 0;
        let fits = self.commands.iter().take_while(|one| {
            bytes += one.command.len();
            bytes <= COMMAND_BYTES_MAX
        });
        let len = fits.count();
        let batch: Vec<_> = self.commands.drain(..len).collect();
        self.is_proposing = !batch.is_empty();
        batch
    }

    /// Whether so many are here, or as many as can go.
    fn expect(&mut self, expected: usize) -> bool {
        self.expected = expected;
        let bytes: usize = self.commands.iter().map(|one| one.command.len()).sum();
        self.commands.len() >= expected || bytes >= COMMAND_BYTES_MAX
    }
}

/// Has a command applied, together with others that come meanwhile.
pub(super) async fn propose(world: &World, running: &Arc<Running>, command: Vec<u8>) -> Proposed {
    check_size(&command)?;
    let (answer, answered) = oneshot::channel();
    let proposals = &running.proposals;
    let (was_proposing, are_gathered) = {
        let mut waiting = lock(&proposals.waiting);
        waiting.commands.push(One { command, answer });
        let are_gathered = waiting.commands.len() == waiting.expected;
        (std::mem::replace(&mut waiting.is_proposing, true), are_gathered)
    };
    if !was_proposing {
        let proposing = Proposing { running: running.clone(), world: world.clone(), is_done: false };
        world.tasks.spawn(Box::pin(proposing.run()));
    } else if are_gathered {
        proposals.gathered.notify_waiters();
    }
    answered.await.unwrap_or(Err(ProposeError::Unknown))
}

/// The right to propose, held by one task at a time.
struct Proposing {
    running: Arc<Running>,
    world: World,
    is_done: bool,
}

impl Proposing {
    async fn run(mut self) {
        let running = self.running.clone();
        let Proposals { waiting, gathered } = &running.proposals;
        loop {
            // A binding of its own, or the lock would be held while it is proposed.
            let batch = lock(waiting).next_batch();
            if batch.is_empty() {
                self.is_done = true;
                return;
            }
            let begun = self.world.clock.now();
            let mut answering = Box::pin(answer(running.clone(), batch));
            let Some(expected) = timeout(&self.world.clock, HELD_MAX, &mut answering).await else {
                self.world.tasks.spawn(Box::pin(async move {
                    answering.await;
                }));
                continue;
            };
            if expected > 1 {
                let took = self.world.clock.now().since(begun);
                gather(&self.world.clock, took / 2, gathered, || lock(waiting).expect(expected)).await;
            }
        }
    }
}

/// Proposes a batch and tells whoever waits. Gives how many may be here together next: these, and those who came meanwhile.
async fn answer(running: Arc<Running>, batch: Vec<One>) -> usize {
    let (commands, answers): (Vec<_>, Vec<_>) = batch.into_iter().map(|one| (one.command, one.answer)).unzip();
    let results = running.consensus.propose_all(commands).await;
    let expected = answers.len() + lock(&running.proposals.waiting).commands.len();
    for (answer, result) in answers.into_iter().zip(results) {
        // An error means that the asker has given up.
        let _ = answer.send(result);
    }
    expected
}

impl Drop for Proposing {
    fn drop(&mut self) {
        if !self.is_done {
            // Whoever waits is told that it is not known.
            *lock(&self.running.proposals.waiting) = Waiting::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use grains_runtime::world::tokio_world;

    use super::*;

    fn one(bytes: usize) -> (One, oneshot::Receiver<Proposed>) {
        let (answer, answered) = oneshot::channel();
        (One { command: vec![0; bytes], answer }, answered)
    }

    #[test]
    fn those_who_wait_go_together_as_far_as_they_fit() {
        let mut waiting = Waiting::default();
        let mut askers = Vec::new();
        for bytes in [COMMAND_BYTES_MAX, 10, 20, 30] {
            let (one, asker) = one(bytes);
            waiting.commands.push(one);
            askers.push(asker);
        }
        assert_eq!(waiting.next_batch().len(), 1, "the largest goes alone");
        assert_eq!(waiting.next_batch().len(), 3);
        assert!(waiting.is_proposing);
        assert!(waiting.next_batch().is_empty());
        assert!(!waiting.is_proposing);
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_not_proposed() {
        let mut waiting = Waiting::default();
        let (first, gave_up) = one(1);
        let (second, _waits) = one(2);
        waiting.commands.extend([first, second]);
        drop(gave_up);
        let batch = waiting.next_batch();
        assert_eq!(batch.iter().map(|one| one.command.len()).collect::<Vec<_>>(), [2]);
    }

    #[tokio::test]
    async fn who_gathers_goes_on_when_all_have_come() {
        let clock = tokio_world().unwrap().clock;
        let rung = Notify::new();
        let here = std::cell::Cell::new(1);
        let mut gathering = pin!(gather(&clock, Duration::from_secs(3600), &rung, || here.get() >= 2));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(gathering.as_mut().poll(&mut cx).is_pending());
        here.set(2);
        rung.notify_waiters();
        assert_eq!(gathering.as_mut().poll(&mut cx), Poll::Ready(()));
    }

    #[tokio::test]
    async fn who_gathers_waits_its_time_and_goes_on() {
        let clock = tokio_world().unwrap().clock;
        let rung = Notify::new();
        for linger in [Duration::from_millis(2), Duration::from_secs(3600)] {
            let begun = clock.now();
            gather(&clock, linger, &rung, || false).await;
            let waited = clock.now().since(begun);
            assert!(waited >= linger.min(LINGER_MAX), "{waited:?}");
        }
    }
}

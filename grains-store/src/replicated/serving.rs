//! What the leader does for others, and what every voter does for Raft.

use std::sync::{Arc, atomic::Ordering};

use grains_core::{
    codec,
    switches::{Mechanism, on},
};

use super::{
    Running, Shared,
    proposals::propose,
    words::{Answer, Ask, Command, Envelope, Held},
};
use crate::consensus::{Committed, ProposeError};

/// How many bytes of states are answered at once, beyond the first: with it, an answer fits into a message.
const LOADED_BYTES_MAX: usize = 2 * 1024 * 1024;

impl Shared {
    pub(super) async fn answer_bytes(&self, body: &[u8]) -> Answer {
        let Ok(Envelope { group, ask }) = codec::decode(body) else {
            return Answer::Refused("the question cannot be read: its sender's version is another one".into());
        };
        let running = self.part.borrow().clone();
        match running {
            Some(running) if running.group == group => self.answer(&running, ask).await,
            Some(running) => {
                Answer::Refused(format!("this node keeps the states of group {}, not {group}", running.group))
            }
            None => Answer::NotLeader(None),
        }
    }

    pub(super) async fn answer(&self, running: &Arc<Running>, ask: Ask) -> Answer {
        match ask {
            Ask::Raft(body) => Answer::Raft(running.consensus.handle(body).await),
            _ if !running.serves.load(Ordering::Acquire) => Answer::NotLeader(None),
            // What this node cannot read would end every voter that is to apply it.
            Ask::Apply(command) if codec::decode::<Command<'_>>(&command).is_err() => {
                Answer::Refused("the command cannot be read: its sender's version is another one".into())
            }
            Ask::Apply(command) => match propose(&self.world, running, command).await {
                Ok(Committed { outcome, .. }) => Answer::Applied(outcome),
                Err(error) => refused(error),
            },
            Ask::Voters if !running.consensus.leadership().borrow().is_me => Answer::NotLeader(None),
            Ask::Voters if running.consensus.unfinished().is_some() => {
                Answer::Refused("another one is about to vote".into())
            }
            Ask::Voters => Answer::Voters(running.consensus.agreed_voters().keys().copied().collect()),
            Ask::Load(names) => {
                let states = running.states.clone();
                let read = move || states.load(&names, LOADED_BYTES_MAX);
                self.read(running, read, |loaded| {
                    Answer::Loaded(loaded.into_iter().map(|one| one.map(|one| one.map(Held::from))).collect())
                })
                .await
            }
            Ask::List { grain_type, after, limit } => {
                let states: Arc<_> = running.states.clone();
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                let read = move || states.list(&grain_type, after.as_deref(), limit);
                self.read(running, read, Answer::Listed).await
            }
        }
    }

    /// Reads what includes everything acknowledged before the question: after a majority has said that this node leads, so
    /// that no other can have acknowledged more.
    async fn read<T: Send + 'static>(
        &self,
        running: &Running,
        read: impl FnOnce() -> T + Send + 'static,
        answer: impl FnOnce(T) -> Answer,
    ) -> Answer {
        if on(Mechanism::LoadAsksQuorum)
            && let Err(error) = running.consensus.read_index().await
        {
            return match refused(error) {
                // A question that reads does nothing, however often it is asked.
                Answer::Unknown(_) => Answer::NotLeader(None),
                answer => answer,
            };
        }
        match self.world.off_thread(read).await {
            Some(read) => answer(read),
            None => Answer::Refused("the runtime has ended".into()),
        }
    }
}

fn refused(error: ProposeError) -> Answer {
    match error {
        ProposeError::NotLeader { leader } => Answer::NotLeader(leader.map(|(_, address)| address)),
        ProposeError::Closed { .. } => Answer::NotLeader(None),
        ProposeError::Refused(why) => Answer::Refused(why),
        error @ (ProposeError::Unknown | ProposeError::Busy | ProposeError::Lagging { .. }) => {
            Answer::Unknown(error.to_string())
        }
    }
}

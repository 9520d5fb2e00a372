//! Questions to whoever leads the group, wherever that is.

use std::{sync::Arc, time::Duration};

use grains_core::{Instant, codec, timeout::timeout, world::BoxFuture};

use super::{
    Running, Shared, lock,
    words::{Answer, Ask, Envelope},
};
use crate::{
    NodeId,
    consensus::{Lane, LinkError, RaftLinks},
};

/// How long one node is waited for before another one is asked. A leader whose disk is slow is asked again, under the same
/// number.
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// How long until a question that nobody could answer is asked again.
const AGAIN_AFTER: Duration = Duration::from_millis(25);

/// The way to the other nodes.
pub trait Peers: Send + Sync + 'static {
    /// Hands `body` to [`ReplicatedStore::handle`](super::ReplicatedStore::handle) of the node at `address`, which is `to` if
    /// that is given, and gives its answer, or an error after `timeout` at the latest.
    fn ask(
        &self,
        to: Option<NodeId>,
        address: &str,
        lane: Lane,
        body: Vec<u8>,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, Unanswered>>;

    /// Where the voters are, as far as this node knows.
    fn voters(&self) -> Vec<String>;
}

/// There was no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Unanswered {
    /// Why.
    pub why: String,
    /// Whether somebody may have heard the question.
    pub sent: bool,
}

/// Raft's messages, as questions between the stores of nodes.
pub(super) struct Links {
    pub(super) group: u64,
    pub(super) peers: Arc<dyn Peers>,
}

impl RaftLinks for Links {
    fn call(
        &self,
        to: NodeId,
        address: &str,
        lane: Lane,
        body: Vec<u8>,
        timeout: Duration,
    ) -> BoxFuture<'static, Result<Vec<u8>, LinkError>> {
        let asking = self.peers.ask(Some(to), address, lane, encoded(self.group, Ask::Raft(body)), timeout);
        Box::pin(async move {
            let answer = asking.await.map_err(|unanswered| LinkError { why: unanswered.why })?;
            match codec::decode(&answer) {
                Ok(Answer::Raft(body)) => Ok(body),
                Ok(Answer::Refused(why)) => Err(LinkError { why }),
                _ => Err(LinkError { why: "the answer is none of Raft's".into() }),
            }
        })
    }
}

fn encoded(group: u64, ask: Ask) -> Vec<u8> {
    codec::encode(&Envelope { group, ask }).expect("questions are made of texts, numbers and bytes")
}

impl Shared {
    /// Asks whoever leads the group until there is an answer or `until` has come.
    pub(super) async fn ask_leader(&self, ask: &Ask, until: Instant) -> Result<Answer, Unanswered> {
        let clock = &self.world.clock;
        let mut part = self.part.subscribe();
        let opened = timeout(clock, until.since(clock.now()), part.wait_for(Option::is_some)).await;
        let running = opened.and_then(Result::ok).and_then(|running| running.clone());
        let Some(running) = running else {
            return Err(Unanswered { why: "the store of the cluster is not there yet".into(), sent: false });
        };
        let body = encoded(running.group, ask.clone());
        let mut failure = Unanswered { why: "nobody leads the store".into(), sent: false };
        loop {
            if let Some(answer) = self.ask_all(&running, ask, &body, until, &mut failure).await {
                return Ok(answer);
            }
            let again = clock.now() + AGAIN_AFTER;
            if again >= until {
                return Err(failure);
            }
            clock.sleep_until(again).await;
        }
    }

    /// Asks each who may lead, once.
    async fn ask_all(
        &self,
        running: &Arc<Running>,
        ask: &Ask,
        body: &[u8],
        until: Instant,
        failure: &mut Unanswered,
    ) -> Option<Answer> {
        let clock = &self.world.clock;
        let leadership = running.consensus.leadership().borrow().clone();
        if leadership.is_me {
            let left = until.since(clock.now()).min(ANSWER_MAX);
            match timeout(clock, left, Box::pin(self.answer(running, ask.clone()))).await {
                Some(Answer::NotLeader(_)) => {}
                Some(Answer::Unknown(why)) => *failure = Unanswered { why, sent: true },
                // Another attempt may have been heard.
                Some(Answer::Refused(why)) => failure.why = why,
                Some(answer) => return Some(answer),
                None => *failure = Unanswered { why: format!("no answer within {left:?}"), sent: true },
            }
        }
        let known = leadership.leader.filter(|_| !leadership.is_me).map(|(_, address)| address);
        let hint = lock(&self.leader).clone();
        let mut asked: Vec<String> = Vec::new();
        for address in known.into_iter().chain(hint).chain(running.peers.voters()) {
            let mut next = Some(address);
            // Who does not lead says who does; two such answers in a row say that nobody knows.
            for _ in 0..3 {
                let left = until.since(clock.now()).min(ANSWER_MAX);
                let Some(address) = next.take().filter(|address| !left.is_zero() && !asked.contains(address)) else {
                    break;
                };
                asked.push(address.clone());
                let asking = running.peers.ask(None, &address, Lane::Control, body.to_vec(), left);
                match asking.await.map(|answer| codec::decode(&answer)) {
                    Ok(Ok(Answer::NotLeader(hint))) => next = hint,
                    Ok(Ok(Answer::Unknown(why))) => *failure = Unanswered { why, sent: true },
                    Ok(Ok(Answer::Refused(why))) => failure.why = why,
                    Ok(Ok(answer)) => {
                        *lock(&self.leader) = Some(address);
                        return Some(answer);
                    }
                    Ok(Err(error)) => *failure = Unanswered { why: error.to_string(), sent: true },
                    Err(unanswered) => {
                        *failure = Unanswered { why: unanswered.why, sent: failure.sent || unanswered.sent };
                    }
                }
            }
        }
        *lock(&self.leader) = None;
        None
    }
}

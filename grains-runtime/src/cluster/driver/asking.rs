//! Questions to other nodes: to one at an address, or to whoever leads Raft, wherever that is.

use std::time::Duration;

use grains_core::{Instant, codec};

use super::Driver;
use crate::{
    activation::lock,
    cluster::{
        command::{Command, Outcome},
        control::{Answer, Ask},
    },
    wire::{Lane, RequestError},
};

/// How long one question may take: a round of Raft and two trips, many times over.
pub(super) const ASK_MAX: Duration = Duration::from_secs(1);
/// How long one node is waited for before another one is asked.
const ANSWER_MAX: Duration = Duration::from_millis(700);
/// How long until a question that nobody could answer is asked again.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Why a question has no answer.
pub(super) enum NoAnswer {
    /// Nobody is there, or nobody that can be understood.
    Silence,
    /// One of the two nodes does not talk to the other.
    Refused,
}

impl Driver {
    /// Asks the node at an address; `None` if there is no answer that this node can read.
    pub(super) async fn ask(&self, address: &str, ask: &Ask, timeout: Duration) -> Option<Answer> {
        self.ask_or_why(address, ask, timeout).await.ok()
    }

    /// The same, for those to whom it matters why there is none.
    pub(super) async fn ask_or_why(&self, address: &str, ask: &Ask, timeout: Duration) -> Result<Answer, NoAnswer> {
        let wire = self.wire.get().ok_or(NoAnswer::Silence)?;
        let body = codec::encode(ask).expect("questions are made of texts and numbers");
        match wire.request(address, Lane::Control, body, timeout).await {
            Ok(response) => codec::decode(&response.body).map_err(|_| NoAnswer::Silence),
            Err(why) => {
                tracing::debug!(address, %why, "no answer");
                let RequestError::Refused(refused) = &why else { return Err(NoAnswer::Silence) };
                *lock(&self.refused) = Some(refused.to_string());
                Err(NoAnswer::Refused)
            }
        }
    }

    /// Asks whoever leads Raft, once: where that was last, or where that node says it is, or any voter.
    pub(super) async fn ask_leader(&self, ask: &Ask, timeout: Duration) -> Option<Answer> {
        let until = self.world.clock.now() + timeout;
        if self.consensus.leadership().borrow().is_me {
            let answering = self.arc().answer(None, ask.clone());
            return crate::timeout::timeout(&self.world.clock, timeout, Box::pin(answering)).await;
        }
        for address in self.where_the_leader_may_be() {
            let mut next = Some(address);
            // A node that does not lead says who does; two such answers in a row say that nobody knows.
            for _ in 0..3 {
                let left = until.since(self.world.clock.now());
                let Some(address) = next.take().filter(|_| !left.is_zero()) else { break };
                match self.ask(&address, ask, left.min(ANSWER_MAX)).await {
                    Some(Answer::NotLeader(hint)) => next = hint.filter(|hint| *hint != address),
                    Some(answer) => {
                        *lock(&self.leader_hint) = Some(address);
                        return Some(answer);
                    }
                    None => {}
                }
            }
        }
        *lock(&self.leader_hint) = None;
        None
    }

    /// Asks whoever leads Raft until there is an answer or `until` has come.
    pub(super) async fn ask_leader_until(&self, ask: &Ask, until: Instant) -> Option<Answer> {
        loop {
            let now = self.world.clock.now();
            let left = until.since(now);
            if left.is_zero() {
                return None;
            }
            match self.ask_leader(ask, left.min(ASK_MAX)).await {
                None | Some(Answer::NotLeader(_) | Answer::Unknown) => {
                    let again = self.world.clock.now() + AGAIN_AFTER;
                    self.world.clock.sleep_until(again.min(until)).await;
                }
                answer => return answer,
            }
        }
    }

    /// Has a command applied, in as many tries as it takes until `until`; it is applied once.
    pub(super) async fn propose_until(&self, command: Command, until: Instant) -> Option<Outcome> {
        let ask = Ask::Propose { command: self.numbered(command) };
        match self.ask_leader_until(&ask, until).await {
            Some(Answer::Committed(outcome)) => Some(outcome),
            _ => None,
        }
    }

    fn where_the_leader_may_be(&self) -> Vec<String> {
        let known = self.consensus.leadership().borrow().leader.as_ref().map(|(_, address)| address.clone());
        let hint = lock(&self.leader_hint).clone();
        let voters = self.voters().into_iter().map(|(_, address)| address);
        self.addresses_to_ask(known.into_iter().chain(hint).chain(voters))
    }

    /// These addresses, then those that the node was told to join by: each once, and never this node's own.
    pub(super) fn addresses_to_ask(&self, first: impl Iterator<Item = String>) -> Vec<String> {
        let own = lock(&self.joiner).address.clone();
        let mut addresses: Vec<String> = Vec::new();
        for address in first.chain(self.clustered.config.join.iter().cloned()) {
            if address != own && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        addresses
    }
}

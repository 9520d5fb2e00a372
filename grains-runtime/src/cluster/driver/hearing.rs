//! What other nodes ask and say: the node's end of the wire.

use std::sync::{Arc, Weak};

use grains_core::{codec, world::BoxFuture};

use super::Driver;
use crate::{
    cluster::{
        clustered::Clustered,
        command::{Command, Numbered},
        consensus::ProposeError,
        control::{Answer, Ask},
        lease::Ending,
        names::{MemberId, NodeId, NodeName},
    },
    wire::{Ear, Marks, Newcomer, PeerInfo, Unreadable, WireHandler},
};

/// The ears of a node: they hold on to nothing, so that a node which is dropped ends.
pub(crate) struct Ears {
    pub(crate) clustered: Weak<Clustered>,
    pub(crate) driver: Weak<Driver>,
}

impl WireHandler for Ears {
    fn control(&self, from: PeerInfo, body: Vec<u8>) -> BoxFuture<'static, Vec<u8>> {
        let driver = self.driver.upgrade();
        Box::pin(async move {
            let answer = match (codec::decode::<Ask>(&body), driver) {
                (Ok(ask), Some(driver)) => driver.answer(Some(&from), ask).await,
                _ => Answer::Unreadable,
            };
            codec::encode(&answer).expect("answers are made of texts and numbers")
        })
    }

    fn data(&self, from: MemberId, link: u64, kind: u8, body: &[u8], memo: &mut u64) -> Result<(), Unreadable> {
        self.clustered.upgrade().map_or(Ok(()), |clustered| clustered.arrived(from, link, kind, body, memo))
    }

    fn data_ended(&self, from: MemberId, link: u64, asked: Option<(u64, Marks)>) {
        if let Some(clustered) = self.clustered.upgrade() {
            clustered.data_ended(from, link, asked);
        }
    }

    fn client(&self, newcomer: Newcomer) -> Result<Box<dyn Ear>, String> {
        let clustered = self.clustered.upgrade();
        match clustered.as_ref().and_then(|clustered| clustered.gateway()) {
            Some(gateway) => gateway.admit(newcomer),
            None => Err("this node takes no clients: set `clients` in its cluster configuration".to_owned()),
        }
    }

    fn name_of(&self, node: NodeId) -> Option<NodeName> {
        self.clustered.upgrade()?.name_of(node)
    }

    fn link_down(&self, to: MemberId, link: u64, written: Marks) {
        if let Some(clustered) = self.clustered.upgrade() {
            clustered.link_ended(to, link, written);
        }
    }
}

impl Driver {
    /// Answers a question of another node, or of this one.
    pub(super) async fn answer(self: Arc<Self>, from: Option<&PeerInfo>, ask: Ask) -> Answer {
        if let Some(why) = from.and_then(|from| not_its_own(from, &ask)) {
            return Answer::Refused(why.to_owned());
        }
        match ask {
            Ask::Raft(body) => Answer::Raft(self.consensus.handle(body).await),
            Ask::States(body) => self.answer_states(body).await,
            Ask::Founding(question) => self.answer_founding(question).await,
            Ask::Join { joiner, request } => self.take_in(joiner, request).await,
            Ask::Renew { member, view } => self.renew(member, view).await,
            Ask::ProcessEnded { node, process } => self.hear_of_end(Ending { node, process }).await,
            Ask::Waits { member, report } => self.look_for_cycles(member, report),
            Ask::Propose { command } => self.put(command).await,
            Ask::Follow { after } => self.tell_changes(after).await,
        }
    }

    /// Puts a command into the log, if this node leads Raft.
    pub(super) async fn put(&self, command: Numbered) -> Answer {
        match self.consensus.propose(command).await {
            Ok(committed) => Answer::Committed(committed.outcome),
            Err(ProposeError::NotLeader { leader }) => Answer::NotLeader(leader.map(|(_, address)| address)),
            Err(ProposeError::Unknown | ProposeError::Busy | ProposeError::Lagging { .. }) => Answer::Unknown,
            Err(ProposeError::Refused(why)) => Answer::Refused(why),
            Err(ProposeError::Closed { .. }) => Answer::NotLeader(None),
        }
    }

    pub(super) fn not_leader(&self) -> Answer {
        let leader = self.consensus.leadership().borrow().leader.clone();
        Answer::NotLeader(leader.map(|(_, address)| address))
    }
}

/// Why this is not for `from` to ask, if it speaks of another node than itself. A certificate binds its name, and the view
/// its number to that name; so a name that it joins under has to be its own, or a certificate of one node would do for all.
fn not_its_own(from: &PeerInfo, ask: &Ask) -> Option<&'static str> {
    let is_its_own = |member: &MemberId| member.node == from.node;
    match ask {
        Ask::Join { joiner, .. } if joiner.node != from.node || joiner.name != from.name => {
            Some("a node joins for itself only, by its own name")
        }
        Ask::Renew { member, .. } if !is_its_own(member) => Some("a node renews its own lease only"),
        Ask::Waits { member, .. } if !is_its_own(member) => Some("a node says what waits on itself only"),
        Ask::ProcessEnded { node, .. } if *node != from.node => {
            Some("only the watchdog of a node says that it has ended")
        }
        Ask::Propose { command } => match &command.command {
            Command::Join { .. } | Command::Evict(_) => Some("who joins and who is removed is for the leader to say"),
            Command::Leave(who) | Command::Left(who) | Command::Release { holder: who, .. } if !is_its_own(who) => {
                Some("a node leaves for itself only")
            }
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests;

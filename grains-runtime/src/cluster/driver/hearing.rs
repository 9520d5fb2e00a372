//! What other nodes ask and say: the node's end of the wire.

use std::sync::{Arc, Weak};

use grains_core::{codec, world::BoxFuture};

use super::Driver;
use crate::{
    cluster::{
        clustered::Clustered,
        command::Numbered,
        consensus::ProposeError,
        control::{Answer, Ask},
        names::{MemberId, NodeId, NodeName},
    },
    wire::{PeerInfo, Unreadable, WireHandler},
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
                (Ok(ask), Some(driver)) => driver.answer(Some(from.node), ask).await,
                _ => Answer::Unreadable,
            };
            codec::encode(&answer).expect("answers are made of texts and numbers")
        })
    }

    fn data(&self, from: MemberId, link: u64, kind: u8, body: &[u8]) -> Result<(), Unreadable> {
        self.clustered.upgrade().map_or(Ok(()), |clustered| clustered.arrived(from, link, kind, body))
    }

    fn data_ended(&self, from: MemberId, link: u64, asked: Option<(u64, u64)>) {
        if let Some(clustered) = self.clustered.upgrade() {
            clustered.data_ended(from, link, asked);
        }
    }

    fn name_of(&self, node: NodeId) -> Option<NodeName> {
        self.clustered.upgrade()?.name_of(node)
    }

    fn link_down(&self, to: MemberId, link: u64, written: u64) {
        if let Some(clustered) = self.clustered.upgrade() {
            clustered.link_ended(to, link, written);
        }
    }
}

impl Driver {
    /// Answers a question of another node, or of this one.
    pub(super) async fn answer(self: Arc<Self>, from: Option<NodeId>, ask: Ask) -> Answer {
        match ask {
            Ask::Raft(body) => Answer::Raft(self.consensus.handle(body).await),
            Ask::States(body) => self.answer_states(body).await,
            Ask::Founding(question) => self.answer_founding(question).await,
            Ask::Join { joiner, request } if from.is_none_or(|from| from == joiner.node) => {
                self.take_in(joiner, request).await
            }
            Ask::Join { .. } => Answer::Refused("a node joins for itself only".into()),
            Ask::Renew { member, view } if from.is_none_or(|from| from == member.node) => {
                self.renew(member, view).await
            }
            Ask::Renew { .. } => Answer::Refused("a node renews its own lease only".into()),
            Ask::Waits { member, report } if from.is_none_or(|from| from == member.node) => {
                self.look_for_cycles(member, report)
            }
            Ask::Waits { .. } => Answer::Refused("a node says what waits on itself only".into()),
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

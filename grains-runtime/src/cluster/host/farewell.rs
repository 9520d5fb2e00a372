//! Activations that have ended, until the owner of their partition has heard of it. If it never does, its entry is found to
//! be wrong by the next call, so the number of those that wait may be bounded.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use grains_core::{ActivationId, GrainId, Instant};
use litemap::LiteMap;

use crate::cluster::{
    directory::{
        Action, Message, RESEND_AFTER, lists,
        message::{EndedLife, LIST_LEN_MAX},
    },
    names::{MemberId, PartitionId},
    view::View,
};

/// How many ended activations wait for their owner. More than that, in the time that owners need to answer, end only when
/// a node leaves; the rest costs the next call of each grain a detour.
pub(crate) const FAREWELLS_MAX: usize = 65_536;

/// How many messages are sent again at a time.
const MESSAGES_MAX: usize = 16;

/// What has ended and was not acknowledged.
#[derive(Debug, Default)]
pub(crate) struct Farewells {
    waiting: BTreeMap<(PartitionId, ActivationId), GrainId>,
    /// When it is said again.
    due: Option<Instant>,
    /// The last one that was said again: the next time begins behind it.
    said: Option<(PartitionId, ActivationId)>,
}

impl Farewells {
    /// Says it to the owner, and remembers to say it again.
    pub(crate) fn say(&mut self, now: Instant, view: &View, ended: EndedLife) -> Vec<Action> {
        if self.waiting.len() < FAREWELLS_MAX {
            self.waiting.insert((ended.partition, ended.activation), ended.grain.clone());
            self.due.get_or_insert(now + RESEND_AFTER);
        }
        let owner = owner(view, ended.partition);
        let message = Message::Gone { ended: vec![ended] };
        owner.map(|to| Action::Send { to, message }).into_iter().collect()
    }

    /// An owner has heard.
    pub(crate) fn heard(&mut self, ended: &[(PartitionId, ActivationId)]) {
        for one in ended {
            self.waiting.remove(one);
        }
        if self.waiting.is_empty() {
            *self = Self::default();
        }
    }

    /// New owners may have taken over entries of what has ended meanwhile: they are told.
    pub(crate) fn turn_to(&mut self, now: Instant, before: &View, view: &View) -> Vec<Action> {
        let partitions: BTreeSet<_> = self.waiting.keys().map(|(partition, _)| *partition).collect();
        let moved: BTreeSet<_> =
            partitions.into_iter().filter(|id| before.partition(*id) != view.partition(*id)).collect();
        if moved.is_empty() {
            return Vec::new();
        }
        let keys: Vec<_> = self.waiting.keys().filter(|(partition, _)| moved.contains(partition)).copied().collect();
        self.due = Some(now + RESEND_AFTER);
        self.again(view, &keys[..keys.len().min(AGAIN_MAX)])
    }

    /// Says again what is due, some of it if it is much.
    pub(crate) fn tick(&mut self, now: Instant, view: &View) -> Vec<Action> {
        if self.due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        self.due = Some(now + RESEND_AFTER);
        let said = mem::take(&mut self.said);
        let rest = self.waiting.keys().filter(|key| Some(**key) > said);
        let keys: Vec<_> = rest.take(AGAIN_MAX).copied().collect();
        // At the end it begins anew.
        self.said = keys.last().copied().filter(|_| keys.len() == AGAIN_MAX);
        self.again(view, &keys)
    }

    #[cfg(test)]
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        self.due
    }

    fn again(&self, view: &View, keys: &[(PartitionId, ActivationId)]) -> Vec<Action> {
        let mut owners: LiteMap<MemberId, Vec<EndedLife>> = LiteMap::default();
        for &(partition, activation) in keys {
            let (Some(owner), Some(grain)) = (owner(view, partition), self.waiting.get(&(partition, activation)))
            else {
                continue;
            };
            let ended = EndedLife { partition, activation, grain: grain.clone() };
            owners.entry(owner).or_default().push(ended);
        }
        let messages = owners.into_iter().flat_map(|(to, ended)| lists(ended).map(move |ended| (to, ended)));
        messages.map(|(to, ended)| Action::Send { to, message: Message::Gone { ended } }).collect()
    }
}

const AGAIN_MAX: usize = MESSAGES_MAX * LIST_LEN_MAX;

fn owner(view: &View, partition: PartitionId) -> Option<MemberId> {
    view.partition(partition)?.owner
}

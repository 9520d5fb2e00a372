//! Which activations a node has, and which orders it still takes: the other side of the [`Directory`](super::directory).
//! Pure: the driver of the cluster asks [`Host::accept`] before it activates a grain for anybody, itself included, and tells
//! [`Host::ended`] after the last turn.
//!
//! An activation id that was let go never comes back. Without that, an order on a slow connection could start a second
//! activation long after its owner gave it up and placed the grain elsewhere.

mod farewell;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use grains_core::{ActivationId, GrainId, Instant};
use litemap::LiteMap;

use self::farewell::Farewells;
use super::{
    directory::{
        Action, Early, Message, Order, PartitionOf, find_partition,
        message::{EndedLife, Life, Wanted},
        pages::{Answers, Limits},
        rules::{Rule, Rules},
        slice::behind,
    },
    member::MemberState,
    names::{Epoch, MemberId, PartitionId},
    view::View,
};

/// The activations of one life of one node.
#[derive(Debug)]
pub(crate) struct Host {
    me: MemberId,
    partition_of: PartitionOf,
    view: Arc<View>,
    places: LiteMap<PartitionId, Place>,
    len: usize,
    early: Early<Wanted>,
    farewells: Farewells,
    limits: Limits,
    rules: Rules,
}

/// What a host has of one partition.
#[derive(Debug, Default)]
struct Place {
    /// The highest order that was acted on or refused. All up to it are void, but for those that live.
    seen: Option<ActivationId>,
    /// What is starting, active or stopping.
    lives: BTreeMap<GrainId, ActivationId>,
}

/// What an order comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The caller starts this activation now. Whatever becomes of it, it then says [`Host::ended`].
    Start,
    /// It is here already.
    Here,
    /// It is not here and never will be. Whoever sent the order must hear so, for the directory to forget it.
    Refuse(Why),
}

/// Why an order is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Why {
    /// It is for another life of this node, or another node.
    #[error("the order is for {0}")]
    OtherLife(MemberId),
    /// It is not about this partition.
    #[error("the grain is of partition {0}")]
    OtherPartition(PartitionId),
    /// This node is about to leave, or not a member yet, or no more.
    #[error("this node is not an active member")]
    NotActive,
    /// The partition has another owner since, or the same one anew.
    #[error("the partition's epoch is {0}")]
    Fenced(Epoch),
    /// It, or a later one of the same owner, was acted on or refused before.
    #[error("the order is void since {0}")]
    Void(ActivationId),
    /// Another activation of the grain is not over yet.
    #[error("activation {0} is not over")]
    Other(ActivationId),
}

impl Host {
    /// The host of `me`, which takes no order before its first view.
    pub(crate) fn new(me: MemberId, partition_of: PartitionOf) -> Self {
        Self {
            me,
            partition_of,
            view: Arc::default(),
            places: LiteMap::default(),
            len: 0,
            early: Early::new(),
            farewells: Farewells::default(),
            limits: Limits::default(),
            rules: Rules::default(),
        }
    }

    /// Takes over a newer view, after the directory of this node did; older ones change nothing. From here on orders of
    /// earlier epochs are refused.
    pub(crate) fn apply(&mut self, now: Instant, view: &Arc<View>) -> Vec<Action> {
        if view.version <= self.view.version {
            return Vec::new();
        }
        let before = std::mem::replace(&mut self.view, view.clone());
        let mut actions = Vec::new();
        for (from, wanted) in self.early.due(view.version) {
            actions.extend(self.report(from, &wanted));
        }
        actions.extend(self.farewells.turn_to(now, &before, view));
        actions
    }

    /// Takes in what another member sent, or this one to itself.
    pub(crate) fn handle(&mut self, from: MemberId, message: Message) -> Vec<Action> {
        match message {
            Message::RecoverRequest { version, partitions } => {
                let too_early = version > self.view.version && self.rules.keep(Rule::RecoverAfterApply);
                match partitions.first().map(|first| first.partition) {
                    Some(first) if too_early => self.early.keep(from, first, version, partitions),
                    Some(_) => return self.report(from, &partitions),
                    None => {}
                }
            }
            Message::GoneAck { ended } => self.farewells.heard(&ended),
            _ => {}
        }
        Vec::new()
    }

    /// Says again what no owner has acknowledged.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Action> {
        self.farewells.tick(now, &self.view)
    }

    /// When [`tick`](Self::tick) has something to do.
    #[cfg(test)]
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        self.farewells.next_tick()
    }

    /// Decides about an order. Every one that comes in is put to this, in whatever state the node is.
    pub(crate) fn accept(&mut self, order: &Order) -> Verdict {
        if order.host != self.me && self.rules.keep(Rule::Life) {
            return Verdict::Refuse(Why::OtherLife(order.host));
        }
        let here = self.places.get(&order.partition).and_then(|place| place.lives.get(&order.grain)).copied();
        let activation = order.activation();
        if here == Some(activation) {
            return Verdict::Here;
        }
        let refusal = self.refusal(order, here);
        let place = self.places.entry(order.partition).or_default();
        if refusal.is_none() || self.rules.keep(Rule::Mark) {
            place.seen = place.seen.max(Some(activation));
        }
        if let Some(why) = refusal {
            return Verdict::Refuse(why);
        }
        place.lives.insert(order.grain.clone(), activation);
        self.len += 1;
        Verdict::Start
    }

    /// The activation of `grain` on this node, for calls that come without an order because their caller remembers it.
    ///
    /// `None` is no word about any order: such a caller goes to the owner, whose order is what may be refused.
    pub(crate) fn here(&self, grain: &GrainId) -> Option<ActivationId> {
        let partition = find_partition(&self.view, self.partition_of, grain)?;
        self.places.get(&partition)?.lives.get(grain).copied()
    }

    /// The last turn of this activation is over, or its start failed: its owner is told.
    pub(crate) fn ended(&mut self, now: Instant, grain: &GrainId, activation: ActivationId) -> Vec<Action> {
        let Some(partition) = find_partition(&self.view, self.partition_of, grain) else { return Vec::new() };
        let Some(place) = self.places.get_mut(&partition) else { return Vec::new() };
        if place.lives.get(grain) != Some(&activation) {
            return Vec::new();
        }
        place.lives.remove(grain);
        self.len -= 1;
        self.farewells.say(now, &self.view, EndedLife { partition, activation, grain: grain.clone() })
    }

    /// How many activations there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none: only then may a node that is leaving be removed.
    pub(crate) fn empty(&self) -> bool {
        self.len == 0
    }

    fn refusal(&self, order: &Order, here: Option<ActivationId>) -> Option<Why> {
        if !self.is_active() && self.rules.keep(Rule::LeavingRefuses) {
            return Some(Why::NotActive);
        }
        let partition = find_partition(&self.view, self.partition_of, &order.grain);
        if let Some(other) = partition.filter(|partition| *partition != order.partition) {
            return Some(Why::OtherPartition(other));
        }
        let fence = self.view.partition(order.partition).map_or(Epoch(0), |partition| partition.epoch);
        if order.epoch < fence && self.rules.keep(Rule::Fence) {
            return Some(Why::Fenced(fence));
        }
        let seen = self.places.get(&order.partition).and_then(|place| place.seen);
        if let Some(seen) = seen.filter(|seen| order.activation() <= *seen && self.rules.keep(Rule::Once)) {
            return Some(Why::Void(seen));
        }
        here.map(Why::Other)
    }

    fn is_active(&self) -> bool {
        self.view.member(self.me).is_some_and(|member| member.state == MemberState::Active)
    }

    /// Tells all that lives, to a new owner whose view is applied: orders of its predecessors are refused already, so that
    /// nothing can come to life behind its back.
    fn report(&self, to: MemberId, wanted: &[Wanted]) -> Vec<Action> {
        let mut answers = Answers::new(self.limits);
        for wanted in wanted {
            let lives = self.places.get(&wanted.partition).map(|place| &place.lives);
            let behind = lives.into_iter().flat_map(|lives| lives.range((behind(wanted), Bound::Unbounded)));
            answers.add(
                wanted,
                behind.map(|(grain, activation)| Life { grain: grain.clone(), activation: *activation, host: self.me }),
            );
        }
        let (full, more) = answers.finish();
        let last = full.len().saturating_sub(1);
        let messages = full.into_iter().enumerate();
        messages
            .map(|(n, pages)| Message::RecoverAnswer { pages, more: more && n == last })
            .map(|message| Action::Send { to, message })
            .collect()
    }
}

#[cfg(test)]
impl Host {
    pub(crate) fn with(mut self, rules: Rules, limits: Limits) -> Self {
        (self.rules, self.limits) = (rules, limits);
        self
    }
}

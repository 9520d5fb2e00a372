//! Where grains live, as the owner of their partition knows it: no grain is activated without its word. Pure: the driver of
//! the cluster brings views, messages and time, and carries out the [`Action`]s.
//!
//! At most one node serves a partition, and what it serves names every activation there is. A new owner therefore first
//! learns what lives: from the predecessor, which stops serving before it hands over, or from every member, each of which
//! refuses the orders of earlier owners before it tells. [`Host`](super::host::Host) is the other side.
//!
//! Every view is applied here before it is applied to the host of the same node, and before any message is handled: when a
//! host has answered a recovery, its own directory has stopped serving.

mod acquire;
mod early;
mod exchange;
#[cfg(test)]
pub(crate) mod explorer;
pub(crate) mod message;
pub(crate) mod pages;
#[cfg(test)]
mod partitions;
pub(crate) mod rules;
pub(crate) mod slice;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use grains_core::{ActivationId, GrainId, Instant};
use litemap::LiteMap;

use self::{
    acquire::Acquiring,
    message::SealWanted,
    pages::Limits,
    rules::{Rule, Rules},
    slice::{Entries, Sealed, Serving, Slice},
};
pub(crate) use self::{
    early::Early,
    exchange::lists,
    message::{Action, Message, Order},
};
use super::{
    names::{MemberId, PartitionId},
    view::{Partition, View},
};

/// How long a request is waited for before it is sent again: some round trips between machines, and short beside the time
/// that calls for a partition without a serving owner wait anyway.
pub(crate) const RESEND_AFTER: Duration = Duration::from_millis(200);

/// How long the entries of a partition are kept for its next owner. One that comes later has to ask everyone.
pub(crate) const SEALED_KEPT_MAX: Duration = Duration::from_secs(30);

/// The partition of a grain, given how many partitions there are.
pub(crate) type PartitionOf = fn(&GrainId, u16) -> PartitionId;

/// The partitions that one node owns.
#[derive(Debug)]
pub(crate) struct Directory {
    me: MemberId,
    partition_of: PartitionOf,
    view: Arc<View>,
    slices: LiteMap<PartitionId, Slice>,
    early: Early<SealWanted>,
    /// When those who owe an answer are asked again.
    due: LiteMap<MemberId, Instant>,
    limits: Limits,
    rules: Rules,
}

/// Where a call for a grain goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Located<E> {
    /// To the host of this order, with the order.
    At(Order),
    /// Nowhere yet: this node owns the partition and is about to serve it.
    Wait,
    /// To the owner, if there is one.
    NotOwner(Option<MemberId>),
    /// Nowhere: there is no node to place it on.
    NoHost(E),
}

impl Directory {
    /// The directory of `me`, which owns nothing before its first view.
    pub(crate) fn new(me: MemberId, partition_of: PartitionOf) -> Self {
        Self {
            me,
            partition_of,
            view: Arc::default(),
            slices: LiteMap::default(),
            early: Early::new(),
            due: LiteMap::default(),
            limits: Limits::default(),
            rules: Rules::default(),
        }
    }

    /// Takes over a newer view; older ones change nothing, and those between may be left out.
    pub(crate) fn apply(&mut self, now: Instant, view: &Arc<View>) -> Vec<Action> {
        if view.version <= self.view.version {
            return Vec::new();
        }
        let before = std::mem::replace(&mut self.view, view.clone());
        let mut turned = Turned::default();
        for (id, partition) in (0..).map(PartitionId).zip(view.partitions.iter()) {
            if partition.owner == Some(self.me) {
                self.own(id, partition, &mut turned);
            } else {
                self.disown(now, id, partition, &mut turned);
            }
        }
        self.forget_removed(&before);
        let mut actions = turned.into_actions();
        for (from, wanted) in self.early.due(view.version) {
            actions.extend(self.seal(from, &wanted));
        }
        actions.extend(self.ask(now, |_, _, _| true));
        actions
    }

    /// Does what is due: asks again those who have not answered, drops what nobody asked for.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Action> {
        self.slices.retain(|_, slice| !matches!(slice, Slice::Sealed(sealed) if sealed.until <= now));
        if self.due.values().any(|due| *due <= now) { self.ask(now, |due, _, _| due <= now) } else { Vec::new() }
    }

    /// When [`tick`](Self::tick) has something to do.
    #[cfg(test)]
    pub(crate) fn next_tick(&self) -> Option<Instant> {
        let sealed = self.slices.values().filter_map(|slice| match slice {
            Slice::Sealed(sealed) => Some(sealed.until),
            Slice::Acquiring(_) | Slice::Serving(_) => None,
        });
        self.due.values().copied().chain(sealed).min()
    }

    /// Finds the activation of `grain`, or lets `place` choose a host for one: a member of the view that is active and hosts
    /// the grain type.
    pub(crate) fn locate<E>(
        &mut self,
        grain: &GrainId,
        place: &mut dyn FnMut(&View, PartitionId) -> Result<MemberId, E>,
    ) -> Located<E> {
        let Some(id) = find_partition(&self.view, self.partition_of, grain) else { return Located::NotOwner(None) };
        match self.slices.get_mut(&id) {
            Some(Slice::Acquiring(_)) => Located::Wait,
            Some(Slice::Serving(serving)) => {
                if let Some(order) = serving.order(id, grain) {
                    return Located::At(order);
                }
                match place(&self.view, id) {
                    Ok(host) => Located::At(serving.place(id, partition_count(&self.view), grain, host)),
                    Err(why) => Located::NoHost(why),
                }
            }
            Some(Slice::Sealed(_)) | None => {
                Located::NotOwner(self.view.partition(id).and_then(|partition| partition.owner))
            }
        }
    }

    /// A host refused an order for this activation, or said that it has ended.
    pub(crate) fn gone(&mut self, grain: &GrainId, activation: ActivationId) {
        let id = find_partition(&self.view, self.partition_of, grain);
        if let Some(Slice::Serving(serving)) = id.and_then(|id| self.slices.get_mut(&id)) {
            serving.gone(grain, activation);
        }
    }

    /// Whether no new owner may still ask for what this node served: a node that leaves waits for it, so that the others do
    /// not have to ask everyone.
    pub(crate) fn is_handed_over(&self) -> bool {
        self.slices.is_empty()
    }

    /// The partition is this node's by the view.
    fn own(&mut self, id: PartitionId, partition: &Partition, turned: &mut Turned) {
        match self.slices.get_mut(&id) {
            Some(Slice::Acquiring(acquiring)) if acquiring.epoch == partition.epoch => {
                acquiring.review(&self.view);
                if acquiring.is_complete() {
                    self.serve(id);
                    turned.serving.push(id);
                }
            }
            Some(Slice::Serving(serving)) if serving.epoch == partition.epoch => {}
            Some(Slice::Serving(Serving { entries, .. }) | Slice::Sealed(Sealed { entries, .. }))
                if !self.rules.keep(Rule::Regain) =>
            {
                let entries = std::mem::take(entries);
                self.slices.insert(id, Slice::Serving(Serving::new(partition.epoch, entries)));
            }
            _ => self.gain(id, partition, turned),
        }
    }

    /// A new ownership, even if an older one was this node's as well.
    fn gain(&mut self, id: PartitionId, partition: &Partition, turned: &mut Turned) {
        let slice = match partition.previous {
            Some(previous) => {
                Slice::Acquiring(Acquiring::begin(self.me, &self.view, partition.epoch, previous, self.rules))
            }
            None => {
                turned.serving.push(id);
                Slice::Serving(Serving::new(partition.epoch, Entries::new()))
            }
        };
        self.slices.insert(id, slice);
    }

    /// The partition is not, or no more, this node's by the view.
    fn disown(&mut self, now: Instant, id: PartitionId, partition: &Partition, turned: &mut Turned) {
        let Some(slice) = self.slices.remove(&id) else { return };
        let sealed = match slice {
            Slice::Acquiring(_) => {
                turned.lost.push(id);
                return;
            }
            Slice::Serving(serving) if !self.rules.keep(Rule::SealIsFinal) => {
                self.slices.insert(id, Slice::Serving(serving));
                return;
            }
            Slice::Serving(Serving { epoch, entries, .. }) => {
                turned.lost.push(id);
                Sealed { epoch, entries, until: now + SEALED_KEPT_MAX }
            }
            Slice::Sealed(sealed) => sealed,
        };
        // Otherwise another one served in between, and nobody will ask for this.
        if partition.previous == Some((self.me, sealed.epoch)) || !self.rules.keep(Rule::Predecessor) {
            self.slices.insert(id, Slice::Sealed(sealed));
        }
    }

    /// What lived on members that are no more lives no more.
    fn forget_removed(&mut self, before: &View) {
        let view = &self.view;
        if before.members.values().all(|member| view.member(member.id).is_some()) {
            return;
        }
        for (_, slice) in &mut self.slices {
            if let Slice::Serving(serving) = slice {
                serving.entries.retain(|_, entry| view.member(entry.host).is_some());
            }
        }
    }

    /// Begins to serve what is acquired.
    fn serve(&mut self, id: PartitionId) {
        if let Some(Slice::Acquiring(acquiring)) = self.slices.remove(&id) {
            let epoch = acquiring.epoch;
            let entries = acquiring.into_entries(&self.view);
            self.slices.insert(id, Slice::Serving(Serving::new(epoch, entries)));
        }
    }
}

#[cfg(test)]
impl Directory {
    pub(crate) fn with(mut self, rules: Rules, limits: Limits) -> Self {
        (self.rules, self.limits) = (rules, limits);
        self
    }

    /// What this node serves of a partition.
    pub(crate) fn served(&self, id: PartitionId) -> Option<&Entries> {
        match self.slices.get(&id) {
            Some(Slice::Serving(serving)) => Some(&serving.entries),
            _ => None,
        }
    }
}

/// The partition of a grain by a view; none by the empty view that stands for "no view yet".
pub(crate) fn find_partition(view: &View, of: PartitionOf, grain: &GrainId) -> Option<PartitionId> {
    Some(partition_count(view)).filter(|count| *count > 0).map(|count| of(grain, count))
}

fn partition_count(view: &View) -> u16 {
    u16::try_from(view.partitions.len()).unwrap_or(u16::MAX)
}

/// What a view changed about the partitions of this node.
#[derive(Default)]
struct Turned {
    serving: Vec<PartitionId>,
    lost: Vec<PartitionId>,
}

impl Turned {
    fn into_actions(self) -> Vec<Action> {
        let lost = (!self.lost.is_empty()).then_some(Action::Lost(self.lost));
        let serving = (!self.serving.is_empty()).then_some(Action::Serving(self.serving));
        lost.into_iter().chain(serving).collect()
    }
}

//! One partition as its owner, or its last owner, has it.

use std::{collections::BTreeMap, ops::Bound};

use grains_core::{ActivationId, GrainId, Instant};

use super::{
    acquire::Acquiring,
    message::{Life, Order, Wanted},
};
use crate::cluster::names::{Epoch, MemberId, PartitionId};

/// Where the activation of a grain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) activation: ActivationId,
    pub(crate) host: MemberId,
}

/// Where the activations of a partition are. Its size is bounded by what hosts take: an order that a host refuses is out of
/// it when its caller hears so, and calls are bounded.
pub(crate) type Entries = BTreeMap<GrainId, Entry>;

/// The state of one partition. What a node neither owns nor owned last has none.
#[derive(Debug)]
pub(crate) enum Slice {
    /// Owned, and not yet known.
    Acquiring(Acquiring),
    /// Owned and known: grains are placed.
    Serving(Serving),
    /// Owned by another one, who may ask for it. It never changes again.
    Sealed(Sealed),
}

#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) epoch: Epoch,
    pub(crate) entries: Entries,
    /// How many orders were given.
    orders: u64,
}

#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) epoch: Epoch,
    pub(crate) entries: Entries,
    /// When it is dropped, whoever may still ask.
    pub(crate) until: Instant,
}

impl Serving {
    pub(crate) fn new(epoch: Epoch, entries: Entries) -> Self {
        Self { epoch, entries, orders: 0 }
    }

    /// The order that stands for `grain`.
    pub(crate) fn order(&self, partition: PartitionId, grain: &GrainId) -> Option<Order> {
        let Entry { activation, host } = *self.entries.get(grain)?;
        let epoch = Epoch(activation.epoch);
        Some(Order { partition, epoch, counter: activation.counter, host, grain: grain.clone() })
    }

    /// Gives the next order.
    ///
    /// Many partitions, of several owners, have one epoch, and no two lives may share an id: so the number of the partition
    /// is in the counter, which still grows with every order of the partition.
    pub(crate) fn place(&mut self, partition: PartitionId, partitions: u16, grain: &GrainId, host: MemberId) -> Order {
        self.orders += 1;
        let counter = self.orders * u64::from(partitions) + u64::from(partition.0);
        let order = Order { partition, epoch: self.epoch, counter, host, grain: grain.clone() };
        self.entries.insert(grain.clone(), Entry { activation: order.activation(), host });
        order
    }

    /// Drops the entry of `grain` if it is for this very activation.
    pub(crate) fn gone(&mut self, grain: &GrainId, activation: ActivationId) {
        if self.entries.get(grain).is_some_and(|entry| entry.activation == activation) {
            self.entries.remove(grain);
        }
    }
}

/// The entries that are wanted, in order.
pub(crate) fn wanted_of(entries: &Entries, wanted: &Wanted) -> impl Iterator<Item = Life> {
    let lives = entries.range((behind(wanted), Bound::Unbounded));
    lives.map(|(grain, Entry { activation, host })| Life { grain: grain.clone(), activation: *activation, host: *host })
}

/// Where what is wanted begins.
pub(crate) fn behind(wanted: &Wanted) -> Bound<GrainId> {
    wanted.after.clone().map_or(Bound::Unbounded, Bound::Excluded)
}

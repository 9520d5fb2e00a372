//! What owners and hosts say to each other. Any of it may be lost, late, doubled or out of order.
//!
//! Lists of activations can be long, so they travel in [`Page`]s, each covering a range of grain ids of one partition. The
//! asker says how far it has come. Between two answers such a list only ever shrinks, so pages of different answers fit
//! together: what a later page leaves out has ended.

use grains_core::{ActivationId, GrainId};
use serde::{Deserialize, Serialize};

use crate::cluster::{
    grain,
    names::{Epoch, MemberId, PartitionId, ViewVersion},
};

/// The word of a partition's owner that a host may activate a grain. It travels with the call that needs the activation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The grain's partition.
    pub(crate) partition: PartitionId,
    /// The ownership under which it was given.
    pub(crate) epoch: Epoch,
    /// Which order of that ownership.
    pub(crate) counter: u64,
    /// For whom.
    pub(crate) host: MemberId,
    /// Which grain.
    #[serde(with = "grain")]
    pub(crate) grain: GrainId,
}

impl Order {
    /// The life that the order allows.
    pub(crate) fn activation(&self) -> ActivationId {
        ActivationId { epoch: self.epoch.0, counter: self.counter }
    }
}

/// What is to be done, for whoever drives a directory or a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Send this, to oneself too.
    Send {
        /// To whom.
        to: MemberId,
        /// What.
        message: Message,
    },
    /// These partitions are served from now on: calls that wait for them can be located.
    Serving(Vec<PartitionId>),
    /// These partitions belong to others from now on: calls that wait for them go there.
    Lost(Vec<PartitionId>),
}

/// From an owner or host to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Message {
    /// To the predecessor: stop serving these and hand over. Answered by its directory.
    SealRequest {
        /// The view by which the sender gained them.
        version: ViewVersion,
        /// Which.
        partitions: Vec<SealWanted>,
    },
    /// From the predecessor's directory.
    SealAnswer {
        /// What it knew.
        pages: Vec<Page>,
        /// Where it did not serve the epoch that was asked for, with the epoch of the asker.
        not_serving: Vec<(PartitionId, Epoch)>,
        /// There is more: ask again.
        more: bool,
    },
    /// To the predecessor: these are taken over, with the epoch that it served.
    SealDone {
        /// Which.
        partitions: Vec<(PartitionId, Epoch)>,
    },
    /// To every member: which activations of these have you? Answered by its host.
    RecoverRequest {
        /// The view by which the sender gained them.
        version: ViewVersion,
        /// Which.
        partitions: Vec<Wanted>,
    },
    /// From a host.
    RecoverAnswer {
        /// What lives there.
        pages: Vec<Page>,
        /// There is more: ask again.
        more: bool,
    },
    /// From a host to the owner: these have ended.
    Gone {
        /// Which.
        ended: Vec<EndedLife>,
    },
    /// From the owner: none of these is in the directory now.
    GoneAck {
        /// Which.
        ended: Vec<(PartitionId, ActivationId)>,
    },
}

impl Message {
    /// Whether it is for the [`Host`](crate::cluster::host::Host) of the node it comes to; otherwise it is for the directory.
    pub(crate) fn is_for_host(&self) -> bool {
        matches!(self, Self::RecoverRequest { .. } | Self::GoneAck { .. })
    }
}

/// A partition whose activations are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wanted {
    /// Which.
    pub(crate) partition: PartitionId,
    /// The epoch of the asker.
    pub(crate) epoch: Epoch,
    /// It has all up to this one.
    #[serde(with = "grain::option")]
    pub(crate) after: Option<GrainId>,
}

/// A partition that is to be handed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SealWanted {
    /// Which.
    pub(crate) wanted: Wanted,
    /// The epoch under which the predecessor must have served it.
    pub(crate) served: Epoch,
}

/// All activations of one partition in a range of grain ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Page {
    /// Which partition.
    pub(crate) partition: PartitionId,
    /// The epoch of the asker.
    pub(crate) epoch: Epoch,
    /// The range begins behind this one.
    #[serde(with = "grain::option")]
    pub(crate) after: Option<GrainId>,
    /// In the order of their ids. The range ends with the last of them.
    pub(crate) lives: Vec<Life>,
    /// The range has no end: nothing comes behind these.
    pub(crate) last: bool,
}

/// One activation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Life {
    /// Of which grain.
    #[serde(with = "grain")]
    pub(crate) grain: GrainId,
    /// Which.
    pub(crate) activation: ActivationId,
    /// Where.
    pub(crate) host: MemberId,
}

/// One activation that is no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EndedLife {
    /// The grain's partition.
    pub(crate) partition: PartitionId,
    /// Which.
    pub(crate) activation: ActivationId,
    /// Of which grain.
    #[serde(with = "grain")]
    pub(crate) grain: GrainId,
}

/// How many partitions or activations one message lists.
pub(crate) const LIST_LEN_MAX: usize = 1000;

//! A node's part in its cluster.
use grains_core::{ActivationId, GrainId};

use super::{ClusterStatus, Leadership};
use crate::{activation::arrived::Arrived, node::NodeInner};

pub(crate) enum Clustered {}

impl Clustered {
    pub(crate) fn ended(&self, _: &GrainId, _: ActivationId) {
        match *self {}
    }
    pub(crate) fn forward(&self, _: GrainId, _: Arrived) {
        match *self {}
    }
    pub(crate) fn status(&self, _: &NodeInner) -> ClusterStatus {
        match *self {}
    }
    pub(crate) fn leader(&self) -> Leadership {
        match *self {}
    }
    pub(crate) fn address(&self) -> String {
        match *self {}
    }
}

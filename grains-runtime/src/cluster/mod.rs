//! Several nodes as one. The pure rooms decide, given time and messages: `names` and `member` (who), `view` (what all
//! agree on), `command` and `state` (how it changes), `lease` (who may act), `directory` and `host` (where grains live),
//! `partition`, `placement`, `founding`, `voters`. `consensus` keeps the state in Raft; `driver` carries out what the pure rooms say.

pub(crate) mod command;
pub(crate) mod consensus;
pub(crate) mod founding;
pub(crate) mod lease;
pub(crate) mod member;
pub(crate) mod names;
pub(crate) mod partition;
pub(crate) mod placement;
pub(crate) mod state;
pub(crate) mod view;
pub(crate) mod voters;

pub use self::{
    member::{Joiner, Member, MemberState, Placement, Strategy},
    names::{BadName, Epoch, Incarnation, MemberId, NODE_NAME_BYTES_MAX, NodeId, NodeName, PartitionId, ViewVersion},
    view::{Assignment, Grant, Partition, View},
};

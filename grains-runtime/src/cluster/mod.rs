//! Several nodes as one. The pure rooms decide, given time and messages: `names` and `member` (who), `view` (what all
//! agree on), `command` and `state` (how it changes), `lease` (who may act), `directory` and `host` (where grains live),
//! `placement`, `founding`, `voters`. `gateway` takes the calls of clients. `consensus` keeps the state in Raft; `driver` carries out what the pure rooms say,
//! and `clustered` is what calls see of it.

pub(crate) mod clustered;
pub(crate) mod command;
pub(crate) mod config;
pub(crate) use grains_store::consensus;
pub(crate) mod control;
pub(crate) mod directory;
pub(crate) mod driver;
pub(crate) mod founding;
pub(crate) mod gateway;
pub(crate) mod grain;
pub(crate) mod host;
pub(crate) mod leader;
pub(crate) mod lease;
pub(crate) mod member;
pub(crate) mod names;
pub(crate) mod partition;
pub(crate) mod placement;
pub(crate) mod state;
pub(crate) mod status;
pub(crate) mod streams;
#[cfg(all(test, feature = "switches"))]
mod switched;
pub(crate) mod view;
pub(crate) mod voters;

pub(crate) use self::config::Chosen;
pub use self::{
    config::{ClientsConfig, ClusterConfig, TlsConfig},
    driver::joining::JoinError,
    gateway::Principal,
    leader::{Leader, Leadership},
    member::{Joiner, Member, MemberState, Placement, Strategy},
    names::{BadName, Epoch, Incarnation, MemberId, NODE_NAME_BYTES_MAX, NodeId, NodeName, PartitionId, ViewVersion},
    status::{ClusterStatus, MemberStatus, StatesStatus},
    view::{Assignment, Grant, Partition, View},
};

//! Several nodes as one. The pure rooms decide, given time and messages: `names` and `member` (who), `view` (what all
//! agree on), `command` and `state` (how it changes), `lease` (who may act), `directory` and `host` (where grains live),
//! `placement`, `founding`, `voters`. `gateway` takes the calls of clients. `consensus` keeps the state in Raft; `driver` carries out what the pure rooms say,
//! and `clustered` is what calls see of it.
//!
//! A client knows the names and the certificates of clusters only.

pub(crate) mod certificates;
#[cfg(feature = "cluster")]
pub(crate) mod clustered;
#[cfg(feature = "cluster")]
pub(crate) mod command;
#[cfg(feature = "cluster")]
pub(crate) mod config;
#[cfg(feature = "cluster")]
pub(crate) use grains_store::consensus;
#[cfg(feature = "cluster")]
pub(crate) mod control;
#[cfg(feature = "cluster")]
pub(crate) mod directory;
#[cfg(feature = "cluster")]
pub(crate) mod driver;
#[cfg(feature = "cluster")]
pub(crate) mod founding;
#[cfg(feature = "cluster")]
pub(crate) mod gateway;
#[cfg(feature = "cluster")]
pub(crate) mod grain;
#[cfg(feature = "cluster")]
pub(crate) mod host;
#[cfg(feature = "cluster")]
pub(crate) mod leader;
#[cfg(feature = "cluster")]
pub(crate) mod lease;
#[cfg(feature = "cluster")]
pub(crate) mod member;
pub(crate) mod names;
#[cfg(feature = "cluster")]
pub(crate) mod partition;
#[cfg(feature = "cluster")]
pub(crate) mod placement;
#[cfg(feature = "cluster")]
pub(crate) mod state;
#[cfg(feature = "cluster")]
pub(crate) mod status;
#[cfg(feature = "cluster")]
pub(crate) mod streams;
#[cfg(all(test, feature = "switches"))]
mod switched;
#[cfg(feature = "cluster")]
pub(crate) mod view;
#[cfg(feature = "cluster")]
pub(crate) mod voters;

pub(crate) use self::certificates::Chosen;
pub use self::{
    certificates::TlsConfig,
    names::{BadName, Epoch, Incarnation, MemberId, NODE_NAME_BYTES_MAX, NodeId, NodeName, PartitionId, ViewVersion},
};
#[cfg(feature = "cluster")]
pub use self::{
    config::{ClientsConfig, ClusterConfig},
    driver::joining::JoinError,
    gateway::Principal,
    leader::{Leader, Leadership},
    member::{Joiner, Member, MemberState, Placement, Strategy},
    status::{ClusterStatus, LinkStatus, MemberStatus, StatesStatus},
    view::{Assignment, Grant, Partition, View},
};

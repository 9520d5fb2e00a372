//! Who leads, out of all that openraft reports.

use grains_core::world::World;
use openraft::{RaftMetrics, alias::WatchReceiverOf, async_runtime::watch::WatchReceiver, errors::Fatal};
use tokio::sync::watch;

use super::{network::Addresses, runtime::in_world, types::Types};
use crate::NodeId;

/// Who leads the group, as one node knows. It may be wrong about others by one election; it leads itself only if it is
/// the one elected in this term, and even then another may have been elected in a later one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The term this node is in.
    pub term: u64,
    /// Who leads in it, if known, and where that is.
    pub leader: Option<(NodeId, String)>,
    /// Whether this node was elected in it.
    pub is_me: bool,
    /// Why this node has stopped taking part, if it has.
    pub fatal: Option<String>,
}

type Metrics = RaftMetrics<Types>;

/// Follows `metrics` until openraft ends, and keeps `addresses` up to date.
pub(super) fn watch(
    world: &World,
    me: NodeId,
    mut metrics: WatchReceiverOf<Types, Metrics>,
    addresses: Addresses,
) -> watch::Receiver<Leadership> {
    addresses.replace(metrics.borrow_watched().membership_config.nodes());
    let (tell, told) = watch::channel(read(me, &metrics.borrow_and_update()));
    let follow = async move {
        while metrics.changed().await.is_ok() {
            let metrics = metrics.borrow_and_update();
            addresses.replace(metrics.membership_config.nodes());
            change(&tell, read(me, &metrics));
        }
        // openraft says why before it ends, unless its task was dropped.
        let last = {
            let metrics = metrics.borrow_watched();
            match &metrics.running_state {
                Ok(()) | Err(Fatal::Stopped) => {}
                Err(why) => tracing::error!(%me, %why, "this node has no vote any more until it is started again"),
            }
            read(me, &metrics)
        };
        let why = last.fatal.clone().unwrap_or_else(|| "it was closed".into());
        change(&tell, Leadership { leader: None, is_me: false, fatal: Some(why), ..last });
    };
    world.tasks.spawn(Box::pin(in_world(world, follow)));
    told
}

fn change(tell: &watch::Sender<Leadership>, now: Leadership) {
    tell.send_if_modified(|known| {
        let changed = *known != now;
        *known = now;
        changed
    });
}

fn read(me: NodeId, metrics: &Metrics) -> Leadership {
    let fatal = metrics.running_state.as_ref().err().map(ToString::to_string);
    let leader = metrics.current_leader.filter(|_| fatal.is_none());
    let membership = &metrics.membership_config;
    Leadership {
        term: metrics.current_term,
        leader: leader.and_then(|id| Some((NodeId(id), membership.get_node(&id)?.addr.clone()))),
        is_me: metrics.state.is_leader() && leader == Some(me.0),
        fatal,
    }
}

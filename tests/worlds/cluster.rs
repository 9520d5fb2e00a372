//! The cluster of the worlds: what its nodes host, and where they keep it.

use std::time::Duration;

use grains::{
    GrainOptions, NodeBuilder,
    cluster::Strategy,
    sim::{Cluster, Machine, Sim},
};

use crate::{
    counter::CounterGrain, database::Database, facts, herald::HeraldGrain, mill::MillGrain, streams::SourceGrain,
};

/// The cluster of a new world, whose facts begin.
pub(crate) fn cluster(sim: &Sim, nodes: usize) -> Cluster {
    facts::begin(sim);
    // What keeps the states of grains; none if the cluster does it itself.
    let database = sim.happens(0.65).then(|| Database::new(sim));
    let placement = if sim.happens(0.4) { Strategy::Hash } else { Strategy::Random };
    let last = format!("n{}", nodes - 1);
    Cluster::new(sim, nodes, move |machine| {
        let builder = hosting(machine, placement);
        let builder = if machine.name() == last { builder } else { builder.host::<MillGrain>() };
        match &database {
            Some(database) => builder.store(database.of(machine)),
            None => builder,
        }
    })
}

fn hosting(machine: &Machine, placement: Strategy) -> NodeBuilder {
    let builder = machine.node().configure(|config| {
        config.call_timeout = Duration::from_secs(3);
        config.stop_timeout = Duration::from_secs(5);
        // Less than some writes take.
        config.store_timeout = Duration::from_secs(3);
    });
    let builder = builder.host_with::<CounterGrain>(GrainOptions::new().placement(placement));
    builder.host::<SourceGrain>().singleton::<HeraldGrain>()
}

/// The node that leads Raft, and one that does not.
pub(crate) fn leader_and_other(cluster: &Cluster) -> Option<(usize, usize)> {
    let leader = cluster.statuses().into_iter().flatten().find_map(|status| status.raft_leader)?;
    let leader = cluster.machines().position(|machine| machine.name() == leader)?;
    Some((leader, (leader + 1) % cluster.len()))
}

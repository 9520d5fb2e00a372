//! The watchdog of a simulated node: what it would know, and what it would say.

use grains_core::world::World;

use crate::{
    Node,
    watchdog::{
        telling::{Told, tell},
        ward::Ward,
    },
};

/// The watchdog of one node. A crash of a machine takes the real one along, as a power cut does, so the lease decides. To have
/// the process of the node die alone, take its watchdog before the crash, and let it tell afterwards, from a machine of its own.
///
/// ```no_run
/// # use grains_runtime as grains;
/// use grains::{Node, sim::{Machine, Sim, Watchdog}};
///
/// async fn killed(sim: &Sim, node: Node, machine: &Machine) {
///     let watchdog = Watchdog::of(&node).expect("a node of a cluster");
///     machine.crash();
///     let beside = sim.machine("beside");
///     beside.spawn(watchdog.tell(beside.world()));
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Watchdog {
    ward: Ward,
}

impl Watchdog {
    /// That of `node`, with all that it knows by now. None if the node is not in a cluster.
    pub fn of(node: &Node) -> Option<Self> {
        Some(Self { ward: node.ward()? })
    }

    /// Tells the cluster that the process of the node has ended, over the world of a machine that lives. Only call it when that
    /// is true. Gives whether somebody has seen to it, after some leases at the latest.
    pub async fn tell(self, world: World) -> bool {
        tell(&world, &self.ward).await == Told::Heard
    }
}

//! What can be set, with its default and the reason for it.

use std::time::Duration;

use grains_core::store::STATE_BYTES_MAX;

#[cfg(feature = "cluster")]
use crate::cluster::{Placement, Strategy};
use crate::store::StoreChoice;

/// The limits of one node. Every field has a default; see each for its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeConfig {
    /// The name of the node, for logs and for people. Default `"node"`.
    pub name: String,
    /// Which store keeps the states of grains. Default: the one that [`StoreChoice`] says.
    pub store: Option<StoreChoice>,
    /// How long the outermost call of a chain waits. Default 30 s: longer than any healthy request, short enough that a
    /// stuck one is noticed by whoever sent it.
    pub call_timeout: Duration,
    /// How long `activate` may take. Default 20 s: a little less than a caller waits, so that the caller hears the reason.
    pub activate_timeout: Duration,
    /// How long `deactivate` may take. Default 10 s: it holds up the next activation and the stop of the node.
    pub deactivate_timeout: Duration,
    /// How long a store may take to answer one load or commit. Default 10 s: after that a commit is *unknown* and costs
    /// the activation, so it is far above what a loaded disk needs.
    pub store_timeout: Duration,
    /// How many calls may wait for one activation. Default 1,024: at a microsecond a turn that is a millisecond of
    /// waiting, and at a millisecond a turn one second; beyond that callers are better told.
    pub mailbox_len_max: usize,
    /// How many calls may wait in all mailboxes of the node together, 10 million at most; with those to idle grains that wait for a
    /// task to begin them, as one-way calls do. Default 1 million: as many as a thousand full mailboxes, at some 300 bytes each; a
    /// node that is so far behind serves nobody by taking more.
    pub waiting_calls_max: usize,
    /// The memory that those calls may hold together, 256 GiB at most. Default 512 MiB: a small node's share. A call counts
    /// as its own size and what its arguments hold, roughly: see [`Weigher`](grains_core::codec::Weigher).
    pub waiting_bytes_max: usize,
    /// How long an activation stays without calls. Default 15 min, as in Orleans: longer than people pause.
    pub idle_timeout: Duration,
    /// How many activations a node holds. Default 4 million: about 1 GB of the framework's own memory.
    ///
    /// Over it, those that had no call for longest are deactivated ([`MadeRoom`](grains_core::DeactivationReason::MadeRoom)).
    /// While that goes on, a sixteenth more may live, or 64 more if that is less. Beyond that, as when all are busy, calls that
    /// need a new one fail with [`Overloaded`](grains_core::CallError::Overloaded).
    pub activations_max: usize,
    /// The largest state, encoded. Default 1 MiB: it is written whole at every commit. Where a cluster keeps the states it is
    /// 4 MiB at most, and so are all states of a grain that are committed together: a node with more does not start.
    pub state_bytes_max: usize,
    /// How long [`stop`](crate::Node::stop) waits for turns to end. Default 10 s: below what service managers and
    /// container platforms wait before they kill.
    pub stop_timeout: Duration,
    /// A turn that has waited for so long is named in the log, once. Default 30 s, as long as the outermost caller waits: by
    /// then it is of use to nobody who called it, and it keeps others from its grain. Zero: none is named.
    pub slow_turn: Duration,
    /// A turn that has kept its thread for so long without waiting is named in the log, and again when it lets it go. Default
    /// 1 s: half a lease of a cluster, and a thousand times what a turn should take before it waits. Zero: none is named,
    /// and no thread looks, nor wakes another one when the blocked one was about to wait for timers and sockets on behalf of
    /// all. Never in the simulator.
    pub blocked_turn: Duration,
    /// Encode and decode the arguments and answers of local calls too, as if each callee were on another node. Default
    /// `false`; for tests. On in nodes that the simulator describes (`sim::Machine::node`).
    pub encode_local_calls: bool,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            name: "node".to_owned(),
            store: None,
            call_timeout: Duration::from_secs(30),
            activate_timeout: Duration::from_secs(20),
            deactivate_timeout: Duration::from_secs(10),
            store_timeout: Duration::from_secs(10),
            mailbox_len_max: 1024,
            waiting_calls_max: 1_000_000,
            waiting_bytes_max: 512 << 20,
            idle_timeout: Duration::from_secs(15 * 60),
            activations_max: 4_000_000,
            state_bytes_max: STATE_BYTES_MAX,
            stop_timeout: Duration::from_secs(10),
            slow_turn: Duration::from_secs(30),
            blocked_turn: Duration::from_secs(1),
            encode_local_calls: false,
        }
    }
}

/// What differs for one grain type. Unset fields follow the [`NodeConfig`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct GrainOptions {
    /// How long an activation of this type stays without calls.
    pub idle_timeout: Option<Duration>,
    /// Whether activations of this type stay without calls for ever.
    pub keep_active: bool,
    /// How many calls may wait for one activation of this type.
    pub mailbox_len_max: Option<usize>,
    /// After how long a turn of this type that still waits is cut. Default: never.
    pub abandon_after: Option<Duration>,
    /// Which store keeps the states of this type.
    pub store: Option<StoreChoice>,
    /// How the node for a new activation of this type is chosen in a cluster.
    #[cfg(feature = "cluster")]
    pub placement: Placement,
}

impl GrainOptions {
    /// Everything as the node has it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long an activation stays without calls.
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = Some(timeout);
        self
    }

    /// Lets activations stay: they are deactivated neither because no call comes, whatever the idle time, nor to make room for
    /// others. They count for [`activations_max`](NodeConfig::activations_max), so host few of them.
    ///
    /// It does not promise that the grain is always active. The first call makes the activation, as for any other grain; one that
    /// asks for its end, panics or loses its state ends, and so do those of a node that stops, crashes or loses its lease. Then the
    /// next call makes another one. A grain that has to live without being called is a
    /// [singleton](crate::NodeBuilder::singleton).
    #[must_use]
    pub fn keep_active(mut self) -> Self {
        self.keep_active = true;
        self
    }

    /// Sets how many calls may wait for one activation.
    #[must_use]
    pub fn mailbox_len_max(mut self, max: usize) -> Self {
        self.mailbox_len_max = Some(max);
        self
    }

    /// Cuts a turn that still waits after `limit`: its future is dropped, its caller hears
    /// [`Lost`](grains_core::CallError::Lost), and so is the activation, without `deactivate`. Calls that wait find a new one.
    /// It is for grains that must answer others even if one call hangs. A turn that blocks its thread cannot be cut.
    #[must_use]
    pub fn abandon_after(mut self, limit: Duration) -> Self {
        self.abandon_after = Some(limit);
        self
    }

    /// Sets which store keeps the states of this type. The same on all nodes of a cluster that host it.
    #[must_use]
    pub fn store(mut self, choice: StoreChoice) -> Self {
        self.store = Some(choice);
        self
    }

    /// Sets how the node for a new activation is chosen. Default: by hash, among all nodes that host the type.
    #[cfg(feature = "cluster")]
    #[must_use]
    pub fn placement(mut self, strategy: Strategy) -> Self {
        self.placement.strategy = strategy;
        self
    }

    /// Places new activations only on nodes with this role.
    #[cfg(feature = "cluster")]
    #[must_use]
    pub fn role(mut self, role: impl Into<String>) -> Self {
        self.placement.role = Some(role.into());
        self
    }
}

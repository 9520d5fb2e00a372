//! One state of the directory model. Numbers are small and arrays short: an exploration holds millions of states.

/// How many nodes there may be.
pub(crate) const NODES: usize = 3;
/// The room for grains; a configuration may use fewer.
pub(crate) const GRAINS: usize = 2;
/// The room for views.
pub(crate) const VIEWS: usize = 5;
/// The room for orders.
pub(crate) const ORDERS: usize = 4;

/// 0, 1 or 2.
pub(crate) type NodeNumber = u8;
/// From 1 on; 0: none. A view that changes the owner makes an epoch, and gives it its number.
pub(crate) type ViewNumber = u8;
/// From 1 on, growing within an epoch as tokens do; 0: none.
pub(crate) type OrderNumber = u8;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) last_view: ViewNumber,
    pub(crate) last_order: OrderNumber,
    /// Where the client's call is, if there is one.
    pub(crate) client: Call,
    pub(crate) executed: u8,
    pub(crate) nodes: [Node; NODES],
    pub(crate) orders: [Order; ORDERS],
    views: [View; VIEWS],
    /// How the epoch of each view is acquired.
    acquisitions: [Acquisition; VIEWS],
}

/// What all agree on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct View {
    /// The incarnation of each member; 0: it is none.
    pub(crate) members: [u8; NODES],
    pub(crate) leaving: [bool; NODES],
    pub(crate) owner: NodeNumber,
    /// The number of the view that made this ownership.
    pub(crate) epoch: ViewNumber,
}

/// The client's one call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Call {
    #[default]
    Elsewhere,
    /// With the client, who knows that it was not executed.
    AtClient,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Node {
    /// The view by which it joined; 0: it is not running.
    pub(crate) incarnation: ViewNumber,
    /// The view it has applied.
    pub(crate) view: ViewNumber,
    /// It refuses orders of older epochs.
    pub(crate) fence: ViewNumber,
    /// It has asked to be removed.
    pub(crate) wants_out: bool,
    /// It was evicted, and has not noticed.
    pub(crate) evicted: bool,
    pub(crate) directory: Directory,
    pub(crate) hosted: [Hosted; GRAINS],
}

/// A node's part as owner of the partition.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Directory {
    pub(crate) serves: Serves,
    pub(crate) epoch: ViewNumber,
    pub(crate) entries: [Entry; GRAINS],
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Serves {
    #[default]
    No,
    Acquiring,
    Serving,
    /// It served, and never will again under that epoch.
    Sealed,
}

/// Where a grain is. A hand-over or a report of one names both, too.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Entry {
    pub(crate) activation: OrderNumber,
    /// Where it is about to migrate.
    pub(crate) target: OrderNumber,
}

/// What a node hosts of one grain.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Hosted {
    pub(crate) order: OrderNumber,
    pub(crate) life: Life,
    /// If frozen, for which target.
    pub(crate) target: OrderNumber,
    /// The client's call waits in its mailbox.
    pub(crate) call: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Life {
    #[default]
    None,
    Starting,
    Active,
    /// Its state and queue are on their way to another node.
    Frozen,
    /// It said that it is gone, and is not: only where the rule is broken.
    Stopping,
}

impl Life {
    /// Whether user code may run.
    pub(crate) fn runs(self) -> bool {
        matches!(self, Self::Starting | Self::Active | Self::Stopping)
    }
}

/// An order to activate a grain, and all that came of it. Once sent it can arrive at any time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Order {
    pub(crate) grain: u8,
    pub(crate) host: NodeNumber,
    pub(crate) incarnation: ViewNumber,
    pub(crate) epoch: ViewNumber,
    /// The activation that is to migrate here; 0: none.
    pub(crate) source: OrderNumber,
    /// The source has sent its state and queue.
    pub(crate) packet: bool,
    /// The client's call was in that queue.
    pub(crate) packet_has_call: bool,
    /// The host has acted on it.
    pub(crate) acted_on: bool,
    /// The host will not act on it.
    pub(crate) void: bool,
    /// The host tells whoever asks that there is no such activation.
    pub(crate) gone: bool,
}

/// How the owner of an epoch comes by the entries. Requests and answers stay: they may arrive at any time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Acquisition {
    pub(crate) asks: Asks,
    pub(crate) handed: Handed,
    pub(crate) answers: [Answer; NODES],
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Asks {
    #[default]
    Nobody,
    /// The owner before, to seal and hand over.
    Predecessor(NodeNumber),
    /// All members, what they host, after the predecessor was asked.
    AllAfter(NodeNumber),
    /// All members.
    All,
}

impl Asks {
    pub(crate) fn predecessor(self) -> Option<NodeNumber> {
        match self {
            Self::Predecessor(node) | Self::AllAfter(node) => Some(node),
            Self::Nobody | Self::All => None,
        }
    }

    pub(crate) fn everyone(self) -> bool {
        matches!(self, Self::AllAfter(_) | Self::All)
    }
}

/// What the predecessor answered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Handed {
    #[default]
    Nothing,
    NotServing,
    Entries([Entry; GRAINS]),
}

/// What a member answered in a recovery.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Answer {
    /// Which incarnation of it; 0: it has not answered.
    pub(crate) incarnation: ViewNumber,
    pub(crate) hosts: [Entry; GRAINS],
}

impl State {
    /// Three members, of which `owner` owns the partition and serves it.
    pub(crate) fn first(owner: NodeNumber, call: bool) -> Self {
        let member = Node { incarnation: 1, view: 1, fence: 1, ..Node::default() };
        let mut state = Self {
            last_view: 1,
            last_order: 0,
            client: if call { Call::AtClient } else { Call::Elsewhere },
            executed: 0,
            nodes: [member; NODES],
            orders: Default::default(),
            views: Default::default(),
            acquisitions: Default::default(),
        };
        state.views[0] = View { members: [1; NODES], leaving: [false; NODES], owner, epoch: 1 };
        let directory = &mut state.node_mut(owner).directory;
        (directory.serves, directory.epoch) = (Serves::Serving, 1);
        state
    }

    pub(crate) fn node(&self, node: NodeNumber) -> &Node {
        &self.nodes[usize::from(node)]
    }

    pub(crate) fn node_mut(&mut self, node: NodeNumber) -> &mut Node {
        &mut self.nodes[usize::from(node)]
    }

    pub(crate) fn view(&self, view: ViewNumber) -> &View {
        &self.views[usize::from(view) - 1]
    }

    pub(crate) fn view_mut(&mut self, view: ViewNumber) -> &mut View {
        &mut self.views[usize::from(view) - 1]
    }

    /// The view that `node` has applied.
    pub(crate) fn view_of(&self, node: NodeNumber) -> &View {
        self.view(self.node(node).view)
    }

    pub(crate) fn order(&self, order: OrderNumber) -> &Order {
        &self.orders[usize::from(order) - 1]
    }

    pub(crate) fn order_mut(&mut self, order: OrderNumber) -> &mut Order {
        &mut self.orders[usize::from(order) - 1]
    }

    pub(crate) fn acquisition(&self, epoch: ViewNumber) -> &Acquisition {
        &self.acquisitions[usize::from(epoch) - 1]
    }

    pub(crate) fn acquisition_mut(&mut self, epoch: ViewNumber) -> &mut Acquisition {
        &mut self.acquisitions[usize::from(epoch) - 1]
    }

    /// The fencing token of the activation that `order` asks for.
    pub(crate) fn token(&self, order: OrderNumber) -> (ViewNumber, OrderNumber) {
        (self.order(order).epoch, order)
    }

    /// Whether the incarnation that `order` names still runs.
    pub(crate) fn host_lives(&self, order: &Order) -> bool {
        self.node(order.host).incarnation == order.incarnation
    }
}

impl Order {
    /// Whether the host is done with it, as far as acting on it goes.
    pub(crate) fn is_settled(&self) -> bool {
        self.acted_on || self.void
    }
}

impl View {
    pub(crate) fn is_member(&self, node: NodeNumber) -> bool {
        self.members[usize::from(node)] != 0
    }

    pub(crate) fn incarnation(&self, node: NodeNumber) -> ViewNumber {
        self.members[usize::from(node)]
    }

    pub(crate) fn is_leaving(&self, node: NodeNumber) -> bool {
        self.leaving[usize::from(node)]
    }

    /// Whether `node` may own partitions and take activations.
    pub(crate) fn is_active(&self, node: NodeNumber) -> bool {
        self.is_member(node) && !self.is_leaving(node)
    }
}

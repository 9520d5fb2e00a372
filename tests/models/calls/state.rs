//! One state of the model of calls: the call in all its copies, and what directory and hosts know of its grain.

/// How many nodes there are.
pub(crate) const NODES: usize = 3;
/// The room for copies of the call. With all rules there is never more than one.
const COPIES: usize = 2;
/// Who makes the call.
pub(crate) const CALLER: NodeNumber = 0;

/// 0, 1 or 2.
pub(crate) type NodeNumber = u8;
/// From 1 on. A view that changes the owner makes an epoch, and gives it its number.
pub(crate) type ViewNumber = u8;

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) last_view: ViewNumber,
    pub(crate) nodes: [Node; NODES],
    /// Where the caller's node found the grain last.
    pub(crate) place: Order,
    pub(crate) copies: [Option<Copied>; COPIES],
    /// The call has left its caller: who gives it up does not know whether it runs.
    pub(crate) begun: bool,
    pub(crate) executed: u8,
    pub(crate) told: Told,
    /// How often the call has gone on since anything else has happened.
    pub(crate) hops: u8,
}

/// An order, by which a host activates the grain; then the name of the activation. An epoch of 0 is none. The counter is that of
/// those orders of the epoch which anybody still names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) struct Order {
    pub(crate) epoch: ViewNumber,
    pub(crate) counter: u8,
    pub(crate) host: NodeNumber,
}

/// What the caller knows of the end of its call.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Told {
    Nothing,
    Answer,
    DidNotRun,
    MayHaveRun,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Node {
    /// The view it has applied; 0: it is gone.
    pub(crate) view: ViewNumber,
    /// It was evicted, and has not noticed.
    pub(crate) evicted: bool,
    // Its part as an owner.
    pub(crate) serves: Serves,
    pub(crate) epoch: ViewNumber,
    /// The order that stands for the grain.
    pub(crate) entry: Order,
    // Its part as a host.
    /// The activation that lives here.
    pub(crate) lives: Order,
    /// It takes turns; otherwise it is starting, and calls wait.
    pub(crate) active: bool,
    /// The highest order that was acted on or refused.
    pub(crate) mark: Order,
    /// The last one that has ended, while an owner may have it.
    pub(crate) farewell: Order,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) enum Serves {
    #[default]
    No,
    Acquiring,
    Serving,
    /// It served, and keeps what it knew for its successor.
    Sealed,
}

/// The call, in one copy: with the node that has to bring it somewhere, and where it is by now.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Copied {
    /// Whose call it is: of the caller's node, or of one that has taken a one-way call.
    pub(crate) at: NodeNumber,
    /// That node waits for what becomes of it; otherwise it has given it up, and what is under way goes on.
    pub(crate) waits: bool,
    /// How often it was tried since it last waited for something to change, up to [`AT_ONCE`](super::AT_ONCE).
    pub(crate) tries: u8,
    /// An order that its host has said to be void, of which the owner is told with the next try.
    pub(crate) void: Order,
    /// What the node that has it, or had it last, was taken for.
    pub(crate) target: Target,
    pub(crate) stage: Stage,
}

/// Where a copy is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// It is about to be sent.
    Ready,
    /// It waits until something changes.
    Parked,
    /// On its way.
    Going { to: NodeNumber },
    /// In the mailbox of what lives there.
    There { to: NodeNumber },
    /// Its answer is on its way.
    Back { from: NodeNumber, word: Word },
    /// With a node that will never answer.
    Lost { to: NodeNumber },
}

/// What the receiver is taken for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// The owner.
    Whoever,
    /// The host of this activation, as an earlier answer said.
    Known(Order),
    /// The host of this order.
    Ordered(Order),
}

impl Target {
    pub(crate) fn activation(self) -> Order {
        match self {
            Self::Whoever => Order::default(),
            Self::Known(order) | Self::Ordered(order) => order,
        }
    }
}

/// What comes back.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Word {
    Answer,
    /// It failed before it ran.
    Failed,
    NotHere,
    NotNow,
    Redirect(Order),
}

impl Copied {
    /// A call that its node is about to send for the first time.
    pub(crate) fn ready(at: NodeNumber) -> Self {
        let (void, target) = (Order::default(), Target::Whoever);
        Self { at, waits: true, tries: 0, void, target, stage: Stage::Ready }
    }

    /// The other node that has it, or has answered.
    pub(crate) fn with(&self) -> Option<NodeNumber> {
        match self.stage {
            Stage::Going { to } | Stage::There { to } | Stage::Back { from: to, .. } | Stage::Lost { to } => Some(to),
            Stage::Ready | Stage::Parked => None,
        }
    }

    /// Whether it can still run, or somebody waits for it.
    fn matters(&self) -> bool {
        self.waits || matches!(self.stage, Stage::Going { .. } | Stage::There { .. })
    }
}

impl Order {
    pub(crate) fn is_some(self) -> bool {
        self.epoch != 0
    }
}

impl State {
    /// A call is about to be made. `owner` serves the first view.
    pub(crate) fn first(owner: NodeNumber) -> Self {
        let member = Node { view: 1, ..Node::default() };
        let mut state = Self {
            last_view: 1,
            nodes: [member; NODES],
            place: Order::default(),
            copies: [Some(Copied::ready(CALLER)), None],
            begun: false,
            executed: 0,
            told: Told::Nothing,
            hops: 0,
        };
        let owner = state.node_mut(owner);
        (owner.serves, owner.epoch) = (Serves::Serving, 1);
        state
    }

    pub(crate) fn node(&self, node: NodeNumber) -> &Node {
        &self.nodes[usize::from(node)]
    }

    pub(crate) fn node_mut(&mut self, node: NodeNumber) -> &mut Node {
        &mut self.nodes[usize::from(node)]
    }

    /// Adds a copy. Without room it is left out: that happens only where a rule is broken, and long after.
    pub(crate) fn add(&mut self, copy: Copied) {
        if let Some(room) = self.copies.iter_mut().find(|copy| copy.is_none()) {
            *room = Some(copy);
        }
    }

    /// Makes states that do not differ in what can still happen the same.
    pub(crate) fn settle(&mut self) {
        for copy in &mut self.copies {
            *copy = copy.filter(Copied::matters);
        }
        self.copies.sort_unstable_by_key(|copy| copy.is_none());
        if self.told != Told::Nothing || self.copies.iter().flatten().all(|copy| !copy.waits) {
            (self.hops, self.place) = (0, Order::default());
        }
        self.forget_what_nobody_asks_for();
        for epoch in 1..=self.last_view {
            self.count_anew(epoch);
        }
    }

    fn forget_what_nobody_asks_for(&mut self) {
        let served = self.nodes.iter().filter(|node| matches!(node.serves, Serves::Serving | Serves::Sealed));
        let newest = served.map(|node| node.epoch).max().unwrap_or(0);
        for node in &mut self.nodes {
            if node.serves == Serves::No || (node.serves == Serves::Sealed && node.epoch < newest) {
                (node.serves, node.epoch, node.entry) = (Serves::No, 0, Order::default());
            }
        }
        let entries = self.nodes.map(|node| node.entry);
        for node in &mut self.nodes {
            if !entries.contains(&node.farewell) {
                node.farewell = Order::default();
            }
        }
    }

    /// Counts the orders of an epoch anew that anybody names. A mark becomes the highest of those below it: it says of the same
    /// ones that they are over.
    fn count_anew(&mut self, epoch: ViewNumber) {
        let (mut named, mut len) = ([0; 24], 0);
        self.each_order(|order| {
            if order.epoch == epoch && !named[..len].contains(&order.counter) {
                named[len] = order.counter;
                len += 1;
            }
        });
        let named = &mut named[..len];
        named.sort_unstable();
        let rank = |counter| named.iter().filter(|other| **other <= counter).count() as u8;
        self.each_order(|order| {
            if order.epoch == epoch {
                order.counter = rank(order.counter);
            }
        });
        for node in &mut self.nodes {
            if node.mark.epoch == epoch {
                node.mark = Order { epoch, counter: rank(node.mark.counter), host: 0 };
            }
        }
    }

    /// Every order that is named, but for marks.
    fn each_order(&mut self, mut each: impl FnMut(&mut Order)) {
        each(&mut self.place);
        for node in &mut self.nodes {
            each(&mut node.entry);
            each(&mut node.lives);
            each(&mut node.farewell);
        }
        for copy in self.copies.iter_mut().flatten() {
            each(&mut copy.void);
            if let Target::Known(order) | Target::Ordered(order) = &mut copy.target {
                each(order);
            }
            if let Stage::Back { word: Word::Redirect(order), .. } = &mut copy.stage {
                each(order);
            }
        }
    }

    /// The next order of an epoch.
    pub(crate) fn next_order(&mut self, epoch: ViewNumber, host: NodeNumber) -> Order {
        let mut last = 0;
        self.each_order(|order| {
            if order.epoch == epoch {
                last = last.max(order.counter);
            }
        });
        Order { epoch, counter: last + 1, host }
    }
}

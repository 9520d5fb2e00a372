//! Makes states that do not differ in what can still happen the same, so that there are few of them: answers that nobody
//! waits for, memories without use, and orders that nobody can act on or name.

use super::{
    State,
    rules::Rules,
    state::{Acquisition, Asks, Directory, Handed, Order, OrderNumber, Serves, ViewNumber},
};

impl State {
    pub(super) fn settle(&mut self, rules: &Rules) {
        for epoch in 1..=self.last_view {
            if self.acquisition(epoch).asks != Asks::Nobody {
                self.settle_acquisition(epoch);
            }
        }
        for node in &mut self.nodes {
            match node.directory.serves {
                Serves::No => node.directory = Directory::default(),
                Serves::Acquiring => node.directory.entries = Default::default(),
                Serves::Serving | Serves::Sealed => {}
            }
        }
        if rules.dead_orders_stay_dead() {
            self.forget_dead_orders();
        }
    }

    /// An acquisition is over once its owner is gone, or has applied the view and does not acquire.
    fn settle_acquisition(&mut self, epoch: ViewNumber) {
        let view = self.view(epoch);
        let owner = self.node(view.owner);
        let acquires = owner.directory.serves == Serves::Acquiring && owner.directory.epoch == epoch;
        let gone = owner.incarnation != view.incarnation(view.owner);
        if gone || (owner.view >= epoch && !acquires) {
            *self.acquisition_mut(epoch) = Acquisition::default();
        }
    }

    fn forget_dead_orders(&mut self) {
        let mut order = 1;
        while order <= self.last_order {
            let candidate = self.order(order);
            if (candidate.gone || !self.host_lives(candidate)) && !self.is_named(order) {
                self.forget(order);
            } else {
                order += 1;
            }
        }
    }

    fn is_named(&self, order: OrderNumber) -> bool {
        let migrates = |other: &Order| other.source == order && !other.gone;
        if self.orders[..usize::from(self.last_order)].iter().any(migrates) {
            return true;
        }
        let mut named = false;
        let mut scratch = *self;
        scratch.each_name(|name| named |= *name == order);
        named
    }

    fn forget(&mut self, order: OrderNumber) {
        self.orders[usize::from(order) - 1..usize::from(self.last_order)].rotate_left(1);
        *self.order_mut(self.last_order) = Order::default();
        self.last_order -= 1;
        let renumber = |name: &mut OrderNumber| {
            if *name == order {
                *name = 0;
            } else if *name > order {
                *name -= 1;
            }
        };
        for order in &mut self.orders {
            renumber(&mut order.source);
        }
        self.each_name(renumber);
    }

    /// Every place but other orders where an order is named.
    fn each_name(&mut self, mut each: impl FnMut(&mut OrderNumber)) {
        for node in &mut self.nodes {
            for hosted in &mut node.hosted {
                each(&mut hosted.order);
                each(&mut hosted.target);
            }
            for entry in &mut node.directory.entries {
                each(&mut entry.activation);
                each(&mut entry.target);
            }
        }
        for epoch in 1..=self.last_view {
            let acquisition = self.acquisition_mut(epoch);
            let reported = acquisition.answers.iter_mut().flat_map(|answer| &mut answer.hosts);
            let handed: &mut [_] = match &mut acquisition.handed {
                Handed::Entries(entries) => entries,
                Handed::Nothing | Handed::NotServing => &mut [],
            };
            for entry in reported.chain(handed) {
                each(&mut entry.activation);
                each(&mut entry.target);
            }
        }
    }
}

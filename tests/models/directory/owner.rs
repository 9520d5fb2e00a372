//! What a serving owner does: it places grains, and keeps its entries true.

use super::{
    Event, Happens, State,
    state::{NODES, NodeNumber, Order, OrderNumber, Serves},
};

impl Happens<'_> {
    pub(super) fn owns(&mut self, node: NodeNumber) {
        if self.state.node(node).directory.serves != Serves::Serving {
            return;
        }
        for grain in 0..self.model.grains {
            self.place(node, grain);
            self.keep_activation(node, grain);
            self.keep_target(node, grain);
            if self.model.migration {
                self.order_migration(node, grain);
            }
        }
    }

    fn place(&mut self, node: NodeNumber, grain: u8) {
        let state = self.state;
        let directory = &state.node(node).directory;
        let entry = directory.entries[usize::from(grain)];
        if entry.activation != 0 || entry.target != 0 || state.last_order == self.model.orders_max {
            return;
        }
        let view = state.view_of(node);
        let order = state.last_order + 1;
        for host in (0..NODES as u8).filter(|&host| view.is_active(host)) {
            let incarnation = view.incarnation(host);
            let placed = Order { grain, host, incarnation, epoch: directory.epoch, ..Order::default() };
            self.progress(Event::Places { node, order, grain, host }, |next| {
                next.send(placed);
                next.node_mut(node).directory.entries[usize::from(grain)].activation = order;
            });
        }
    }

    fn keep_activation(&mut self, node: NodeNumber, grain: u8) {
        let entry = self.state.node(node).directory.entries[usize::from(grain)];
        if entry.activation == 0 {
            return;
        }
        // With the activation gone, what it was to migrate to takes its place.
        let forget = |next: &mut State| {
            let entry = &mut next.node_mut(node).directory.entries[usize::from(grain)];
            entry.activation = entry.target;
            entry.target = 0;
        };
        let order = entry.activation;
        if self.state.order(order).gone {
            self.progress(Event::HearsGone { node, order }, forget);
        }
        if self.host_is_lost(node, order) {
            self.progress(Event::DropsEntry { node, order }, forget);
        }
    }

    fn keep_target(&mut self, node: NodeNumber, grain: u8) {
        let grain = usize::from(grain);
        let order = self.state.node(node).directory.entries[grain].target;
        if order == 0 {
            return;
        }
        let target = *self.state.order(order);
        if target.gone {
            let event = Event::HearsGone { node, order };
            self.progress(event, |next| next.node_mut(node).directory.entries[grain].target = 0);
        }
        if target.acted_on {
            self.progress(Event::HearsStarted { node, order }, |next| {
                let entry = &mut next.node_mut(node).directory.entries[grain];
                entry.activation = entry.target;
                entry.target = 0;
            });
        }
        if self.host_is_lost(node, order) {
            let event = Event::DropsEntry { node, order };
            self.progress(event, |next| next.node_mut(node).directory.entries[grain].target = 0);
        }
    }

    /// Whether the host that `order` names is not in the owner's view. If its incarnation is newer than the view, the owner
    /// has only not seen it yet.
    fn host_is_lost(&self, node: NodeNumber, order: OrderNumber) -> bool {
        let order = self.state.order(order);
        let seen = order.incarnation <= self.state.node(node).view || !self.rules.drop_what_view_knows;
        seen && self.state.view_of(node).incarnation(order.host) != order.incarnation
    }
}

impl State {
    pub(super) fn send(&mut self, order: Order) {
        self.last_order += 1;
        *self.order_mut(self.last_order) = order;
    }
}

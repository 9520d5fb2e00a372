//! How an activation moves with its state and queue, from the order to the end of the source.

use super::{
    Event, Happens, Life,
    state::{Hosted, NODES, NodeNumber, Order, OrderNumber},
};

impl Happens<'_> {
    pub(super) fn order_migration(&mut self, node: NodeNumber, grain: u8) {
        let state = self.state;
        let directory = &state.node(node).directory;
        let entry = directory.entries[usize::from(grain)];
        let source = entry.activation;
        if source == 0 || entry.target != 0 || state.last_order == self.model.orders_max || self.migrates(source) {
            return;
        }
        let view = state.view_of(node);
        let order = state.last_order + 1;
        let from = state.order(source).host;
        for host in (0..NODES as u8).filter(|&host| view.is_active(host) && host != from) {
            let incarnation = view.incarnation(host);
            let target = Order { grain, host, incarnation, epoch: directory.epoch, source, ..Order::default() };
            let both = self.rules.entry_holds_both;
            self.progress(Event::Migrates { node, order, host }, |next| {
                next.send(target);
                let entry = &mut next.node_mut(node).directory.entries[usize::from(grain)];
                if both {
                    entry.target = order;
                } else {
                    entry.activation = order;
                }
            });
        }
    }

    fn migrates(&self, source: OrderNumber) -> bool {
        let orders = &self.state.orders[..usize::from(self.state.last_order)];
        orders.iter().any(|order| order.source == source && !order.gone)
    }

    pub(super) fn freeze(&mut self, node: NodeNumber, grain: usize) {
        let state = self.state;
        let host = state.node(node);
        let source = host.hosted[grain].order;
        for target in 1..=state.last_order {
            let order = state.order(target);
            let current = order.epoch >= host.fence || !self.rules.freeze_is_fenced;
            if order.source != source || order.gone || order.packet || !current {
                continue;
            }
            self.progress(Event::Freezes { node, order: source, target }, |next| {
                let frozen = &mut next.node_mut(node).hosted[grain];
                frozen.life = Life::Frozen;
                frozen.target = target;
                let call = frozen.call;
                let order = next.order_mut(target);
                order.packet = true;
                order.packet_has_call = call;
            });
        }
    }

    pub(super) fn end_migration(&mut self, node: NodeNumber, grain: usize) {
        let state = self.state;
        let Hosted { order, target, .. } = state.node(node).hosted[grain];
        let there = *state.order(target);
        if there.acted_on {
            self.drop_source(node, grain);
        }
        let refused = there.gone && (!there.acted_on || !self.rules.resume_on_refusal_only);
        let lost = state.view_of(node).incarnation(there.host) != there.incarnation
            && there.incarnation <= state.node(node).view;
        if lost && self.rules.evicted_target_drops {
            self.drop_source(node, grain);
        }
        if refused || (lost && !self.rules.evicted_target_drops) {
            self.progress(Event::Resumes { node, order }, |next| {
                let hosted = &mut next.node_mut(node).hosted[grain];
                hosted.life = Life::Active;
                hosted.target = 0;
            });
        }
    }

    /// The calls that went with the state are not the source's any more; one that came later goes back to its client.
    fn drop_source(&mut self, node: NodeNumber, grain: usize) {
        let Hosted { order, target, .. } = self.state.node(node).hosted[grain];
        let sent_along = self.state.order(target).packet_has_call;
        self.progress(Event::DropsSource { node, order }, |next| {
            next.order_mut(order).gone = true;
            if !sent_along {
                next.bounce_call(node, grain);
            }
            next.node_mut(node).hosted[grain] = Hosted::default();
        });
    }
}

//! What a host does: it acts on orders or refuses them, and runs activations to their ends.

use super::{
    Call, Event, Happens, Life, State,
    rules::Rules,
    state::{Hosted, NodeNumber, Order, OrderNumber, Serves},
};

impl Happens<'_> {
    pub(super) fn hosts(&mut self, node: NodeNumber) {
        for order in 1..=self.state.last_order {
            if self.state.order(order).host == node {
                self.receive(node, order);
                self.say_not_here(node, order);
            }
        }
        for grain in 0..usize::from(self.model.grains) {
            self.live(node, grain);
        }
        self.leave(node);
    }

    /// An order arrives, be it for the first time or again.
    fn receive(&mut self, node: NodeNumber, order: OrderNumber) {
        let state = self.state;
        let host = state.node(node);
        let received = state.order(order);
        let for_another = self.rules.order_names_incarnation && received.incarnation != host.incarnation;
        let waits_for_state = received.source != 0 && !received.packet;
        let done = received.is_settled() && self.rules.once;
        if for_another || waits_for_state || done {
            return;
        }
        let hosted = host.hosted[usize::from(received.grain)].order;
        let refused = received.epoch < host.fence
            || (self.is_leaving(node) && self.rules.leaving_refuses)
            || (hosted != 0 && hosted != order);
        let rules = self.rules;
        if refused {
            self.progress(Event::Refuses { node, order }, |next| next.refuse(rules, order));
        } else if hosted == 0 {
            self.progress(Event::ActsOn { node, order }, |next| next.act_on(rules, order));
        }
    }

    fn is_leaving(&self, node: NodeNumber) -> bool {
        self.state.view_of(node).is_leaving(node) || self.state.node(node).wants_out
    }

    /// An owner that has the order in its entry asks for the activation before the order has come.
    fn say_not_here(&mut self, node: NodeNumber, order: OrderNumber) {
        let asked = self.state.order(order);
        let entered = self.state.owners(self.rules).any(|owner| {
            let entry = owner.entries[usize::from(asked.grain)];
            entry.activation == order || entry.target == order
        });
        if entered && !asked.is_settled() && !asked.gone && self.state.host_lives(asked) {
            let rules = self.rules;
            self.progress(Event::SaysNotHere { node, order }, |next| next.refuse(rules, order));
        }
    }

    fn live(&mut self, node: NodeNumber, grain: usize) {
        let hosted = self.state.node(node).hosted[grain];
        let order = hosted.order;
        match hosted.life {
            Life::None => return,
            Life::Starting => {
                let event = Event::IsReady { node, order };
                self.progress(event, |next| next.node_mut(node).hosted[grain].life = Life::Active);
                self.deactivate(node, grain);
            }
            Life::Active => {
                self.deactivate(node, grain);
                self.freeze(node, grain);
                if hosted.call && self.state.acts(node, self.rules) {
                    self.progress(Event::CallExecutes { node }, |next| {
                        next.node_mut(node).hosted[grain].call = false;
                        next.executed += 1;
                    });
                }
            }
            Life::Frozen => self.end_migration(node, grain),
            Life::Stopping => {
                let event = Event::EndsLastTurn { node, order };
                self.progress(event, |next| next.node_mut(node).hosted[grain] = Hosted::default());
            }
        }
        if self.state.client == Call::AtClient && grain == 0 && !hosted.call {
            self.progress(Event::CallArrives { node }, |next| {
                next.client = Call::Elsewhere;
                next.node_mut(node).hosted[grain].call = true;
            });
        }
    }

    fn deactivate(&mut self, node: NodeNumber, grain: usize) {
        let order = self.state.node(node).hosted[grain].order;
        let at_once = self.rules.gone_after_last_turn;
        self.progress(Event::Deactivates { node, order }, |next| {
            next.order_mut(order).gone = true;
            next.bounce_call(node, grain);
            let hosted = &mut next.node_mut(node).hosted[grain];
            *hosted = if at_once { Hosted::default() } else { Hosted { life: Life::Stopping, ..*hosted } };
        });
    }

    fn leave(&mut self, node: NodeNumber) {
        let leaver = self.state.node(node);
        let owns = matches!(leaver.directory.serves, Serves::Acquiring | Serves::Serving);
        let empty = leaver.hosted.iter().all(|hosted| hosted.order == 0);
        if self.state.view_of(node).is_leaving(node) && !leaver.wants_out && empty && !owns {
            self.progress(Event::WantsOut { node }, |next| next.node_mut(node).wants_out = true);
        }
    }
}

impl State {
    fn act_on(&mut self, rules: &Rules, order: OrderNumber) {
        let Order { host, grain, epoch, packet_has_call, .. } = *self.order(order);
        self.order_mut(order).acted_on = true;
        let node = self.node_mut(host);
        node.hosted[usize::from(grain)] = Hosted { order, life: Life::Starting, target: 0, call: packet_has_call };
        if rules.fence_on_acting {
            node.fence = node.fence.max(epoch);
        }
        if rules.mark {
            self.raise_mark(rules, order);
        }
    }

    fn refuse(&mut self, rules: &Rules, order: OrderNumber) {
        let remembered = !rules.mark || rules.refusal_raises_mark;
        let refused = self.order_mut(order);
        refused.void |= remembered;
        refused.gone |= rules.refusal_is_told;
        if rules.mark && rules.refusal_raises_mark {
            self.raise_mark(rules, order);
        }
    }

    /// The host remembers `order` as its highest. The lower ones on which it has not acted are void: it cannot tell them from
    /// those it was done with long ago.
    fn raise_mark(&mut self, rules: &Rules, order: OrderNumber) {
        let Order { host, incarnation, .. } = *self.order(order);
        let mark = self.token(order);
        for lower in 1..=self.last_order {
            let token = self.token(lower);
            let passed = self.order_mut(lower);
            let same_host = passed.host == host && passed.incarnation == incarnation;
            if same_host && token < mark && !passed.is_settled() {
                passed.void = true;
                passed.gone |= rules.voided_is_told;
            }
        }
    }

    /// A call that waits in a mailbox goes back to its client as not executed.
    pub(super) fn bounce_call(&mut self, node: NodeNumber, grain: usize) {
        let hosted = &mut self.node_mut(node).hosted[grain];
        if hosted.call {
            hosted.call = false;
            self.client = Call::AtClient;
        }
    }
}

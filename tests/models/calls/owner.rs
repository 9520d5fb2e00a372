//! Views, and what owners know by them. How they come to know it is the model of the directory; here they know.

use super::{
    Event, Happens, Told,
    configurations::Standing,
    state::{Copied, NODES, Node, NodeNumber, Order, Serves, Stage, State, ViewNumber},
};

impl Happens<'_> {
    pub(super) fn views(&mut self) {
        let state = self.state;
        let view = state.last_view + 1;
        let Some(next) = self.model.views.get(usize::from(view) - 1) else { return };
        let nodes = 0..NODES as NodeNumber;
        let there = |node| state.node(node).view != 0 && !state.node(node).evicted;
        let removed: Vec<_> = nodes.filter(|&node| next.is_gone(node) && there(node)).collect();
        // Who leaves is removed once it is empty and nothing is under way between it and the others.
        let before = self.model.view(state.last_view);
        let busy = |&node: &NodeNumber| {
            let Node { serves, lives, .. } = *state.node(node);
            let calls = state.copies.iter().flatten().any(|copy| copy.at == node || copy.with() == Some(node));
            calls || lives.is_some() || matches!(serves, Serves::Acquiring | Serves::Serving)
        };
        let (left, evicted): (Vec<_>, Vec<_>) =
            removed.into_iter().partition(|node| before.standing(*node) == Standing::Leaving);
        if left.iter().any(busy) {
            return;
        }
        let one_way = self.model.one_way;
        self.fault(Event::Changes { view }, |next| {
            next.last_view = view;
            left.into_iter().for_each(|node| next.end(one_way, node));
            // They may have been frozen, and go on with what they had: until they look, with whatever it is.
            evicted.into_iter().for_each(|node| next.node_mut(node).evicted = true);
        });
    }

    /// What a node does as a member and owner.
    pub(super) fn owns(&mut self, node: NodeNumber) {
        let state = self.state;
        if state.node(node).evicted {
            let one_way = self.model.one_way;
            self.progress(Event::Notices { node }, |next| next.end(one_way, node));
        }
        let has = |&view: &ViewNumber| !self.model.view(view).is_gone(node);
        for view in (state.node(node).view + 1..=state.last_view).filter(has) {
            self.progress(Event::Applies { node, view }, |next| self.model.apply(next, node, view));
        }
        let owner = state.node(node);
        if owner.serves == Serves::Acquiring
            && let Some(entry) = self.learnt(node)
        {
            self.progress(Event::Serves { node }, |next| {
                let owner = next.node_mut(node);
                (owner.serves, owner.entry) = (Serves::Serving, entry);
            });
        }
        let entry = owner.entry;
        if owner.serves == Serves::Serving && entry.is_some() && state.node(entry.host).farewell == entry {
            self.progress(Event::HearsGone { node }, |next| next.node_mut(node).entry = Order::default());
        }
    }

    /// What an owner that acquires gets to know: from the owner before, which has sealed; if there is none such, from all members.
    fn learnt(&self, node: NodeNumber) -> Option<Order> {
        let (state, model) = (self.state, self.model);
        let Node { view, epoch, .. } = *state.node(node);
        let view = model.view(view);
        let before = model.view(epoch - 1);
        let applied = |member| state.node(member).view >= epoch;
        let predecessor = before.owner;
        let known = if predecessor != node && !view.is_gone(predecessor) {
            let sealed = state.node(predecessor);
            if !applied(predecessor) {
                return None;
            }
            (sealed.serves == Serves::Sealed && sealed.epoch == before.epoch).then_some(sealed.entry)
        } else {
            None
        };
        let entry = match known {
            Some(entry) => entry,
            None => {
                let members = (0..NODES as NodeNumber).filter(|&member| !view.is_gone(member));
                if !members.clone().all(applied) {
                    return None;
                }
                members.map(|member| state.node(member).lives).max().unwrap_or_default()
            }
        };
        Some(if view.is_gone(entry.host) { Order::default() } else { entry })
    }
}

impl super::Calls {
    pub(super) fn view(&self, view: ViewNumber) -> &'static super::View {
        &self.views[usize::from(view) - 1]
    }

    /// The view that `node` has applied.
    pub(super) fn view_of(&self, state: &State, node: NodeNumber) -> &'static super::View {
        self.view(state.node(node).view)
    }

    fn apply(&self, state: &mut State, node: NodeNumber, number: ViewNumber) {
        let view = self.view(number);
        let applied = state.node_mut(node);
        applied.view = number;
        if view.owner != node {
            applied.serves = match applied.serves {
                Serves::Serving | Serves::Sealed => Serves::Sealed,
                Serves::Acquiring | Serves::No => Serves::No,
            };
        } else if applied.serves == Serves::No || applied.epoch != view.epoch {
            (applied.serves, applied.epoch, applied.entry) = (Serves::Acquiring, view.epoch, Order::default());
        } else if applied.serves == Serves::Serving && view.is_gone(applied.entry.host) {
            applied.entry = Order::default();
        }
        if self.rules.removal_is_told {
            for number in 0..state.copies.len() {
                if let Some(copy) = state.copies[number]
                    && copy.at == node
                    && copy.with().is_some_and(|other| view.is_gone(other))
                {
                    state.cut(self.one_way, number, copy);
                }
            }
        }
    }
}

impl State {
    /// The process of a node ends. What it had sent goes on; what was with it does not.
    fn end(&mut self, one_way: bool, node: NodeNumber) {
        *self.node_mut(node) = Node::default();
        for copy in &mut self.copies {
            let Some(ended) = copy else { continue };
            if ended.at == node {
                ended.waits = false;
            }
            if matches!(ended.stage, Stage::There { to } if to == node) {
                ended.stage = Stage::Lost { to: node };
            }
            if ended.at == node && matches!(ended.stage, Stage::Ready | Stage::Parked) {
                *copy = None;
            }
        }
        if node == super::state::CALLER {
            self.tell(one_way, Told::MayHaveRun); // nobody is there to be told
        }
    }

    /// Nothing will be heard of a copy any more: it may have run, or may yet.
    pub(super) fn cut(&mut self, one_way: bool, number: usize, copy: Copied) {
        self.set(number, Some(Copied { waits: false, ..copy }));
        if copy.waits {
            self.tell(one_way, Told::MayHaveRun);
        }
    }
}

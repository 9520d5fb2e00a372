//! The links of other members to this node, and their ends.
//!
//! Answers to what was sent on a link come on links of the other side. Each of these has a number, told in its greeting.
//! When one of them ends here, the other side may not know yet, and answer on it: so it is told by `LOST`, in order with the
//! calls. It answers what comes behind that on another link; what was sent before it may have been answered in vain.

use std::sync::Arc;

use super::{
    link::{Place, place},
    shared::Shared,
};
use crate::{cluster::MemberId, sync::lock};

/// The other side's end of what it dialled for its calls, as this side sees it.
pub(super) struct Heard {
    shared: Arc<Shared>,
    pub(super) from: MemberId,
    /// Its number there; 0 if it has said none.
    pub(super) link: u64,
}

impl Heard {
    pub(super) fn new(shared: &Arc<Shared>, from: MemberId, link: u64) -> Self {
        if let Some(place) = place(&mut lock(&shared.state), shared.config.limits.peers_max, from) {
            // Whoever dials has one link at a time: the older ones are dead there, and nothing that is sent from now on is
            // answered on them.
            let asked = place.asked();
            for (_, replaced) in place.heard.range_mut(..link) {
                replaced.get_or_insert(asked);
            }
            let newer = place.heard.range(link..).any(|(known, _)| *known > link);
            place.heard.insert(link, newer.then_some(asked));
            if place.lost < link {
                place.lost = 0;
            }
        }
        Self { shared: shared.clone(), from, link }
    }

    /// Whether there is a newer one.
    pub(super) fn is_replaced(&self) -> bool {
        let state = lock(&self.shared.state);
        state.links.get(&self.from).is_some_and(|place| matches!(place.heard.get(&self.link), Some(Some(_))))
    }

    /// The other side lost this side's link of that number: what follows must not be answered on it.
    pub(super) fn lost(&self, ours: u64) {
        let link = lock(&self.shared.state).links.get(&self.from).and_then(Place::link);
        if let Some(link) = link.filter(|link| link.id() <= ours) {
            link.close();
        }
    }
}

impl Drop for Heard {
    fn drop(&mut self) {
        let (shared, from) = (&self.shared, self.from);
        let (replaced, link) = {
            let mut state = lock(&shared.state);
            match place(&mut state, shared.config.limits.peers_max, from) {
                Some(place) => match place.heard.remove(&self.link).flatten() {
                    Some(asked) => (Some(asked), None),
                    None => {
                        place.lost = place.lost.max(self.link);
                        (None, place.link())
                    }
                },
                None => (None, None),
            }
        };
        // A link that is dead already has lost everything, and the next one begins with this.
        let told = link.and_then(|link| Some((link.id(), link.say_lost(self.link)?)));
        shared.handler.data_ended(from, self.link, replaced.or(told));
    }
}

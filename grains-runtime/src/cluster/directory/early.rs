//! Requests that came before the view they speak of. They wait for it here, because views reach nodes at slightly
//! different times and asking again takes a while.

use litemap::LiteMap;

use crate::cluster::names::{MemberId, PartitionId, ViewVersion};

/// How many requests wait. Those beyond it are dropped: they come again.
pub(crate) const EARLY_MAX: usize = 256;

/// Lists of `T`, each from one member, in wait for a view.
#[derive(Debug)]
pub(crate) struct Early<T> {
    /// By what the list begins with too, since a long one comes in several requests. One that comes again replaces itself.
    waiting: LiteMap<(MemberId, PartitionId), (ViewVersion, Vec<T>)>,
}

impl<T> Early<T> {
    pub(crate) fn new() -> Self {
        Self { waiting: LiteMap::default() }
    }

    pub(crate) fn keep(&mut self, from: MemberId, first: PartitionId, version: ViewVersion, list: Vec<T>) {
        if self.waiting.len() < EARLY_MAX || self.waiting.contains_key(&(from, first)) {
            self.waiting.insert((from, first), (version, list));
        }
    }

    /// Takes those that `applied` is new enough for.
    pub(crate) fn due(&mut self, applied: ViewVersion) -> Vec<(MemberId, Vec<T>)> {
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        let (due, later): (Vec<_>, Vec<_>) = waiting.partition(|(_, (version, _))| *version <= applied);
        self.waiting = later.into_iter().collect();
        due.into_iter().map(|((from, _), (_, list))| (from, list)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::names::{Incarnation, NodeId};

    fn member(node: u64) -> MemberId {
        MemberId { node: NodeId(node), incarnation: Incarnation(1) }
    }

    #[test]
    fn requests_wait_for_their_view_and_replace_themselves() {
        let mut early = Early::new();
        early.keep(member(1), PartitionId(0), ViewVersion(3), vec!["first"]);
        early.keep(member(1), PartitionId(0), ViewVersion(4), vec!["again"]);
        early.keep(member(2), PartitionId(0), ViewVersion(9), vec!["late"]);
        assert!(early.due(ViewVersion(3)).is_empty());
        assert_eq!(early.due(ViewVersion(4)), [(member(1), vec!["again"])]);
        assert!(early.due(ViewVersion(4)).is_empty());
    }

    #[test]
    fn no_more_than_the_limit_wait() {
        let mut early = Early::new();
        (0..=EARLY_MAX as u64).for_each(|node| early.keep(member(node), PartitionId(0), ViewVersion(1), vec![node]));
        assert_eq!(early.due(ViewVersion(1)).len(), EARLY_MAX);
    }
}

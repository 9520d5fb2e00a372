//! Everybody agrees in the end: the view of each live node when the world is over.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::violation::{Rule, Violation};
use crate::sync::{Mutex, lock};

/// This compares what the live nodes say at the end, when all faults have been over for long enough. Clones share one record.
///
/// ```
/// use grains_runtime::sim::check::Views;
///
/// let views = Views::default();
/// views.seen("a", 7, ["a", "b"], Some("a"));
/// views.seen("b", 6, ["a", "b"], Some("a")); // it missed the last change
/// assert_eq!(views.verdict().len(), 1);
/// ```
#[derive(Clone, Default)]
pub struct Views {
    nodes: Arc<Mutex<BTreeMap<String, Seen>>>,
}

#[derive(Debug, PartialEq, Eq)]
struct Seen {
    version: u64,
    members: BTreeSet<String>,
    leader: Option<String>,
}

impl Views {
    /// `node` lives, and sees these members and this leader in the view of this version. The last word of a node counts.
    pub fn seen(
        &self,
        node: &str,
        version: u64,
        members: impl IntoIterator<Item = impl Into<String>>,
        leader: Option<&str>,
    ) {
        let members = members.into_iter().map(Into::into).collect();
        let seen = Seen { version, members, leader: leader.map(str::to_owned) };
        lock(&self.nodes).insert(node.to_owned(), seen);
    }

    /// How many nodes said something.
    pub fn count(&self) -> usize {
        lock(&self.nodes).len()
    }

    /// Who sees something else than the first node, does not see itself, or sees no leader among the members.
    pub fn verdict(&self) -> Vec<Violation> {
        let nodes = lock(&self.nodes);
        let Some((first, view)) = nodes.first_key_value() else { return Vec::new() };
        let different = nodes.iter().filter(|(_, seen)| *seen != view);
        let different = different.map(|(node, seen)| format!("{first} sees {view}, but {node} sees {seen}"));
        let alone = nodes.iter().filter(|(node, seen)| !seen.members.contains(*node));
        let alone = alone.map(|(node, seen)| format!("{node} lives and is no member: it sees {seen}"));
        let leaderless = nodes.iter().filter(|(_, seen)| !seen.has_leader());
        let leaderless = leaderless.map(|(node, seen)| format!("{node} sees no leader among the members: {seen}"));
        different.chain(alone).chain(leaderless).map(|message| Violation::new(Rule::Views, message)).collect()
    }
}

impl Seen {
    fn has_leader(&self) -> bool {
        self.leader.as_ref().is_some_and(|leader| self.members.contains(leader))
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let members = self.members.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        let leader = self.leader.as_deref().unwrap_or("nobody");
        write!(f, "view {} of [{members}] led by {leader}", self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(views: &Views) -> Vec<String> {
        views.verdict().iter().map(Violation::to_string).collect()
    }

    #[test]
    fn equal_views_agree_in_whatever_order_they_name_the_members() {
        let views = Views::default();
        views.seen("b", 2, ["b"], None);
        views.seen("a", 7, ["a", "b"], Some("b"));
        views.seen("b", 7, ["b", "a"], Some("b"));
        assert_eq!(told(&views), [""; 0]);
        assert_eq!(views.count(), 2);
    }

    #[test]
    fn another_version_other_members_and_another_leader_are_all_seen() {
        let views = Views::default();
        views.seen("a", 7, ["a", "b", "c", "d"], Some("a"));
        views.seen("b", 8, ["a", "b", "c", "d"], Some("a"));
        views.seen("c", 7, ["a", "b", "c"], Some("a"));
        views.seen("d", 7, ["a", "b", "c", "d"], Some("b"));
        assert_eq!(
            told(&views),
            [
                "views agree: a sees view 7 of [a b c d] led by a, but b sees view 8 of [a b c d] led by a",
                "views agree: a sees view 7 of [a b c d] led by a, but c sees view 7 of [a b c] led by a",
                "views agree: a sees view 7 of [a b c d] led by a, but d sees view 7 of [a b c d] led by b",
            ]
        );
    }

    #[test]
    fn a_live_node_that_is_no_member_is_seen() {
        let views = Views::default();
        views.seen("a", 7, ["a"], Some("a"));
        views.seen("b", 7, ["a"], Some("a"));
        assert_eq!(told(&views), ["views agree: b lives and is no member: it sees view 7 of [a] led by a"]);
    }

    #[test]
    fn agreeing_on_nobody_as_the_leader_is_not_enough() {
        let views = Views::default();
        views.seen("a", 7, ["a"], None);
        assert_eq!(told(&views), ["views agree: a sees no leader among the members: view 7 of [a] led by nobody"]);
    }
}

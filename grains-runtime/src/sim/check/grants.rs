//! No old leader: who acted by which grant.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    moment::{Moments, Span},
    violation::{Rule, Violation},
};
use crate::sync::{Mutex, lock};

/// This watches grants that one node holds at a time: the leader of the cluster, a singleton. Clones share one record.
///
/// ```
/// use std::time::Duration;
/// use grains_runtime::sim::check::Grants;
///
/// let grants = Grants::default();
/// grants.acts("leader", 4, "a", Duration::from_secs(1));
/// grants.acts("leader", 9, "b", Duration::from_secs(2));
/// assert!(grants.verdict().is_empty());
/// grants.acts("leader", 4, "a", Duration::from_secs(3)); // it did not notice that it was deposed
/// assert_eq!(grants.verdict().len(), 1);
/// ```
#[derive(Clone, Default)]
pub struct Grants {
    record: Arc<Mutex<Record>>,
}

#[derive(Default)]
struct Record {
    moments: Moments,
    /// By kind, token and node: from when to when it acted.
    acts: BTreeMap<String, BTreeMap<u64, BTreeMap<String, Span>>>,
}

impl Grants {
    /// `node` acts as the holder of the grant `token` of this kind.
    pub fn acts(&self, kind: &str, token: u64, node: &str, at: Duration) {
        let mut record = lock(&self.record);
        let moment = record.moments.next(at);
        let holders = record.acts.entry(kind.to_owned()).or_default().entry(token).or_default();
        holders.entry(node.to_owned()).or_insert(Span::new(moment)).include(moment);
    }

    /// How often somebody acted.
    pub fn count(&self) -> u64 {
        lock(&self.record).moments.count()
    }

    /// What is wrong with the grants so far.
    pub fn verdict(&self) -> Vec<Violation> {
        let record = lock(&self.record);
        record.acts.iter().flat_map(|(kind, tokens)| judge(kind, tokens)).collect()
    }
}

fn judge(kind: &str, tokens: &BTreeMap<u64, BTreeMap<String, Span>>) -> Vec<Violation> {
    let mut violations = Vec::new();
    // Who acted last by a token smaller than the current one.
    let mut latest: Option<Act<'_>> = None;
    for (&token, holders) in tokens {
        let acts = holders.iter().map(|(node, &seen)| Act { token, node, seen });
        for act in acts.clone() {
            if let Some(old) = latest.filter(|old| old.seen.last > act.seen.first) {
                violations.push(told(kind, "an old grant is used after a newer one", old, act));
            }
        }
        for (one, two) in acts.clone().zip(acts.clone().skip(1)) {
            violations.push(told(kind, "one grant has two holders", one, two));
        }
        latest = acts.chain(latest).max_by_key(|act| act.seen.last);
    }
    violations
}

#[derive(Clone, Copy)]
struct Act<'a> {
    token: u64,
    node: &'a str,
    seen: Span,
}

fn told(kind: &str, what: &str, one: Act<'_>, two: Act<'_>) -> Violation {
    let [one, two] = [one, two].map(|act| format!("{} by {} {}", act.token, act.node, act.seen));
    Violation::new(Rule::Grants, format!("{kind}: {what}: {one}, and {two}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: fn(u64) -> Duration = Duration::from_millis;

    fn told(grants: &Grants) -> Vec<String> {
        grants.verdict().iter().map(Violation::to_string).collect()
    }

    #[test]
    fn growing_tokens_of_several_kinds_are_fine() {
        let grants = Grants::default();
        grants.acts("leader", 5, "a", AT(1));
        grants.acts("leader", 5, "a", AT(2));
        grants.acts("leader", 9, "b", AT(2));
        grants.acts("singleton", 1, "a", AT(3));
        assert_eq!(told(&grants), [""; 0]);
        assert_eq!(grants.count(), 4);
    }

    #[test]
    fn an_old_leader_that_still_acts_is_seen() {
        let grants = Grants::default();
        grants.acts("leader", 5, "a", AT(1));
        grants.acts("leader", 9, "b", AT(2));
        grants.acts("leader", 5, "a", AT(3));
        let violation = "grants: leader: an old grant is used after a newer one: 5 by a from 1ms to 3ms, and 9 by b from 2ms to 2ms";
        assert_eq!(told(&grants), [violation]);
    }

    #[test]
    fn an_old_token_is_seen_past_a_newer_one_that_was_hardly_used() {
        let grants = Grants::default();
        grants.acts("leader", 7, "c", AT(1));
        grants.acts("leader", 9, "b", AT(2));
        grants.acts("leader", 5, "a", AT(3));
        assert_eq!(told(&grants).len(), 2);
    }

    #[test]
    fn two_holders_of_one_token_are_seen() {
        let grants = Grants::default();
        grants.acts("leader", 5, "a", AT(1));
        grants.acts("leader", 5, "b", AT(2));
        let violation = "grants: leader: one grant has two holders: 5 by a from 1ms to 1ms, and 5 by b from 2ms to 2ms";
        assert_eq!(told(&grants), [violation]);
    }
}

//! One activation at a time: which activation of a grain ran user code, where and when.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use grains_core::ActivationId;

use super::{
    moment::{Moments, Span},
    violation::{Rule, Violation},
};
use crate::sync::{Mutex, lock};

/// This watches the lives of grains. Clones share one record.
///
/// Call [`turn`](Self::turn) whenever user code of an activation runs, at the start and at the end of each piece of it. From
/// the first to the last of these, no other activation of the grain may run any; and no activation id may be seen on two
/// nodes, or be smaller than one before it. Of grains with workers there may be more on purpose: [`workers`](Self::workers)
/// says so.
///
/// ```
/// use std::time::Duration;
/// use grains_core::ActivationId;
/// use grains_runtime::sim::check::Lives;
///
/// let lives = Lives::default();
/// let (one, two) = (ActivationId { epoch: 1, counter: 1 }, ActivationId { epoch: 2, counter: 1 });
/// lives.turn("cart/ada", one, "a", Duration::from_secs(1));
/// lives.turn("cart/ada", two, "b", Duration::from_secs(2));
/// assert!(lives.verdict().is_empty());
/// lives.turn("cart/ada", one, "a", Duration::from_secs(3)); // it did not notice that it was replaced
/// assert_eq!(lives.verdict().len(), 1);
/// ```
#[derive(Clone, Default)]
pub struct Lives {
    record: Arc<Mutex<Record>>,
}

#[derive(Default)]
struct Record {
    moments: Moments,
    grains: BTreeMap<String, Vec<Life>>,
    /// Grain types with workers, and how many a grain may have on a node.
    workers: BTreeMap<String, usize>,
}

/// What was seen of one activation on one node.
#[derive(Clone)]
struct Life {
    id: ActivationId,
    node: String,
    seen: Span,
}

impl Lives {
    /// Grains of this type are served by workers: each may have up to `max` activations at a time on every node, whose ids are of
    /// no order.
    pub fn workers(&self, grain_type: &str, max: usize) {
        lock(&self.record).workers.insert(grain_type.to_owned(), max);
    }

    /// User code of this activation of `grain` runs on `node`.
    pub fn turn(&self, grain: &str, activation: ActivationId, node: &str, at: Duration) {
        let mut record = lock(&self.record);
        let moment = record.moments.next(at);
        if !record.grains.contains_key(grain) {
            record.grains.insert(grain.to_owned(), Vec::new());
        }
        let Some(lives) = record.grains.get_mut(grain) else { return };
        // The newest life is nearly always the one.
        match lives.iter_mut().rev().find(|life| life.id == activation && life.node == node) {
            Some(life) => life.seen.include(moment),
            None => lives.push(Life { id: activation, node: node.to_owned(), seen: Span::new(moment) }),
        }
    }

    /// How often user code ran.
    pub fn turns(&self) -> u64 {
        lock(&self.record).moments.count()
    }

    /// What is wrong with the lives so far.
    pub fn verdict(&self) -> Vec<Violation> {
        let record = lock(&self.record);
        let workers = |grain: &str| record.workers.get(grain.split_once('/').map_or(grain, |(name, _)| name)).copied();
        let judged = record.grains.iter().flat_map(|(grain, lives)| match workers(grain) {
            Some(max) => judge_workers(grain, lives, max),
            None => judge(grain, lives),
        });
        judged.collect()
    }
}

fn judge_workers(grain: &str, lives: &[Life], max: usize) -> Vec<Violation> {
    let mut violations = Vec::new();
    for life in lives {
        // Those that run as this one begins.
        let beside = |other: &&Life| {
            other.node == life.node && other.seen.first < life.seen.first && other.seen.last > life.seen.first
        };
        let others: Vec<_> = lives.iter().filter(beside).collect();
        if let Some(other) = others.first().filter(|_| others.len() >= max) {
            violations.push(told(Rule::OneLife, grain, &format!("more than {max} workers overlap"), other, life));
        }
    }
    violations.extend(shared(grain, lives.to_vec()));
    violations
}

fn judge(grain: &str, lives: &[Life]) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut lives = lives.to_vec();
    lives.sort_by_key(|life| life.seen.first);
    // The largest id so far, and the life that was seen last so far.
    let mut largest: Option<&Life> = None;
    let mut latest: Option<&Life> = None;
    for life in &lives {
        if let Some(other) = latest.filter(|other| other.seen.last > life.seen.first) {
            violations.push(overlap(grain, other, life));
        }
        if let Some(other) = largest.filter(|other| other.id > life.id) {
            violations.push(shrinks(grain, other, life));
        }
        latest = latest.filter(|other| other.seen.last > life.seen.last).or(Some(life));
        largest = largest.filter(|other| other.id > life.id).or(Some(life));
    }
    violations.extend(shared(grain, lives));
    violations
}

/// Ids that more than one node showed.
fn shared(grain: &str, mut lives: Vec<Life>) -> Vec<Violation> {
    lives.sort_by_key(|life| (life.id, life.seen.first));
    let same = lives.windows(2).filter(|pair| pair[0].id == pair[1].id);
    same.map(|pair| told(Rule::ActivationIds, grain, "two nodes have the same activation", &pair[0], &pair[1]))
        .collect()
}

fn overlap(grain: &str, other: &Life, life: &Life) -> Violation {
    told(Rule::OneLife, grain, "two activations overlap", other, life)
}

fn shrinks(grain: &str, other: &Life, life: &Life) -> Violation {
    told(Rule::ActivationIds, grain, "an activation has a smaller id than one before it", other, life)
}

fn told(kind: Rule, grain: &str, what: &str, one: &Life, two: &Life) -> Violation {
    let [one, two] = [one, two].map(|life| format!("{} on {} {}", life.id, life.node, life.seen));
    Violation::new(kind, format!("{grain}: {what}: {one}, and {two}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: fn(u64) -> Duration = Duration::from_millis;

    fn id(epoch: u64, counter: u64) -> ActivationId {
        ActivationId { epoch, counter }
    }

    fn kinds(lives: &Lives) -> Vec<Rule> {
        lives.verdict().iter().map(|violation| violation.kind).collect()
    }

    #[test]
    fn one_life_after_the_other_is_fine_even_within_one_instant() {
        let lives = Lives::default();
        for at in [1, 2, 3] {
            lives.turn("g", id(1, 1), "a", AT(at));
        }
        lives.turn("g", id(1, 2), "a", AT(3));
        lives.turn("g", id(4, 1), "b", AT(3));
        lives.turn("other", id(1, 1), "b", AT(2));
        assert_eq!(lives.verdict(), []);
        assert_eq!(lives.turns(), 6);
    }

    #[test]
    fn two_lives_at_once_are_told_with_their_times() {
        let lives = Lives::default();
        lives.turn("g", id(1, 1), "a", AT(1));
        lives.turn("g", id(2, 1), "b", AT(2));
        lives.turn("g", id(1, 1), "a", AT(3));
        let violations = lives.verdict();
        assert_eq!(
            violations[0].to_string(),
            "one life at a time: g: two activations overlap: 1.1 on a from 1ms to 3ms, and 2.1 on b from 2ms to 2ms"
        );
        assert_eq!(violations.len(), 1);
    }

    #[test]
    fn a_long_life_overlaps_every_life_within_it() {
        let lives = Lives::default();
        lives.turn("g", id(1, 1), "a", AT(1));
        lives.turn("g", id(2, 1), "b", AT(2));
        lives.turn("g", id(3, 1), "c", AT(3));
        lives.turn("g", id(1, 1), "a", AT(4));
        assert_eq!(kinds(&lives), [Rule::OneLife, Rule::OneLife]);
    }

    #[test]
    fn an_id_on_two_nodes_is_seen() {
        let lives = Lives::default();
        lives.turn("g", id(1, 1), "a", AT(1));
        lives.turn("g", id(1, 1), "b", AT(2));
        assert_eq!(kinds(&lives), [Rule::ActivationIds]);
    }

    #[test]
    fn a_smaller_id_after_a_larger_one_is_seen() {
        let lives = Lives::default();
        lives.turn("g", id(2, 1), "a", AT(1));
        lives.turn("g", id(1, 9), "b", AT(2));
        lives.turn("g", id(3, 1), "b", AT(3));
        assert_eq!(kinds(&lives), [Rule::ActivationIds]);
    }

    #[test]
    fn workers_overlap_on_purpose_but_not_more_than_there_may_be_on_a_node() {
        let lives = Lives::default();
        lives.workers("press", 2);
        let all_run = |at: u64, counters: std::ops::Range<u64>, node: &str, epoch: u64| {
            counters.for_each(|counter| lives.turn("press/x", id(epoch, counter), node, AT(at)));
        };
        for at in [1, 2] {
            all_run(at, 1..3, "a", 2);
            all_run(at, 1..3, "b", 1);
        }
        assert_eq!(lives.verdict(), []);
        all_run(3, 3..4, "a", 2);
        assert_eq!(lives.verdict(), [], "the others have ended");
        all_run(4, 1..4, "a", 2);
        let told = lives.verdict();
        assert_eq!(told.len(), 1);
        assert!(told[0].to_string().contains("press/x: more than 2 workers overlap"), "{}", told[0]);
        // Another grain's workers are its own; an id is that of one worker only.
        lives.turn("press/y", id(9, 9), "a", AT(4));
        lives.turn("press/y", id(9, 9), "b", AT(5));
        assert_eq!(kinds(&lives), [Rule::OneLife, Rule::ActivationIds]);
    }

    #[test]
    fn facts_of_several_places_are_put_in_order_by_their_times() {
        let lives = Lives::default();
        lives.turn("g", id(2, 1), "b", AT(5));
        lives.turn("g", id(1, 1), "a", AT(1));
        lives.turn("g", id(1, 1), "a", AT(2));
        assert_eq!(lives.verdict(), []);
    }

    #[test]
    fn a_life_begins_with_its_earliest_fact_not_the_one_recorded_first() {
        let lives = Lives::default();
        lives.turn("g", id(1, 1), "a", AT(5));
        lives.turn("g", id(1, 1), "a", AT(1));
        lives.turn("g", id(2, 1), "b", AT(3));
        assert_eq!(kinds(&lives), [Rule::OneLife]);
    }
}

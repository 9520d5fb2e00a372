//! One list of addresses never founds two clusters, whatever the start order and whoever is slow. Pure: `driver` asks the
//! questions, writes the promises and answers other nodes with what is said here, until this node belongs to a cluster.
//!
//! A fresh node asks every address of its list. Whoever hears of a cluster joins it. When a majority of the list answers
//! that it is fresh, the first of them becomes a candidate: it promises itself that it will found, asks the others for
//! the same promise, and founds once it has a majority's. A promise is durable, and two majorities share a node, so a
//! second candidate never gets enough. Nodes without a disk forget their promises, so there all of the list must promise.
//!
//! A promise moves only towards the front of the list, and only when the node that had it has itself, durably, given up:
//! candidates that were slow to see each other then agree on the first of them, and who has given up never founds again.
//! Nothing else frees a promise. If a candidate dies before it founds, people must decide that it has not.

mod question;
#[cfg(test)]
mod tests;
mod wait;

use std::sync::Arc;

use litemap::LiteMap;

pub(crate) use self::question::{Answer, Memory, Promise, Question, Wish};
use super::names::{NodeId, NodeName};

/// A node on its way into its first cluster.
#[derive(Clone, Debug)]
pub(crate) struct Founding {
    me: NodeId,
    memory: Memory,
    cluster: NodeName,
    list: Arc<[String]>,
    promise: Option<Promise>,
    /// Not durable yet, so nobody may count on it; perhaps durable already, so there can be no other.
    writing: Option<Promise>,
    /// The latest from each address, by its place in the list.
    heard: Vec<Heard>,
    founded: bool,
}

/// What an address said last.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Heard {
    Nothing,
    Silence,
    /// Somebody is there who does not talk to this node: no better than silence, but for people.
    Refusal,
    Answer(Answer),
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Ask this address, and say what came of it: [`Founding::answered`], [`silent`](Founding::silent) or
    /// [`refused`](Founding::refused).
    Ask {
        /// Its place in the list.
        place: usize,
        /// Where.
        address: String,
        /// What.
        question: Question,
    },
    /// Make this promise durable (nothing to do without a disk), then call [`Founding::persisted`].
    Persist(Promise),
    /// Found the cluster. Said once.
    Found,
    /// Join the cluster by its member at this address; if that fails, call [`Founding::silent`] for the place.
    Join {
        /// Its place in the list.
        place: usize,
        /// Where.
        address: String,
    },
}

/// How to answer a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// At once.
    Now(Answer),
    /// Once this promise is durable: with what [`Founding::persisted`] gives.
    After(Promise),
}

impl Founding {
    /// For a fresh node: it belongs to no cluster. `list` is as configured, `promise` what was kept on its disk.
    pub(crate) fn new(
        me: NodeId,
        memory: Memory,
        cluster: NodeName,
        list: impl IntoIterator<Item = String>,
        promise: Option<Promise>,
    ) -> Self {
        let mut once: Vec<String> = Vec::new();
        for address in list {
            if !once.contains(&address) {
                once.push(address);
            }
        }
        let heard = vec![Heard::Nothing; once.len()];
        Self { me, memory, cluster, list: once.into(), promise, writing: None, heard, founded: false }
    }

    /// What to do now. Ask for it after every answer, and for new questions now and then.
    pub(crate) fn steps(&mut self) -> Vec<Step> {
        if self.founded {
            return Vec::new();
        }
        if let Some((place, address)) = self.member() {
            return vec![Step::Join { place, address }];
        }
        if self.list.is_empty() || self.may_found() {
            self.founded = true;
            return vec![Step::Found];
        }
        let mut steps: Vec<_> = (0..self.list.len()).map(|place| self.question(place)).collect();
        if let Some(promise) = self.candidacy() {
            self.writing = Some(promise.clone());
            steps.push(Step::Persist(promise));
        }
        steps
    }

    /// The address at `place` has answered a question that this very process asked. (What was said to an earlier life of
    /// it may no longer hold, if the other side has no disk.)
    pub(crate) fn answered(&mut self, place: usize, answer: Answer) {
        self.hear(place, Heard::Answer(answer));
    }

    /// The address at `place` cannot be reached or does not answer.
    pub(crate) fn silent(&mut self, place: usize) {
        self.hear(place, Heard::Silence);
    }

    /// The node at `place` does not talk to this one.
    pub(crate) fn refused(&mut self, place: usize) {
        self.hear(place, Heard::Refusal);
    }

    fn hear(&mut self, place: usize, heard: Heard) {
        if let Some(known) = self.heard.get_mut(place) {
            *known = heard;
        }
    }

    /// Another node asks, or this one itself by way of the network.
    pub(crate) fn asked(&mut self, question: &Question) -> Reply {
        if question.cluster != self.cluster || question.list != self.list {
            let (cluster, list) = (self.cluster.clone(), self.list.clone());
            return Reply::Now(Answer::Otherwise { node: self.me, cluster, list });
        }
        let wanted = match question.wish {
            Wish::Promise { place } if self.may_promise(question.node, place) => self.promise_to(question.node, place),
            _ => return Reply::Now(self.answer()),
        };
        self.writing = Some(wanted.clone());
        Reply::After(wanted)
    }

    /// The promise that was to be persisted is durable. Gives the answer for whoever asked for it. If persisting failed,
    /// do not call this and end the node: nobody knows what its disk will say.
    pub(crate) fn persisted(&mut self) -> Answer {
        self.promise = self.writing.take().or(self.promise.take());
        self.answer()
    }

    fn answer(&self) -> Answer {
        let (node, memory) = (self.me, self.memory);
        match &self.promise {
            None => Answer::Fresh { node, memory },
            Some(promise) => Answer::Promised { node, memory, to: promise.founder },
        }
    }

    fn may_promise(&self, candidate: NodeId, place: usize) -> bool {
        if self.writing.is_some() || self.founded {
            return false;
        }
        let Some(promise) = &self.promise else { return true };
        let gave_up = promise.founder == self.me || self.has_given_up(promise.founder);
        self.is_ours(promise) && promise.founder != candidate && place < promise.place && gave_up
    }

    /// Whether `founder` has said that it has promised itself to another one.
    fn has_given_up(&self, founder: NodeId) -> bool {
        let said =
            |answer: &Answer| matches!(answer, Answer::Promised { node, to, .. } if *node == founder && *to != founder);
        self.answers().any(|(_, answer)| said(answer))
    }

    fn promise_to(&self, founder: NodeId, place: usize) -> Promise {
        Promise { cluster: self.cluster.clone(), list: self.list.clone(), founder, place }
    }

    /// Whether this node alone may found, and enough of the list know. Not while a promise is being written: that one gives
    /// up, and is perhaps durable.
    fn may_found(&self) -> bool {
        self.promised_to(self.me) && self.writing.is_none() && self.enough(&self.promises())
    }

    /// A promise made under another list or name binds all the same, and is worth nothing under this one.
    fn is_ours(&self, promise: &Promise) -> bool {
        promise.cluster == self.cluster && promise.list == self.list
    }

    fn promised_to(&self, founder: NodeId) -> bool {
        self.promise.as_ref().is_some_and(|promise| promise.founder == founder && self.is_ours(promise))
    }

    fn question(&self, place: usize) -> Step {
        let wish = match self.place() {
            Some(place) if self.promised_to(self.me) => Wish::Promise { place },
            _ => Wish::Look,
        };
        let question = Question { cluster: self.cluster.clone(), list: self.list.clone(), node: self.me, wish };
        Step::Ask { place, address: self.list[place].clone(), question }
    }

    /// The promise to itself that makes this node a candidate, if it may be one now.
    fn candidacy(&self) -> Option<Promise> {
        let place = self.place()?;
        let free = self.promise.is_none() && self.writing.is_none();
        let first = self.heard[..place].iter().all(|heard| *heard != Heard::Nothing && !heard.is_fresh());
        (free && first && self.enough(&self.fresh())).then(|| self.promise_to(self.me, place))
    }

    /// This node's own place in the list, found by dialling: names of one machine are many.
    fn place(&self) -> Option<usize> {
        self.answers().find(|(_, answer)| answer.node() == self.me).map(|(place, _)| place)
    }

    /// The first address that belongs to a cluster of this name.
    fn member(&self) -> Option<(usize, String)> {
        let ours = |answer: &Answer| matches!(answer, Answer::Member { cluster, .. } if *cluster == self.cluster);
        let (place, _) = self.answers().find(|(_, answer)| ours(answer))?;
        Some((place, self.list[place].clone()))
    }

    /// The nodes that have said that they are fresh and free to promise.
    fn fresh(&self) -> LiteMap<NodeId, Memory> {
        let fresh = self.answers().filter_map(|(_, answer)| match answer {
            Answer::Fresh { node, memory } => Some((*node, *memory)),
            _ => None,
        });
        fresh.collect()
    }

    /// The nodes that have promised themselves to this one.
    fn promises(&self) -> LiteMap<NodeId, Memory> {
        let promised = self.answers().filter_map(|(_, answer)| match answer {
            Answer::Promised { node, memory, to } if *to == self.me => Some((*node, *memory)),
            _ => None,
        });
        promised.collect()
    }

    /// Whether any two sets of so many nodes share one that remembers. Nodes are counted, not addresses: two addresses
    /// may lead to one node.
    fn enough(&self, nodes: &LiteMap<NodeId, Memory>) -> bool {
        let durable = nodes.values().filter(|memory| **memory == Memory::Disk).count();
        durable >= self.majority() || nodes.len() == self.list.len()
    }

    fn majority(&self) -> usize {
        self.list.len() / 2 + 1
    }

    fn answers(&self) -> impl Iterator<Item = (usize, &Answer)> {
        self.heard.iter().enumerate().filter_map(|(place, heard)| match heard {
            Heard::Answer(answer) => Some((place, answer)),
            _ => None,
        })
    }
}

impl Heard {
    fn is_fresh(&self) -> bool {
        matches!(self, Self::Answer(Answer::Fresh { .. }))
    }
}

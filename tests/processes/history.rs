//! All that the processes of a cluster have written, as tests look at it.

use std::{collections::BTreeMap, path::Path};

use crate::{
    checker::{Checker, Thaw},
    record::{Did, Fact, Records, Told, node_of},
};

/// A moment of an activation.
pub struct Turn {
    pub at: u64,
    pub key: String,
    pub activation: String,
    /// The file it stands in: the process that ran it.
    pub process: String,
    pub did: Did,
}

/// A call as its caller saw it.
pub struct Called {
    pub ended: u64,
    pub key: String,
    /// The node of the caller.
    pub from: String,
    pub answer: Told,
}

/// What was written.
pub struct History {
    pub turns: Vec<Turn>,
    pub calls: Vec<Called>,
    checker: Checker,
}

/// How long one activation ran.
#[derive(Debug)]
pub struct Life<'h> {
    pub activation: &'h str,
    pub process: &'h str,
    pub first: u64,
    pub last: u64,
}

impl History {
    pub fn read(folder: &Path, thaws: &[Thaw]) -> Self {
        let mut history = Self { turns: Vec::new(), calls: Vec::new(), checker: Checker::default() };
        thaws.iter().for_each(|thaw| history.checker.thawed(thaw.clone()));
        let mut asked = BTreeMap::new();
        for (process, fact) in Records::of(folder).more() {
            history.checker.take(&process, fact.clone());
            match fact {
                Fact::Turn { at, key, activation, did, .. } => {
                    history.turns.push(Turn { at, key, activation, process, did });
                }
                Fact::Leads { .. } => {}
                Fact::Asks { number, key, .. } => drop(asked.insert(number, key)),
                Fact::Told { at, number, answer } => {
                    let key = asked.remove(&number).expect("a call begins before it ends");
                    let from = node_of(&process).to_owned();
                    history.calls.push(Called { ended: at, key, from, answer });
                }
            }
        }
        history.turns.sort_by_key(|turn| turn.at);
        history
    }

    /// When each activation of each key first and last ran, in the order of their first turns.
    pub fn lives(&self) -> BTreeMap<&str, Vec<Life<'_>>> {
        let mut lives: BTreeMap<&str, Vec<Life<'_>>> = BTreeMap::new();
        for Turn { at, key, activation, process, .. } in &self.turns {
            let of_key = lives.entry(key).or_default();
            match of_key.iter_mut().find(|life| life.activation == activation && life.process == process) {
                Some(life) => life.last = *at,
                None => of_key.push(Life { activation, process, first: *at, last: *at }),
            }
        }
        lives
    }

    /// What is broken of what nodes promise whatever happens to them, in words.
    pub fn broken(mut self) -> String {
        self.checker.chapter_ends();
        self.checker.broken().join("\n")
    }
}

//! What nodes write down of turns and calls, each process in a file of its own that outlives it, and what must be true of
//! all files of a cluster together.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::Path,
};

/// The file of one process.
pub struct Record(File);

impl Record {
    pub fn new(folder: &Path, node: &str) -> Self {
        let file = folder.join(format!("{node}-{}.log", std::process::id()));
        Self(OpenOptions::new().create(true).append(true).open(file).unwrap())
    }

    /// Something ran at `at`, in nanoseconds since the machine started.
    pub fn turn(&self, at: u64, key: &str, activation: &str, what: &str) {
        self.line(&format!("turn {at} {key} {activation} {what}"));
    }

    /// A call of this node has ended.
    pub fn call(&self, call: &Called) {
        let Called { begun, ended, key, .. } = call;
        match &call.answer {
            Ok(activation) => self.line(&format!("call {begun} {ended} {key} answered {activation}")),
            Err((outcome, why)) => self.line(&format!("call {begun} {ended} {key} {outcome} {why}")),
        }
    }

    /// In one write, so that a kill leaves whole lines.
    fn line(&self, text: &str) {
        let mut line = text.replace('\n', " ");
        line.push('\n');
        (&self.0).write_all(line.as_bytes()).unwrap();
    }
}

/// A moment of an activation.
pub struct Turn {
    pub at: u64,
    pub key: String,
    pub activation: String,
    /// The file it stands in: the process that ran it.
    pub process: String,
    pub what: String,
}

/// A call as its caller saw it.
pub struct Called {
    pub begun: u64,
    pub ended: u64,
    pub key: String,
    /// The node of the caller.
    pub from: String,
    /// The activation that answered; or whether the call ran, and why there is no answer.
    pub answer: Result<String, (String, String)>,
}

/// All that the processes of a cluster have written.
pub struct History {
    pub turns: Vec<Turn>,
    pub calls: Vec<Called>,
}

impl History {
    pub fn read(folder: &Path) -> Self {
        let mut history = Self { turns: Vec::new(), calls: Vec::new() };
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let process = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(&path).unwrap();
            // Where a process runs on, its last line may be half written.
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            whole.lines().for_each(|line| history.take(line, &process));
        }
        history.turns.sort_by_key(|turn| turn.at);
        history
    }

    fn take(&mut self, line: &str, process: &str) {
        let mut words = line.splitn(5, ' ');
        let mut word = || words.next().unwrap_or_else(|| panic!("{process}: {line:?}"));
        match word() {
            "turn" => {
                let (at, key, activation, what) = (word().parse().unwrap(), word(), word(), word());
                self.turns.push(Turn {
                    at,
                    key: key.to_owned(),
                    activation: activation.to_owned(),
                    process: process.to_owned(),
                    what: what.to_owned(),
                });
            }
            _ => {
                let (begun, ended, key) = (word().parse().unwrap(), word().parse().unwrap(), word());
                let (how, rest) = word().split_once(' ').unwrap();
                self.calls.push(Called {
                    begun,
                    ended,
                    key: key.to_owned(),
                    from: process.split('-').next().unwrap().to_owned(),
                    answer: match how {
                        "answered" => Ok(rest.to_owned()),
                        outcome => Err((outcome.to_owned(), rest.to_owned())),
                    },
                });
            }
        }
    }

    /// When each activation of each key first and last ran, in the order of their first turns.
    pub fn lives(&self) -> BTreeMap<&str, Vec<Life<'_>>> {
        let mut lives: BTreeMap<&str, Vec<Life<'_>>> = BTreeMap::new();
        for turn in &self.turns {
            let of_key = lives.entry(&turn.key).or_default();
            match of_key.iter_mut().find(|life| life.activation == turn.activation && life.process == turn.process) {
                Some(life) => life.last = turn.at,
                None => of_key.push(Life {
                    activation: &turn.activation,
                    process: &turn.process,
                    first: turn.at,
                    last: turn.at,
                }),
            }
        }
        lives
    }

    /// What is broken of what nodes promise whatever happens to them, in words.
    pub fn broken(&self) -> String {
        let mut broken = String::new();
        for (key, lives) in self.lives() {
            for pair in lives.windows(2) {
                let [old, new] = pair else { continue };
                if old.last > new.first {
                    let by = (old.last - new.first) / 1_000;
                    writeln!(broken, "{key}: {old:?} ran {by} us after {new:?} had begun").unwrap();
                }
            }
            let ids: BTreeSet<_> = lives.iter().map(|life| life.activation).collect();
            if ids.len() < lives.len() {
                writeln!(broken, "{key}: one activation in two processes: {lives:?}").unwrap();
            }
        }
        let mut ran = BTreeSet::new();
        let mut counters: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for turn in &self.turns {
            let Some((call, counter)) = turn.what.strip_prefix("call ").and_then(|call| call.split_once(' ')) else {
                continue;
            };
            if !ran.insert(call) {
                writeln!(broken, "{}: call {call} ran twice", turn.key).unwrap();
            }
            let before = counters.entry((&turn.key, &turn.activation)).or_default();
            *before += 1;
            if counter.parse() != Ok(*before) {
                writeln!(broken, "{}: {} counts {counter}, and has run {before}", turn.key, turn.activation).unwrap();
            }
        }
        broken
    }
}

/// How long one activation ran.
#[derive(Debug)]
pub struct Life<'h> {
    pub activation: &'h str,
    pub process: &'h str,
    pub first: u64,
    pub last: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(lines: &[(&str, &str)]) -> History {
        let mut history = History { turns: Vec::new(), calls: Vec::new() };
        lines.iter().for_each(|(process, line)| history.take(line, process));
        history.turns.sort_by_key(|turn| turn.at);
        history
    }

    #[test]
    fn activations_one_after_the_other_are_fine() {
        let fine =
            [("a-1", "turn 1 k 5.1 call 1 1"), ("a-1", "turn 2 k 5.1 call 2 2"), ("b-2", "turn 3 k 6.1 call 3 1")];
        assert_eq!(history(&fine).broken(), "");
    }

    #[test]
    fn each_broken_promise_is_found() {
        let overlap = [("a-1", "turn 1 k 5.1 begins"), ("b-2", "turn 2 k 6.1 begins"), ("a-1", "turn 3 k 5.1 slow")];
        assert!(history(&overlap).broken().contains("had begun"));
        let twice = [("a-1", "turn 1 k 5.1 call 7 1"), ("b-2", "turn 2 k 6.1 call 7 1")];
        assert!(history(&twice).broken().contains("ran twice"));
        let forgot = [("a-1", "turn 1 k 5.1 call 7 1"), ("a-1", "turn 2 k 5.1 call 8 1")];
        assert!(history(&forgot).broken().contains("counts 1, and has run 2"));
        let copied = [("a-1", "turn 1 k 5.1 begins"), ("b-2", "turn 2 k 5.1 begins")];
        assert!(history(&copied).broken().contains("two processes"));
    }
}

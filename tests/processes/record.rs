//! What nodes write down of turns and calls, each process in a file of its own that outlives it, and what must be true of
//! all files of a cluster together.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
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
        let thread = THREAD.with(|number| *number);
        self.line(&format!("turn {at} {thread} {key} {activation} {what}"));
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

static THREADS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The number of a thread in its process.
    static THREAD: u64 = THREADS.fetch_add(1, Ordering::Relaxed);
}

/// A moment of an activation.
pub struct Turn {
    pub at: u64,
    /// The thread that ran it.
    pub thread: u64,
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

/// A process that was frozen goes on.
#[derive(Clone, Debug)]
pub struct Thaw {
    pub process: String,
    /// Not later than it went on, and not before it was frozen.
    pub at: u64,
}

/// How long, in nanoseconds, a thread may take to go on: on a busy machine others go first.
const GOES_ON_MAX: u64 = 1_000_000_000;

/// All that the processes of a cluster have written.
pub struct History {
    pub turns: Vec<Turn>,
    pub calls: Vec<Called>,
    thaws: Vec<Thaw>,
}

impl History {
    pub fn read(folder: &Path, thaws: &[Thaw]) -> Self {
        let mut history = Self { turns: Vec::new(), calls: Vec::new(), thaws: thaws.to_vec() };
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
        let (kind, line) = line.split_once(' ').unwrap_or_else(|| panic!("{process}: {line:?}"));
        let mut words = line.splitn(if kind == "turn" { 5 } else { 4 }, ' ');
        let mut word = || words.next().unwrap_or_else(|| panic!("{process}: {line:?}"));
        match kind {
            "turn" => {
                let (at, thread) = (word().parse().unwrap(), word().parse().unwrap());
                let (key, activation, what) = (word(), word(), word());
                self.turns.push(Turn {
                    at,
                    thread,
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
    ///
    /// Without what a thread was in the middle of when its process was frozen: from the check at the start of a poll to the
    /// next await nothing can hold it up, so each thread may write one such moment as soon as it goes on. Its answer is not heard
    /// and its writes are fenced, which other checks look at; everything after it comes from polls that begin with a check.
    pub fn lives(&self) -> BTreeMap<&str, Vec<Life<'_>>> {
        let mut lives: BTreeMap<&str, Vec<Life<'_>>> = BTreeMap::new();
        let mut went_on = BTreeSet::new();
        for turn in &self.turns {
            let goes_on = |thaw: &Thaw| (thaw.at..thaw.at + GOES_ON_MAX).contains(&turn.at);
            let mut thaws = self.thaws.iter().filter(|thaw| thaw.process == turn.process && goes_on(thaw));
            let first = thaws.next_back().is_some_and(|thaw| went_on.insert((&thaw.process, thaw.at, turn.thread)));
            let of_key = lives.entry(&turn.key).or_default();
            match of_key.iter_mut().find(|life| life.activation == turn.activation && life.process == turn.process) {
                Some(_) if first => {}
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
        let thaws = vec![Thaw { process: "a-1".to_owned(), at: 10 }];
        let mut history = History { turns: Vec::new(), calls: Vec::new(), thaws };
        lines.iter().for_each(|(process, line)| history.take(line, process));
        history.turns.sort_by_key(|turn| turn.at);
        history
    }

    #[test]
    fn activations_one_after_the_other_are_fine() {
        let fine = [
            ("a-1", "turn 1 0 k 5.1 call 1 1"),
            ("a-1", "turn 2 0 k 5.1 call 2 2"),
            ("b-2", "turn 3 0 k 6.1 call 3 1"),
        ];
        assert_eq!(history(&fine).broken(), "");
    }

    #[test]
    fn each_broken_promise_is_found() {
        let overlap =
            [("a-1", "turn 1 0 k 5.1 begins"), ("b-2", "turn 2 0 k 6.1 begins"), ("a-1", "turn 3 0 k 5.1 slow")];
        assert!(history(&overlap).broken().contains("had begun"));
        let twice = [("a-1", "turn 1 0 k 5.1 call 7 1"), ("b-2", "turn 2 0 k 6.1 call 7 1")];
        assert!(history(&twice).broken().contains("ran twice"));
        let forgot = [("a-1", "turn 1 0 k 5.1 call 7 1"), ("a-1", "turn 2 0 k 5.1 call 8 1")];
        assert!(history(&forgot).broken().contains("counts 1, and has run 2"));
        let copied = [("a-1", "turn 1 0 k 5.1 begins"), ("b-2", "turn 2 0 k 5.1 begins")];
        assert!(history(&copied).broken().contains("two processes"));
    }

    #[test]
    fn a_thread_ends_what_it_was_frozen_in_and_nothing_else() {
        let frozen = [("a-1", "turn 1 0 k 5.1 begins"), ("b-2", "turn 2 0 k 6.1 begins")];
        let ends = ("a-1", "turn 10 0 k 5.1 slow");
        assert_eq!(history(&[frozen[0], frozen[1], ends]).broken(), "");
        let same_thread = ("a-1", "turn 11 0 k 5.1 slow");
        assert!(history(&[frozen[0], frozen[1], ends, same_thread]).broken().contains("had begun"));
        let late = ("a-1", "turn 1000000010 0 k 5.1 slow");
        assert!(history(&[frozen[0], frozen[1], late]).broken().contains("had begun"));
        let other_thread = ("a-1", "turn 11 1 k 5.1 slow");
        assert_eq!(history(&[frozen[0], frozen[1], ends, other_thread]).broken(), "");
        let other_process = [("c-3", "turn 1 0 k 5.1 begins"), ("b-2", "turn 2 0 k 6.1 begins")];
        let never_frozen = ("c-3", "turn 10 0 k 5.1 slow");
        assert!(history(&[other_process[0], other_process[1], never_frozen]).broken().contains("had begun"));
    }
}

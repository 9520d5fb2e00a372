//! What nodes write down of turns and calls, each process in a file of its own that outlives it, and how that is read again.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use grains::{
    CallError, Outcome,
    world::{World, tokio_world},
};
use serde::{Deserialize, Serialize};

/// Something that a process saw. All times are in nanoseconds since the machine started, by the clock that nodes go by: all
/// processes of a machine share it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// User code of an activation runs, on this thread of the process.
    Turn { at: u64, thread: u64, key: String, activation: String, did: Did },
    /// The node was sure at this time that it leads.
    Leads { at: u64, term: u64 },
    /// A call begins. It may take so long.
    Asks { at: u64, number: u64, key: String, what: Asked, limit_ms: u64 },
    /// It has ended.
    Told { at: u64, number: u64, answer: Told },
}

/// What a turn did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Did {
    Begin,
    End,
    Tick,
    /// Went on with a slow turn.
    Slow,
    Block,
    /// Ran the call of this number, which was the so many'th of this activation.
    Count {
        call: u64,
        counter: u64,
    },
    /// Began to run the call of this number.
    Enter {
        call: u64,
    },
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// To count a call, in memory.
    Count,
    /// To take its time.
    Slow,
    /// To add one to what is stored.
    Enter,
    /// What is stored.
    Sum,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// This activation has answered; what it counts or has stored.
    Answered { by: String, value: u64 },
    /// There is no answer, because the call has not run and never will.
    NotExecuted { why: String },
    /// There is no answer, and it may have run or has.
    Unknown { why: String },
}

impl From<&CallError> for Told {
    fn from(error: &CallError) -> Self {
        let why = error.to_string();
        match error.outcome() {
            Outcome::NotExecuted => Self::NotExecuted { why },
            Outcome::Unknown | Outcome::Executed => Self::Unknown { why },
        }
    }
}

/// The file of one process.
pub struct Record(File);

impl Record {
    pub fn new(folder: &Path, node: &str) -> Self {
        let file = folder.join(format!("{node}-{}.log", std::process::id()));
        Self(OpenOptions::new().create(true).append(true).open(file).unwrap())
    }

    pub fn turn(&self, at: u64, key: &str, activation: &str, did: Did) {
        let thread = THREAD.with(|number| *number);
        self.write(&Fact::Turn { at, thread, key: key.to_owned(), activation: activation.to_owned(), did });
    }

    /// In one write, so that a kill leaves whole lines.
    pub fn write(&self, fact: &Fact) {
        let mut line = serde_json::to_string(fact).unwrap();
        line.push('\n');
        (&self.0).write_all(line.as_bytes()).unwrap();
    }
}

static THREADS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The number of a thread in its process.
    static THREAD: u64 = THREADS.fetch_add(1, Ordering::Relaxed);
}

/// The time since the machine started, as nodes count it.
pub fn now() -> u64 {
    static WORLD: LazyLock<World> = LazyLock::new(|| {
        // On a thread of its own: whoever asks may be within a runtime.
        let world = thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async { tokio_world() }).unwrap()
        });
        world.join().unwrap()
    });
    WORLD.clock.now().as_nanos()
}

/// The files of all processes, and how much of them has been read.
pub struct Records {
    folder: PathBuf,
    read: BTreeMap<PathBuf, u64>,
}

impl Records {
    pub fn of(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), read: BTreeMap::new() }
    }

    /// All that was written since it was last asked: the process, and what it saw.
    pub fn more(&mut self) -> Vec<(String, Fact)> {
        let mut facts = Vec::new();
        for entry in fs::read_dir(&self.folder).unwrap() {
            let path = entry.unwrap().path();
            let process = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let read = self.read.entry(path.clone()).or_default();
            let mut file = File::open(&path).unwrap();
            file.seek(SeekFrom::Start(*read)).unwrap();
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            // Where a process runs on, its last line may be half written.
            let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
            *read += whole.len() as u64;
            let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("{process}: {line:?}"));
            facts.extend(whole.lines().map(|line| (process.clone(), parse(line))));
        }
        facts
    }
}

/// The node of a process, which may have had others before and after it.
pub fn node_of(process: &str) -> &str {
    process.split('-').next().unwrap()
}

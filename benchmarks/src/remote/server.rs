//! The serving process, from both sides. It says where it serves, answers what it has used, and ends when its input does.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use clap::ValueEnum as _;

use crate::{allocations::Count, case::Work, machine, subject::Subject};

/// In the serving process: says where it serves, and from now on answers its parent.
pub(super) fn ready(address: String) {
    println!("{address}");
    thread::spawn(answer);
}

/// For each line the time computed so far, in nanoseconds, and the allocations since the line before.
fn answer() {
    let mut count: Option<Count> = None;
    for line in std::io::stdin().lines() {
        let Ok(asked) = line else { break };
        let allocations = count.take().map_or(0, Count::end);
        println!("{} {allocations}", machine::cpu_time().as_nanos());
        count = (asked == COUNT).then(Count::begin);
    }
    std::process::exit(0)
}

const COUNT: &str = "count";
const STOP: &str = "stop";

/// The serving process, as the calling one sees it.
pub(crate) struct Server {
    process: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    pub(super) address: String,
}

/// What the serving process has used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Used {
    /// Since it began.
    pub(super) cpu: Duration,
    /// Since it was asked to count.
    pub(super) allocations: u64,
}

impl Server {
    /// Starts one for this work, and waits until it is ready.
    pub(super) fn start(work: Work, subject: Subject) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let mut command = Command::new(program);
        let work = work.to_possible_value().expect("every work has a name");
        command.args(["serve", work.get_name(), &subject.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().expect("this program can be started again");
        let stdout = process.stdout.take().expect("it is piped");
        let mut server =
            Self { stdin: process.stdin.take(), stdout: BufReader::new(stdout), address: String::new(), process };
        server.address = server.line();
        assert!(!server.address.is_empty(), "it ended before it served");
        server
    }

    /// What it has used; from now on it counts allocations.
    pub(super) fn count(&mut self) -> Used {
        self.ask(COUNT)
    }

    /// What it has used.
    pub(super) fn used(&mut self) -> Used {
        self.ask(STOP)
    }

    fn ask(&mut self, what: &str) -> Used {
        let stdin = self.stdin.as_mut().expect("it is only closed in the end");
        writeln!(stdin, "{what}").expect("it reads until it ends");
        let line = self.line();
        let mut numbers = line.split(' ').map(|number| number.parse().expect("it says numbers"));
        let mut next = || numbers.next().expect("it says two of them");
        Used { cpu: Duration::from_nanos(next()), allocations: next() }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it says text");
        line.truncate(line.trim_end().len());
        line
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stdin.take());
        self.process.wait().ok();
    }
}

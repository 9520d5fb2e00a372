//! One node process, from outside: started, asked, sent signals, and always reaped.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::program::{MARK, NODE_PROCESS, ORDERS, Orders};

/// Longer than anything takes on a busy machine that is not promised to be fast; what takes longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// A node process.
pub struct Process {
    pub orders: Orders,
    child: Child,
    stdin: Option<ChildStdin>,
    heard: Arc<Heard>,
    next: u64,
}

/// What it has said so far.
#[derive(Default)]
struct Heard {
    said: Mutex<Said>,
    more: Condvar,
}

#[derive(Default)]
struct Said {
    ready: bool,
    /// The clock of nodes, as it read it when it was ready.
    now: u64,
    answers: BTreeMap<u64, Value>,
    stopped: Option<Value>,
    stderr: String,
    /// Both of its outputs, when they have ended.
    ended: usize,
}

impl Heard {
    fn wait<T>(&self, what: &str, limit: Duration, mut ready: impl FnMut(&mut Said) -> Option<T>) -> T {
        let until = Instant::now() + limit;
        let mut said = self.said.lock().unwrap();
        loop {
            if let Some(found) = ready(&mut said) {
                return found;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || said.ended == 2 {
                let stderr = said.stderr.clone();
                drop(said);
                panic!("{what}: not within {limit:?}, or the process has ended; it says:\n{stderr}");
            }
            said = self.more.wait_timeout(said, left).unwrap().0;
        }
    }

    fn hear(&self, change: impl FnOnce(&mut Said)) {
        change(&mut self.said.lock().unwrap());
        self.more.notify_all();
    }

    fn line(&self, line: &str) {
        let Some(line) = line.strip_prefix(MARK) else { return };
        let mut line: Value = serde_json::from_str(line).unwrap();
        self.hear(|said| match line["number"].as_u64() {
            Some(number) => drop(said.answers.insert(number, line["answer"].take())),
            None if line.get("ready").is_some() => {
                said.ready = true;
                said.now = line["now"].as_u64().unwrap();
            }
            None => said.stopped = Some(line),
        });
    }
}

/// An answer that will come.
#[must_use]
pub struct Answer {
    heard: Arc<Heard>,
    number: u64,
    command: String,
}

impl Answer {
    pub fn get(self) -> Value {
        self.get_within(PATIENCE)
    }

    pub fn get_within(self, limit: Duration) -> Value {
        self.heard.wait(&self.command, limit, |said| said.answers.remove(&self.number))
    }
}

/// Runs this test binary again, within something like `ip netns exec NAME`.
pub fn this_binary(within: &[String]) -> Command {
    let exe = env::current_exe().unwrap();
    match within {
        [] => Command::new(exe),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(exe);
            command
        }
    }
}

impl Process {
    /// Starts it, and waits for nothing.
    pub fn spawn(orders: &Orders) -> Self {
        let mut child = this_binary(&orders.within)
            .args(NODE_PROCESS)
            .envs(orders.variables.iter().cloned())
            .env(ORDERS, serde_json::to_string(orders).unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let heard: Arc<Heard> = Arc::default();
        let (hears_out, stdout) = (heard.clone(), child.stdout.take().unwrap());
        thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).for_each(|line| hears_out.line(&line));
            hears_out.hear(|said| said.ended += 1);
        });
        let (hears_err, mut stderr) = (heard.clone(), child.stderr.take().unwrap());
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = stderr.read(&mut bytes) {
                hears_err.hear(|said| said.stderr.push_str(&String::from_utf8_lossy(&bytes[..n])));
            }
            hears_err.hear(|said| said.ended += 1);
        });
        let stdin = child.stdin.take();
        Self { orders: orders.clone(), child, stdin, heard, next: 0 }
    }

    pub fn name(&self) -> &str {
        &self.orders.name
    }

    /// As its records call it.
    pub fn record(&self) -> String {
        format!("{}-{}", self.name(), self.id())
    }

    /// What the machine calls it.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it is a member that may act.
    pub fn ready(&self) {
        self.ready_within(PATIENCE);
    }

    pub fn ready_within(&self, limit: Duration) {
        self.heard.wait(&format!("start of {}", self.name()), limit, |said| said.ready.then_some(()));
    }

    pub fn is_ready(&self) -> bool {
        self.heard.said.lock().unwrap().ready
    }

    /// What the clock of nodes was to it when it became ready.
    pub fn clock_when_ready(&self) -> u64 {
        self.heard.said.lock().unwrap().now
    }

    /// Sends a command, and waits for nothing.
    pub fn begin(&mut self, command: &str) -> Answer {
        self.next += 1;
        let line = format!("{} {command}\n", self.next);
        let stdin = self.stdin.as_mut().expect("open while the process lives");
        stdin.write_all(line.as_bytes()).unwrap();
        let command = format!("{} of {}", command, self.orders.name);
        Answer { heard: self.heard.clone(), number: self.next, command }
    }

    /// Sends a command, and waits for its answer.
    pub fn ask(&mut self, command: &str) -> Value {
        self.begin(command).get()
    }

    /// Sends a signal by its name, such as `TERM`.
    pub fn signal(&self, signal: &str) {
        let id = self.id().to_string();
        let sent = Command::new("kill").args([&format!("-{signal}"), &id]).status().unwrap();
        assert!(sent.success(), "the process is there");
    }

    /// Whether all of its threads are stopped.
    pub fn is_stopped(&self) -> bool {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.id())).unwrap();
        let stopped = |stat: String| stat.rsplit_once(") ").is_some_and(|(_, state)| state.starts_with('T'));
        // A thread may have ended meanwhile.
        tasks.flatten().all(|task| fs::read_to_string(task.path().join("stat")).map_or(true, stopped))
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end. Gives its last word, if it had one, and what it wrote for people.
    pub fn end(mut self, limit: Duration) -> (ExitStatus, Option<Value>, String) {
        let until = Instant::now() + limit;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < until, "{} has not ended within {limit:?}: {}", self.name(), self.stderr());
            thread::sleep(Duration::from_millis(5));
        };
        let said = self.heard.wait("its last words", PATIENCE, |said| {
            (said.ended == 2).then(|| (said.stopped.take(), said.stderr.clone()))
        });
        (status, said.0, said.1)
    }

    /// What it has written for people so far.
    pub fn stderr(&self) -> String {
        self.heard.said.lock().unwrap().stderr.clone()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.child.kill());
        drop(self.child.wait());
        if thread::panicking() {
            let stderr = self.stderr();
            let lines: Vec<_> = stderr.lines().collect();
            let last = &lines[lines.len().saturating_sub(60)..];
            eprintln!("--- the last that {} wrote:\n{}", self.name(), last.join("\n"));
        }
    }
}

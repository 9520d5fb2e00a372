//! Nodes started by the launcher of the example. All of them end when the test does.

use std::{
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::{Instant, sleep},
};

use crate::process::{Folder, PATIENCE, chat, rand_u128, within};

/// The launcher, and the nodes it has started.
pub struct Launched {
    child: Child,
    /// What it has printed.
    said: Arc<Mutex<Vec<String>>>,
    /// The nodes by their names.
    pub nodes: Vec<Node>,
    folder: Folder,
    /// With what it was started.
    args: Vec<String>,
}

/// One of its nodes.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Where its page is, without a slash at the end.
    pub url: String,
    /// The id of its process.
    pub process: u32,
}

impl Launched {
    /// Starts so many nodes on any free ports, and waits until all of them serve.
    pub async fn start(count: usize) -> Self {
        Self::start_in(Folder::new(), count).await
    }

    /// The same over a folder that may have been used before, but not by several nodes.
    pub async fn start_in(folder: Folder, count: usize) -> Self {
        Self::start_set(folder, count, &[]).await
    }

    /// The same with more arguments.
    pub async fn start_set(folder: Folder, count: usize, more: &[&str]) -> Self {
        // Below the ports that systems give to connections: those could take the port of a node while it is dead.
        let port = 20_000 + u16::try_from(rand_u128() % 10_000).unwrap();
        let (listen, http) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{}", port + 10));
        let count_text = count.to_string();
        let args = ["--nodes", &count_text, "--listen", &listen, "--http", &http, "--data-dir", folder.text()];
        let args = args.iter().chain(more).map(|arg| (*arg).to_owned()).collect();
        Self::start_with(folder, args, count).await
    }

    /// Starts it as who knows nothing about it: without arguments, in an empty folder. Its nodes take the ports that the README
    /// names, or any others where these are taken.
    pub async fn start_bare() -> Self {
        Self::start_with(Folder::new(), Vec::new(), 3).await
    }

    async fn start_with(folder: Folder, args: Vec<String>, count: usize) -> Self {
        std::fs::create_dir_all(folder.path()).unwrap();
        let mut command = chat(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let mut child = command.current_dir(folder.path()).stderr(Stdio::inherit()).spawn().unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let heard = said.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                heard.lock().unwrap().push(line);
            }
        });
        let mut launched = Self { child, said, nodes: Vec::new(), folder, args };
        launched.nodes = until("all nodes serve", PATIENCE, async || {
            let mut nodes: Vec<_> = launched.said.lock().unwrap().iter().filter_map(|line| Node::read(line)).collect();
            nodes.sort_by(|one, other| one.name.cmp(&other.name));
            (nodes.len() == count).then_some(nodes)
        })
        .await;
        launched
    }

    /// Waits until it prints a line that contains `text`, and gives the line.
    pub async fn says(&self, text: &str) -> String {
        let found = async || self.said.lock().unwrap().iter().find(|line| line.contains(text)).cloned();
        until(&format!("the launcher says `{text}`"), PATIENCE, found).await
    }

    /// The nodes but for the one called `name`.
    pub fn others(&self, name: &str) -> Vec<Node> {
        self.nodes.iter().filter(|node| node.name != name).cloned().collect()
    }

    /// The one called `name`.
    pub fn node(&self, name: &str) -> Node {
        self.nodes.iter().find(|node| node.name == name).cloned().unwrap()
    }

    /// Starts a node that has ended, with the command that was printed.
    pub async fn start_again(&self, name: &str) -> Again {
        let command = self.says(&format!("node --name {name} ")).await;
        let (_, args) = command.split_once(" -- ").unwrap();
        let args: Vec<_> = args.split(' ').collect();
        let mut child = chat(&args).stderr(Stdio::inherit()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = within("start of a node", stdout.next_line()).await.unwrap();
        assert_eq!(first, Some(format!("node {name}: {}/", self.node(name).url)));
        Again { child, _stdout: stdout }
    }

    /// Kills all nodes and the launcher, and starts all again.
    pub async fn kill_and_start(self) -> Self {
        let (count, args) = (self.nodes.len(), self.args.clone());
        Self::start_with(self.kill().await, args, count).await
    }

    /// Kills the launcher and with it all nodes, as a power cut would, and gives their folder.
    pub async fn kill(mut self) -> Folder {
        for node in &self.nodes {
            // Those that are dead already are none the worse.
            signal(node.process, "KILL").await;
        }
        self.signal("KILL").await;
        self.end().await;
        self.are_gone(PATIENCE).await;
        self.folder
    }

    /// Sends the launcher a signal by its name, such as `INT`.
    pub async fn signal(&self, name: &str) {
        assert!(signal(self.process(), name).await, "the launcher is there");
    }

    /// Waits for its end.
    pub async fn end(&mut self) -> ExitStatus {
        within("end of the launcher", self.child.wait()).await.unwrap()
    }

    /// Asks it to stop, and checks that all have ended well.
    pub async fn stop(mut self) {
        self.signal("INT").await;
        assert_eq!(self.end().await.code(), Some(0));
        self.are_gone(PATIENCE).await;
    }

    /// Where it was started.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The id of its process.
    pub fn process(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Waits until no process of a node is left.
    pub async fn are_gone(&self, limit: Duration) {
        for node in &self.nodes {
            until(&format!("{node:?} is gone"), limit, async || (!node.lives().await).then_some(())).await;
        }
    }
}

/// A node that was started again, by hand. It is killed when it is dropped.
pub struct Again {
    child: Child,
    /// Kept open, so that it can go on printing.
    _stdout: Lines<BufReader<ChildStdout>>,
}

impl Again {
    /// Kills it.
    pub async fn kill(mut self) {
        within("kill of a node", self.child.kill()).await.unwrap();
    }

    /// Asks it to stop, and checks that it ends well.
    pub async fn stop(mut self) {
        assert!(signal(self.child.id().unwrap(), "TERM").await, "the node is there");
        assert_eq!(within("end of the node", self.child.wait()).await.unwrap().code(), Some(0));
    }
}

impl Node {
    /// Reads `node a: http://127.0.0.1:8101/ (process 7)`.
    fn read(line: &str) -> Option<Self> {
        let (name, rest) = line.strip_prefix("node ")?.split_once(": ")?;
        let (url, rest) = rest.split_once("/ (process ")?;
        let process = rest.strip_suffix(')')?.parse().ok()?;
        Some(Self { name: name.to_owned(), url: url.to_owned(), process })
    }

    /// The address of its page without `http://`.
    pub fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    /// Sends it a signal by its name, such as `KILL`.
    pub async fn signal(&self, name: &str) {
        assert!(signal(self.process, name).await, "{self:?} is there");
    }

    /// Whether its process runs. One that has ended may stay in the list of processes when nobody asks how it did.
    pub async fn lives(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process));
        let has_ended = stat.is_ok_and(|stat| stat.contains(") Z "));
        !has_ended && signal(self.process, "0").await
    }
}

/// Sends a process a signal by its name; whether the process was there.
pub async fn signal(process: u32, signal: &str) -> bool {
    let mut kill = Command::new("kill");
    kill.args([&format!("-{signal}"), &process.to_string()]).stderr(Stdio::null());
    kill.status().await.unwrap().success()
}

/// Looks again and again until there is something, but no longer than `limit`.
pub async fn until<T>(what: &str, limit: Duration, look: impl AsyncFn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < limit, "{what}: not within {limit:?}");
        sleep(LOOK_AGAIN).await;
    }
}

const LOOK_AGAIN: Duration = Duration::from_millis(50);

//! Nodes started by the launcher of the example. All of them end when the test does.

use std::{
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::process::{Folder, PATIENCE, chat, within};

/// The launcher, and the nodes it has started.
pub struct Launched {
    child: Child,
    /// What it has printed.
    said: Arc<Mutex<Vec<String>>>,
    /// The nodes by their names.
    pub nodes: Vec<Node>,
    _folder: Folder,
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
        let folder = Folder::new();
        let many = count.to_string();
        let any = "127.0.0.1:0";
        let args = ["--nodes", &many, "--listen", any, "--http", any, "--data-dir", folder.text()];
        let mut child = chat(&args).stderr(Stdio::inherit()).spawn().unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let heard = said.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                heard.lock().unwrap().push(line);
            }
        });
        let mut launched = Self { child, said, nodes: Vec::new(), _folder: folder };
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

    /// Sends the launcher a signal by its name, such as `INT`.
    pub async fn signal(&self, name: &str) {
        assert!(signal(self.child.id().unwrap(), name).await, "the launcher is there");
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

    /// Waits until no process of a node is left.
    pub async fn are_gone(&self, limit: Duration) {
        for node in &self.nodes {
            until(&format!("{node:?} is gone"), limit, async || (!node.lives().await).then_some(())).await;
        }
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

async fn signal(process: u32, signal: &str) -> bool {
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

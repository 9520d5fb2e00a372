//! The three nodes of a bench, each a process, in a folder that goes with them.

use std::{
    env, fs,
    hash::{BuildHasher, RandomState},
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use grains::{Error, Result};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout},
    time::{sleep, timeout},
};

use crate::{
    launch::{Plan, free_ports, plans_at},
    url::NodeUrl,
};

/// How many nodes: the fewest of which one may die.
const NODES: u8 = 3;
/// How long they have to find together.
const TOGETHER_MAX: Duration = Duration::from_secs(60);
/// How often it is looked whether they have.
const LOOK_PERIOD: Duration = Duration::from_millis(200);
/// How long a node that was killed may go on writing.
const DIES_WITHIN: Duration = Duration::from_secs(2);
/// How long a node has to stop.
const STOP_MAX: Duration = Duration::from_secs(20);

/// The nodes of a bench.
pub struct Cluster {
    nodes: Vec<Running>,
    folder: PathBuf,
}

struct Running {
    plan: Plan,
    child: Child,
    /// Kept, so that the node can go on printing.
    _words: Lines<BufReader<ChildStdout>>,
}

impl Cluster {
    /// Starts them, and waits until any of them may die.
    pub async fn start(folder: &Folder) -> Result<Self> {
        // Below the ports that systems give to connections: those could take the port of a node while it is dead.
        let first = 20_000 + u16::try_from(random() % 10_000).expect("small");
        let at = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        let listen = free_ports(NODES, at(first), &mut Vec::new())?;
        fs::create_dir_all(&folder.0)?;
        let mut starting = Vec::new();
        for plan in plans_at(&listen, at(first + u16::from(NODES)), "bench", &folder.0)? {
            let child = spawn(&plan, &folder.0)?;
            starting.push((plan, child));
        }
        let mut nodes = Vec::new();
        for (plan, child) in starting {
            nodes.push(served(plan, child).await?);
        }
        let cluster = Self { nodes, folder: folder.0.clone() };
        timeout(TOGETHER_MAX, cluster.all_vote()).await.map_err(|_| Error::new("the nodes do not find together"))?;
        Ok(cluster)
    }

    /// Their pages.
    pub fn pages(&self) -> Vec<NodeUrl> {
        self.nodes.iter().map(|node| node.plan.page.clone()).collect()
    }

    /// One of them, chosen at random.
    pub fn any(&self) -> usize {
        usize::try_from(random() % u64::from(NODES)).expect("small")
    }

    /// All of them.
    pub fn all(&self) -> Vec<usize> {
        (0..self.nodes.len()).collect()
    }

    /// Kills these at once, as `kill -9` does.
    pub async fn kill(&mut self, victims: &[usize]) -> Result<()> {
        for victim in victims {
            let Running { plan, child, .. } = &mut self.nodes[*victim];
            eprintln!("node {} (process {}) is killed", plan.name, child.id().unwrap_or_default());
            child.start_kill()?;
        }
        for victim in victims {
            self.nodes[*victim].child.wait().await?;
        }
        Ok(())
    }

    /// Starts those that were killed, and waits until they serve.
    pub async fn start_again(&mut self, victims: &[usize]) -> Result<()> {
        let mut starting = Vec::new();
        for victim in victims {
            let plan = self.nodes[*victim].plan.clone();
            let child = spawn(&plan, &self.folder)?;
            starting.push((*victim, plan, child));
        }
        for (victim, plan, child) in starting {
            self.nodes[victim] = served(plan, child).await?;
        }
        Ok(())
    }

    /// Stops all. What they keep is not needed any more, so they need not end well.
    pub async fn stop(mut self) {
        for node in &mut self.nodes {
            // They are told by the end of their standard input.
            node.child.stdin = None;
        }
        for node in &mut self.nodes {
            if timeout(STOP_MAX, node.child.wait()).await.is_err() {
                eprintln!("node {} does not stop, and is killed", node.plan.name);
            }
        }
    }

    /// Waits until all of them vote.
    async fn all_vote(&self) {
        loop {
            let url = format!("{}/status.json", self.nodes[0].plan.page);
            let asked =
                tokio::task::spawn_blocking(move || ureq::get(url).call().ok()?.body_mut().read_to_string().ok());
            let status: Option<serde_json::Value> =
                asked.await.ok().flatten().and_then(|text| serde_json::from_str(&text).ok());
            let voters = |of: &str| status.as_ref()?.pointer(of)?.as_array().map(Vec::len);
            if ["/voters", "/states/voters"].into_iter().all(|of| voters(of) >= Some(usize::from(NODES))) {
                return;
            }
            sleep(LOOK_PERIOD).await;
        }
    }
}

/// In the bench's own folder and without variables of ours: what is set around here is not what is measured.
fn spawn(plan: &Plan, folder: &Path) -> Result<Child> {
    let mut command = plan.command()?;
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("GRAINS_")) {
        command.env_remove(name);
    }
    Ok(command.current_dir(folder).stderr(Stdio::null()).kill_on_drop(true).spawn()?)
}

/// The node once it has printed where its page is.
async fn served(plan: Plan, mut child: Child) -> Result<Running> {
    let words = child.stdout.take().ok_or_else(|| Error::new("a node has no standard output"))?;
    let mut words = BufReader::new(words).lines();
    match words.next_line().await? {
        Some(_) => Ok(Running { plan, child, _words: words }),
        None => Err(Error::new(format!("node {} ended before it served: {}", plan.name, child.wait().await?))),
    }
}

/// A folder for the nodes, which goes at the end.
pub struct Folder(PathBuf);

impl Folder {
    /// A new one.
    pub fn new() -> Self {
        Self(env::temp_dir().join(format!("grains-chat-bench-{:x}", random())))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let until = Instant::now() + DIES_WITHIN;
        while let Err(error) = fs::remove_dir_all(&self.0) {
            match error.kind() {
                ErrorKind::NotFound => return,
                // A node that was killed a moment ago may end what it was writing.
                _ if Instant::now() < until => thread::sleep(LOOK_PERIOD),
                _ => return eprintln!("{} cannot be removed: {error}", self.0.display()),
            }
        }
    }
}

/// Hashes of the standard library begin with random keys, others for each map.
fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

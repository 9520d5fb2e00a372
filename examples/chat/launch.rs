//! Several nodes on this machine, each a process of its own, held together by this one.

use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use grains::{ClusterConfig, Error, Result, config::Settings};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader, Lines},
    process::{Child, ChildStdin},
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};

use self::plans::plans;
pub use self::plans::{Plan, free_ports, plans_at, unusable};
use crate::{
    node::{self, CLUSTER, DATA_DIR, LONE_STORE, NodeArgs},
    settings::SettingsArgs,
    signals::Signals,
};

mod plans;

/// What the first of several nodes is called.
pub const FIRST: &str = "a";
/// And the next one.
const SECOND: &str = "b";
/// What a node of a cluster has in its folder.
const CLUSTER_LOG: &str = "consensus.redb";

/// The most nodes: each has a letter as its name, and a person has to look at all of them.
const NODES_MAX: i64 = 9;
/// How many nodes unless told otherwise: the fewest of which one may die.
const NODES: u8 = 3;
/// The ports that are taken if they are free, one for each node from these on.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7101);
const HTTP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8101);

/// What to start, without a command.
#[derive(clap::Args, Debug)]
pub struct LaunchArgs {
    /// How many nodes of one cluster, each a process with a page and a folder in `--data-dir`; 1 is a node alone
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=NODES_MAX), default_value_t = NODES)]
    nodes: u8,
    /// Where other nodes reach the first one; the others take the next ports, or any where these are taken
    /// [default: 127.0.0.1:7101]
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// Where the page of the first node is; the others take the next ports, or any where these are taken
    /// [default: 127.0.0.1:8101, of a node alone 127.0.0.1:8080]
    #[arg(long, value_name = "IP:PORT")]
    http: Option<SocketAddr>,
    /// The name of the cluster
    #[arg(long, value_name = "NAME", default_value = CLUSTER)]
    cluster: String,
    /// The folder that keeps what must survive; made if it is not there [default: chat-data]
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
    /// All else that can be set, of each node; the options above count more
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Where the launcher has its pages if nobody else is there.
pub fn pages() -> Vec<SocketAddr> {
    (HTTP.port()..).take(usize::from(NODES)).map(|port| SocketAddr::new(HTTP.ip(), port)).collect()
}

/// Starts nodes, says what becomes of them, and ends when all have ended. One is a node alone, in this process.
pub async fn run(args: &LaunchArgs) -> Result<()> {
    args.tell_of_others();
    match args.nodes {
        1 => node::run(args.alone()).await,
        _ => run_all(args).await,
    }
}

impl LaunchArgs {
    fn folder(&self) -> &Path {
        self.data_dir.as_deref().unwrap_or(Path::new(DATA_DIR))
    }

    fn alone(&self) -> NodeArgs {
        NodeArgs {
            name: None,
            listen: self.listen,
            join: Vec::new(),
            cluster: Some(self.cluster.clone()),
            http: self.http,
            pages: Vec::new(),
            data_dir: self.data_dir.clone(),
            leashed: false,
            alone: self.listen.is_none(),
            settings: self.settings.clone(),
        }
    }

    /// A node alone and a cluster can have the same folder, and neither reads what the other keeps there.
    fn tell_of_others(&self) {
        let folder = self.folder();
        let first = folder.join(FIRST);
        match self.nodes {
            1 if first.exists() => say(&format!(
                "what was said on several nodes is in {} and the folders beside it: it stays there, and this node does not \
                 have it; to read it, start without `--nodes 1`",
                first.display()
            )),
            2.. if folder.join(LONE_STORE).exists() => say(&format!(
                "what was said on a node alone is in {}: it stays there, and these nodes do not have it; to read it, start \
                 with `--nodes 1`, or have it moved to several nodes before they begin, by `move`",
                folder.join(LONE_STORE).display()
            )),
            _ => {}
        }
    }

    /// Each node reads them for itself. A mistake is told here, once, before any of them is started.
    fn check_settings(&self) -> Result<()> {
        let mut defaults = Settings::default();
        defaults.cluster = Some(ClusterConfig::new(&self.cluster));
        self.settings.read(defaults).map(drop)
    }

    /// Whether the first node is a cluster already, to which what a node alone had was moved, and the others are not: they
    /// have to find it, or they would found another one.
    fn first_is_ahead(&self) -> bool {
        let folder = self.folder();
        folder.join(FIRST).join(CLUSTER_LOG).exists() && !folder.join(SECOND).join(CLUSTER_LOG).exists()
    }
}

async fn run_all(args: &LaunchArgs) -> Result<()> {
    args.check_settings()?;
    let mut signals = Signals::take()?;
    let (wish, wishes) = watch::channel(Wish::Run);
    let (tell, mut told) = mpsc::channel(16);
    let mut running = JoinSet::new();
    let mut begin = |plans: Vec<Plan>, tell: &mpsc::Sender<Happened>| {
        for plan in plans {
            // What they complain of goes through this process: three nodes may have one complaint.
            let child = plan.command()?.stderr(Stdio::piped()).spawn()?;
            running.spawn(tend(plan, child, wishes.clone(), tell.clone()));
        }
        Ok::<_, Error>(())
    };
    let mut plans = plans(args)?;
    let later = plans.split_off(if args.first_is_ahead() { 1 } else { plans.len() });
    begin(plans, &tell)?;
    let mut later = Some((later, tell)).filter(|(later, _)| !later.is_empty());

    let mut all = Nodes { starting: usize::from(args.nodes), ..Nodes::default() };
    loop {
        tokio::select! {
            happened = told.recv() => match happened {
                Some(happened) => {
                    all.see(happened, *wish.borrow());
                    if let Some((later, tell)) = later.take().filter(|_| *wish.borrow() == Wish::Run) {
                        begin(later, &tell)?;
                    }
                }
                None => break,
            },
            () = signals.next() => {
                let next = wish.borrow().stronger();
                eprintln!("{}", next.announced());
                wish.send_replace(next);
            }
        }
    }
    match (*wish.borrow(), all.failed) {
        (Wish::Run, _) => Err(Error::new("no node that was started here is left")),
        (_, Some(error)) => Err(error),
        (_, None) => Ok(()),
    }
}

/// What is wanted of all nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Run,
    Stop,
    Die,
}

impl Wish {
    fn stronger(self) -> Self {
        match self {
            Self::Run => Self::Stop,
            Self::Stop | Self::Die => Self::Die,
        }
    }

    fn announced(self) -> &'static str {
        match self {
            Self::Run => "running",
            Self::Stop => "stopping all nodes; again to kill them",
            Self::Die => "killing all nodes",
        }
    }
}

/// What the nodes have come to.
#[derive(Default)]
struct Nodes {
    starting: usize,
    /// The process ids of those that run.
    running: Vec<u32>,
    /// What those have complained of that did not serve yet, [`COMPLAINTS_MAX`] lines at most: each is told once.
    complaints: BTreeSet<String>,
    failed: Option<Error>,
}

/// More lines than a mistake has.
const COMPLAINTS_MAX: usize = 64;

/// What happened to one node.
enum Happened {
    /// It printed this as the first thing: its name and its page.
    Serves { line: String, process: u32 },
    /// It printed this for people who look for what is wrong.
    Complains { line: String, process: u32 },
    /// It ended; with how to start it again.
    Ended { name: String, process: u32, how: io::Result<ExitStatus>, again: String },
}

impl Nodes {
    fn see(&mut self, happened: Happened, wish: Wish) {
        match happened {
            Happened::Serves { line, process } => {
                say(&format!("{line} (process {process})"));
                self.running.push(process);
                self.starting -= 1;
                if self.starting == 0 {
                    say(&format!(
                        "to let a node leave: kill {process}; to see it die: kill -9 {process}; Ctrl-C stops all"
                    ));
                }
            }
            Happened::Complains { line, process } => {
                let is_new = self.running.contains(&process)
                    || self.complaints.len() >= COMPLAINTS_MAX
                    || self.complaints.insert(line.clone());
                if is_new {
                    complain(&line);
                }
            }
            Happened::Ended { name, process, how, again } => {
                let has_served = self.running.contains(&process);
                if !has_served {
                    self.starting -= 1;
                }
                self.running.retain(|running| *running != process);
                let (ended_well, how) = match how {
                    Ok(status) => (status.success(), status.to_string()),
                    Err(error) => (false, error.to_string()),
                };
                match has_served {
                    true => say(&format!("node {name} ended: {how}")),
                    false => say(&format!("node {name} did not start: {how}")),
                }
                match wish {
                    // The same command would do the same.
                    Wish::Run if !has_served => {}
                    Wish::Run => say(&format!("to start it again: {again}")),
                    Wish::Stop if !ended_well => {
                        self.failed = Some(Error::new(format!("node {name} did not stop well: {how}")));
                    }
                    Wish::Die => self.failed = Some(Error::new("the nodes were killed")),
                    Wish::Stop => {}
                }
            }
        }
    }
}

/// Not `println!`, which panics when nobody reads; then nobody misses it.
fn say(line: &str) {
    use std::io::Write;
    let _ = writeln!(io::stdout(), "{line}");
}

/// The same for what is wrong.
fn complain(line: &str) {
    use std::io::Write;
    let _ = writeln!(io::stderr(), "{line}");
}

/// Stays with one node until it ends.
async fn tend(plan: Plan, mut child: Child, mut wishes: watch::Receiver<Wish>, tell: mpsc::Sender<Happened>) {
    let process = child.id().unwrap_or_default();
    // Held until the node shall stop; it goes with this process, however that ends.
    let mut leash = child.stdin.take();
    let mut words = child.stdout.take().map(|words| BufReader::new(words).lines());
    let mut complaints = child.stderr.take().map(|complaints| BufReader::new(complaints).lines());
    let how = loop {
        tokio::select! {
            how = child.wait() => break how,
            line = next_line(&mut words) => {
                // An error means that nobody listens any more, and all of this ends.
                let _ = tell.send(Happened::Serves { line, process }).await;
                words = None;
            }
            line = next_line(&mut complaints) => {
                let _ = tell.send(Happened::Complains { line, process }).await;
            }
            Ok(()) = wishes.changed() => {
                let wish = *wishes.borrow_and_update();
                obey(wish, &mut leash, &mut child);
            }
        }
    };
    // Its last words say why.
    while let Some(lines) = &mut complaints
        && let Ok(Ok(Some(line))) = timeout(LAST_WORDS_MAX, lines.next_line()).await
    {
        let _ = tell.send(Happened::Complains { line, process }).await;
    }
    let again = plan.as_typed();
    let _ = tell.send(Happened::Ended { name: plan.name, process, how, again }).await;
}

/// How long the end of its last words is waited for: it has ended, and only what it has started could go on writing.
const LAST_WORDS_MAX: Duration = Duration::from_secs(1);

fn obey(wish: Wish, leash: &mut Option<ChildStdin>, child: &mut Child) {
    *leash = None;
    if wish == Wish::Die && child.start_kill().is_err() {
        tracing::info!("a node had ended already");
    }
}

/// The next line, if there will be one; otherwise this waits for ever.
async fn next_line(words: &mut Option<Lines<BufReader<impl AsyncRead + Unpin>>>) -> String {
    if let Some(lines) = words
        && let Ok(Some(line)) = lines.next_line().await
    {
        return line;
    }
    *words = None;
    std::future::pending().await
}

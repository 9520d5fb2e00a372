//! Several nodes on this machine, each a process of its own, held together by this one.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{ExitStatus, Stdio},
};

use grains::{Error, Result};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{
    node::{DATA_DIR, NodeArgs},
    signals::Signals,
    url::NodeUrl,
};

/// The most nodes: each has a letter as its name, and a person has to look at all of them.
pub const NODES_MAX: i64 = 9;
/// The ports that are taken if they are free, one for each node from these on.
const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7101);
const HTTP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8101);

/// Starts `count` nodes, says what becomes of them, and ends when all have ended. `args` are those of the first one.
pub async fn run(count: u8, args: &NodeArgs) -> Result<()> {
    let mut signals = Signals::take()?;
    let (wish, wishes) = watch::channel(Wish::Run);
    let (tell, mut told) = mpsc::channel(16);
    let mut running = JoinSet::new();
    for plan in plans(count, args)? {
        let child = plan.command()?.spawn()?;
        running.spawn(tend(plan, child, wishes.clone(), tell.clone()));
    }
    drop(tell);

    let mut all = Nodes { starting: usize::from(count), ..Nodes::default() };
    loop {
        tokio::select! {
            happened = told.recv() => match happened {
                Some(happened) => all.see(happened, *wish.borrow()),
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
        (Wish::Run, _) => Err(Error::new("no node is left")),
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
    failed: Option<Error>,
}

/// What happened to one node.
enum Happened {
    /// It printed this as the first thing: its name and its page.
    Serves { line: String, process: u32 },
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
            Happened::Ended { name, process, how, again } => {
                if !self.running.contains(&process) {
                    self.starting -= 1;
                }
                self.running.retain(|running| *running != process);
                let (ended_well, how) = match how {
                    Ok(status) => (status.success(), status.to_string()),
                    Err(error) => (false, error.to_string()),
                };
                say(&format!("node {name} ended: {how}"));
                match wish {
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

/// Stays with one node until it ends.
async fn tend(plan: Plan, mut child: Child, mut wishes: watch::Receiver<Wish>, tell: mpsc::Sender<Happened>) {
    let process = child.id().unwrap_or_default();
    // Held until the node shall stop; it goes with this process, however that ends.
    let mut leash = child.stdin.take();
    let mut words = child.stdout.take().map(|words| BufReader::new(words).lines());
    let how = loop {
        tokio::select! {
            how = child.wait() => break how,
            line = next_line(&mut words) => {
                // An error means that nobody listens any more, and all of this ends.
                let _ = tell.send(Happened::Serves { line, process }).await;
                words = None;
            }
            Ok(()) = wishes.changed() => {
                let wish = *wishes.borrow_and_update();
                obey(wish, &mut leash, &mut child);
            }
        }
    };
    let again = plan.as_typed();
    let _ = tell.send(Happened::Ended { name: plan.name, process, how, again }).await;
}

fn obey(wish: Wish, leash: &mut Option<ChildStdin>, child: &mut Child) {
    *leash = None;
    if wish == Wish::Die && child.start_kill().is_err() {
        tracing::info!("a node had ended already");
    }
}

/// The next line, if there will be one; otherwise this waits for ever.
async fn next_line(words: &mut Option<tokio::io::Lines<BufReader<ChildStdout>>>) -> String {
    if let Some(lines) = words
        && let Ok(Some(line)) = lines.next_line().await
    {
        return line;
    }
    *words = None;
    std::future::pending().await
}

/// One node to be started.
struct Plan {
    name: String,
    args: Vec<String>,
}

impl Plan {
    fn command(&self) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("node").args(&self.args).arg("--leashed").stdin(Stdio::piped()).stdout(Stdio::piped());
        // Ctrl-C is for this process, which passes it on once. Otherwise each node would be asked twice.
        #[cfg(unix)]
        command.process_group(0);
        Ok(command)
    }

    /// The command by which a person starts it.
    fn as_typed(&self) -> String {
        format!("cargo run --release --example chat -- node {}", self.args.join(" "))
    }
}

fn plans(count: u8, args: &NodeArgs) -> Result<Vec<Plan>> {
    let mut held = Vec::new();
    let listen = free_ports(count, args.listen.unwrap_or(LISTEN), &mut held)?;
    let http = free_ports(count, args.http.unwrap_or(HTTP), &mut held)?;
    drop(held);
    let join = listen.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",");
    let pages = http.iter().map(|address| NodeUrl::of(*address).to_string()).collect::<Vec<_>>().join(",");
    let folder = args.data_dir.as_deref().unwrap_or(Path::new(DATA_DIR));
    let plan = |((name, listen), http): ((char, &SocketAddr), &SocketAddr)| {
        let data_dir = folder.join(name.to_string());
        let named = [
            ("--name", name.to_string()),
            ("--cluster", args.cluster.clone()),
            ("--listen", listen.to_string()),
            ("--join", join.clone()),
            ("--http", http.to_string()),
            ("--pages", pages.clone()),
            ("--data-dir", data_dir.display().to_string()),
        ];
        let args = named.into_iter().flat_map(|(option, value)| [option.to_owned(), value]).collect();
        Plan { name: name.to_string(), args }
    };
    Ok(('a'..).zip(&listen).zip(&http).map(plan).collect())
}

/// So many free ports, from that of `first` on; port 0, and what is taken, gives any. They are held, so that none is given
/// twice, and free again when `held` is dropped: a moment in which somebody else may come first, and the node says so.
fn free_ports(count: u8, first: SocketAddr, held: &mut Vec<TcpListener>) -> Result<Vec<SocketAddr>> {
    let mut ports = Vec::new();
    for n in 0..u16::from(count) {
        let wanted = match first.port() {
            0 => None,
            port => port.checked_add(n),
        };
        let wanted = wanted.and_then(|port| TcpListener::bind((first.ip(), port)).ok());
        let listener = match wanted {
            Some(listener) => listener,
            None => TcpListener::bind((first.ip(), 0))
                .map_err(|error| Error::new(format!("no port of {} can be used: {error}", first.ip())))?,
        };
        ports.push(listener.local_addr()?);
        held.push(listener);
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_twice_and_one_in_use_is_passed_over() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken_at = taken.local_addr().unwrap();
        let mut held = Vec::new();
        let mut all = free_ports(3, taken_at, &mut held).unwrap();
        all.extend(free_ports(3, "127.0.0.1:0".parse().unwrap(), &mut held).unwrap());
        all.push(taken_at);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 7, "{all:?}");
    }

    #[test]
    fn every_node_knows_all_addresses_and_has_a_folder_of_its_own() {
        let any = Some("127.0.0.1:0".parse().unwrap());
        let args = NodeArgs { listen: any, http: any, data_dir: Some("d".into()), ..NodeArgs::default() };
        let plans = plans(3, &args).unwrap();
        let value = |plan: &Plan, option: &str| {
            let at = plan.args.iter().position(|arg| arg == option).unwrap();
            plan.args[at + 1].clone()
        };
        assert_eq!(plans.iter().map(|plan| plan.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        let listen: Vec<_> = plans.iter().map(|plan| value(plan, "--listen")).collect();
        for plan in &plans {
            assert_eq!(value(plan, "--join"), listen.join(","));
            assert_eq!(value(plan, "--pages").split(',').count(), 3);
            assert!(value(plan, "--data-dir").ends_with(&plan.name));
        }
    }
}

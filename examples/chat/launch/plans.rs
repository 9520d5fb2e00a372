//! Which nodes to start, where, and by which commands. Used by the launcher and by `bench`.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Stdio,
    thread::sleep,
    time::{Duration, Instant},
};

use grains::{Error, Result};
use tokio::process::Command;

use super::{HTTP, LISTEN, LaunchArgs};
use crate::url::NodeUrl;

/// One node to be started.
#[derive(Clone)]
pub struct Plan {
    /// Its name.
    pub name: String,
    /// Its page.
    pub page: NodeUrl,
    args: Vec<String>,
}

impl Plan {
    /// Its process, with the other end of a leash as standard input.
    pub fn command(&self) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("node").args(&self.args).arg("--leashed").stdin(Stdio::piped()).stdout(Stdio::piped());
        // Ctrl-C is for this process, which passes it on once. Otherwise each node would be asked twice.
        #[cfg(unix)]
        command.process_group(0);
        Ok(command)
    }

    /// The command by which a person starts it.
    pub fn as_typed(&self) -> String {
        let quoted = |arg: &String| match arg.contains(char::is_whitespace) {
            true => format!("'{arg}'"),
            false => arg.clone(),
        };
        let args: Vec<_> = self.args.iter().map(quoted).collect();
        format!("cargo run --release --example chat -- node {}", args.join(" "))
    }
}

/// The nodes that these arguments mean; where they were, if the folder has some.
pub fn plans(args: &LaunchArgs) -> Result<Vec<Plan>> {
    let listen = match fs::read_to_string(args.folder().join(BEGAN)) {
        Ok(began) => args.as_before(&began)?,
        Err(_none_yet) => {
            let listen = free_ports(args.nodes, args.listen.unwrap_or(LISTEN), &mut Vec::new())?;
            let began: String = listen.iter().map(|at| format!("{at}\n")).collect();
            fs::create_dir_all(args.folder())
                .and_then(|()| fs::write(args.folder().join(BEGAN), began))
                .map_err(|error| unusable(args.folder(), &error))?;
            listen
        }
    };
    let mut plans = plans_at(&listen, args.http.unwrap_or(HTTP), &args.cluster, args.folder())?;
    for plan in &mut plans {
        plan.args.extend(args.settings.as_args());
    }
    Ok(plans)
}

/// Why a folder cannot be used, by the option that names it.
pub fn unusable(folder: &Path, error: &io::Error) -> Error {
    Error::new(format!("cannot use `--data-dir {}`: {error}", folder.display()))
}

/// In which file of the folder it stands where the nodes listened when they began. They go there again where they can: one that
/// a person has started by hand has that address in its list.
const BEGAN: &str = "nodes.txt";

/// How long an address may be taken that was one of these nodes: those of an earlier launcher end with it, but not at once.
const ENDS_WITHIN: Duration = Duration::from_secs(5);

impl LaunchArgs {
    /// The addresses that the nodes of the folder have; another one in the place of each that is taken.
    fn as_before(&self, began: &str) -> Result<Vec<SocketAddr>> {
        let listen = began.lines().map(str::parse).collect::<Result<Vec<SocketAddr>, _>>();
        let listen = listen.map_err(|error| Error::new(format!("{}: {error}", self.folder().join(BEGAN).display())))?;
        let is_other = self.listen.is_some_and(|at| at.port() != 0 && listen.first() != Some(&at));
        let why = match () {
            () if listen.len() != usize::from(self.nodes) => format!("start them with `--nodes {}`", listen.len()),
            () if is_other => "start them without `--listen`".to_owned(),
            () => {
                let until = Instant::now() + ENDS_WITHIN;
                let mut held = Vec::new();
                return listen.into_iter().map(|at| free_again(at, until, &mut held)).collect();
            }
        };
        let addresses = listen.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ");
        Err(Error::new(format!(
            "the nodes in {} know each other as {addresses}: {why}, or choose another `--data-dir`",
            self.folder().display()
        )))
    }
}

/// This address, once it is free, or any other one if that takes too long.
fn free_again(at: SocketAddr, until: Instant, held: &mut Vec<TcpListener>) -> Result<SocketAddr> {
    loop {
        match TcpListener::bind(at) {
            Ok(listener) => {
                held.push(listener);
                return Ok(at);
            }
            Err(_) if Instant::now() < until => sleep(Duration::from_millis(50)),
            Err(_) => return Ok(free_ports(1, SocketAddr::new(at.ip(), 0), held)?[0]),
        }
    }
}

/// Nodes that listen there and know each other, each with its folder in `folder`. Their pages are at `http` and the next ports,
/// or others where these are taken.
pub fn plans_at(listen: &[SocketAddr], http: SocketAddr, cluster: &str, folder: &Path) -> Result<Vec<Plan>> {
    let count = u8::try_from(listen.len()).map_err(|_| Error::new("too many nodes"))?;
    let mut held = listen.iter().filter_map(|at| TcpListener::bind(at).ok()).collect();
    let http = free_ports(count, http, &mut held)?;
    drop(held);
    let join = listen.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",");
    let pages = http.iter().map(|address| NodeUrl::of(*address).to_string()).collect::<Vec<_>>().join(",");
    let plan = |((name, listen), http): ((char, &SocketAddr), &SocketAddr)| {
        let data_dir = folder.join(name.to_string());
        let named = [
            ("--name", name.to_string()),
            ("--cluster", cluster.to_owned()),
            ("--listen", listen.to_string()),
            ("--join", join.clone()),
            ("--http", http.to_string()),
            ("--pages", pages.clone()),
            ("--data-dir", data_dir.display().to_string()),
        ];
        let args = named.into_iter().flat_map(|(option, value)| [option.to_owned(), value]).collect();
        Plan { name: name.to_string(), page: NodeUrl::of(*http), args }
    };
    Ok(('a'..).zip(listen).zip(&http).map(plan).collect())
}

/// So many free ports, from that of `first` on; port 0, and what is taken, gives any. They are held, so that none is given
/// twice, and free again when `held` is dropped: a moment in which somebody else may come first, and the node says so.
pub fn free_ports(count: u8, first: SocketAddr, held: &mut Vec<TcpListener>) -> Result<Vec<SocketAddr>> {
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
        let any = "127.0.0.1:0".parse().unwrap();
        let listen = free_ports(3, any, &mut Vec::new()).unwrap();
        let plans = plans_at(&listen, any, "chat", Path::new("d")).unwrap();
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

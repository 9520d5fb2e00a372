//! A network of its own for every node: a namespace each, one bridge between them, and packets that vanish where they are told
//! to. All of it is gone when the campaign is over; `tests/campaign` clears up after one that was killed.

use std::{
    collections::BTreeSet,
    io::Write as _,
    process::{Command, Stdio},
};

/// The namespaces of a campaign.
pub struct Network {
    nodes: usize,
    /// From whom to whom nothing arrives.
    cut: BTreeSet<(usize, usize)>,
}

/// Where nodes listen in their namespaces.
pub const PORT: u16 = 7100;

/// What the bridge is called in its namespace.
const SWITCH: &str = "switch";

impl Network {
    /// Or why there is none.
    pub fn new(nodes: usize) -> Result<Self, String> {
        if user() != "0" {
            return Err("network namespaces need root".to_owned());
        }
        for program in ["ip", "nft"] {
            run(program, &["-V"]).map_err(|_| format!("network namespaces need the program {program}"))?;
        }
        let network = Self { nodes, cut: BTreeSet::new() };
        network.build().map_err(|why| format!("network namespaces do not work here: {why}"))?;
        Ok(network)
    }

    fn build(&self) -> Result<(), String> {
        let bridge = space("bridge");
        ip(&["netns", "add", &bridge])?;
        ip(&["-n", &bridge, "link", "add", SWITCH, "type", "bridge"])?;
        ip(&["-n", &bridge, "link", "set", SWITCH, "up"])?;
        for n in 0..self.nodes {
            self.connect(&of_node(n), n, &[address(n)])?;
            nft(&of_node(n), RULES)?;
        }
        let doors: Vec<String> = (0..self.nodes).map(proxy_address).collect();
        self.connect(&of_proxies(), self.nodes, &doors)
    }

    fn connect(&self, name: &str, number: usize, addresses: &[String]) -> Result<(), String> {
        let (bridge, port) = (space("bridge"), format!("port{number}"));
        ip(&["netns", "add", name])?;
        ip(&["-n", &bridge, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", name])?;
        ip(&["-n", &bridge, "link", "set", &port, "master", SWITCH, "up"])?;
        for address in addresses {
            ip(&["-n", name, "address", "add", &format!("{address}/24"), "dev", "eth0"])?;
        }
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        ip(&["-n", name, "link", "set", "eth0", "up"])
    }

    /// From now on nothing that `from` sends arrives at `to`, but for what is under way.
    pub fn cut(&mut self, pairs: impl IntoIterator<Item = (usize, usize)>) {
        self.cut.extend(pairs);
        self.apply();
    }

    /// Everything arrives again between these.
    pub fn heal(&mut self, pairs: impl IntoIterator<Item = (usize, usize)>) {
        for pair in pairs {
            self.cut.remove(&pair);
        }
        self.apply();
    }

    /// What goes to a node goes through its proxy, if it has one, and what it answers comes from there. So both ends of a pair
    /// let nothing pass that has either address.
    fn apply(&self) {
        for n in 0..self.nodes {
            let both = |m: &usize| [address(*m), proxy_address(*m)];
            let deaf: Vec<usize> = (0..self.nodes).filter(|m| self.cut.contains(&(*m, n))).collect();
            let mute: Vec<usize> = (0..self.nodes).filter(|m| self.cut.contains(&(n, *m))).collect();
            let mut script = "flush set ip cut deaf\nflush set ip cut mute\n".to_owned();
            for (set, others) in [("deaf", deaf), ("mute", mute)] {
                if !others.is_empty() {
                    let addresses: Vec<String> = others.iter().flat_map(both).collect();
                    script += &format!("add element ip cut {set} {{ {} }}\n", addresses.join(", "));
                }
            }
            nft(&of_node(n), &script).expect("rules that worked before");
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let nodes = (0..self.nodes).map(of_node);
        for name in nodes.chain([of_proxies(), space("bridge")]) {
            // It may not have come to be.
            drop(ip(&["netns", "delete", &name]));
        }
    }
}

const RULES: &str = "
table ip cut {
    set deaf { type ipv4_addr; }
    set mute { type ipv4_addr; }
    chain arrives { type filter hook input priority 0; ip saddr @deaf drop; }
    chain leaves { type filter hook output priority 0; ip daddr @mute drop; }
}";

/// Campaigns that run beside each other share nothing.
fn space(name: &str) -> String {
    format!("grains-campaign-{}-{name}", std::process::id())
}

fn of_node(n: usize) -> String {
    space(&format!("node{n}"))
}

fn of_proxies() -> String {
    space("proxies")
}

pub fn address(n: usize) -> String {
    format!("10.77.0.{}", n + 1)
}

pub fn proxy_address(n: usize) -> String {
    format!("10.77.0.{}", n + 101)
}

/// What to run around a program that is to be in the namespace of a node.
pub fn within_node(n: usize) -> Vec<String> {
    within(&of_node(n))
}

pub fn within_proxies() -> Vec<String> {
    within(&of_proxies())
}

fn within(name: &str) -> Vec<String> {
    ["ip", "netns", "exec", name].map(str::to_owned).to_vec()
}

/// Who runs this.
fn user() -> String {
    run("id", &["-u"]).unwrap_or_default()
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    run("ip", arguments).map(drop)
}

fn nft(space: &str, script: &str) -> Result<(), String> {
    let mut nft = Command::new("ip")
        .args(["netns", "exec", space, "nft", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut stdin = nft.stdin.take().expect("piped");
    stdin.write_all(script.as_bytes()).map_err(|error| error.to_string())?;
    drop(stdin);
    let ended = nft.wait_with_output().map_err(|error| error.to_string())?;
    if ended.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&ended.stderr).into_owned()) }
}

/// What a program says, or what it complains of.
fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let ended = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    match ended.status.success() {
        true => Ok(String::from_utf8_lossy(&ended.stdout).trim().to_owned()),
        false => Err(format!("{program} {arguments:?}: {}", String::from_utf8_lossy(&ended.stderr).trim())),
    }
}

//! The nodes of a campaign, and what can be done to them on this machine.

use super::{
    Settings,
    means::{SmallDisk, WallClock},
    network::{Network, PORT, address, proxy_address, within_node, within_proxies},
    plan::Kind,
    proxy::{Door, Proxy},
};
use crate::cluster::{Cluster, free_addresses};

/// All there is.
pub struct Cast {
    pub network: Option<Network>,
    pub proxy: Option<Proxy>,
    pub disk: Option<SmallDisk>,
    pub clock: Option<WallClock>,
    /// What cannot be done here, and why.
    pub skipped: Vec<String>,
    /// The last, because its folder can only go when nothing is mounted there.
    pub cluster: Cluster,
}

impl Cast {
    /// Nobody runs yet.
    pub fn new(settings: &Settings) -> Self {
        let nodes = settings.nodes;
        let mut cluster = Cluster::of(nodes);
        let mut skipped = Vec::new();
        let has = |sort: &str| settings.faults.iter().any(|fault| fault == sort);
        let mut allowed = |found: Result<_, String>| found.map_err(|why| skipped.push(why)).ok();
        let network = has("cuts").then(|| Network::new(nodes)).and_then(&mut allowed);
        for (n, orders) in cluster.orders.iter_mut().enumerate() {
            orders.keeps_states = true;
            orders.voters = if nodes < 5 { 3 } else { 5 };
            orders.lacks.clone_from(&settings.lacks);
            orders.tls = settings.tls.then(|| cluster.folder.path().join("certificates"));
            if network.is_some() {
                orders.listen = format!("{}:{PORT}", address(n));
                orders.within = within_node(n);
            }
        }
        let proxy = has("proxies").then(|| proxied(&mut cluster, network.is_some()));
        let known: Vec<String> = cluster
            .orders
            .iter()
            .map(|orders| orders.advertise.clone().unwrap_or_else(|| orders.listen.clone()))
            .collect();
        cluster.orders.iter_mut().for_each(|orders| orders.join.clone_from(&known));

        let folder = cluster.folder.path().join("small");
        let disk = has("disks").then(|| SmallDisk::mount(&folder));
        let disk = disk.and_then(|disk| disk.map_err(|why| skipped.push(why)).ok());
        if disk.is_some() {
            cluster.orders[with_small_disk(nodes)].data_dir = Some(folder);
        }
        let clock = has("clocks").then(|| WallClock::new(cluster.folder.path().join("time-of-day")));
        let clock = clock.and_then(|clock| clock.map_err(|why| skipped.push(why)).ok());
        if let Some(clock) = &clock {
            cluster.orders[with_wall_clock(nodes)].variables = clock.variables();
        }
        Self { network, proxy, disk, clock, skipped, cluster }
    }

    /// Whether this can be done here.
    pub fn can(&self, kind: Kind) -> bool {
        match kind {
            Kind::FullDisk => self.disk.is_some(),
            Kind::ClockStep(_) => self.clock.is_some(),
            _ if kind.is_cut() => self.network.is_some(),
            _ if kind.is_proxied() => self.proxy.is_some(),
            _ => true,
        }
    }

    /// The nodes to whom it can be done.
    pub fn candidates(&self, kind: Kind) -> Vec<usize> {
        let nodes = self.cluster.orders.len();
        match kind {
            Kind::FullDisk => vec![with_small_disk(nodes)],
            Kind::ClockStep(_) => vec![with_wall_clock(nodes)],
            _ if kind.is_proxied() => (0..behind_proxies(nodes)).collect(),
            _ => (0..nodes).collect(),
        }
    }
}

/// The first ones have a proxy before them: it leads to them whoever calls them.
fn proxied(cluster: &mut Cluster, in_network: bool) -> Proxy {
    let count = behind_proxies(cluster.orders.len());
    let elsewhere = free_addresses(count);
    let doors = cluster.orders.iter_mut().take(count).enumerate().map(|(n, orders)| {
        let listens = if in_network { format!("{}:{PORT}", proxy_address(n)) } else { elsewhere[n].clone() };
        orders.advertise = Some(listens.clone());
        Door { listens, leads_to: orders.listen.clone() }
    });
    let doors: Vec<Door> = doors.collect();
    let within = if in_network { within_proxies() } else { Vec::new() };
    Proxy::start(&doors, &within)
}

fn behind_proxies(nodes: usize) -> usize {
    if nodes < 5 { 1 } else { 2 }
}

fn with_small_disk(nodes: usize) -> usize {
    nodes - 1
}

fn with_wall_clock(nodes: usize) -> usize {
    nodes - 2
}

//! What can be set about a node's part in a cluster, with its default and the reason for it.

mod clients;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

pub use self::clients::ClientsConfig;

use super::{certificates::TlsConfig, partition::PARTITIONS_DEFAULT};
use crate::store::ReplicatedConfig;

/// Which cluster a node belongs to, how others reach it, and the times by which the cluster agrees.
///
/// `join`, `lease`, `heartbeat` and `election` must be the same on all nodes of a cluster.
///
/// ```
/// # use grains_runtime as grains;
/// use grains::{ClusterConfig, Node};
///
/// let one_of_three = ["127.0.0.1:7101", "127.0.0.1:7102", "127.0.0.1:7103"];
/// let config = ClusterConfig::new("shop").listen("127.0.0.1:7101").join(one_of_three).role("web");
/// let builder = Node::builder().name("a").cluster(config);
/// # drop(builder);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterConfig {
    /// The name of the cluster. Nodes of clusters with different names never talk to each other.
    pub name: String,
    /// Where this node listens for others. Default `"127.0.0.1:0"`: loopback, any free port. Another address than loopback
    /// takes certificates ([`tls`](Self::tls)): without them it is refused when the node starts.
    pub listen: String,
    /// Where others find this node, if that is not where it listens.
    pub advertise: Option<String>,
    /// The addresses of the first nodes, the same list in the same order on each of them, this node's own included. Any
    /// one that lives is enough to join. Empty: this node is a cluster by itself at once, which others may join.
    pub join: Vec<String>,
    /// What placement may ask of this node.
    pub roles: BTreeSet<String>,
    /// How much this node hosts, compared with others. Default 1.
    pub capacity: u32,
    /// How many members vote in Raft: 1, 3 or 5. Default 3: one may die without anybody noticing.
    pub voters: usize,
    /// How long a vote stays with a member that is gone. Default 60 s: longer than a restart takes.
    pub voter_replace_after: Duration,
    /// How many partitions the cluster has, for its life; only the node that founds it is asked. Default 1,024: enough
    /// to spread evenly over a hundred nodes, few enough to hand all of them over in one message.
    pub partitions: u16,
    /// How long a node may act without hearing from the leader. Default 2 s: a frozen node holds up its grains no
    /// longer than that and a moment, and no healthy one misses four renewals in a row.
    pub lease: Duration,
    /// How often the leader of Raft shows that it lives. Default 75 ms.
    pub heartbeat: Duration,
    /// How long the leader of Raft may be silent before it is given up; another one stands half as long to once as long
    /// after that. Default 300 ms: four heartbeats, and a new leader 450 to 600 ms after the old one was last heard.
    pub election: Duration,
    /// How long [`NodeBuilder::start`](crate::NodeBuilder::start) waits to become a member. Default 60 s: machines that
    /// start together do not start at once.
    pub join_timeout: Duration,
    /// How many calls may be under way to other nodes, or wait for where they go. Default 65,536: what a node sends in
    /// about 100 ms at full speed; beyond that callers are better told. At most half of them are under way to one node: one
    /// that answers nobody leaves room for calls to the others. Calls of clients leave half of all that to those of grains.
    /// Those that wait for where they go have arguments of 256 MiB at most.
    pub calls_max: usize,
    /// How many grains' places a node remembers, so that calls take one hop. Default 100,000: some 10 MB.
    pub places_max: usize,
    /// Listens at any address without certificates, and says so in the log at each start. Default `false`: whoever can connect
    /// could join the cluster, call every grain and read what nodes say to each other. Only for a network where nobody can.
    pub plaintext_on_any_network: bool,
    /// Has a watchdog: a small process, the same program once more, that learns from the system when this one has ended and
    /// tells the cluster, which then waits for no lease. Default `true`. It takes Linux, and a program whose `main` is
    /// `#[grains::main]` or begins with [`grains::init()`](crate::init); without these the lease decides, as it does when
    /// a machine, a container or both processes end at once, and the start says so.
    pub death_certificates: bool,
    /// The certificates with which this node's connections are secret. Default none.
    pub tls: TlsConfig,
    /// The clients from outside of the cluster that this node takes. Default none.
    pub clients: ClientsConfig,
    /// The limits of what the cluster keeps for its grains, as this node uses it.
    pub states: ReplicatedConfig,
}

impl ClusterConfig {
    /// A node of the cluster called `name`, everything else as by default.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            listen: "127.0.0.1:0".to_owned(),
            advertise: None,
            join: Vec::new(),
            roles: BTreeSet::new(),
            capacity: 1,
            voters: 3,
            voter_replace_after: Duration::from_secs(60),
            partitions: PARTITIONS_DEFAULT,
            lease: Duration::from_secs(2),
            heartbeat: Duration::from_millis(75),
            election: Duration::from_millis(300),
            join_timeout: Duration::from_secs(60),
            calls_max: 65_536,
            places_max: 100_000,
            plaintext_on_any_network: false,
            death_certificates: true,
            tls: TlsConfig::default(),
            clients: ClientsConfig::default(),
            states: ReplicatedConfig::default(),
        }
    }

    /// Sets where this node listens, `"127.0.0.1:7101"`.
    #[must_use]
    pub fn listen(mut self, address: impl Into<String>) -> Self {
        self.listen = address.into();
        self
    }

    /// Sets where others find this node.
    #[must_use]
    pub fn advertise(mut self, address: impl Into<String>) -> Self {
        self.advertise = Some(address.into());
        self
    }

    /// Sets the addresses of the first nodes.
    #[must_use]
    pub fn join(mut self, addresses: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.join = addresses.into_iter().map(Into::into).collect();
        self
    }

    /// Adds a role.
    #[must_use]
    pub fn role(mut self, role: impl Into<String>) -> Self {
        self.roles.insert(role.into());
        self
    }

    /// Makes connections secret with the files of this node's certificate, its key and the trusted roots, in PEM: see
    /// [`TlsConfig`].
    #[must_use]
    pub fn tls(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>, roots: impl Into<PathBuf>) -> Self {
        let (certificate, key, roots) = (Some(certificate.into()), Some(key.into()), Some(roots.into()));
        self.tls = TlsConfig { certificate, key, roots, development: None };
        self
    }

    /// The same with the files that `grains ca issue --out FOLDER` writes.
    ///
    /// ```
    /// # use grains_runtime as grains;
    /// use grains::ClusterConfig;
    ///
    /// let config = ClusterConfig::new("shop").listen("10.0.0.1:7101").tls_folder("certificates/a");
    /// assert_eq!(config.tls.key, Some("certificates/a/key.pem".into()));
    /// ```
    #[must_use]
    pub fn tls_folder(self, folder: impl AsRef<Path>) -> Self {
        let folder = folder.as_ref();
        self.tls(folder.join("certificate.pem"), folder.join("key.pem"), folder.join("roots.pem"))
    }

    /// Makes connections secret with certificates for development, of an authority in `folder`: see
    /// [`TlsConfig::development`].
    #[must_use]
    pub fn development_tls(mut self, folder: impl Into<PathBuf>) -> Self {
        self.tls = TlsConfig { development: Some(folder.into()), ..TlsConfig::default() };
        self
    }

    /// Takes clients from outside of the cluster, so that [`Client`](crate::Client)s can call grains by way of this node.
    #[must_use]
    pub fn clients(mut self, clients: ClientsConfig) -> Self {
        self.clients = clients;
        self
    }

    /// Changes the other settings, from their defaults.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

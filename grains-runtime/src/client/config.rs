//! What can be set about a client, with its default and the reason for it.

use std::{path::Path, time::Duration};

use grains_core::world::World;

use crate::cluster::TlsConfig;

/// Which cluster a client calls, and how it gets there.
///
/// ```
/// # use grains_runtime as grains;
/// use grains::ClientConfig;
///
/// let config = ClientConfig::new("shop", ["10.0.0.1:7200", "10.0.0.2:7200"]).name("web-7").tls_folder("certificates/web");
/// assert_eq!(config.gateways.len(), 2);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientConfig {
    /// The name of the cluster.
    pub cluster: String,
    /// The addresses of some of its nodes that take clients. One that lives is enough: it tells of the others.
    pub gateways: Vec<String>,
    /// What it calls itself in the logs of nodes. Default `"client"`. It is believed by nobody: who a client is says its
    /// certificate.
    pub name: String,
    /// How long [`Client::connect`](super::Client::connect) waits for a node. Default 10 s: longer than a cluster needs after the
    /// loss of a node.
    pub connect_timeout: Duration,
    /// How long a call waits that says nothing else. Default 30 s, as on nodes.
    pub call_timeout: Duration,
    /// How many nodes it keeps connections to. Default 2: calls go on by one while the other is lost. More spread them further, and
    /// each node has more connections.
    pub connections: usize,
    /// How many calls may be under way, or wait for a connection. Default 8,192.
    pub calls_max: usize,
    /// Its certificate, issued with `grains ca issue --client NAME`, its key and the trusted roots. Default none: then it talks to
    /// nodes without certificates only.
    pub tls: TlsConfig,
    /// The seams it lives in. Default: tokio and the operating system.
    pub world: Option<World>,
}

impl ClientConfig {
    /// A client of the cluster of this name, by way of these nodes.
    pub fn new(cluster: impl Into<String>, gateways: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            cluster: cluster.into(),
            gateways: gateways.into_iter().map(Into::into).collect(),
            name: "client".to_owned(),
            connect_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(30),
            connections: 2,
            calls_max: 8192,
            tls: TlsConfig::default(),
            world: None,
        }
    }

    /// Sets what it is called in the logs of nodes.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Makes its connections secret with the files that `grains ca issue --client NAME --out FOLDER` writes. This takes the
    /// feature `tls` of `grains`.
    #[must_use]
    pub fn tls_folder(mut self, folder: impl AsRef<Path>) -> Self {
        let file = |name| Some(folder.as_ref().join(name));
        let (certificate, key, roots) = (file("certificate.pem"), file("key.pem"), file("roots.pem"));
        self.tls = TlsConfig { certificate, key, roots, development: None };
        self
    }

    /// Changes the other settings, from their defaults.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

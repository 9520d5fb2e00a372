//! Clusters over TLS, by real sockets and real certificates, which are made by the code that the command `grains ca` uses.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, reason = "tests")]

mod command;
mod development;
mod folder;
mod load;
mod log;
mod peer;
mod refused;
mod renewed;
mod replayed;

use std::{path::PathBuf, time::Duration};

use futures_util::future::join_all;
use grains::{
    ClusterConfig,
    ca::{Authority, Existing, Holder, Issued, Validity},
    prelude::*,
};

use crate::folder::Folder;

#[rpc_trait]
pub trait Tally {
    /// Adds, and says what there is and where it lives.
    async fn add(&mut self, n: u64) -> Result<(u64, String)>;
    /// Has another one add.
    async fn add_to(&mut self, other: TallyRef, n: u64) -> Result<u64>;
}

#[grain(Tally)]
pub struct TallyGrain {
    ctx: Ctx<Self>,
    sum: u64,
}

impl Lifecycle for TallyGrain {
    async fn activate(ctx: Ctx<Self>) -> Result<Self> {
        Ok(Self { ctx, sum: 0 })
    }
}

impl Tally for TallyGrain {
    async fn add(&mut self, n: u64) -> Result<(u64, String)> {
        self.sum += n;
        Ok((self.sum, self.ctx.activation().to_string()))
    }

    async fn add_to(&mut self, other: TallyRef, n: u64) -> Result<u64> {
        Ok(other.add(n).await?.0)
    }
}

/// The authority of a cluster, and what it has issued, in a folder that goes when the test ends.
pub struct Authorities {
    pub folder: Folder,
}

impl Authorities {
    /// With one for cluster `test` in `ca`.
    pub fn make() -> Self {
        let folder = Folder::new();
        Authority::init(&folder.path().join("ca"), "test", Validity::of_root()).unwrap();
        Self { folder }
    }

    pub fn authority(&self) -> Authority {
        Authority::open(&self.folder.path().join("ca")).unwrap()
    }

    pub fn issued(&self, holder: &Holder, validity: Validity) -> Issued {
        self.authority().issue(holder, validity).unwrap()
    }

    /// Issues a certificate for a node, in place of the one it had, and says where it is.
    pub fn certify(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        let issued = self.issued(&Holder::node(name).unwrap(), Validity::days(1));
        issued.write_to(&folder, Existing::Replace).unwrap();
        folder
    }
}

pub fn describe(name: &str, config: ClusterConfig) -> grains::NodeBuilder {
    Node::builder().name(name).cluster(config).host::<TallyGrain>()
}

/// Addresses that were free a moment ago.
pub fn free(n: usize) -> Vec<String> {
    let held: Vec<_> = (0..n).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    held.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect()
}

pub async fn three(authorities: &Authorities) -> Vec<Node> {
    let list = free(3);
    let start = async |(name, at): (&str, &String)| {
        // What is to be seen here is not how long a busy machine may stand still.
        let config = ClusterConfig::new("test").listen(at).join(list.clone());
        let config = config.configure(|config| config.lease = Duration::from_secs(10));
        describe(name, config.tls_folder(authorities.certify(name))).start().await.unwrap()
    };
    join_all(["a", "b", "c"].into_iter().zip(&list).map(start)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_call_each_other() {
    let authorities = Authorities::make();
    let nodes = three(&authorities).await;
    for key in 0..30_u32 {
        for (n, node) in nodes.iter().enumerate() {
            let tally: TallyRef = node.get(key.to_string());
            assert_eq!(tally.add(1).await.unwrap().0, n as u64 + 1);
        }
        let first: TallyRef = nodes[0].get("first");
        assert_eq!(first.add_to(nodes[1].get(key.to_string()), 10).await.unwrap(), 13);
    }
    let living: Vec<usize> = nodes.iter().map(|node| node.status().activations["tally"]).collect();
    assert!(living.iter().all(|living| *living > 0), "they are spread: {living:?}");
    join_all(nodes.iter().map(Node::stop)).await;
}

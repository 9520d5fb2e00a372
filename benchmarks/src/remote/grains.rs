//! Grains: two nodes of a cluster, by the public API. Only the serving one hosts the grain type, so all of them live there.

use grains::{CallError, ClusterConfig, Node, prelude::*};

use super::{CALLEES, Remote, RemoteOneWay};

/// Answers what it is told.
#[rpc_trait(key = u64)]
pub(crate) trait Parrot {
    /// Answers `text`.
    async fn echo(&mut self, text: String) -> Result<String>;
    /// Counts a text.
    async fn note(&mut self, text: String) -> Result<()>;
    /// How many were counted; forgets them.
    async fn noted(&mut self) -> Result<u64>;
}

/// A grain without state in a store.
#[grain(Parrot, default)]
#[derive(Default)]
pub(crate) struct ParrotGrain {
    noted: u64,
}

impl Parrot for ParrotGrain {
    async fn echo(&mut self, text: String) -> Result<String> {
        Ok(text)
    }

    async fn note(&mut self, text: String) -> Result<()> {
        self.noted += u64::from(!text.is_empty());
        Ok(())
    }

    async fn noted(&mut self) -> Result<u64> {
        Ok(std::mem::take(&mut self.noted))
    }
}

/// The node of the calling process. Callees keep it alive.
pub(crate) struct Grains;

async fn serve(config: ClusterConfig) -> String {
    let builder = Node::builder().name("serving").cluster(config);
    let node = builder.host::<ParrotGrain>().start().await.expect("a first node starts");
    let address = node.address().expect("a node of a cluster has an address");
    // It ends with the process.
    std::mem::forget(node);
    address
}

async fn connect(config: ClusterConfig) -> Vec<ParrotRef> {
    let node = Node::builder().name("calling").cluster(config).start().await.expect("it joins");
    let mut callees = Vec::new();
    for key in 0..CALLEES as u64 {
        let callee: ParrotRef = node.get(key);
        callee.echo(String::new()).retry(20).await.expect("its node is a member");
        callees.push(callee);
    }
    assert!(node.activations().is_empty(), "all of them live on the other node");
    // It ends with the process.
    std::mem::forget(node);
    callees
}

/// The same over TLS, with certificates on both sides.
pub(crate) struct Secret;

impl Remote for Secret {
    type Callee = ParrotRef;

    async fn serve(ready: impl FnOnce(String)) {
        let folder = std::env::temp_dir().join(format!("grains-benchmarks-{}", std::process::id()));
        let folder = folder.to_str().expect("a folder for temporary files has a plain name").to_owned();
        let address = serve(ClusterConfig::new("benchmarks").development_tls(&folder)).await;
        ready(format!("{address} {folder}"));
        std::future::pending().await
    }

    async fn connect(address: String) -> Vec<ParrotRef> {
        let (address, folder) = address.split_once(' ').expect("it says where, and by which authority");
        let callees = connect(ClusterConfig::new("benchmarks").join([address]).development_tls(folder)).await;
        std::fs::remove_dir_all(folder).expect("both have their certificates");
        callees
    }

    async fn echo(callee: &ParrotRef, text: String) -> String {
        Grains::echo(callee, text).await
    }
}

impl Remote for Grains {
    type Callee = ParrotRef;

    async fn serve(ready: impl FnOnce(String)) {
        ready(serve(ClusterConfig::new("benchmarks")).await);
        std::future::pending().await
    }

    async fn connect(address: String) -> Vec<ParrotRef> {
        connect(ClusterConfig::new("benchmarks").join([address])).await
    }

    async fn echo(callee: &ParrotRef, text: String) -> String {
        callee.echo(text).await.expect("it answers")
    }
}

impl RemoteOneWay for Grains {
    async fn note(callee: &ParrotRef, text: String) {
        loop {
            match callee.note(text.clone()).send() {
                Ok(()) => return,
                Err(CallError::Overloaded { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn noted(callee: &ParrotRef) -> u64 {
        callee.noted().await.expect("it answers")
    }
}

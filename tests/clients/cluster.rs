//! Nodes of this process that take clients, and clients of them.

use std::time::Duration;

use futures_util::future::join_all;
use grains::{Client, ClientConfig, ClientsConfig, ClusterConfig, NodeBuilder, prelude::*};

use crate::desk::{BellGrain, DeskGrain, PorterGrain, VaultGrain};

/// Addresses that were free a moment ago.
pub fn free(n: usize) -> Vec<String> {
    let held: Vec<_> = (0..n).map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    held.iter().map(|listener| listener.local_addr().unwrap().to_string()).collect()
}

/// Clients come by a port of their own.
pub fn clients() -> ClientsConfig {
    ClientsConfig::new().listen("127.0.0.1:0")
}

pub fn described(name: &str, config: ClusterConfig) -> NodeBuilder {
    Node::builder()
        .name(name)
        .cluster(config)
        .host::<DeskGrain>()
        .host::<VaultGrain>()
        .host::<PorterGrain>()
        .singleton::<BellGrain>()
}

/// A node that is a cluster by itself.
pub async fn alone(change: impl FnOnce(&mut ClientsConfig), more: impl FnOnce(NodeBuilder) -> NodeBuilder) -> Node {
    let config = ClusterConfig::new("shop").clients(clients().configure(change));
    more(described("a", config)).start().await.unwrap()
}

/// Three nodes, a to c, of which only a and b host anything, if `hosts` says so.
pub async fn three(host_on_c: bool) -> Vec<Node> {
    let list = free(3);
    let start = async |(name, at): (&str, &String)| {
        let config = ClusterConfig::new("shop").listen(at).join(list.clone()).clients(clients());
        match host_on_c || name != "c" {
            true => described(name, config).start().await.unwrap(),
            false => Node::builder().name(name).cluster(config).start().await.unwrap(),
        }
    };
    let nodes = join_all(["a", "b", "c"].into_iter().zip(&list).map(start)).await;
    until("all to know all", || nodes.iter().all(|node| node.status().members.len() == 3)).await;
    nodes
}

/// A client of these nodes.
pub async fn client(nodes: &[&Node]) -> Client {
    let gateways = nodes.iter().map(|node| node.client_address().unwrap());
    Client::connect(ClientConfig::new("shop", gateways)).await.unwrap()
}

pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let limit = tokio::time::Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(tokio::time::Instant::now() < limit, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

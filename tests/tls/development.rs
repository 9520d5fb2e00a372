//! Certificates that nobody has made.

use futures_util::future::join_all;
use grains::{ClusterConfig, prelude::*};

use crate::{TallyRef, describe, folder::Folder, free, log};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_name_one_folder_trust_each_other_and_nobody_else() {
    log::listen();
    let folder = Folder::new();
    let list = free(3);
    let start = async |(name, at): (&str, &String)| {
        let config = ClusterConfig::new("test").listen(at).join(list.clone());
        describe(name, config.development_tls(folder.path().join("dev"))).start().await.unwrap()
    };
    let nodes = join_all(["dev-a", "dev-b", "dev-c"].into_iter().zip(&list).map(start)).await;
    for (n, node) in nodes.iter().enumerate() {
        assert_eq!(node.get::<TallyRef>("x").add(1).await.unwrap().0, n as u64 + 1);
    }
    log::says(&["WARN", "DEVELOPMENT", "dev-b"]).await;
    let other = Folder::new();
    let config = ClusterConfig::new("test").join(list.clone()).development_tls(other.path());
    let config = config.configure(|config| config.join_timeout = std::time::Duration::from_millis(1500));
    let why = describe("dev-d", config).start().await.unwrap_err().to_string();
    assert!(why.contains("not from an authority"), "{why}");
    join_all(nodes.iter().map(Node::stop)).await;
}

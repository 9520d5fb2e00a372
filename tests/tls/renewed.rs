//! Certificates and roots that change while a cluster works.

use std::{fs, time::Duration};

use futures_util::future::join_all;
use grains::{
    ClusterConfig,
    ca::{Existing, Holder, Validity},
    prelude::*,
};
use rustls::AlertDescription;

use crate::{
    Authorities, describe,
    load::Load,
    log,
    peer::{HELLO, Met, Peer},
    three,
};

const NODES: [&str; 3] = ["a", "b", "c"];

/// Waits until connections with the certificate of `name` at this moment are met as `wanted` by all nodes.
async fn meet(authorities: &Authorities, nodes: &[Node], what: &str, wanted: impl Fn(&Met) -> bool) {
    let folder = authorities.folder.path().join(what);
    let peer = Peer::of_files(&folder);
    for node in nodes {
        let address = node.address().unwrap();
        let limit = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            let (peer, address) = (peer.clone(), address.clone());
            let met = tokio::task::spawn_blocking(move || peer.meets(&address, &HELLO)).await.unwrap();
            if wanted(&met) {
                break;
            }
            assert!(std::time::Instant::now() < limit, "still {met:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

fn through(met: &Met) -> bool {
    matches!(met, Met::Through(_))
}

fn unknown(met: &Met) -> bool {
    *met == Met::Refused(AlertDescription::UnknownCA)
}

/// The root changes as docs/TLS.md says, with calls under way all the time, and a node that joins in each state.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_is_changed_on_a_working_cluster_and_no_call_fails() {
    let authorities = Authorities::make();
    let nodes = three(&authorities).await;
    let load = Load::begin(&nodes);
    let folder = authorities.folder.path().to_owned();
    let spread_roots = || {
        let roots = authorities.authority().roots().unwrap();
        for name in NODES {
            // As a person would with a copy and a rename.
            fs::write(folder.join(name).join("new"), &roots).unwrap();
            fs::rename(folder.join(name).join("new"), folder.join(name).join("roots.pem")).unwrap();
        }
    };
    let keep = |what: &str| {
        let issued = authorities.issued(&Holder::node("d").unwrap(), Validity::days(1));
        issued.write_to(&folder.join(what), Existing::Refuse).unwrap();
    };
    keep("old");
    authorities.authority().rotate(Validity::of_root()).unwrap();
    keep("new");
    // Nobody has heard of the new root yet.
    meet(&authorities, &nodes, "old", through).await;
    meet(&authorities, &nodes, "new", unknown).await;
    spread_roots();
    meet(&authorities, &nodes, "new", through).await;
    meet(&authorities, &nodes, "old", through).await;
    for name in NODES {
        authorities.certify(name);
    }
    // A node that trusts the new root only is let in as soon as all of them have certificates of it.
    authorities.authority().finish_rotation().unwrap();
    let config = ClusterConfig::new("test").join(nodes.iter().map(|node| node.address().unwrap()));
    let config = config.configure(|config| config.lease = Duration::from_secs(10));
    let fourth = describe("d", config.tls_folder(authorities.certify("d"))).start().await.unwrap();
    spread_roots();
    meet(&authorities, &nodes, "old", unknown).await;
    meet(&authorities, &nodes, "new", through).await;
    let before = load.answered();
    tokio::time::timeout(Duration::from_secs(20), async {
        while load.answered() < before + 500 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("calls go on");
    fourth.stop().await;
    let added = load.end(&nodes[0]).await;
    assert!(added > 1000, "{added} calls");
    join_all(nodes.iter().map(Node::stop)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_do_not_fit_change_nothing_and_are_named_once_they_stay() {
    log::listen();
    let authorities = Authorities::make();
    let of_a = authorities.certify("kept-a");
    let node = describe("kept-a", ClusterConfig::new("test").tls_folder(&of_a)).start().await.unwrap();
    let nodes = [node];
    authorities.certify("b");
    fs::write(of_a.join("key.pem"), "half").unwrap();
    log::says(&["WARN", "certificates stay as they were", "kept-a", "`tls.key`"]).await;
    meet(&authorities, &nodes, "b", through).await;
    // Mended, they are used.
    authorities.certify("kept-a");
    log::says(&["new certificates are in use", "kept-a"]).await;
    nodes[0].stop().await;
}

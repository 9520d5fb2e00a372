//! Nodes that are started with mistakes: each says which one, ends, and bothers nobody.

use std::{
    fs,
    net::TcpListener,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    cluster::{Cluster, free_addresses, members},
    process::{PATIENCE, Process},
    program::Orders,
};

/// Starts one more node with what `change` makes of its orders, and gives what it complains when it ends.
fn complaint(cluster: &Cluster, change: impl FnOnce(&mut Orders)) -> String {
    let mut orders = cluster.orders[0].clone();
    orders.name = "d".to_owned();
    orders.listen = free_addresses(1).remove(0);
    orders.join = vec![cluster.orders[0].listen.clone()];
    orders.data_dir = Some(cluster.folder.path().join("d"));
    orders.join_timeout_ms = 3_000;
    change(&mut orders);
    let (status, _, stderr) = Process::spawn(&orders).end(PATIENCE);
    assert_eq!(status.code(), Some(1), "{stderr}");
    let complaint = stderr.lines().find_map(|line| line.strip_prefix("cannot start: "));
    complaint.unwrap_or_else(|| panic!("no word of why: {stderr}")).to_owned()
}

/// Whether a complaint names all of these things.
fn names(complaint: &str, things: &[&str]) {
    for thing in things {
        assert!(complaint.contains(thing), "{thing:?} is not in {complaint:?}");
    }
}

#[test]
fn a_node_that_cannot_listen_says_where_and_why() {
    let cluster = Cluster::of(1);
    let listens_at = |address: &str| complaint(&cluster, |orders| orders.listen = address.to_owned());
    names(&listens_at("203.0.113.7:7101"), &["203.0.113.7:7101", "this machine has no such address"]);
    names(&listens_at("127.0.0.1"), &["127.0.0.1", "looks like 127.0.0.1:7101"]);
    names(&listens_at("127.0.0.1:no"), &["127.0.0.1:no", "looks like 127.0.0.1:7101"]);
    names(&listens_at("0.0.0.0:0"), &["0.0.0.0", "can be reached from other machines"]);
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = held.local_addr().unwrap().to_string();
    names(&listens_at(&taken), &[&taken, "another process"]);
    drop(held);
}

#[test]
fn a_name_that_is_none_is_refused() {
    let cluster = Cluster::of(1);
    names(&complaint(&cluster, |orders| orders.name = "no name".to_owned()), &["\"no name\""]);
    names(&complaint(&cluster, |orders| orders.cluster = "no/cluster".to_owned()), &["\"no/cluster\""]);
}

#[test]
fn a_data_directory_that_cannot_be_used_is_named_and_left_as_it_was() {
    let cluster = Cluster::of(1);
    let at = |name: &str| cluster.folder.path().join(name);
    let with = |folder: &std::path::Path| complaint(&cluster, |orders| orders.data_dir = Some(folder.to_owned()));

    // Also for root, who may read everything: a file cannot hold files.
    fs::write(at("file"), "just a file").unwrap();
    let inside = at("file").join("data");
    names(&with(&inside), &[inside.to_str().unwrap()]);
    assert_eq!(fs::read(at("file")).unwrap(), b"just a file");

    let foreign = at("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("consensus.redb"), "somebody's notes").unwrap();
    names(&with(&foreign), &[foreign.to_str().unwrap(), "is not a cluster log of grains"]);
    assert_eq!(fs::read(foreign.join("consensus.redb")).unwrap(), b"somebody's notes");
}

#[test]
fn a_data_directory_of_another_cluster_is_refused() {
    let mut cluster = Cluster::of(1);
    cluster.orders[0].join.clear();
    cluster.start(0);
    cluster.ready();
    let before = cluster.node(0).ask("status");
    cluster.kill(0);
    let folder = cluster.orders[0].data_dir.clone();
    let complaint = complaint(&cluster, |orders| {
        orders.name = "a".to_owned();
        orders.cluster = "elsewhere".to_owned();
        orders.join.clear();
        orders.data_dir.clone_from(&folder);
    });
    names(&complaint, &["\"test\"", "\"elsewhere\"", "data directory"]);
    let of_another = self::complaint(&cluster, |orders| orders.data_dir.clone_from(&folder));
    names(&of_another, &[folder.as_ref().unwrap().to_str().unwrap(), "node \"a\"", "\"d\""]);
    // It is as good as before for its own cluster.
    cluster.start(0);
    cluster.ready();
    assert!(cluster.node(0).ask("status")["incarnation"].as_u64() > before["incarnation"].as_u64());
}

#[test]
fn a_list_that_leads_nowhere_is_named() {
    let cluster = Cluster::of(1);
    let nobody = free_addresses(1).remove(0);
    let complaint_of = |list: Vec<String>| complaint(&cluster, |orders| orders.join.clone_from(&list));
    names(&complaint_of(vec![nobody.clone()]), &[&nobody, "join_timeout", "which is not in the list"]);
    names(&complaint_of(vec![nobody, "127.0.0.1".to_owned()]), &["\"127.0.0.1\"", "looks like 127.0.0.1:7101"]);
}

#[test]
fn strangers_namesakes_and_borrowed_folders_are_refused_and_nobody_notices() {
    let mut cluster = Cluster::three();
    let before = members(&cluster.node(0).ask("status"));
    (0..3).for_each(|n| cluster.begin_traffic(n, "k", 40));
    cluster.traffic_flows(20);

    let stranger = complaint(&cluster, |orders| orders.cluster = "other".to_owned());
    names(&stranger, &["\"other\"", "\"test\"", &cluster.orders[0].listen]);

    let begun = Instant::now();
    let namesake = complaint(&cluster, |orders| {
        orders.name = "b".to_owned();
        orders.data_dir = None;
        orders.join_timeout_ms = 30_000;
    });
    names(&namesake, &["a live node called \"b\"", &cluster.orders[1].listen]);
    assert!(begun.elapsed() < Duration::from_secs(15), "it was not the time-out that ended it");

    let folder = cluster.orders[2].data_dir.clone().unwrap();
    let borrower = complaint(&cluster, |orders| orders.data_dir = Some(folder.clone()));
    names(&borrower, &[folder.to_str().unwrap(), "belongs to a node that runs"]);

    let port = cluster.orders[1].listen.clone();
    names(&complaint(&cluster, |orders| orders.listen.clone_from(&port)), &[&port, "another process"]);

    cluster.traffic_flows(20);
    for n in 0..3 {
        assert_eq!(cluster.node(n).ask("settle")["failed"], Value::Array(Vec::new()));
        assert_eq!(members(&cluster.node(n).ask("status")), before, "the same members in the same incarnations");
    }
    cluster.keeps_its_promises();
}

//! Three real processes, and a client under load while each is stopped and started again in turn, and one is killed. Each process is
//! this very test binary, run again as a node.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio, exit},
    time::Duration,
};

use grains::{Client, ClientConfig, ClientsConfig, ClusterConfig, Outcome};

use crate::{
    cluster::{described, free, until},
    losses::Load,
};

/// Where a process finds what it is to be: `name listen clients folder` and then whom it joins.
const ORDERS: &str = "GRAINS_TEST_CLIENTS_NODE";

/// Not a test: what a node process runs.
#[test]
fn node_process() {
    let Ok(orders) = env::var(ORDERS) else { return };
    let words: Vec<String> = orders.split(' ').map(str::to_owned).collect();
    tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_ansi(false).with_writer(std::io::stderr).init();
    exit(grains::__private::run_main(Some(2), node(words)));
}

async fn node(words: Vec<String>) -> i32 {
    let [name, listen, clients, folder, join @ ..] = &words[..] else { panic!("{words:?}") };
    let config = ClusterConfig::new("shop").listen(listen).join(join).clients(ClientsConfig::new().listen(clients));
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    let node = described(name, config).data_dir(folder).start().await.unwrap();
    println!("\n@ready");
    terminated.recv().await;
    i32::try_from(node.stop().await.dropped).unwrap()
}

/// A node process; killed when the test ends.
struct Process(Child);

impl Process {
    fn start(orders: &str) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "processes::node_process", "--nocapture", "--test-threads=1"])
            .env(ORDERS, orders)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let process = Self(child);
        assert!(lines.any(|line| line.unwrap() == "@ready"), "it has not started: {orders}");
        std::thread::spawn(move || lines.for_each(drop));
        process
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([&format!("-{signal}"), &self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    fn stop(mut self) {
        self.signal("TERM");
        assert_eq!(self.0.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_fails_no_call_and_a_kill_leaves_only_unknown_ones() {
    let folder = Folder(env::temp_dir().join(format!("grains-clients-{}", std::process::id())));
    let (listen, clients) = (free(3), free(3));
    let orders = |n: usize| {
        let data = folder.0.join(n.to_string());
        format!("n{n} {} {} {} {}", listen[n], clients[n], data.display(), listen.join(" "))
    };
    let start = |n: usize| {
        let orders = orders(n);
        tokio::task::spawn_blocking(move || Process::start(&orders))
    };
    let starting = [start(0), start(1), start(2)];
    let mut nodes = Vec::new();
    for node in starting {
        nodes.push(Some(node.await.unwrap()));
    }
    let client = Client::connect(ClientConfig::new("shop", [&clients[0]])).await.unwrap();
    until("it has two gateways", || client.gateways().len() == 2).await;
    let load = Load::begin(&client, 8);
    load.flows(200).await;
    for (n, node) in nodes.iter_mut().enumerate() {
        let stopped: Process = node.take().unwrap();
        let stopping = tokio::task::spawn_blocking(move || stopped.stop());
        stopping.await.unwrap();
        load.flows(100).await;
        *node = Some(start(n).await.unwrap());
        load.flows(100).await;
    }
    assert_eq!(load.end().await, [], "of a rolling restart");

    // At the latest when the list of gateways has reached it.
    until("it has two gateways", || client.gateways().len() == 2).await;
    let load = Load::begin(&client, 8);
    load.flows(200).await;
    let used = client.gateways();
    let killed = clients.iter().position(|address| used.contains(address)).unwrap();
    nodes[killed].as_ref().unwrap().signal("KILL");
    load.flows(300).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let failed = load.end().await;
    assert!(failed.iter().all(|error| error.outcome() == Outcome::Unknown), "{failed:?}");
    // Each caller may have had one under way at the gateway, and then one that another gateway had sent to a grain on that node.
    assert!(failed.len() <= 16, "only what was under way: {failed:?}");
    until("it has two gateways again", || {
        client.gateways().len() == 2 && !client.gateways().contains(&clients[killed])
    })
    .await;
}

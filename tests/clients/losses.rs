//! Gateways come and go.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::future::join_all;
use grains::{CallError, Client, ClientsConfig, ClusterConfig, Outcome, prelude::*};

use crate::{
    cluster::{alone, client, described, free, three, until},
    desk::{DeskRef, seen},
};

/// Calls that go on, and those that failed.
pub struct Load {
    stop: Arc<AtomicBool>,
    pub answered: Arc<AtomicUsize>,
    callers: Vec<tokio::task::JoinHandle<Vec<CallError>>>,
}

impl Load {
    pub fn begin(client: &Client, callers: usize) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let caller = |n: usize| {
            let (client, stop, answered) = (client.clone(), stop.clone(), answered.clone());
            tokio::spawn(async move {
                let mut failed = Vec::new();
                for round in 0.. {
                    if stop.load(SeqCst) {
                        break;
                    }
                    let desk: DeskRef = client.get(format!("load-{}", (n * 7 + round) % 40));
                    let called = match round % 16 {
                        0 => desk.think(20).await,
                        _ => desk.add(1).await,
                    };
                    match called {
                        Ok(_) => drop(answered.fetch_add(1, SeqCst)),
                        Err(error) => failed.push(error),
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                failed
            })
        };
        let callers = (0..callers).map(caller).collect();
        Self { stop, answered, callers }
    }

    /// Waits until it has flowed on by so much.
    pub async fn flows(&self, calls: usize) {
        let from = self.answered.load(SeqCst);
        until("calls are answered", || self.answered.load(SeqCst) >= from + calls).await;
    }

    pub async fn end(self) -> Vec<CallError> {
        self.stop.store(true, SeqCst);
        join_all(self.callers).await.into_iter().flat_map(Result::unwrap).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_knows_one_gateway_learns_of_all_and_survives_its_loss() {
    let mut nodes = three(true).await;
    let client = client(&[&nodes[0]]).await;
    until("it has two", || client.gateways().len() == 2).await;
    let addresses: Vec<_> = nodes.iter().map(|node| node.client_address().unwrap()).collect();
    assert!(client.gateways().iter().all(|gateway| addresses.contains(gateway)));
    let load = Load::begin(&client, 8);
    load.flows(200).await;
    // Hard, as if killed, and one that it uses.
    let used = client.gateways();
    let lost = nodes.iter().position(|node| used.contains(&node.client_address().unwrap())).unwrap();
    drop(nodes.remove(lost));
    load.flows(200).await;
    until("it has two again", || client.gateways().len() == 2 && !client.gateways().contains(&addresses[lost])).await;
    let failed = load.end().await;
    assert!(failed.iter().all(|error| error.outcome() == Outcome::Unknown), "{failed:?}");
    assert!(failed.len() <= 16, "only what was under way: {failed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_finds_no_gateway_says_where_it_looked_and_comes_back_by_itself() {
    let (listen, clients) = (free(1).remove(0), free(1).remove(0));
    let start = async || {
        let config = ClusterConfig::new("shop").listen(&listen).clients(ClientsConfig::new().listen(&clients));
        described("a", config).start().await.unwrap()
    };
    let node = start().await;
    let client = client(&[&node]).await;
    client.get::<DeskRef>("back").add(1).await.unwrap();
    assert_eq!(node.stop().await.dropped, 0);
    drop(node);
    until("it has noticed", || client.gateways().is_empty()).await;
    let begun = tokio::time::Instant::now();
    let error = client.get::<DeskRef>("back").add(1).timeout(Duration::from_millis(400)).await.unwrap_err();
    assert!(begun.elapsed() > Duration::from_millis(300), "it waits for one");
    let CallError::NoGateway { cluster, why } = &error else { panic!("{error:?}") };
    assert_eq!((&**cluster, error.outcome()), ("shop", Outcome::NotExecuted));
    assert!(why.contains(&clients) && why.to_lowercase().contains("refused"), "{why}");

    // A call that waits long enough is made by whoever comes.
    let waiting = tokio::spawn(client.get::<DeskRef>("back").add(5));
    tokio::time::sleep(Duration::from_millis(100)).await;
    let node = start().await;
    assert_eq!(waiting.await.unwrap().unwrap(), 5);
    assert_eq!(node.get::<DeskRef>("back").add(0).await.unwrap(), 5, "once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_may_have_run_is_not_made_again_by_another_connection() {
    let node = alone(|_| {}, |builder| builder).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let through = listener.local_addr().unwrap().to_string();
    let to = node.client_address().unwrap();
    let carrying = tokio::spawn(async move {
        let (mut inside, _) = listener.accept().await.unwrap();
        let mut outside = tokio::net::TcpStream::connect(to).await.unwrap();
        tokio::io::copy_bidirectional(&mut inside, &mut outside).await.ok();
    });
    let config = grains::ClientConfig::new("shop", [through]).configure(|config| config.connections = 1);
    let client = Client::connect(config).await.unwrap();
    // By its answer it has heard where the gateway is.
    client.get::<DeskRef>("once").add(0).await.unwrap();
    let call = tokio::spawn(client.get::<DeskRef>("once").think(60_000));
    until("it runs", || seen("begun once") == 1).await;
    carrying.abort();
    let error = call.await.unwrap().unwrap_err();
    assert!(matches!(error, CallError::Unanswered { .. }), "{error:?}");
    // It has learned where the gateway is, and is there by itself.
    assert_eq!(client.get::<DeskRef>("once-more").add(1).await.unwrap(), 1);
    until("the turn hears of it", || seen("cancelled once") == 1).await;
    assert_eq!(seen("begun once"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_move_to_a_gateway_that_is_new() {
    let list = free(2);
    let start = async |name: &str, at: usize| {
        let config = ClusterConfig::new("shop").listen(&list[at]).join(list[..1].to_vec());
        described(name, config.clients(ClientsConfig::new().listen("127.0.0.1:0"))).start().await.unwrap()
    };
    let first: Node = start("a", 0).await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(client(&[&first]).await);
    }
    let loads: Vec<_> = clients.iter().map(|client| Load::begin(client, 2)).collect();
    let second = start("b", 1).await;
    until("each has both", || clients.iter().all(|client| client.gateways().len() == 2)).await;
    until("no more than that", || first.client_connections() == 8 && second.client_connections() == 8).await;
    for load in loads {
        assert_eq!(load.end().await, []);
    }
    drop(first);
}

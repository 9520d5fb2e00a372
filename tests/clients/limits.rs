//! How much clients may: over each limit a call is refused at once, and did not run.

use std::time::Duration;

use futures_util::future::join_all;
use grains::{CallError, Client, ClientConfig, Node, Outcome};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
};

use crate::{
    cluster::{alone, until},
    desk::{DeskRef, saw, seen},
};

/// A client with one connection.
async fn single(node: &Node) -> Client {
    single_at(node.client_address().unwrap()).await.unwrap()
}

async fn single_at(address: String) -> Result<Client, grains::ConnectError> {
    let config = ClientConfig::new("shop", [address]).configure(|config| {
        config.connections = 1;
        config.connect_timeout = Duration::from_millis(700);
    });
    Client::connect(config).await
}

fn overloaded<T: std::fmt::Debug>(answers: Vec<Result<T, CallError>>, limit: &str) -> usize {
    let refused: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    for error in &refused {
        let CallError::Overloaded { limit: told, .. } = error else { panic!("{error:?}") };
        assert!(told.contains(limit), "{told}");
        assert_eq!(error.outcome(), Outcome::NotExecuted);
    }
    refused.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_connections_of_a_principal_share_its_rate() {
    let change = |clients: &mut grains::ClientsConfig| (clients.calls_per_second, clients.burst) = (1, 20);
    let node = alone(change, |builder| builder).await;
    let clients = [single(&node).await, single(&node).await];
    let calls = (0..60).map(|n| clients[n % 2].get::<DeskRef>("rated").add(1));
    let refused = overloaded(join_all(calls).await, "clients.calls_per_second = 1 of anonymous");
    // A second or two may pass on a busy machine.
    assert!((37..=40).contains(&refused), "{refused}");
    assert_eq!(node.get::<DeskRef>("rated").add(0).await.unwrap(), 60 - refused as u64, "what was refused did not run");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    clients[0].get::<DeskRef>("rated").add(1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_bounded() {
    for (change, told) in [
        ((|clients| clients.connections_max = 1) as fn(&mut grains::ClientsConfig), "`connections_max`"),
        (|clients| clients.connections_per_principal_max = 1, "`connections_per_principal_max`"),
    ] {
        let node = alone(change, |builder| builder).await;
        let first = single(&node).await;
        let error = single_at(node.client_address().unwrap()).await.unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
        assert_eq!(first.get::<DeskRef>("bounded").add(0).await.unwrap(), 0);
        first.close().await;
        until("it has gone", || node.client_connections() == 0).await;
        single(&node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_under_way_are_bounded_by_number_and_by_bytes() {
    let change = |clients: &mut grains::ClientsConfig| (clients.calls_max, clients.call_bytes_max) = (3, 100_000);
    let node = alone(change, |builder| builder).await;
    let client = single(&node).await;
    let desk: DeskRef = client.get("under-way");
    let thinking: Vec<_> = (0..3).map(|_| tokio::spawn(desk.think(60_000))).collect();
    until("they think", || seen("begun under-way") == 3).await;
    assert_eq!(overloaded(vec![desk.add(1).await], "clients.calls_max = 3"), 1);
    thinking.iter().for_each(|call| call.abort());
    until("they have stopped", || seen("cancelled under-way") == 3).await;
    let added = desk.add(1).retry(50).await.unwrap();
    assert_eq!(added, 1);

    let held = tokio::spawn(client.get::<DeskRef>("held").fail("x".repeat(80_000)));
    held.await.unwrap().unwrap_err();
    let thinking = tokio::spawn(desk.think(60_000));
    until("it thinks", || seen("begun under-way") == 4).await;
    let refused = desk.fail("x".repeat(100_000)).await;
    assert_eq!(overloaded(vec![refused], "clients.call_bytes_max = 100000"), 1);
    thinking.abort();

    let node = alone(|clients| clients.frame_bytes_max = 10_000, |builder| builder).await;
    let client = single(&node).await;
    let error = client.get::<DeskRef>("long").fail("x".repeat(10_000)).await.unwrap_err();
    assert!(matches!(&error, CallError::Codec { outcome: Outcome::NotExecuted, .. }), "{error:?}");
    assert!(error.to_string().contains("at most 10000"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_comes_back_has_no_more_calls_run_than_who_stays() {
    let node = alone(|clients| clients.connections_per_principal_max = 1, |builder| builder).await;
    let first = single(&node).await;
    let desk: DeskRef = first.get("staying");
    let stays = tokio::spawn(desk.stay().into_future());
    until("it stays", || seen("stays staying") == 1).await;
    first.close().await;
    stays.await.unwrap().unwrap_err();
    until("its connection has ended", || node.client_connections() == 0).await;
    let error = single_at(node.client_address().unwrap()).await.unwrap_err().to_string();
    assert!(error.contains("`connections_per_principal_max`"), "{error}");
    saw("leave staying");
    let again = single(&node).await;
    assert_eq!(again.get::<DeskRef>("staying").add(1).await.unwrap(), 1);
}

/// Carries bytes to `to`, and none back once it is told so.
async fn one_way_street(to: String, mut cut: tokio::sync::watch::Receiver<bool>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (inside, _) = listener.accept().await.unwrap();
        let (mut from_client, mut to_client) = inside.into_split();
        let (mut from_node, mut to_node) = TcpStream::connect(to).await.unwrap().into_split();
        tokio::spawn(async move {
            copy(&mut from_client, &mut to_node).await.ok();
        });
        let mut bytes = vec![0; 4096];
        loop {
            if *cut.borrow() {
                cut.wait_for(|cut| !cut).await.ok();
            }
            match from_node.read(&mut bytes).await {
                Ok(read @ 1..) => to_client.write_all(&bytes[..read]).await.unwrap_or(()),
                _ => return,
            }
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_takes_no_answers_loses_its_connection_and_not_the_nodes_memory() {
    let node = alone(|clients| clients.answer_bytes_max = 1 << 20, |builder| builder).await;
    let (cut, watch) = tokio::sync::watch::channel(false);
    let street = one_way_street(node.client_address().unwrap(), watch).await;
    let client = single_at(street).await.unwrap();
    let desk: DeskRef = client.get("unread");
    desk.add(1).await.unwrap();
    assert_eq!(node.client_connections(), 1);
    cut.send_replace(true);
    // More than both sides' sockets and what may wait.
    let asked: Vec<_> = (0..60).map(|_| tokio::spawn(desk.large(1 << 20).timeout(Duration::from_secs(20)))).collect();
    let begun = tokio::time::Instant::now();
    until("the node ends the connection", || node.client_connections() == 0).await;
    // Before anybody finds that the other is silent.
    assert!(begun.elapsed() < Duration::from_millis(3500), "{:?}", begun.elapsed());
    assert_eq!(node.get::<DeskRef>("unread").add(1).await.unwrap(), 2);
    asked.iter().for_each(|call| call.abort());
    cut.send_replace(false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_whose_answers_wait_for_room_are_under_way() {
    let change = |clients: &mut grains::ClientsConfig| (clients.calls_max, clients.answer_bytes_max) = (3, 1 << 30);
    let node = alone(change, |builder| builder).await;
    let (cut, watch) = tokio::sync::watch::channel(false);
    let street = one_way_street(node.client_address().unwrap(), watch).await;
    let client = single_at(street).await.unwrap();
    let desk: DeskRef = client.get("unheard");
    desk.add(1).await.unwrap();
    cut.send_replace(true);
    let asked: Vec<_> = (0..60).map(|_| tokio::spawn(desk.large(1 << 20).timeout(Duration::from_secs(20)))).collect();
    until("all are made", || client.calls() == 60).await;
    // One-way calls do not count. It comes behind all of the others.
    client.get::<DeskRef>("unheard-last").note(1).send().unwrap();
    while node.get::<DeskRef>("unheard-last").notes().await.unwrap().is_empty() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // Both sides' sockets have room for some of them, 4 MiB are about to leave, and three are under way.
    let run = seen("large unheard");
    assert!(run < 40, "{run} of 60 have run, and their answers wait");
    asked.iter().for_each(|call| call.abort());
    cut.send_replace(false);
}

//! A client's calls are calls: the same references, deadlines, contexts, errors, order.

use std::time::Duration;

use grains::{CallError, Client, ClientConfig, ClientsConfig, ClusterConfig, Outcome, RequestContext};

use crate::{
    cluster::{alone, client, described, three, until},
    desk::{BellRef, DeskRef, PorterRef, seen},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_calls_grains_wherever_they_are_and_in_the_order_it_made_its_calls() {
    let nodes = three(true).await;
    let client = client(&[&nodes[0]]).await;
    for round in 1..=2 {
        for key in 0..20 {
            let desk: DeskRef = client.get(format!("wherever-{key}"));
            assert_eq!(desk.add(5).await.unwrap(), 5 * round);
        }
    }
    let living: Vec<usize> = nodes.iter().map(|node| node.status().activations["desk"]).collect();
    assert!(living.iter().all(|living| *living > 0), "they are spread: {living:?}");
    // A node sees what the client did.
    assert_eq!(nodes[2].get::<DeskRef>("wherever-3").add(1).await.unwrap(), 11);

    let desk: DeskRef = client.get("in-order");
    let mut calls: Vec<_> = (0..500).map(|n| desk.note(n)).collect();
    futures_util::future::join_all(&mut calls).await.into_iter().for_each(|noted| noted.unwrap());
    for n in 500..600 {
        desk.note(n).send().unwrap();
    }
    let mut notes = Vec::new();
    while notes.len() < 600 {
        notes.extend(desk.notes().await.unwrap());
    }
    assert_eq!(notes, (0..600).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_hears_what_a_caller_hears_on_a_node() {
    let node = alone(|_| {}, |builder| builder).await;
    let client = client(&[&node]).await;
    let desk: DeskRef = client.get("hears");
    assert!(matches!(desk.fail("no".into()).await, Err(CallError::Grain(why)) if why.message() == "no"));
    assert!(matches!(desk.panic().await, Err(CallError::Panicked { message, .. }) if &*message == "asked to"));
    // References in answers and arguments call by way of whoever has them.
    assert_eq!(desk.neighbour().await.unwrap().add(3).await.unwrap(), 3);
    assert_eq!(node.get::<DeskRef>("hears-next").add(1).await.unwrap(), 4);
    let request = RequestContext::new().with("tenant", "acme").unwrap();
    for other in [None, Some(client.get("other"))] {
        let who = desk.who(other).context(request.clone()).await.unwrap();
        assert!(who.contains(&("tenant".into(), "acme".into())), "{who:?}");
        assert!(who.contains(&("principal".into(), "anonymous".into())), "{who:?}");
    }
    assert_eq!(node.get::<DeskRef>("hears").who(None).await.unwrap(), [("principal".into(), "nobody".into())]);
    // Longer than what clients may send, and than what waits at once.
    assert_eq!(desk.large(3 << 20).await.unwrap().len(), 3 << 20);
    let too_large = desk.large(5 << 20).await.unwrap_err();
    assert!(matches!(&too_large, CallError::Codec { outcome: Outcome::Executed, .. }), "{too_large:?}");
    assert_eq!(desk.vault_says().await.unwrap(), "gold of anonymous", "a grain may ask it, on the client's behalf");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_and_singletons_are_called_by_way_of_any_gateway() {
    let nodes = three(false).await;
    for gateway in [&nodes[0], &nodes[2]] {
        let client = client(&[gateway]).await;
        for n in 0..20 {
            assert_eq!(client.get::<PorterRef>("any").carry(n).await.unwrap(), n);
        }
        assert!(client.get::<BellRef>(()).ring().await.unwrap() > 0);
    }
    assert_eq!(nodes[1].get::<BellRef>(()).ring().await.unwrap(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deadlines_and_cancellations_go_all_the_way() {
    let nodes = three(false).await;
    // Node c hosts nothing: every call goes on from there.
    let client = client(&[&nodes[2]]).await;
    let begun = std::time::Instant::now();
    let late = client.get::<DeskRef>("late").think(60_000).timeout(Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(&late, CallError::Timeout { outcome: Outcome::Unknown, .. }), "{late:?}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    until("the turn hears of it", || seen("cancelled late") == 1).await;

    let dropped = tokio::spawn(client.get::<DeskRef>("dropped").think(60_000));
    until("it runs", || seen("begun dropped") == 1).await;
    dropped.abort();
    until("the turn hears of it", || seen("cancelled dropped") == 1).await;
    until("nothing is left", || client.calls() == 0).await;
    let no_time = client.get::<DeskRef>("late").add(1).timeout(Duration::ZERO).await.unwrap_err();
    assert_eq!(no_time.outcome(), Outcome::NotExecuted);

    // The end of a client ends what it waits for.
    let waiting = tokio::spawn(client.get::<DeskRef>("left").think(60_000));
    until("it runs", || seen("begun left") == 1).await;
    let kept: DeskRef = client.get("kept");
    client.close().await;
    let left = waiting.await.unwrap().unwrap_err();
    assert_eq!(left, CallError::Stopped { outcome: Outcome::Unknown });
    until("the turn hears of it", || seen("cancelled left") == 1).await;
    assert_eq!(kept.add(1).await.unwrap_err(), CallError::Stopped { outcome: Outcome::NotExecuted });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_port_of_nodes_serves_clients_too_if_they_have_none_of_their_own() {
    let config = ClusterConfig::new("shop").clients(ClientsConfig::new());
    let node = described("a", config).start().await.unwrap();
    assert_eq!(node.client_address(), node.address());
    let client = client(&[&node]).await;
    assert_eq!(client.get::<DeskRef>("same-port").add(2).await.unwrap(), 2);
    assert_eq!(client.gateways(), [node.client_address().unwrap()]);
    assert!((1..=2).contains(&node.client_connections()));
    drop(client);
    until("its connections end", || node.client_connections() == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_connect_is_told_why_for_each_address() {
    let node = alone(|_| {}, |builder| builder).await;
    let (mine, nodes) = (node.client_address().unwrap(), node.address().unwrap());
    let closed = crate::cluster::free(1).remove(0);
    let config = |cluster: &str, gateways: Vec<String>| {
        ClientConfig::new(cluster, gateways).configure(|config| config.connect_timeout = Duration::from_millis(700))
    };
    let error = Client::connect(config("shed", vec![mine.clone(), closed.clone()])).await.unwrap_err().to_string();
    assert!(error.contains("belongs to cluster \"shop\"") && error.contains(&format!("{closed}: ")), "{error}");
    let error = Client::connect(config("shop", vec![nodes])).await.unwrap_err().to_string();
    assert!(error.contains(&format!("clients connect to {mine}")), "{error}");
    let error = Client::connect(config("shop", vec![])).await.unwrap_err().to_string();
    assert!(error.contains("`gateways` is empty"), "{error}");
    let without = described("a", ClusterConfig::new("shop")).start().await.unwrap();
    let error = Client::connect(config("shop", vec![without.address().unwrap()])).await.unwrap_err().to_string();
    assert!(error.contains("takes no clients"), "{error}");
    let outside = ClientsConfig::new().listen("0.0.0.0:0").advertise("10.0.0.1");
    let error = described("a", ClusterConfig::new("shop").clients(outside)).start().await.unwrap_err().to_string();
    assert!(error.contains("0.0.0.0") && error.contains("`tls`"), "{error}");
}
